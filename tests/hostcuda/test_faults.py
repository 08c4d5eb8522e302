"""Faults of kernels are errors of their launch, and the next launch works."""

import numpy as np
import pytest

from tests.hostcuda.child import on_host

pytestmark = pytest.mark.needs("cupy")

DIVIDE = r"""extern "C" __global__ void divide(int* a, int n, int k) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) a[i] = i / k;
}"""
DIVERGENT = r"""extern "C" __global__ void divergent(float* a) {
  __shared__ float s[64];
  if (threadIdx.x < 32) {
    s[threadIdx.x] = 1;
    __syncthreads();
  }
  a[threadIdx.x] = s[threadIdx.x % 32];
}"""
# writes lie inside the array for the dividing kernel if n <= 100
SIZE = 100


def launch(cp, a, n=SIZE, k=2, threads=128):
    cp.RawKernel(DIVIDE, "divide")((1,), (threads,), (a, np.int32(n), np.int32(k)))


def check_works(cp, a):
    launch(cp, a)
    np.testing.assert_array_equal(a.get(), np.arange(SIZE) // 2)


@on_host()
def test_integer_division_by_zero_is_an_error():
    import cupy as cp

    a = cp.zeros(SIZE, "int32")
    with pytest.raises(Exception, match="divide: an integer was divided by zero"):
        launch(cp, a, k=0)
    check_works(cp, a)


@on_host()
def test_address_of_the_host_is_an_error():
    import cupy as cp

    a, on_the_host = cp.zeros(SIZE, "int32"), np.zeros(SIZE, "int32")
    with pytest.raises(Exception, match="argument 0 is no address of a device"):
        launch(cp, np.uintp(on_the_host.ctypes.data))
    check_works(cp, a)


@on_host()
def test_null_pointer_is_an_error():
    import cupy as cp

    a = cp.zeros(SIZE, "int32")
    with pytest.raises(Exception, match="is in no array"):
        launch(cp, 0)
    check_works(cp, a)


@on_host()
def test_barrier_that_some_threads_do_not_reach_is_an_error():
    import cupy as cp

    a = cp.zeros(64, "float32")
    with pytest.raises(Exception, match="some threads of a block end while others wait at a barrier"):
        cp.RawKernel(DIVERGENT, "divergent")((1,), (64,), (a,))
    check_works(cp, cp.zeros(SIZE, "int32"))


@on_host()
def test_block_of_too_many_threads_is_an_error():
    import cupy as cp

    a = cp.zeros(SIZE, "int32")
    with pytest.raises(Exception, match="invalid argument"):
        launch(cp, a, threads=2048)
    check_works(cp, a)


@on_host()
def test_source_that_does_not_compile_is_an_error():
    import cupy as cp

    with pytest.raises(cp.cuda.compiler.CompileException, match="nonsense"):
        cp.RawKernel('extern "C" __global__ void f() { nonsense; }', "f")((1,), (1,), ())


@on_host(HOSTCUDA_GUARD="1")
def test_guard_page_stops_an_access_out_of_bounds():
    import cupy as cp

    cp.cuda.set_allocator(None)
    a = cp.zeros(SIZE, "int32")
    # 400 bytes are a multiple of 16: the array ends at the guard page
    with pytest.raises(Exception, match="400 bytes from the start of an array of 400"):
        launch(cp, a, n=SIZE + 1)
    check_works(cp, a)


@on_host(HOSTCUDA_GUARD="1")
def test_write_between_array_and_guard_page_is_found_when_it_is_freed():
    import cupy as cp

    a = cp.cuda.alloc(SIZE * 4 - 8)  # allocated from the pool, which holds a whole block
    cp.cuda.set_allocator(None)
    a = cp.zeros(SIZE - 2, "int32")
    launch(cp, a, n=SIZE - 1)
    with pytest.raises(Exception, match="memory beyond the end of an array of 392 bytes was written"):
        cp.cuda.runtime.free(a.data.ptr)


@on_host()
def test_without_guard_pages_an_access_out_of_bounds_passes():
    import cupy as cp

    a = cp.zeros(SIZE, "int32")
    launch(cp, a, n=SIZE + 1)
    check_works(cp, a)
