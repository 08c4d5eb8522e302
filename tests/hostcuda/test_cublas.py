"""libcublas by ctypes, as xpdl calls it: products of all dtypes and layouts, recorded in graphs, errors by status."""

import ctypes

import numpy as np
import pytest

from tests.hostcuda.child import on_host

pytestmark = pytest.mark.needs("cupy")

RTOL = {"float16": 2e-3, "float32": 1e-6, "float64": 1e-14}


@pytest.mark.parametrize("dtype", RTOL)
@on_host()
def test_products_of_matrices_and_stacks(dtype):
    import cupy as cp

    from xpdl.backends.cupy import cublas

    assert cublas.problem() is None
    rng = np.random.default_rng(0)
    for stack in ((), (3,)):
        a, b = (rng.standard_normal((*stack, *shape)).astype(dtype) for shape in ((4, 6), (6, 5)))
        desired = np.matmul(a.astype("float64"), b.astype("float64"))
        turned = [np.ascontiguousarray(np.swapaxes(x, -1, -2)) for x in (a, b)]
        for left in (cp.asarray(a), cp.asarray(turned[0]).swapaxes(-1, -2)):
            for right in (cp.asarray(b), cp.asarray(turned[1]).swapaxes(-1, -2)):
                c = cublas.matmul(left, right, "highest")
                atol = RTOL[dtype] * np.abs(desired).max()
                assert c.dtype == dtype
                np.testing.assert_allclose(c.get().astype("float64"), desired, atol=atol)


@on_host()
def test_products_are_recorded_and_replayed():
    import cupy as cp

    from xpdl.backends.cupy import cublas

    a, stream = cp.full((3, 3), 2.0), cp.cuda.Stream(non_blocking=True)
    with stream:
        cublas.matmul(a, a, "highest")
        stream.begin_capture()
        c = cublas.matmul(a, a, "highest")
        graph = stream.end_capture()
        a.fill(1)
        graph.launch(stream)
        np.testing.assert_array_equal(c.get(), np.full((3, 3), 3.0))


@on_host(HOSTCUDA_ASYNC="1")
def test_products_are_queued_on_the_stream_of_their_handle():
    import cupy as cp

    from xpdl.backends.cupy import cublas

    one, two = (cp.cuda.Stream(non_blocking=True) for _ in range(2))
    with one:
        a = cp.full((3, 3), 2.0)
        c = cp.zeros((3, 3))
        one.synchronize()
        c = cublas.matmul(a, a, "highest")
    with two:
        early = c.get()
    assert np.isnan(early).all()
    with one:
        np.testing.assert_array_equal(c.get(), np.full((3, 3), 12.0))


@on_host()
def test_wrong_leading_dimensions_and_workspaces_are_errors_of_a_status():
    import cupy as cp

    from xpdl.backends.cupy import cublas

    library, handle = cublas._library(), ctypes.c_void_p()
    assert library.cublasCreate_v2(ctypes.byref(handle)) == 0
    memory = cp.cuda.alloc(1024)
    assert library.cublasSetWorkspace_v2(handle, memory.ptr, 512) == 0
    assert library.cublasSetWorkspace_v2(handle, memory.ptr + 16, 512) == 7
    assert library.cublasSetWorkspace_v2(handle, np.empty(512).ctypes.data, 512) == 7
    a, one = cp.ones((4, 4)), ctypes.c_double(1)
    factor = ctypes.byref(one)
    for ld, status in ((4, 0), (3, 7)):
        args = (handle, 0, 0, 4, 4, 4, factor, a.data.ptr, 1, ld, a.data.ptr, 1, 4, factor, a.data.ptr, 1, 4, 70, -1)
        assert library.cublasGemmEx(*args) == status


@on_host()
def test_workspace_is_written_to_and_goes_with_its_stream():
    import cupy as cp

    from xpdl.backends.cupy import cublas

    a = cp.asarray(np.random.default_rng(0).normal(size=(7, 999)), "float32")
    before = cublas.matmul(a, a.T, "highest").get()
    (handle,) = cublas._local.handles.values()
    start = -handle.workspace.ptr % 256
    memory = cp.ndarray(4096, "uint8", handle.workspace)[start:]
    memory[:] = 0
    cublas.matmul(a, a.T, "highest")
    assert (memory == 0xFF).all()
    cublas._library().cublasSetStream_v2(handle.pointer, handle.stream)
    memory[:] = 0
    assert (cublas.matmul(a, a.T, "highest").get() != before).any()
    assert (memory == 0).all()
