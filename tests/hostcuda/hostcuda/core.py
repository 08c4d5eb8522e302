"""Install hostcuda below CuPy, and look at what ran: launches, reads on the host, parameters of kernels."""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
import types
from collections.abc import Callable, Iterator
from typing import Any

from hostcuda import build, callbacks, capi, nvrtc
from hostcuda.build import library
from hostcuda.platforms import problem

_ORDERS = {"": 0, "forward": 0, "reverse": 1, "random": 2}
_COUNTERS = ("launches", "reads", "waits")
_PROTECTIONS = ("none", "memory protection keys", "mprotect")


def counted() -> dict[str, int]:
    """Count kernel launches, reads of device memory on the host, and synchronizations since the start."""
    return {name: library().hostcuda_counted(i) for i, name in enumerate(_COUNTERS)}


def launches() -> dict[str, int]:
    """Count the launches of each kernel since the start."""
    function = library().hostcuda_launches
    function.restype = ctypes.py_object
    return dict(function())


def protection() -> str:
    """Name what keeps the host from device memory: ``"memory protection keys"``, ``"mprotect"`` or ``"none"``."""
    return _PROTECTIONS[library().hostcuda_protected()]


def _order(name: str) -> int:
    if name not in _ORDERS:
        raise ValueError(f"HOSTCUDA_ORDER is {name}; choose forward, reverse or random")
    return _ORDERS[name]


def set_order(order: str) -> None:
    """Set the order that threads and blocks run in: ``"forward"``, ``"reverse"`` or ``"random"``."""
    library().hostcuda_set_order(_order(order))


def words(function: int) -> list[str]:
    """The types of a kernel's parameters, such as "*float32", "int64" and "struct72"; `function` is its handle."""
    describe = library().hostcuda_words
    describe.restype, describe.argtypes = ctypes.c_char_p, [ctypes.c_ssize_t]
    return describe(function).decode().split()


@contextlib.contextmanager
def no_reads(refuse: bool = True) -> Iterator[None]:
    """Make every read of device memory on the host an error; with ``refuse=False``, allow them inside such a block."""
    before = library().hostcuda_refuse_reads(int(refuse))
    try:
        yield
    finally:
        library().hostcuda_refuse_reads(before)


@contextlib.contextmanager
def open_memory() -> Iterator[None]:
    """Let the host access device memory inside; nests."""
    library().hostcuda_open()
    try:
        yield
    finally:
        library().hostcuda_close()


def current_stream() -> int:
    import cupy

    return int(cupy.cuda.get_current_stream().ptr)


def enqueue(work: Callable[[], Any], stream: int | None = None) -> None:
    """Run `work` in the order of a stream, by default the current one: now, or when it is waited for or launched."""
    function = library().hostcuda_enqueue
    function.restype, function.argtypes = ctypes.py_object, [ctypes.c_ssize_t, ctypes.py_object]
    function(current_stream() if stream is None else stream, work)


def wait(stream: int | None = None) -> None:
    """Run what is queued on a stream, by default the current one; not counted as a wait of the host."""
    function = library().hostcuda_finish
    function.restype, function.argtypes = ctypes.py_object, [ctypes.c_ssize_t]
    function(current_stream() if stream is None else stream)


def _flag(name: str) -> int:
    return int(os.environ.get(name, "") not in ("", "0"))


def _set_up(runtime: Any, driver: Any) -> None:
    values = (
        int(os.environ.get("HOSTCUDA_DEVICES", "1")),
        callbacks.memory_size(),
        _flag("HOSTCUDA_GUARD"),
        _order(os.environ.get("HOSTCUDA_ORDER", "")),
        _flag("HOSTCUDA_ASYNC"),
        _flag("HOSTCUDA_FTZ"),
        -1 if os.environ.get("HOSTCUDA_PROTECT") == "none" else _flag("HOSTCUDA_PROTECT"),
        _flag("HOSTCUDA_TRACE"),
    )
    setup = library().hostcuda_setup
    setup.argtypes = [ctypes.py_object] * 3 + [ctypes.POINTER(ctypes.c_long)]
    setup(callbacks, runtime.CUDARuntimeError, driver.CUDADriverError, (ctypes.c_long * len(values))(*values))


def install() -> None:
    """Replace CUDA below CuPy, which must not have been imported.

    Raises ImportError with the cure where that cannot be.
    """
    if reason := problem():
        raise ImportError(reason)
    from cupy_backends.cuda import libs
    from cupy_backends.cuda.api import driver, runtime
    from cupy_backends.cuda.libs import nvrtc as cupy_nvrtc

    _set_up(runtime, driver)
    capi.replace(runtime, "rt_", build.library())
    capi.replace(driver, "drv_", build.library())
    capi.replace(cupy_nvrtc, "nvrtc_", build.library())
    runtime._getLocalRuntimeVersion = lambda: 12090
    for name in dir(nvrtc):
        if hasattr(cupy_nvrtc, name) and not name.startswith("_"):
            setattr(cupy_nvrtc, name, getattr(nvrtc, name))

    from hostcuda import cublas, thrust

    libs.cublas = sys.modules["cupy_backends.cuda.libs.cublas"] = cublas.module()
    sys.modules["cupy.cuda.thrust"] = thrust.module()
    _replace_finders()


def _replace_finders() -> None:
    """Find this package's headers of CUDA and, with ``HOSTCUDA_CUDNN=1``, its cuDNN."""
    from cuda import pathfinder

    find, load = pathfinder.find_nvidia_header_directory, pathfinder.load_nvidia_dynamic_lib
    pathfinder.find_nvidia_header_directory = lambda name: str(nvrtc.INCLUDE) if name == "cudart" else find(name)
    if not _flag("HOSTCUDA_CUDNN"):
        return
    from hostcuda import cudnn

    sys.modules["cudnn"] = cudnn.module()
    answered = ("cudart", "cublasLt", "cudnn")
    pathfinder.load_nvidia_dynamic_lib = lambda name: (
        types.SimpleNamespace(abs_path=None) if name in answered else load(name)
    )
