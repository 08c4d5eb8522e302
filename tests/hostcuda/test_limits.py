"""The limits of hostcuda: each is an error, and none a wrong result."""

import pytest

from tests.hostcuda.child import on_host, run

pytestmark = pytest.mark.needs("cupy")

LIBRARIES = {
    "cuRAND": "cupy.random.rand(3)",
    "cuFFT": "cupy.fft.fft(cupy.ones(4))",
    "cuSOLVER": "cupy.linalg.solve(cupy.eye(2), cupy.ones(2))",
}
UNKNOWN_PTX = r"""extern "C" __global__ void f(int* a) {
  int r;
  asm("bfind.u32 %0, %1;" : "=r"(r) : "r"(a[0]));
  a[0] = r;
}"""
COOPERATIVE = r"""#include <cooperative_groups.h>
extern "C" __global__ void f(int* a) { cooperative_groups::this_grid().sync(); }"""


@pytest.mark.parametrize("library", LIBRARIES)
@on_host()
def test_other_libraries_are_missing(library):
    import cupy

    with pytest.raises(ImportError, match="Failure finding"):
        eval(LIBRARIES[library], {"cupy": cupy})


@pytest.mark.parametrize("source", [UNKNOWN_PTX, COOPERATIVE])
@on_host()
def test_unknown_instructions_and_cooperative_grids_do_not_compile(source):
    import cupy as cp

    with pytest.raises(cp.cuda.compiler.CompileException):
        cp.RawKernel(source, "f")((1,), (1,), (cp.ones(1, "int32"),))


@on_host()
def test_stream_ordered_allocator_is_not_supported():
    import cupy as cp

    with pytest.raises(RuntimeError, match="does not support malloc_async"):
        cp.cuda.malloc_async(100)


@on_host()
def test_a_capture_is_not_forked_to_a_second_stream():
    import cupy as cp

    first, second = (cp.cuda.Stream(non_blocking=True) for _ in range(2))
    with first:
        first.begin_capture()
        event = first.record()
        first.wait_event(event)
        with pytest.raises(cp.cuda.runtime.CUDARuntimeError, match="no fork to a second stream"):
            second.wait_event(event)
        first.end_capture()
    second.wait_event(first.record())


@on_host(HOSTCUDA_CUDNN="1")
def test_graphs_of_cudnn_have_one_convolution():
    from hostcuda import cudnn

    kinds = {"io_data_type": "FLOAT", "intermediate_data_type": "FLOAT", "compute_data_type": "FLOAT"}
    graph = cudnn.Graph(handle=cudnn.create_handle(), **kinds)
    x, w = graph.tensor(uid=1), graph.tensor(uid=2)
    graph.conv_fprop(x, w)
    with pytest.raises(AssertionError, match="one convolution"):
        graph.conv_fprop(x, w)


def test_mprotect_and_guard_pages_do_not_go_together():
    program = "from hostcuda import core; import cupy; print(core.protection())"
    keys = run("-c", program).stdout.strip() == "memory protection keys"
    assert run("-c", program, HOSTCUDA_PROTECT="1").stdout.strip() == ("memory protection keys" if keys else "mprotect")
    both = run("-c", program, HOSTCUDA_PROTECT="1", HOSTCUDA_GUARD="1").stdout.strip()
    assert both == ("memory protection keys" if keys else "none")


def test_memory_can_be_left_open_to_libraries_that_read_it():
    program = "from hostcuda import core; import cupy; print(core.protection())"
    assert run("-c", program, HOSTCUDA_PROTECT="none").stdout.strip() == "none"
