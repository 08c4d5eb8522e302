"""Sums of many arrays over all ranks, in buckets that are sent while others are computed."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from xpdl.backends import Backend, asnumpy
from xpdl.backends.namespaces import Array, dtype_name
from xpdl.distributed.communicator import Buffer, Communicator


class Buckets:
    """Adds up named arrays over all ranks, the last first, as gradients come in a backward pass.

    A bucket is a contiguous buffer of arrays of one dtype, of at least ``communicator.bucket_bytes`` where there are as
    many; its sum is begun when the last of them is there, and when those of the buckets before it are begun: all ranks send
    the same messages in the same order. The layout is that of the arrays of the last `reduce`.

    Parameters
    ----------
    communicator : Communicator
    """

    def __init__(self, communicator: Communicator) -> None:
        self.communicator = communicator
        self._signature: Any = None
        self._places: dict[Any, tuple[_Bucket, int]] = {}
        self._buckets: list[_Bucket] = []
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
            bucket.values[begin : begin + math.prod(a.shape)] = 0 if as_zeros else asnumpy(a).reshape(-1)
            bucket.missing.remove(name)
        while self._begun < len(self._buckets) and not self._buckets[self._begun].missing:
            begun = self._buckets[self._begun]
            begun.wait = self.communicator.start_sum(begun.values)
            self._begun += 1

    def reduce(self, arrays: Mapping[Any, Array]) -> dict[Any, Array]:
        """Add up arrays over all ranks, and return the sums by the same names."""
        signature = [(name, tuple(a.shape), dtype_name(a.dtype)) for name, a in arrays.items()]
        if signature != self._signature:
            self._finish()
            self._lay_out(arrays)
            self._signature = signature
        for name, a in arrays.items():
            self.put(name, a)
        self._finish()
        sums = {}
        for name, a in arrays.items():
            bucket, begin = self._places[name]
            part = bucket.sum[begin : begin + math.prod(a.shape)].reshape(a.shape)
            sums[name] = part if type(a) is np.ndarray else Backend.of(a).asarray(part, dtype_name(a.dtype))
        return sums

    def _finish(self) -> None:
        for bucket in self._buckets[: self._begun]:
            assert bucket.wait is not None
            bucket.sum, bucket.wait = bucket.wait(), None
        self._restart()

    def _restart(self) -> None:
        self._begun = 0
        for bucket in self._buckets:
            bucket.missing = set(bucket.names)

    def _lay_out(self, arrays: Mapping[Any, Array]) -> None:
        """Assign a place to each array, the last ones first."""
        self._buckets, self._places = [], {}
        open_ones: dict[Any, _Bucket] = {}
        for name, a in reversed(list(arrays.items())):
            host = asnumpy(a)
            bucket = open_ones.get(host.dtype)
            if bucket is None:
                bucket = open_ones[host.dtype] = _Bucket(host.dtype)
                self._buckets.append(bucket)
            self._places[name] = bucket, bucket.size
            bucket.names.append(name)
            bucket.size += host.size
            if bucket.size * host.itemsize >= self.communicator.bucket_bytes:
                del open_ones[host.dtype]
        for bucket in self._buckets:
            bucket.values = np.empty(bucket.size, bucket.dtype)
        self._restart()


class _Bucket:
    """A contiguous buffer of arrays of one dtype."""

    def __init__(self, dtype: Any) -> None:
        self.dtype, self.size, self.names = dtype, 0, list[Any]()
        #: those that are not yet there
        self.missing: set[Any] = set()
        self.values = self.sum = np.empty(0, dtype)
        #: waits for the sum, once it is begun
        self.wait: Callable[[], Buffer] | None = None
