"""What is said of the GPU, read from what CuPy answers."""

import sys
import types

from xpdl import cli
from xpdl.backends import device_info
from xpdl.backends.cupy import cudnn


def a_cupy():
    properties = {"name": b"NVIDIA Card"}
    runtime = types.SimpleNamespace(
        getDeviceProperties=lambda device: properties, driverGetVersion=lambda: 13000, runtimeGetVersion=lambda: 12090
    )
    device = types.SimpleNamespace(id=0, compute_capability="90", mem_info=(1 << 30, 80 << 30))
    return types.SimpleNamespace(
        __version__="14.2.0", cuda=types.SimpleNamespace(runtime=runtime, Device=lambda: device)
    )


def test_card_driver_and_versions_are_there(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", a_cupy())
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.setattr(cudnn, "problem", lambda: "cuDNN is not used: not here")
    found = device_info.machine()
    assert found.pop("PyTorch").startswith("not installed (")
    assert found == {
        "GPU": "NVIDIA Card",
        "compute capability": "90",
        "memory": "80 GiB",
        "CUDA of the driver": "13000",
        "CUDA of CuPy": "12090",
        "CuPy": "14.2.0",
        "cuDNN": "cuDNN is not used: not here",
    }


def test_info_shows_it_where_cupy_works(monkeypatch, capsys):
    monkeypatch.setattr(cli.xpdl, "available_backends", lambda: {"numpy": "ok", "cupy": "ok"})
    monkeypatch.setattr(device_info, "machine", lambda: {"GPU": "NVIDIA Card"})
    monkeypatch.setattr(device_info.compiled, "state", lambda: "compiled")
    assert cli.main(["info"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].startswith("numpy") and lines[2] == "  kernels: compiled"
    assert lines[3].startswith("cupy") and lines[4:] == ["  GPU: NVIDIA Card"]


def test_waiting_is_for_the_device_of_the_backend():
    waited = []
    backend = types.SimpleNamespace(device=types.SimpleNamespace(synchronize=lambda: waited.append(1)))
    device_info.synchronizer(backend)()
    assert waited == [1]
