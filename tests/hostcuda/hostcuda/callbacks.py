"""Parts of the CUDA runtime and driver that the library of src/ leaves to Python."""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path
from typing import Any

from hostcuda import nvrtc

_SHARED_MEMORY = 48 << 10
# (value, number of cudaDeviceAttr): the numbers are the driver's, CuPy has names for a few of them only
_ATTRIBUTES = {
    "MaxThreadsPerBlock": (1024, 1),
    "MaxBlockDimX": (1024, 2),
    "MaxBlockDimY": (1024, 3),
    "MaxBlockDimZ": (64, 4),
    "MaxGridDimX": (2**31 - 1, 5),
    "MaxGridDimY": (65535, 6),
    "MaxGridDimZ": (65535, 7),
    "MaxSharedMemoryPerBlock": (_SHARED_MEMORY, 8),
    "WarpSize": (32, 10),
    "MultiProcessorCount": (108, 16),
    "MaxThreadsPerMultiProcessor": (2048, 39),
    "UnifiedAddressing": (1, 41),
    "ComputeCapabilityMajor": (8, 75),
    "ComputeCapabilityMinor": (0, 76),
}
_BY_NUMBER = {number: value for value, number in _ATTRIBUTES.values()}


def memory_size() -> int:
    """Bytes of each device."""
    return int(os.environ.get("HOSTCUDA_MEMORY", 8 << 30))


def device_attribute(attribute: int, device: int) -> int:
    return _BY_NUMBER.get(attribute, 0)


def device_properties(device: int) -> dict[str, Any]:
    """The properties of an A100, as far as there is something of the kind."""
    return {
        "name": b"host (CuPy without a GPU)",
        "totalGlobalMem": memory_size(),
        "sharedMemPerBlock": _SHARED_MEMORY,
        "regsPerBlock": 65536,
        "warpSize": 32,
        "maxThreadsPerBlock": 1024,
        "maxThreadsDim": (1024, 1024, 64),
        "maxGridSize": (2**31 - 1, 65535, 65535),
        "clockRate": 1410000,
        "major": 8,
        "minor": 0,
        "multiProcessorCount": 108,
        "integrated": 0,
        "canMapHostMemory": 1,
        "concurrentKernels": 1,
        "pciBusID": device + 1,
        "pciDeviceID": 0,
        "pciDomainID": 0,
        "memoryClockRate": 1215000,
        "memoryBusWidth": 5120,
        "l2CacheSize": 40 << 20,
        "maxThreadsPerMultiProcessor": 2048,
        "cooperativeLaunch": 0,
        "unifiedAddressing": 1,
        "managedMemory": 1,
        "sharedMemPerMultiprocessor": 164 << 10,
        "sharedMemPerBlockOptin": _SHARED_MEMORY,
        "uuid": bytes([*b"hostcuda", *bytes(7), device]),
    }


def pointer_attributes(device: int, on_device: int, on_host: int, kind: int) -> Any:
    from cupy_backends.cuda.api import runtime

    return runtime.PointerAttributes(device, on_device, on_host, kind)


def driver_error(status: int, text: str) -> Any:
    """A CUDADriverError with a text; its own constructor asks the driver for one."""
    from cupy_backends.cuda.api import driver

    error = driver.CUDADriverError.__new__(driver.CUDADriverError, text)
    error.status = status
    return error


def image_file(image: bytes) -> str:
    """The path of a file with a compiled module, for dlopen."""
    path = nvrtc.cache_dir() / f"{hashlib.sha256(image).hexdigest()[:32]}.so"
    if not path.exists():
        fresh = tempfile.mktemp(dir=path.parent)
        Path(fresh).write_bytes(image)
        os.replace(fresh, path)
    return str(path)
