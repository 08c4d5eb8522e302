"""Availability of CuPy: the reason why it cannot be used here, in one line that names the cure."""

from __future__ import annotations

import ctypes
import importlib
import importlib.util
import sys

_INSTALL = "pip install 'xpdl[cuda12]' or 'xpdl[cuda13]'"


def _driver_found() -> bool:
    library = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


def gpu_count(library: str) -> int:
    """Return the number of GPUs that a library computes on here: 0 for libraries other than CuPy."""
    return int(importlib.import_module("cupy").cuda.runtime.getDeviceCount()) if library == "cupy" else 0


def gpu_of_rank(library: str, local_rank: int) -> int | None:
    """Return the index of the GPU that a rank of this machine takes; None where the library has no choice of GPUs."""
    gpus = gpu_count(library) if local_rank else 0
    return local_rank % gpus if gpus > 1 else None


def cupy_problem() -> str | None:
    """None when CuPy computes on a GPU here; else what is missing: package, driver, device, or a fitting build."""
    if "cupy" not in sys.modules and importlib.util.find_spec("cupy") is None:
        return f"CuPy is not installed; {_INSTALL}"
    try:
        cupy = importlib.import_module("cupy")
    except Exception as error:  # a broken installation raises anything; every kind becomes the same answer
        if not _driver_found():
            return f"no driver: the NVIDIA driver library is not found, and CuPy does not import ({error})"
        return f"wrong CUDA build: CuPy does not import ({error}); {_INSTALL}, matching the driver"
    try:
        count = cupy.cuda.runtime.getDeviceCount()
    except Exception as error:  # CUDARuntimeError exists only in an importable cupy
        if not _driver_found():
            return f"no driver: the NVIDIA driver library is not found ({error})"
        if "NoDevice" in str(error):
            return f"no device: the driver answers but shows no GPU ({error})"
        return f"wrong CUDA build: this CuPy does not fit the driver ({error}); {_INSTALL}, matching the driver"
    if count == 0:
        return "no device: the driver answers but shows no GPU"
    try:
        # compiles a kernel: finds a CuPy whose CUDA libraries are missing or of another version
        int((cupy.arange(3) * 2).sum())
    except Exception as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        return f"wrong CUDA build: CuPy sees {count} device(s) but cannot compute ({first}); {_INSTALL}"
    return None
