"""Results that depend on the order of threads or blocks change with HOSTCUDA_ORDER; others stay bitwise identical."""

import numpy as np
import pytest

from tests.hostcuda.child import on_host

pytestmark = pytest.mark.needs("cupy")

# the barrier between writing and reading shared memory is missing
RACE = r"""extern "C" __global__ void shift(const float* a, float* out) {
  __shared__ float s[128];
  s[threadIdx.x] = a[threadIdx.x];
  %s
  out[threadIdx.x] = s[(threadIdx.x + 1) %% 128];
  __syncthreads();
}"""
LAST_WRITER = """extern "C" __global__ void last(int* out) { out[0] = blockIdx.x; out[1] = threadIdx.x; }"""


def shifted(barrier):
    """The result of the kernel in three orders."""
    import cupy as cp
    from hostcuda import core

    kernel, results = cp.RawKernel(RACE % barrier, "shift"), []
    for order in ("forward", "reverse", "random"):
        core.set_order(order)
        out = cp.zeros(128, "float32")
        kernel((1,), (128,), (cp.arange(128, dtype="float32"), out))
        results.append(out.get())
    return results


@on_host()
def test_a_race_shows_in_another_order():
    forward, reverse, random = shifted("")
    assert (forward != reverse).any() and (forward != random).any()


@on_host()
def test_with_the_barrier_all_orders_agree():
    results = shifted("__syncthreads();")
    np.testing.assert_array_equal(results, [(np.arange(128) + 1) % 128] * len(results))
    assert len(results) > 1


def last_writers():
    """Every (block, thread) that was the last to write, in 20 launches."""
    import cupy as cp

    written, kernel = set(), cp.RawKernel(LAST_WRITER, "last")
    for _ in range(20):
        out = cp.zeros(2, "int32")
        kernel((40,), (96,), (out,))
        written.add(tuple(out.get().tolist()))
    return written


@on_host()
def test_the_last_thread_writes_last():
    assert last_writers() == {(39, 95)}


@on_host(HOSTCUDA_ORDER="reverse")
def test_in_reverse_order_the_first_thread_writes_last():
    assert last_writers() == {(0, 0)}


@on_host(HOSTCUDA_ORDER="random")
def test_in_random_order_any_thread_may_write_last():
    blocks, threads = zip(*last_writers(), strict=True)
    assert len(set(blocks)) > 5 and len(set(threads)) > 5
