"""Copies from one device to another."""

from __future__ import annotations

from typing import Any

from xpdl.backends.arrays import Array
from xpdl.backends.cupy.launch import contiguous, cupy


def moved(x: Array, device: Any) -> Array:
    """A copy of `x` on `device`, another one than its own.

    The streams of two devices do not wait for each other: the copy waits for what computes `x`, and whatever is given the
    memory of `x` later waits for the copy.
    """
    cuda = cupy().cuda
    with x.device:
        source = cuda.get_current_stream()
        x = contiguous(x)  # CuPy copies contiguous arrays alone between devices
        computed = source.record()
    with cuda.Device(device):
        stream = cuda.get_current_stream()
        stream.wait_event(computed)
        copy = cupy().asarray(x)
        copied = stream.record()
    with x.device:
        source.wait_event(copied)
    return copy
