"""Devices by their names."""

from __future__ import annotations

import importlib
from typing import Any

from xpdl.backends.arrays import Namespace


def device_called(library: str, xp: Namespace, device: Any) -> Any:
    """The device of that name, in libraries that take no names."""
    if isinstance(device, str) and library == "array_api_strict":
        return xp.Device(device)
    if isinstance(device, str) and library == "jax":
        kind, _, index = device.partition(":")
        return importlib.import_module("jax").devices(kind)[int(index or 0)]
    if library == "cupy" and isinstance(device, str):
        return int(device.removeprefix("cuda:"))
    if library == "cupy" and isinstance(device, (bool, float)):
        raise TypeError("expected a number such as 1, a name such as 'cuda:1', or a device")
    return device
