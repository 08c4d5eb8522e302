"""Options that bring the rounding of kernels closer to a GPU's: fused multiply-add, and flush-to-zero."""

import numpy as np
import pytest

from tests.hostcuda.child import on_host

pytestmark = pytest.mark.needs("cupy")

MULTIPLY_ADD = """extern "C" __global__ void f(const float* a, float* out) { out[0] = a[0] * a[1] + a[2]; }"""


def multiply_add():
    import cupy as cp

    a = np.asarray([1 + 2**-13, 1 - 2**-13, -1], "float32")
    out = cp.zeros(1, "float32")
    cp.RawKernel(MULTIPLY_ADD, "f")((1,), (1,), (cp.asarray(a), out))
    return float(out[0])


@on_host()
def test_products_are_rounded_before_the_sum():
    # (1 + e)(1 - e) = 1 - e**2 is 1 in float32 for e = 2**-13
    assert multiply_add() == 0


@on_host(HOSTCUDA_FMA="1")
def test_fused_multiply_add_rounds_once():
    assert multiply_add() == -(2.0**-26)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@on_host()
def test_subnormals_are_kept(dtype):
    import cupy as cp

    tiny = np.finfo(dtype).smallest_normal
    assert float(cp.full(1, tiny, dtype)[0] / 2) == tiny / 2


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@on_host(HOSTCUDA_FTZ="1")
def test_subnormals_are_flushed_to_zero(dtype):
    import cupy as cp

    tiny = np.finfo(dtype).smallest_normal
    assert float(cp.full(1, tiny, dtype)[0] / 2) == 0
    # on the host they are not
    assert np.asarray(tiny, dtype) / 2 > 0
