"""Sums of vectors by ranks of one machine, in memory that all of them map: no bytes are sent."""

from __future__ import annotations

import mmap
import os
import secrets
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np

from xpdl.backends import Backend
from xpdl.backends.namespaces import is_half
from xpdl.backends.staging import HostBuffer
from xpdl.distributed.transports import HostTransport
from xpdl.distributed.vectors import Buffer, added_up
from xpdl.ops.checks import is_finite

_TOKEN_BYTES = 16


class SharedMemoryTransport(HostTransport):
    """The way through memory that the ranks of one machine share; other messages than sums go by the host.

    Parameters
    ----------
    ranks : MPICommunicator
    backend : Backend
        Of arrays on the host.
    """

    def __init__(self, ranks: Any, backend: Backend) -> None:
        super().__init__(ranks, backend)
        self._world = ranks
        self.start_sum = self._start_sum
        #: by the address of its values
        self._buffers = weakref.WeakValueDictionary[int, SharedBuffer]()

    def describe(self) -> str:
        return "added up in memory that all ranks share"

    def buffer(self, size: int, dtype: Any) -> Any:
        """Return a `SharedBuffer`, or one of this rank alone where there is no room."""
        memory = shared_memory(self._world, bytes_needed(self._world.size, size, dtype))
        if memory is None:
            return super().buffer(size, dtype)
        buffer = SharedBuffer(self._world, memory, size, dtype)
        self._buffers[buffer.values.ctypes.data] = buffer
        return buffer

    def _start_sum(self, values: Buffer, *, scattered: bool = False) -> Callable[[], Buffer]:
        buffer = self._buffers.get(values.ctypes.data)
        if buffer is None:
            return self.ranks.start_sum(values, scattered=scattered)
        return buffer.start_sum(scattered=scattered)


class SharedBuffer(HostBuffer):
    """A vector (n,) of each rank of one machine, and their sum.

    Every rank writes its own vector, adds up one part of those of all in the order of the ranks, and reads the whole sum:
    each element is added by one rank, so all have bitwise identical results, the same as those of `Reductions`.

    Parameters
    ----------
    ranks : MPICommunicator
    memory : mmap.mmap
        Of at least `bytes_needed`, which all ranks map.
    size : int
    dtype

    Attributes
    ----------
    values : NumPy array (n,)
        That of this rank.
    is_finite : bool
        Whether the last sum is, of which each rank has looked at its part.
    """

    def __init__(self, ranks: Any, memory: mmap.mmap, size: int, dtype: Any) -> None:
        self._ranks, count, rank = ranks, ranks.size, ranks.rank
        length = -(-size // count)
        rows = np.frombuffer(memory, dtype, (count + 1) * count * length).reshape(count + 1, count * length)
        super().__init__(rows[rank, :size])
        self._sum = rows[count, :size]
        self._parts_are_finite = np.frombuffer(memory, np.bool_, count, offset=rows.nbytes)
        self.is_finite = True
        own = slice(rank * length, (rank + 1) * length)
        self._terms, self._own_sum = rows[:count, own], rows[count, own]

    def start_sum(self, *, scattered: bool = False) -> Callable[[], Buffer]:
        """Let other ranks read `values`, and return a function that waits for the sum; see `Transport.start_sum`.

        `values` must not change before all ranks have called that function. The sum is that of all ranks, which must not
        write into it, and is overwritten by the next one.
        """
        all_have_written = self._ranks.start_barrier()

        def wait() -> Buffer:
            all_have_written()
            _add_up(self._terms, self._own_sum)
            self._parts_are_finite[self._ranks.rank] = is_finite(self._own_sum)
            self._ranks.barrier()
            self.is_finite = bool(self._parts_are_finite.all())
            return self._own_sum if scattered else self._sum

        return wait


def can_share(ranks: Any) -> bool:
    """Return whether all ranks can map the same memory; all call it together."""
    return shared_memory(ranks, mmap.PAGESIZE) is not None


def bytes_needed(ranks: int, size: int, dtype: Any) -> int:
    """Return the bytes of a `SharedBuffer`, which fills up each vector to a multiple of the number of ranks."""
    return (ranks + 1) * ranks * -(-size // ranks) * int(np.dtype(dtype).itemsize) + ranks


def shared_memory(ranks: Any, size: int) -> mmap.mmap | None:
    """Map `size` bytes of zeros into all ranks, which call it together; None on all where one of them cannot.

    They belong to a file without a name, which ends with the last rank that maps it, also where that is killed.
    """
    descriptor, token = _created(size) if ranks.is_first else (None, b"")
    path = None if descriptor is None else f"/proc/{os.getpid()}/fd/{descriptor}"
    path, token = ranks.bcast((path, token))
    memory = None if path is None else _mapped(path, token)
    is_mapped = all(ranks.allgather(memory is not None))
    if descriptor is not None:
        os.close(descriptor)
    return memory if is_mapped else None


def _created(size: int) -> tuple[int | None, bytes]:
    """Open a file in memory of so many zeros and a token; None where the system has no such files, or no room."""
    token = secrets.token_bytes(_TOKEN_BYTES)
    if not hasattr(os, "memfd_create"):
        return None, token
    try:
        descriptor = os.memfd_create("xpdl")
    except OSError:  # forbidden in some containers
        return None, token
    try:
        # reserved now: without room, a write would end the process later
        os.posix_fallocate(descriptor, 0, size)
        os.pwrite(descriptor, token, size)
    except OSError:
        os.close(descriptor)
        return None, token
    return descriptor, token


def _mapped(path: str, token: bytes) -> mmap.mmap | None:
    """Map the file of rank 0; None on a machine, or in a container, where the path is another one's or nobody's."""
    try:
        with open(path, "r+b") as file:
            memory = mmap.mmap(file.fileno(), 0)
    except (OSError, ValueError):  # nothing to map
        return None
    return memory if memory[-len(token) :] == token else None


def _add_up(terms: Buffer, total: Buffer) -> None:
    """Write the sum of rows (k, n) into a vector (n,), rounded once."""
    if is_half(terms):
        total[:] = added_up(terms)
        return
    with np.errstate(all="ignore"):  # infinite gradients, as a loss scale finds them
        np.add(terms[0], terms[1], out=total)
        for term in terms[2:]:
            total += term
