"""Arrays whose values can be read at once."""

from __future__ import annotations

import sys
from typing import Any

from xpdl.backends.graphs import is_of_jax, is_traced
from xpdl.backends.namespaces import Array, is_host


def is_readable(x: Array) -> bool:
    """Return whether reading values of `x` waits for no device: true of NumPy, and of PyTorch and JAX on a CPU.

    False of what stands for arrays in functions that these trace or transform.
    """
    if is_host(x):
        return True
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(x, torch.Tensor):
        return x.device.type == "cpu" and _has_storage(x)
    return is_of_jax(x) and not is_traced(x) and _is_on_cpu(x)


def _has_storage(x: Any) -> bool:
    """Return whether a tensor has memory: within `torch.func.vmap` and of fake tensors it has none."""
    try:
        x.data_ptr()
    except RuntimeError:
        return False
    return True


def _is_on_cpu(x: Any) -> bool:
    """Return whether all values of an array of JAX are in the memory of this process."""
    return x.is_fully_addressable and all(one.platform == "cpu" for one in x.devices())
