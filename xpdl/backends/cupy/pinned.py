"""Page-locked memory of the host, to which a GPU copies while it and the host go on."""

from __future__ import annotations

from typing import Any

import numpy as np

from xpdl.backends.arrays import Array
from xpdl.backends.cupy.launch import contiguous, cupy
from xpdl.backends.namespaces import dtype_name


class QueuedCopies:
    """Copies that are queued on streams, as of a buffer."""

    _copied: Any = None

    def note_copy(self, a: Array) -> None:
        """Wait from now on for the copies of an array too that the current stream has been given."""
        with a.device:
            self._copied = cupy().cuda.get_current_stream().record()

    def is_ready(self) -> bool:
        """Return whether all copies are made."""
        return self._copied is None or bool(self._copied.done)

    def wait(self) -> None:
        """Wait for the copies."""
        if self._copied is not None:
            self._copied.synchronize()
            self._copied = None


class PinnedBuffer(QueuedCopies):
    """A `xpdl.backends.staging.HostBuffer` in page-locked memory: copies are queued on the stream, and nobody waits."""

    def __init__(self, size: int, dtype: Any) -> None:
        count = size * np.dtype(dtype).itemsize
        # NumPy's view keeps the memory
        self.values: np.ndarray[Any, Any] = np.frombuffer(cupy().cuda.alloc_pinned_memory(max(count, 1)), dtype, size)

    def put(self, begin: int, a: Array) -> None:
        """Queue the copy of an array."""
        with a.device:
            a = contiguous(a if dtype_name(a.dtype) == self.values.dtype.name else a.astype(self.values.dtype))
            if a.size:
                a.get(out=self.values[begin : begin + a.size].reshape(a.shape), blocking=False)
        self.note_copy(a)
