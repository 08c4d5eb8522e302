"""Collectives of NCCL between the GPUs of several processes."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from xpdl.backends.arrays import Array
from xpdl.backends.cupy.lane import DeviceBuffer, Lane, SyncedBuffer
from xpdl.backends.cupy.launch import cupy, submodule
from xpdl.backends.device_info import nccl_version

__all__ = [
    "Collectives",
    "DeviceBuffer",
    "Lane",
    "SyncedBuffer",
    "availability",
    "error_type",
    "gpu_id",
    "sums",
    "unique_id",
]


class Collectives:
    """Collectives of the ranks of an NCCL communicator, each with a GPU of its own; all ranks call the same in one order.

    Calls return when the work is queued on the stream of the `lane`. Arrays are contiguous.

    Parameters
    ----------
    device : cupy.cuda.Device
        Of this rank.
    size, unique_id, rank
        The number of ranks, what `unique_id` returned on one of them, and this one.
    """

    def __init__(self, device: Any, size: int, unique_id: Any, rank: int) -> None:
        self.lane, self.size, self.rank = Lane(device), size, rank
        with device:
            self._comm = _nccl().NcclCommunicator(size, unique_id, rank)

    def all_reduce(self, values: Array) -> None:
        """Replace a vector (n,) by its sum over the ranks."""
        address = values.data.ptr
        self._comm.allReduce(address, address, values.size, *_summed_kind(values), self.lane.stream.ptr)

    def reduce_scatter(self, rows: Array, part: Array) -> None:
        """Set `part` (n,) to the sum over the ranks of this rank's row of `rows` (size, n), of which it may be the row."""
        self._comm.reduceScatter(rows.data.ptr, part.data.ptr, part.size, *_summed_kind(rows), self.lane.stream.ptr)

    def all_gather(self, parts: Sequence[Array], wholes: Sequence[Array]) -> None:
        """Set each of `wholes` to the parts of all ranks, in their order: one group of calls."""
        with _group():
            for part, whole in zip(parts, wholes, strict=True):
                self._comm.allGather(
                    part.data.ptr, whole.data.ptr, part.nbytes, _nccl().NCCL_UINT8, self.lane.stream.ptr
                )

    def broadcast(self, arrays: Sequence[Array]) -> None:
        """Set arrays to those of rank 0: one group of calls."""
        with _group():
            for a in arrays:
                address = a.data.ptr
                self._comm.broadcast(address, address, a.nbytes, _nccl().NCCL_UINT8, 0, self.lane.stream.ptr)

    def exchange(self, sent: Array, received: Array) -> None:
        """Set row r of `received` (size, n) to this rank's row of what rank r has in `sent` (size, n): bytes."""
        kind, stream = _nccl().NCCL_UINT8, self.lane.stream.ptr
        with _group():
            for peer in range(self.size):
                if peer != self.rank:
                    self._comm.send(sent[peer].data.ptr, sent.shape[1], kind, peer, stream)
                    self._comm.recv(received[peer].data.ptr, sent.shape[1], kind, peer, stream)
        received[self.rank] = sent[self.rank]

    def check(self) -> None:
        """Raise what NCCL has found wrong since a call: `error_type`."""
        self._comm.check_async_error()


def sums(dtype: Any) -> bool:
    """Return whether NCCL adds up such values as xpdl does: half precision it would round after each term."""
    return np.dtype(dtype).char in _kinds()


def availability() -> tuple[str, str]:
    """Return the version of NCCL that CuPy has loaded and "", or "" and why it has none."""
    try:
        return nccl_version(), ""
    except ImportError as missing:
        return "", str(missing)


def unique_id() -> Any:
    """Return what the ranks of a new communicator find each other by."""
    return _nccl().get_unique_id()


def error_type() -> type[Exception]:
    """Return the class of NCCL's errors."""
    kind: type[Exception] = _nccl().NcclError
    return kind


def gpu_id(device: Any) -> tuple[str, str]:
    """Return the UUID of a GPU, as hexadecimal digits, and its place on the PCI bus."""
    found = cupy().cuda.runtime.getDeviceProperties(device.id)
    return bytes(found["uuid"]).hex(), f"{found['pciDomainID']:04x}:{found['pciBusID']:02x}:{found['pciDeviceID']:02x}"


@contextlib.contextmanager
def _group() -> Iterator[None]:
    """Let NCCL start the calls inside together."""
    _nccl().groupStart()
    try:
        yield
    finally:
        _nccl().groupEnd()


def _nccl() -> Any:
    return submodule("cuda.nccl")


@functools.cache
def _kinds() -> dict[str, int]:
    nccl = _nccl()
    return {
        "f": nccl.NCCL_FLOAT32,
        "d": nccl.NCCL_FLOAT64,
        "b": nccl.NCCL_INT8,
        "B": nccl.NCCL_UINT8,
        "i": nccl.NCCL_INT32,
        "I": nccl.NCCL_UINT32,
        "l": nccl.NCCL_INT64,
        "L": nccl.NCCL_UINT64,
    }


def _summed_kind(values: Array) -> tuple[int, int]:
    return _kinds()[values.dtype.char], _nccl().NCCL_SUM
