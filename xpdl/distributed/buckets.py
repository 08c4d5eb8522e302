"""Sums of many arrays over all ranks, in buckets that are sent while others are computed."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from xpdl.backends import Backend, asnumpy
from xpdl.backends.namespaces import Array, array_namespace, dtype_name
from xpdl.backends.staging import HostBuffer
from xpdl.distributed.communicator import Communicator
from xpdl.distributed.shared_memory import SharedBuffer, SharedMemoryTransport
from xpdl.distributed.transports import Transport, alike


class Buckets:
    """Adds up named arrays over all ranks, the last first, as gradients come in a backward pass.

    A bucket is a contiguous buffer of arrays of one dtype, of at least ``communicator.bucket_bytes`` where there are as
    many; its sum is begun when the last of them is there, and when those of the buckets before it are begun: all ranks send
    the same messages in the same order. In memory that ranks share, arrays of one dtype make one bucket, as there is no
    message to hide. The layout is that of the arrays of the last `reduce`.

    Parameters
    ----------
    communicator : Communicator
    scattered : bool
        Whether each rank needs its part of each bucket's sum alone.
    """

    def __init__(self, communicator: Communicator, *, scattered: bool = False) -> None:
        self.communicator, self.scattered = communicator, scattered
        self._signature: Any = None
        self._places: dict[Any, tuple[_Bucket, int]] = {}
        self._buckets: list[_Bucket] = []
        self._transport: Transport | None = None
        #: name -> the first value that this rank has in its parts, and the one after its last, of names with any
        self.pieces: dict[Any, tuple[int, int]] = {}
        self._restart()

    def restart(self) -> bool:
        """Drop what an error has left of an earlier call, and return whether there is a layout to `put` arrays into."""
        self._finish()
        return self._signature is not None

    def put(self, name: Any, a: Array, *, as_zeros: bool = False) -> None:
        """Copy an array into its bucket, unless it is there, and begin the sums of those that are full.

        Arrays that the layout has no place for are left to `reduce`.
        """
        bucket, begin = self._places.get(name, (None, 0))
        if bucket is not None and name in bucket.missing:
            bucket.buffer.put(begin, array_namespace(a).zeros_like(a) if as_zeros else a)
            bucket.missing.remove(name)
        self._begin()

    def reduce(self, arrays: Mapping[Any, Array]) -> dict[Any, Array]:
        """Add up arrays over all ranks, and return the sums by the same names; scattered, those of `pieces`."""
        signature = [(name, tuple(a.shape), dtype_name(a.dtype)) for name, a in arrays.items()]
        if signature != self._signature:
            self._finish()
            self._lay_out(arrays)
            self._signature = signature
        for name, a in arrays.items():
            self.put(name, a)
        self._finish()
        if self.scattered:
            return {name: alike(arrays[name], self._part_of(name)) for name in self.pieces}
        sums = {}
        for name, a in arrays.items():
            bucket, begin = self._places[name]
            sums[name] = alike(a, bucket.sum[begin : begin + math.prod(a.shape)].reshape(a.shape))
        return sums

    def are_known_finite(self) -> bool:
        """Return whether ranks have found the last sums finite while they added them up; False where nobody has looked."""
        return all(isinstance(bucket.buffer, SharedBuffer) and bucket.buffer.is_finite for bucket in self._buckets)

    def join(self, pieces: Mapping[Any, Array], dtype: Any = None) -> Iterator[tuple[Any, Array]]:
        """Yield each name with the vector that the pieces of all ranks make, where the transport has it.

        Parameters
        ----------
        pieces : mapping of name to array (n,)
            What this rank has of it: where `pieces` says that it has something.
        dtype
            Of all, by default those of the arrays that were added up.
        """
        assert self._transport is not None
        parts = []
        for bucket in self._buckets:
            length = -(-bucket.size // self.communicator.size)
            part = self._transport.buffer(length, bucket.dtype if dtype is None else dtype)
            for name in bucket.sizes:
                if name in self.pieces:
                    part.put(self._span(name)[0], pieces[name])
            part.wait()
            parts.append(part.values[:length])
        for bucket, whole in zip(self._buckets, self._transport.joined(parts), strict=True):
            for name in bucket.sizes:
                begin = self._places[name][1]
                yield name, whole[begin : begin + bucket.sizes[name]]

    def _part_of(self, name: Any) -> Array:
        start, stop = self._span(name)
        return self._places[name][0].sum[start:stop]

    def _span(self, name: Any) -> tuple[int, int]:
        """Return where a piece lies in this rank's part of its bucket."""
        bucket, begin = self._places[name]
        offset = begin - self.communicator.rank * -(-bucket.size // self.communicator.size)
        start, stop = self.pieces[name]
        return offset + start, offset + stop

    def _begin(self, *, waits: bool = False) -> None:
        """Begin the sums of the buckets that are full, up to one that a device has not yet copied unless it `waits`."""
        for bucket in self._buckets[self._begun :]:
            if bucket.missing or not (waits or bucket.buffer.is_ready()):
                return
            assert self._transport is not None
            bucket.buffer.wait()
            bucket.wait = self._transport.start_sum(bucket.buffer.values, scattered=self.scattered)
            self._begun += 1

    def _finish(self) -> None:
        self._begin(waits=True)
        for bucket in self._buckets[: self._begun]:
            assert bucket.wait is not None
            bucket.sum, bucket.wait = bucket.wait(), None
        self._restart()

    def _restart(self) -> None:
        self._begun = 0
        for bucket in self._buckets:
            bucket.missing = set(bucket.sizes)

    def _lay_out(self, arrays: Mapping[Any, Array]) -> None:
        """Assign a place to each array, the last ones first."""
        self._transport = transport = self.communicator.transport_of(Backend.of(next(iter(arrays.values()))))
        limit = math.inf if isinstance(transport, SharedMemoryTransport) else self.communicator.bucket_bytes
        self._buckets, self._places = [], {}
        open_ones: dict[Any, _Bucket] = {}
        for name, a in reversed(list(arrays.items())):
            dtype, size = asnumpy(array_namespace(a).reshape(a, (-1,))[:0]).dtype, math.prod(a.shape)
            bucket = open_ones.get(dtype)
            if bucket is None:
                bucket = open_ones[dtype] = _Bucket(dtype)
                self._buckets.append(bucket)
            self._places[name] = bucket, bucket.size
            bucket.sizes[name] = size
            bucket.size += size
            if bucket.size * dtype.itemsize >= limit:
                del open_ones[dtype]
        for bucket in self._buckets:
            bucket.buffer = transport.buffer(bucket.size, bucket.dtype)
        self.pieces = dict(self._own_pieces())
        self._restart()

    def _own_pieces(self) -> Iterator[tuple[Any, tuple[int, int]]]:
        """Yield the names of which this rank has something, and of which values."""
        for bucket in self._buckets:
            length = -(-bucket.size // self.communicator.size)
            for name, size in bucket.sizes.items():
                begin = self._places[name][1]
                start = max(0, self.communicator.rank * length - begin)
                stop = min(size, (self.communicator.rank + 1) * length - begin)
                if start < stop:
                    yield name, (start, stop)


class _Bucket:
    """A contiguous buffer of arrays of one dtype."""

    def __init__(self, dtype: Any) -> None:
        self.dtype, self.size, self.sizes = dtype, 0, dict[Any, int]()
        #: those that are not yet there
        self.missing: set[Any] = set()
        self.sum: Array = np.empty(0, dtype)
        self.buffer = HostBuffer(self.sum)
        #: waits for the sum, once it is begun
        self.wait: Callable[[], Array] | None = None
