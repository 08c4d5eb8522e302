"""Buffers of the host that arrays of a device are copied to, to be sent elsewhere."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np

from xpdl.backends import Backend, asnumpy
from xpdl.backends.namespaces import Array


class HostBuffer:
    """A vector in the memory of the host.

    Parameters
    ----------
    values : NumPy array (n,)
        Has what was `put` when `is_ready` says so, or after `wait`.
    """

    def __init__(self, values: np.ndarray[Any, Any]) -> None:
        self.values = values

    def put(self, begin: int, a: Array) -> None:
        """Copy the values of an array, from `begin` on."""
        host = asnumpy(a).reshape(-1)
        self.values[begin : begin + host.size] = host

    def is_ready(self) -> bool:
        """Return whether all copies are made."""
        return True

    def wait(self) -> None:
        """Wait for the copies."""


def gpu_messages(backend: Backend) -> Any:
    """Return the module that moves arrays of a backend between GPUs, None where they are not on one that it knows."""
    return importlib.import_module("xpdl.backends.cupy.nccl") if backend.name == "cupy" else None


def host_buffer(backend: Backend, size: int, dtype: Any) -> HostBuffer:
    """Return a buffer for arrays of a backend."""
    if backend.name == "cupy":
        buffer: HostBuffer = importlib.import_module("xpdl.backends.cupy.pinned").PinnedBuffer(size, dtype)
        return buffer
    return HostBuffer(np.empty(size, dtype))


def way_of_messages(backend: Backend) -> str:
    """Describe the way that arrays of a backend take to other processes."""
    if backend.name == "cupy":
        return "staged through pinned memory of the host"
    return "sent in messages" if backend.name == "numpy" else "copied to the memory of the host"
