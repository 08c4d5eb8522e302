"""A stand-in for libcublas, for the stand-in for CuPy and for the real one on the host: see fake_cublas.cpp."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import subprocess
import sys
import tempfile
import types
from pathlib import Path
from typing import Any

import pytest

from tests.backends.cupy import fake_capture, host
from xpdl.backends.cupy import cublas

SOURCE = Path(__file__).with_name("fake_cublas.cpp")
_START = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_ssize_t, ctypes.c_void_p)


@functools.cache
def path() -> Path:
    """A library that is linked to the stand-in, as CuPy's module for cuBLAS is to libcublas.

    Both are kept in the folder for temporary files under the hash of the text.
    """
    key = hashlib.sha256(SOURCE.read_bytes()).hexdigest()[:20]
    folder = Path(tempfile.gettempdir()) / f"xpdl-cublas-{key}"
    folder.mkdir(exist_ok=True)
    library = _compiled(folder / "libcublas.so.0", SOURCE.read_text(), "-O1", "-ffp-contract=off")
    linked = ["-Wl,--no-as-needed", str(library), f"-Wl,-rpath,{folder}"]
    return _compiled(folder / "module.so", "", *linked)


def _compiled(made: Path, text: str, *flags: str) -> Path:
    assert host.COMPILER, "needs g++"
    if not made.exists():
        fresh = made.with_name(f"{os.getpid()}.{made.name}")
        command = [host.COMPILER, "-std=c++17", "-fPIC", "-shared", f"-Wl,-soname,{made.name}", "-x", "c++", "-"]
        subprocess.run([*command, "-x", "none", *flags, "-o", str(fresh)], input=text, text=True, check=True)
        os.replace(fresh, made)
    return made


class Library:
    """The stand-in in use: what was called, and which calls are refused."""

    def __init__(self, on_host: bool) -> None:
        self._library = ctypes.CDLL(str(path()))
        self._library.fake_text.restype = ctypes.c_char_p
        self._library.fake_kernel.restype = ctypes.c_void_p
        self._library.fake_size.restype = ctypes.c_size_t
        self._start = _START(self._launch if on_host else self._run)  # held as long as it may be called
        self._library.fake_start(self._start)
        self.calls()

    def calls(self) -> list[str]:
        """The calls since this was asked last."""
        lines: list[str] = self._library.fake_text().decode().splitlines()
        self._library.fake_clear()
        return lines

    def refuse(self, function: str, status: int) -> None:
        self._library.fake_refuse(function.encode(), status)

    def _run(self, stream: int, product: int) -> int:
        """Compute on the stand-in for CuPy, now or when a graph is launched."""
        copied = ctypes.create_string_buffer(ctypes.string_at(product, self._library.fake_size()))
        fake_capture.run(lambda: self._library.fake_compute(copied))
        return 0

    def _launch(self, stream: int, product: int) -> int:
        """Launch it as a kernel of the host, which has the device's memory open, and can be recorded."""
        launch = ctypes.PyDLL(None).drv_launchKernel
        launch.restype = ctypes.py_object
        launch.argtypes = [ctypes.c_ssize_t, *[ctypes.c_uint] * 7, *[ctypes.c_ssize_t] * 3, ctypes.c_int]
        given = (ctypes.c_void_p * 1)(product)
        launch(self._library.fake_kernel(), 1, 1, 1, 1, 1, 1, 0, stream, ctypes.addressof(given), 0, 0)
        return 0


def install(monkeypatch: pytest.MonkeyPatch, *, on_host: bool) -> Library:
    """Have xpdl find the stand-in where CuPy's module for cuBLAS is linked to a library, until the end of a test."""
    module: Any = types.ModuleType("cupy_backends.cuda.libs.cublas")
    module.__file__ = str(path())
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(cublas, "_library", functools.cache(cublas._library.__wrapped__))
    monkeypatch.setattr(cublas, "problem", functools.cache(_problem))
    monkeypatch.setattr(cublas, "_local", cublas._Local())
    return Library(on_host)


_problem = cublas.problem.__wrapped__
