"""What GPU this is, whether kernels of NumPy are compiled, and how to wait for a device."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from xpdl.backends import Backend
from xpdl.backends.cupy import cudnn
from xpdl.backends.numpy import compiled


def details(library: str) -> dict[str, str]:
    """What else there is to say of an array library that works here."""
    if library == "numpy":
        return {"kernels": compiled.state()}
    return machine() if library == "cupy" else {}


def machine() -> dict[str, str]:
    """The GPU CuPy computes on, its driver, and the versions of what computes there."""
    cupy = importlib.import_module("cupy")
    runtime = cupy.cuda.runtime
    device = cupy.cuda.Device()
    name: Any = runtime.getDeviceProperties(device.id)["name"]
    found = {
        "GPU": name.decode() if isinstance(name, bytes) else str(name),
        "compute capability": str(device.compute_capability),
        "memory": f"{device.mem_info[1] / 2**30:.0f} GiB",
        "CUDA of the driver": str(runtime.driverGetVersion()),
        "CUDA of CuPy": str(runtime.runtimeGetVersion()),
        "CuPy": str(cupy.__version__),
        "cuDNN": cudnn.problem() or str(importlib.import_module("cudnn").backend_version()),
    }
    try:
        torch = importlib.import_module("torch")
        found["PyTorch"] = f"{torch.__version__}, CUDA {torch.version.cuda}, cuDNN {torch.backends.cudnn.version()}"
    except ImportError as error:
        found["PyTorch"] = f"not installed ({error})"
    return found


def synchronizer(backend: Backend) -> Callable[[], None]:
    """A function that waits until the device of a CuPy backend has done what it was given, by whomever."""

    def synchronize() -> None:
        backend.device.synchronize()

    return synchronize
