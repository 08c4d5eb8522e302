"""A stream for messages beside that of the computation, and buffers of a GPU for them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from xpdl.backends.arrays import Array
from xpdl.backends.cupy.launch import cupy
from xpdl.backends.cupy.pinned import QueuedCopies


class Lane:
    """A stream of its own for messages, ordered by events against the stream that computes.

    Parameters
    ----------
    device : cupy.cuda.Device
    """

    def __init__(self, device: Any) -> None:
        self.device = device
        with device:
            self.stream = cupy().cuda.Stream(non_blocking=True)

    @contextlib.contextmanager
    def after_compute(self) -> Iterator[None]:
        """Queue the work inside on the lane's stream, behind what the current stream was given so far."""
        with self.device:
            self.stream.wait_event(_recorded(cupy().cuda.get_current_stream()))
            with self.stream:
                yield

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Queue the work inside on the lane's stream."""
        with self.device, self.stream:
            yield

    def wait_for_compute(self) -> None:
        """Wait on the host for what the current stream was given so far."""
        with self.device:
            cupy().cuda.get_current_stream().synchronize()

    def record(self) -> Any:
        """Return an event that has happened when the lane's work so far is done."""
        with self.device:
            return _recorded(self.stream)

    def compute_after(self, event: Any) -> None:
        """Let what the current stream is given from now on wait for an event; the host does not wait."""
        with self.device:
            cupy().cuda.get_current_stream().wait_event(event)

    def is_done(self, event: Any) -> bool:
        """Return whether an event has happened; any thread may ask."""
        with self.device:
            return bool(event.done)


class DeviceBuffer:
    """A `xpdl.backends.staging.HostBuffer` in the memory of a GPU, for messages that are ordered on streams.

    The last values, up to a multiple of `ranks`, are zeros that nobody puts.
    """

    def __init__(self, device: Any, size: int, dtype: Any, ranks: int = 1) -> None:
        with device:
            self.values = cupy().zeros(-(-size // ranks) * ranks, dtype)

    def put(self, begin: int, a: Array) -> None:
        """Queue the copy of an array on the current stream."""
        with a.device:
            self.values[begin : begin + a.size].reshape(a.shape)[...] = a

    def is_ready(self) -> bool:
        """Return True: messages are queued behind the copies."""
        return True

    def wait(self) -> None:
        """Return at once."""


class SyncedBuffer(QueuedCopies, DeviceBuffer):
    """A `DeviceBuffer` for messages of the host, which waits for the copies."""

    def put(self, begin: int, a: Array) -> None:
        super().put(begin, a)
        self.note_copy(a)


def _recorded(stream: Any) -> Any:
    return stream.record(cupy().cuda.Event(disable_timing=True))
