"""Reasons for an unusable CuPy: each is told from the others, on machines without CuPy."""

from __future__ import annotations

import ctypes
import importlib.util
import re
import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

import xpdl.backends
from xpdl.backends import availability
from xpdl.errors import BackendError


class CUDARuntimeError(RuntimeError):
    """As CuPy's own: a class that only an importable CuPy has."""


def raising(error: Exception) -> Any:
    def run(*args: Any) -> Any:
        raise error

    return run


def fake_cupy(device_count: Any, arange: Any = np.arange) -> Any:
    fake: Any = ModuleType("cupy")
    fake.cuda = SimpleNamespace(runtime=SimpleNamespace(getDeviceCount=device_count))
    fake.arange = arange
    return fake


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Any:
    """``machine(cupy, driver)`` pretends that these are there; a CuPy of None cannot be imported."""

    def look(cupy: Any, driver: bool) -> None:
        monkeypatch.setitem(sys.modules, "cupy", cupy)
        monkeypatch.setattr(availability, "_driver_found", lambda: driver)

    return look


@pytest.fixture
def without_cupy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "cupy", raising=False)
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "cupy" else found(name, *rest))


NO_DEVICE = CUDARuntimeError("cudaErrorNoDevice: no CUDA-capable device is detected")
OLD_DRIVER = CUDARuntimeError("cudaErrorInsufficientDriver: CUDA driver version is insufficient")
NO_LIBRARY = RuntimeError("CuPy failed to load libnvrtc.so.12\nand says so in\nmany lines")

# (the CuPy, whether there is a driver) -> how the answer starts
CAUSES: dict[str, tuple[Any, bool, str]] = {
    "cannot import, no driver": (None, False, "no driver: the NVIDIA driver library is not found, and CuPy does not"),
    "cannot import": (None, True, "wrong CUDA build: CuPy does not import"),
    "cannot ask, no driver": (
        fake_cupy(raising(OLD_DRIVER)),
        False,
        "no driver: the NVIDIA driver library is not found",
    ),
    "no device": (fake_cupy(raising(NO_DEVICE)), True, "no device: the driver answers but shows no GPU"),
    "none of the devices visible": (fake_cupy(lambda: 0), True, "no device: the driver answers but shows no GPU"),
    "driver too old": (fake_cupy(raising(OLD_DRIVER)), True, "wrong CUDA build: this CuPy does not fit the driver"),
    "cannot compile": (
        fake_cupy(lambda: 2, raising(NO_LIBRARY)),
        True,
        r"wrong CUDA build: CuPy sees 2 device\(s\) but cannot compute \(CuPy failed to load libnvrtc.so.12\)",
    ),
    "fails without a word": (fake_cupy(lambda: 1, raising(OSError())), True, r".*cannot compute \(OSError\)"),
}


@pytest.mark.parametrize("cause", CAUSES)
class TestCauses:
    def test_is_named(self, machine: Any, cause: str) -> None:
        cupy, driver, answer = CAUSES[cause]
        machine(cupy, driver)
        reason = availability.cupy_problem()
        assert reason is not None
        assert re.match(answer, reason), reason
        assert "\n" not in reason

    def test_use_fails_with_it(self, machine: Any, cause: str) -> None:
        cupy, driver, answer = CAUSES[cause]
        machine(cupy, driver)
        with pytest.raises(BackendError, match=rf"^use\('cupy'\): {answer}"):
            xpdl.backends.use("cupy")

    def test_auto_takes_numpy_and_says_so(self, machine: Any, cause: str, capsys: pytest.CaptureFixture[str]) -> None:
        cupy, driver, answer = CAUSES[cause]
        machine(cupy, driver)
        assert xpdl.backends.use("auto").name == "numpy"
        out, err = capsys.readouterr()
        assert re.fullmatch(f"xpdl: using numpy: {answer}.*\n", err), err
        assert not out


@pytest.mark.parametrize("cause", ["wrong CUDA build", "not installed"])
def test_the_cure_is_named(request: pytest.FixtureRequest, machine: Any, cause: str) -> None:
    if cause == "not installed":
        request.getfixturevalue("without_cupy")
    else:
        machine(None, driver=True)
    assert "pip install 'xpdl[cuda12]' or 'xpdl[cuda13]'" in str(availability.cupy_problem())


@pytest.mark.usefixtures("without_cupy")
def test_not_installed() -> None:
    assert str(availability.cupy_problem()).startswith("CuPy is not installed")
    with pytest.raises(BackendError, match=r"^use\('cupy'\): CuPy is not installed; pip install"):
        xpdl.backends.use("cupy")
    assert xpdl.backends.available_backends()["cupy"].startswith("CuPy is not installed")


def test_a_cupy_that_computes_is_no_problem(machine: Any) -> None:
    machine(fake_cupy(lambda: 1), True)
    assert availability.cupy_problem() is None


def test_the_probe_waits_for_its_result(machine: Any) -> None:
    """Kernels run later than they are called: one that fails late must fail here."""
    read = []

    class Lazy:
        def __mul__(self, other: int) -> Lazy:
            return self

        def sum(self) -> Lazy:
            return self

        def __int__(self) -> int:
            read.append(True)
            raise NO_LIBRARY

    machine(fake_cupy(lambda: 1, lambda n: Lazy()), True)
    assert "cannot compute" in str(availability.cupy_problem())
    assert read


@pytest.mark.parametrize(("platform", "library"), [("linux", "libcuda.so.1"), ("win32", "nvcuda.dll")])
@pytest.mark.parametrize("there", [True, False])
def test_the_driver_is_looked_for(monkeypatch: pytest.MonkeyPatch, platform: str, library: str, there: bool) -> None:
    asked = []

    def load(name: str) -> None:
        asked.append(name)
        if not there:
            raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(ctypes, "CDLL", load)
    assert availability._driver_found() is there
    assert asked == [library]
