"""Working memory of a task, kept by its thread for the next one: fresh memory is not in the cache."""

from __future__ import annotations

import math
import threading
from typing import Any

import numpy as np

from xpdl.backends.numpy.memory import aligned

Host = np.ndarray[Any, Any]

_kept = threading.local()


def scratch(name: str, shape: tuple[int, ...], dtype: Any) -> Host:
    """An array whose content is whatever the last task of this thread left; the same memory for the same `name`."""
    needed = math.prod(shape) * np.dtype(dtype).itemsize
    arrays: dict[str, Host] = _kept.__dict__
    memory = arrays.get(name)
    if memory is None or memory.nbytes < needed:
        memory = arrays[name] = aligned(needed)
    array: Host = memory[:needed].view(dtype).reshape(shape)
    return array
