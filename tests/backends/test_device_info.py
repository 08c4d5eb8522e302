"""Properties of the GPU, read from CuPy's answers."""

import importlib
import sys
import types

import pytest

from xpdl import cli
from xpdl.backends import device_info
from xpdl.backends.cupy import cublas, cudnn


def a_cupy():
    properties = {"name": b"NVIDIA Card"}
    runtime = types.SimpleNamespace(
        getDeviceProperties=lambda device: properties, driverGetVersion=lambda: 13000, runtimeGetVersion=lambda: 12090
    )
    device = types.SimpleNamespace(id=0, compute_capability="90", mem_info=(1 << 30, 80 << 30))
    return types.SimpleNamespace(
        __version__="14.2.0", cuda=types.SimpleNamespace(runtime=runtime, Device=lambda: device)
    )


def nothing(*args, **options):
    raise OSError("not\nhere")


@pytest.fixture
def card(monkeypatch):
    """A CuPy on a card, and no other library."""
    monkeypatch.setitem(sys.modules, "cupy", a_cupy())
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.setattr(cudnn, "problem", lambda: "cuDNN is not used: not here")
    monkeypatch.setattr(cublas, "problem", lambda: "cuBLAS is not called directly: not here")
    monkeypatch.setattr(cudnn, "library_version", nothing)
    monkeypatch.setattr(device_info.importlib.metadata, "version", nothing)
    monkeypatch.setattr(device_info.subprocess, "run", nothing)
    for name in ("_cublas", "nccl_version"):
        monkeypatch.setattr(device_info, name, nothing)


def test_card_and_versions_are_there_and_why_others_are_not(card):
    found = device_info.machine()
    assert found.pop("PyTorch").startswith("not available (")
    missing = "not available (not)"
    assert found == {
        "GPU": "NVIDIA Card",
        "compute capability": "90",
        "memory": "80 GiB",
        "driver": missing,
        "CUDA of the driver": "13.0",
        "CUDA of CuPy": "12.9",
        "CuPy": "14.2.0",
        "cuBLAS": missing,
        "matrix products": "cuBLAS is not called directly: not here",
        "cuDNN": "cuDNN is not used: not here",
        "cuDNN library": missing,
        "cuDNN frontend": missing,
        "NCCL": missing,
    }


def test_versions_of_libraries_that_are_there_are_readable(card, monkeypatch):
    nccl = types.SimpleNamespace(available=True, get_version=lambda: 22707)
    versioned = types.SimpleNamespace(getVersion=lambda handle: 120904)
    modules = {
        "cupy.cuda.nccl": nccl,
        "cupy.cuda.device": types.SimpleNamespace(get_cublas_handle=lambda: 1),
        "cupy_backends.cuda.libs.cublas": versioned,
        "torch": types.SimpleNamespace(
            __version__="2.14.1",
            version=types.SimpleNamespace(cuda="13.0"),
            backends=types.SimpleNamespace(cudnn=types.SimpleNamespace(version=lambda: 92400)),
        ),
    }
    find = importlib.import_module
    monkeypatch.undo()
    monkeypatch.setattr(importlib, "import_module", lambda name: modules[name] if name in modules else find(name))
    monkeypatch.setattr(cudnn, "library_version", lambda: 91702)
    monkeypatch.setattr(
        device_info.importlib.metadata, "version", lambda name: {"nvidia-cudnn-frontend": "1.26.0"}[name]
    )
    monkeypatch.setitem(sys.modules, "cupy", a_cupy())
    monkeypatch.setattr(cudnn, "problem", lambda: None)
    monkeypatch.setattr(cublas, "problem", lambda: None)
    driver = types.SimpleNamespace(stdout="580.95.05\n580.95.05\n")
    monkeypatch.setattr(device_info.subprocess, "run", lambda *args, **options: driver)
    found = device_info.machine()
    assert found["matrix products"] == "by cuBLAS, in captured steps too"
    assert found["cuDNN"] == "used by convolutions" and found["cuDNN library"] == "9.17.2"
    assert found["cuDNN frontend"] == "1.26.0" and found["cuBLAS"] == "12.9.4" and found["NCCL"] == "2.27.7"
    assert found["PyTorch"] == "2.14.1, CUDA 13.0, cuDNN 92400" and found["driver"] == "580.95.05"


def test_nccl_that_cupy_does_not_find_names_the_cure(card, monkeypatch):
    monkeypatch.undo()
    monkeypatch.setitem(sys.modules, "cupy", a_cupy())
    monkeypatch.setattr(cudnn, "problem", lambda: None)
    monkeypatch.setattr(cublas, "problem", lambda: None)
    monkeypatch.setitem(sys.modules, "cupy.cuda.nccl", types.SimpleNamespace(available=False))
    assert "pip install nvidia-nccl-cu12" in device_info.machine()["NCCL"]


def test_info_shows_it_where_cupy_works(monkeypatch, capsys):
    monkeypatch.setattr(cli.xpdl, "available_backends", lambda: {"numpy": "ok", "cupy": "ok"})
    monkeypatch.setattr(device_info, "machine", lambda: {"GPU": "NVIDIA Card"})
    monkeypatch.setattr(device_info.loading, "state", lambda: "compiled")
    monkeypatch.setattr(device_info.blas_kernels, "hint_here", lambda: None)
    assert cli.main(["info"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].startswith("numpy") and lines[2] == "  kernels: compiled"
    assert lines[3].startswith("cupy") and lines[4] == "  GPU: NVIDIA Card" and lines[5].startswith("mpi")


def test_waiting_is_for_the_device_of_the_backend():
    waited = []
    backend = types.SimpleNamespace(device=types.SimpleNamespace(synchronize=lambda: waited.append(1)))
    device_info.synchronizer(backend)()
    assert waited == [1]


@pytest.mark.exhaustive
def test_cached_memory_of_cupy_and_pytorch_is_freed(monkeypatch):
    freed = []
    pool = types.SimpleNamespace(free_all_blocks=lambda: freed.append("cupy"))
    cuda = types.SimpleNamespace(is_available=lambda: True, empty_cache=lambda: freed.append("torch"))
    monkeypatch.setitem(sys.modules, "cupy", types.SimpleNamespace(get_default_memory_pool=lambda: pool))
    monkeypatch.setitem(sys.modules, "torch", types.SimpleNamespace(cuda=cuda))
    device_info.free_cached_memory()
    assert freed == ["cupy", "torch"]
