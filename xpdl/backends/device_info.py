"""Hardware, driver and library versions; waiting for a device."""

from __future__ import annotations

import gc
import importlib
import importlib.metadata
import subprocess
import sys
import warnings
from collections.abc import Callable
from typing import Any

from xpdl.backends import Backend
from xpdl.backends.cpu import blas_kernels
from xpdl.backends.cupy import cublas, cudnn
from xpdl.backends.numba import loading


def details(library: str) -> dict[str, str]:
    """Return further facts about an array library that works here."""
    if library == "numpy":
        hint = blas_kernels.hint_here()
        return {"kernels": loading.state()} | ({} if hint is None else {"products": hint})
    return machine() if library == "cupy" else {}


def machine() -> dict[str, str]:
    """The GPU that CuPy computes on, its driver, and the versions of the libraries that compute there, or why not."""
    cupy = importlib.import_module("cupy")
    runtime = cupy.cuda.runtime
    device = cupy.cuda.Device()
    name: Any = runtime.getDeviceProperties(device.id)["name"]
    return {
        "GPU": name.decode() if isinstance(name, bytes) else str(name),
        "compute capability": str(device.compute_capability),
        "memory": f"{device.mem_info[1] / 2**30:.0f} GiB",
        "driver": _answer(_driver),
        "CUDA of the driver": _cuda(runtime.driverGetVersion()),
        "CUDA of CuPy": _cuda(runtime.runtimeGetVersion()),
        "CuPy": str(cupy.__version__),
        "cuBLAS": _answer(_cublas),
        "matrix products": cublas.problem() or "by cuBLAS, in captured steps too",
        "cuDNN": cudnn.problem() or "used by convolutions",
        "cuDNN library": _answer(lambda: _version(cudnn.library_version())),
        "cuDNN frontend": _answer(lambda: importlib.metadata.version("nvidia-cudnn-frontend")),
        "NCCL": _answer(nccl_version),
        "PyTorch": _answer(_pytorch),
    }


def is_emulated(gpu: str) -> bool:
    """Return whether `gpu`, the name of a device, is that of the CPU, which CuPy can run on for tests."""
    return gpu.startswith("host (")


def _answer(ask: Callable[[], str]) -> str:
    """Call `ask`, and return its error as a line: a report of this machine must not fail for a missing library."""
    try:
        return ask()
    except Exception as error:
        lines = str(error).splitlines() or [type(error).__name__]
        return f"not available ({lines[0]})"


def _driver() -> str:
    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    return subprocess.run(query, capture_output=True, text=True, check=True, timeout=20).stdout.split()[0]


def _cublas() -> str:
    handle = importlib.import_module("cupy.cuda.device").get_cublas_handle()
    return _version(importlib.import_module("cupy_backends.cuda.libs.cublas").getVersion(handle))


def nccl_version() -> str:
    """Return the version of NCCL that CuPy has loaded.

    Raises
    ------
    ImportError
        If it finds none.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # CuPy's, on how to install it
        nccl = importlib.import_module("cupy.cuda.nccl")
    if not nccl.available:
        raise ImportError("CuPy finds no libnccl; pip install nvidia-nccl-cu12 or nvidia-nccl-cu13, matching CuPy")
    return _version(nccl.get_version())


def _pytorch() -> str:
    torch = importlib.import_module("torch")
    return f"{torch.__version__}, CUDA {torch.version.cuda}, cuDNN {torch.backends.cudnn.version()}"


def _cuda(version: int) -> str:
    """12090 is 12.9."""
    return f"{version // 1000}.{version % 1000 // 10}"


def _version(number: int) -> str:
    """91702 is 9.17.2."""
    return f"{number // 10000}.{number // 100 % 100}.{number % 100}"


def free_cached_memory() -> None:
    """Return to the GPU what CuPy and PyTorch, where it is loaded, keep for later arrays."""
    gc.collect()
    importlib.import_module("cupy").get_default_memory_pool().free_all_blocks()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()


def synchronizer(backend: Backend) -> Callable[[], None]:
    """A function that waits until the device of a CuPy backend has done what it was given, by whomever."""

    def synchronize() -> None:
        backend.device.synchronize()

    return synchronize
