"""CUDA kernels where the wheel of CuPy does not run: compiled by g++, on an imitation of CuPy's arrays."""

import pytest

from tests.backends.cupy.device import Device
from tests.backends.cupy.every_kernel import compare_every_kernel
from tests.backends.cupy.without_cupy import compiler, imitation
from tests.selection import host_dtypes
from xpdl.backends.cupy import sources


@pytest.fixture
def gpu(monkeypatch):
    if not compiler.COMPILER:
        pytest.skip("kernels are compiled by g++, and there is none")
    imitation.install(monkeypatch)
    return Device(imitation.module, imitation.module.asarray, monkeypatch)


# compiles each kernel, in half a minute
@pytest.mark.exhaustive
@pytest.mark.parametrize("wide", [False, True], ids=["narrow", "wide"])
@pytest.mark.parametrize("dtype", host_dtypes(*sources.TYPES))
def test_every_kernel_runs_in_every_instance(gpu, monkeypatch, dtype, wide):
    compare_every_kernel(gpu, dtype, wide, monkeypatch)
