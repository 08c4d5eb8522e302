"""Working memory of a task, kept by its thread for the next one: fresh memory is not in the cache."""

from __future__ import annotations

import contextlib
import math
import threading
from collections.abc import Hashable, Iterator
from typing import Any

import numpy as np

from xpdl.backends.arrays import NDArray
from xpdl.backends.cpu.buffer_pool import aligned


class _Kept(threading.local):
    def __init__(self) -> None:
        self.memory: dict[str, NDArray] = {}
        self.constant: dict[str, Hashable] = {}


_kept = _Kept()


def scratch(name: str, shape: tuple[int, ...], dtype: Any) -> NDArray:
    """An array whose content is whatever the last task of this thread left; the same memory for the same `name`."""
    needed = math.prod(shape) * np.dtype(dtype).itemsize
    memory = _kept.memory.get(name)
    if memory is None or memory.nbytes < needed:
        memory = _kept.memory[name] = aligned(needed)
        _kept.constant.pop(name, None)
    return memory[:needed].view(dtype).reshape(shape)


@contextlib.contextmanager
def reuse_padding(name: str, what: Hashable) -> Iterator[bool]:
    """Inside, a task writes that part of the memory of `name` which many tasks share, such as zeros around images.

    It is told whether the last task of this thread that did so left the same there, `what` being all that decides it: then
    there is nothing to write. One that fails leaves nothing to be relied on.
    """
    there = _kept.constant.pop(name, None) == what
    yield there
    _kept.constant[name] = what
