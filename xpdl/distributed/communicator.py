"""Exchange of values between ranks: the interface, which by itself is a world of one rank."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from xpdl.backends import Backend
from xpdl.backends.namespaces import Array
from xpdl.distributed.transports import HostTransport, Transport
from xpdl.distributed.vectors import Buffer

# DeepConvNet, batch 200, two ranks over 1 Gb/s (TCP, loopback with a token bucket): a rank waits after its backward pass
# for at least 2.2 ms with buckets of 64 KiB, 2.8 ms of 256 KiB, 2.7 ms of 1 MiB, 6.1 ms with one; quartiles 5, 7, 10, 16 ms
#: bytes of gradients in one message, unless told otherwise
BUCKET_BYTES = 1 << 18


class RankError(RuntimeError):
    """Ranks that have gone apart: another does not answer, or they hold different values."""


class Communicator:
    """The ranks of a training; this class is a world of one, `MPICommunicator` one of several.

    All ranks call the same methods in the same order. Arrays of any library are taken; those of a GPU go by the `transport`,
    all others through the memory of the host. Results come in the library, on the device and in the dtype of what was given.

    Attributes
    ----------
    rank, size : int
        This process, from 0, and the number of them.
    local_rank : int
        This process among those of its machine, from 0: the index of its GPU.
    bucket_bytes : int
        So many bytes of gradients make one message, see `mpi`.
    compression : str or None
        Of gradients in messages.
    transport : str
        The way of CuPy's arrays, see `mpi`.
    on_one_machine : bool
        Whether all ranks may map the same memory.
    """

    rank = 0
    size = 1
    local_rank = 0
    bucket_bytes = BUCKET_BYTES
    compression: str | None = None
    transport: str = "auto"
    on_one_machine = False

    @property
    def is_first(self) -> bool:
        """Return whether this is rank 0, which prints and writes files."""
        return self.rank == 0

    def allreduce(self, arrays: Sequence[Array]) -> list[Array]:
        """Add up arrays over all ranks.

        All ranks have bitwise identical results. The terms are added in the order of the ranks, but for NCCL's sums of
        float32 and float64, whose order is NCCL's. Arrays in half precision are added up in float32.

        Parameters
        ----------
        arrays : sequence of arrays
            On every rank of the same shapes and dtypes.

        Returns
        -------
        list of arrays
        """
        if not arrays:
            return []
        backend = Backend.of(arrays[0])
        # small values of the host go by MPI also where gradients go by another way
        return (HostTransport(self, backend) if backend.name == "numpy" else self.transport_of(backend)).allreduce(
            arrays
        )

    def transport_of(self, backend: Backend) -> Transport:
        """Return the way of a backend's arrays to the other ranks; all ranks ask together for the first time."""
        return HostTransport(self, backend)

    def sum_in_order(self, values: Buffer) -> Buffer:
        """Add up vectors (n,) of the host over all ranks, in the order of the ranks."""
        return values.copy()

    def start_sum(self, values: Buffer, *, scattered: bool = False) -> Callable[[], Buffer]:
        """Begin to add up vectors (n,) of the host, as `sum_in_order` does, and return a function that waits for the sum.

        `values` must not change before that is called. All ranks begin the same sums in the same order.

        Parameters
        ----------
        values : array (n,)
        scattered : bool
            Whether each rank needs its part of the sum alone: of as many parts as ranks, of equal size, filled up by zeros.
        """
        total = self.sum_in_order(values)
        return lambda: total

    def joined(self, parts: Sequence[Buffer]) -> list[Buffer]:
        """Return for each vector the parts of all ranks, which are of equal size, one after the other."""
        return [part.copy() for part in parts]

    def allgather(self, value: Any) -> list[Any]:
        """Return the values of all ranks, which can be pickled, in the order of the ranks."""
        return [value]

    def start_gather(self, values: Sequence[float]) -> Callable[[], Buffer]:
        """Begin to gather n numbers of each rank, and return a function that waits for them: an array (size, n)."""
        gathered = np.array([values])
        return lambda: gathered

    def bcast(self, value: Any) -> Any:
        """Return the value of rank 0, which can be pickled; that of others is ignored."""
        return value

    def barrier(self) -> None:
        """Wait until all ranks are here."""

    def start_barrier(self) -> Callable[[], None]:
        """Say that this rank is here, and return a function that waits until all ranks have said so."""
        return lambda: None

    def describe(self) -> str:
        """Describe the ranks in one line."""
        return "one process"

    def __repr__(self) -> str:
        return f"{type(self).__name__}(rank={self.rank}, size={self.size})"
