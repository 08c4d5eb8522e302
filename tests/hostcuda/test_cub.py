"""CuPy's reductions go by CUB, as they do on a GPU by default: the same algorithms are called, and agree with NumPy."""

import numpy as np
import pytest

from tests.hostcuda.child import on_host

pytestmark = pytest.mark.needs("cupy")

FLOATS = ("float16", "float32", "float64", "complex64")
BY_DEVICE = ("sum", "prod", "max", "min", "mean", "cumsum", "argmax", "argmin")


def launched(function):
    """The kernels that a function launches."""
    from hostcuda import core

    before = core.launches()
    function()
    return {name for name, times in core.launches().items() if times > before.get(name, 0)}


@pytest.mark.parametrize("dtype", FLOATS)
@on_host()
def test_device_wide_reductions(dtype):
    import cupy as cp

    rng = np.random.default_rng(0)
    a = rng.choice([1, -1], (31, 40)).astype(dtype)
    a[0, :2] = 2, 0.5
    x = cp.asarray(a)
    rtol = {"float16": 1e-2, "float64": 1e-12}.get(dtype, 1e-5)
    assert BY_DEVICE
    for name in BY_DEVICE:
        for axis in (None, 1):
            if (axis == 1 and name in ("cumsum", "argmax", "argmin")) or (dtype == "float16" and name == "mean"):
                continue  # not by CUB's device-wide algorithms
            names = launched(lambda name=name, axis=axis: getattr(cp, name)(x, axis=axis))
            assert any(kernel.startswith("cub_device") for kernel in names), (name, axis, names)
            want = getattr(np, name)(a.astype("float32") if dtype == "float16" else a, axis=axis)
            got = getattr(cp, name)(x, axis=axis).get()
            np.testing.assert_allclose(got, want, rtol=rtol, err_msg=f"{name} {axis}")


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@on_host()
def test_nan_wins_the_first_of_equals_is_found(dtype):
    import cupy as cp

    a = np.asarray([1, 3, 3, 0, 0], dtype)
    x = cp.asarray(a)
    assert (int(x.argmax()), int(x.argmin())) == (1, 3)
    x[[2, 4]] = np.nan
    assert np.isnan([float(x.max()), float(x.min()), float(x.sum())]).all()
    assert int(x.argmax()) == int(x.argmin()) == 2


@on_host()
def test_float16_accumulates_in_float16():
    import cupy as cp

    # 256 parts of 2,048 are exact; the tree overflows beyond 65,504
    assert np.isinf(float(cp.full(70_000, 1, "float16").sum()))
    assert float(cp.full(70_000, 1, "float16").sum(dtype="float32")) == 70_000


@on_host()
def test_other_reductions_go_by_kernels_of_blocks():
    check_any("cupy_cub_any_pass1")


@on_host()
def test_no_library_of_cuda_is_loaded_for_them():
    from cuda import pathfinder

    asked, load = [], pathfinder.load_nvidia_dynamic_lib

    def note(name):
        asked.append(name)
        return load(name)

    pathfinder.load_nvidia_dynamic_lib = note
    check_any("cupy_cub_any_pass1")
    assert "nvrtc" not in asked


@on_host(CUPY_ACCELERATORS="")
def test_without_accelerators_all_go_by_cupys_own_kernels():
    check_any("cupy_any")


def check_any(kernel):
    import cupy as cp

    x = cp.zeros(100_000)
    assert launched(lambda: cp.any(x)) >= {kernel}
    assert not bool(cp.any(x)) and bool(cp.all(x == 0))
    x[99_999] = 1
    assert bool(cp.any(x)) and not bool(cp.all(x == 0))
    assert int(cp.count_nonzero(x)) == 1


@on_host()
def test_histograms():
    import cupy as cp

    a = np.random.default_rng(1).standard_normal(1000)
    np.testing.assert_array_equal(cp.histogram(cp.asarray(a), 7)[0].get(), np.histogram(a, 7)[0])
    edges = np.asarray([-1.0, 0, 0.5, 2])
    np.testing.assert_array_equal(cp.histogram(cp.asarray(a), cp.asarray(edges))[0].get(), np.histogram(a, edges)[0])
    counts = np.random.default_rng(2).integers(0, 9, 100)
    np.testing.assert_array_equal(cp.histogram(cp.asarray(counts), 9)[0].get(), np.histogram(counts, 9)[0])


@on_host()
def test_captured_reductions_are_replayed():
    import cupy as cp

    x, stream = cp.ones(1000), cp.cuda.Stream(non_blocking=True)
    with stream:
        x.sum()
        stream.begin_capture()
        total = x.sum()
        graph = stream.end_capture()
        x += 1
        graph.launch(stream)
        assert float(total) == 2000


@on_host(HOSTCUDA_DEVICES="2")
def test_an_array_of_another_device_is_an_error():
    import cupy as cp

    with cp.cuda.Device(1):
        x = cp.ones(1000)
    with pytest.raises(Exception, match="cub_device_segmented_reduce: an array lies on another device"):
        float(x.sum())
    with cp.cuda.Device(1):
        assert float(x.sum()) == 1000
