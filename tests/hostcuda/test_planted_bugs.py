"""Bugs planted into xpdl's own kernels and their launches show."""

import numpy as np
import pytest

from tests.hostcuda.child import on_host

pytestmark = pytest.mark.needs("cupy")


def plant(file, right, wrong):
    """Replace text of a kernel file, once."""
    from xpdl.backends.cupy import sources

    text = sources.text
    changed = text(file).replace(right, wrong, 1)
    assert changed != text(file)
    sources.text = lambda name: changed if name == file else text(name)


def softmax_losses():
    """The kernel's losses of random scores, and NumPy's."""
    import cupy as cp

    from xpdl.ops import losses

    x, t = np.random.default_rng(0).normal(size=(7, 100)), np.arange(7)
    found = losses.softmax_with_loss(cp.asarray(x), cp.asarray(t))
    return float(found[0]), float(losses.softmax_with_loss(x, t)[0])


@on_host()
def test_without_a_bug_the_loss_is_right():
    found, expected = softmax_losses()
    assert found == pytest.approx(expected, rel=1e-12)


@on_host()
def test_a_missing_barrier_gives_another_result_in_another_order():
    from hostcuda import core

    plant("rows.cuh", "part[at] = value;\n  __syncthreads();", "part[at] = value;")
    results = []
    for order in ("forward", "reverse"):
        core.set_order(order)
        results.append(softmax_losses()[0])
    assert results[0] != results[1]


@on_host()
def test_a_barrier_that_some_threads_miss_is_an_error():
    plant("rows.cuh", "part[at] = value;\n  __syncthreads();", "part[at] = value;\n  if (threadIdx.x) __syncthreads();")
    with pytest.raises(Exception, match="some threads of a block end while others wait at a barrier"):
        softmax_losses()


@pytest.mark.parametrize("written", [4, 5])
@on_host(HOSTCUDA_GUARD="1")
def test_a_write_beyond_the_end_is_an_error(written):
    import cupy as cp

    from xpdl.backends.cupy import launch

    cp.cuda.set_allocator(None)
    x, y = cp.ones(8, "float32"), launch.empty((4,), np.dtype("float32"))
    if written == 4:
        launch.launch_elementwise("elementwise", "relu", "float32", written, x, y)
        np.testing.assert_array_equal(y.get(), 1)
    else:
        with pytest.raises(Exception, match="16 bytes from the start of an array of 16"):
            launch.launch_elementwise("elementwise", "relu", "float32", written, x, y)


@on_host()
def test_values_that_a_kernel_does_not_write_are_nan():
    import cupy as cp

    from xpdl.backends.cupy import launch

    y = launch.empty((4,), np.dtype("float32"))
    launch.launch_elementwise("elementwise", "relu", "float32", 3, cp.ones(4, "float32"), y)
    np.testing.assert_array_equal(y.get(), [1, 1, 1, np.nan])
