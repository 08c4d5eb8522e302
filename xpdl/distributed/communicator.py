"""Exchange of values between ranks: the interface, which by itself is a world of one rank."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from xpdl.backends import Backend, asnumpy
from xpdl.backends.namespaces import Array, dtype_name, is_half

Buffer = np.ndarray[Any, Any]

# DeepConvNet, batch 200, two ranks over 1 Gb/s (TCP, loopback with a token bucket): a rank waits after its backward pass
# for at least 2.2 ms with buckets of 64 KiB, 2.8 ms of 256 KiB, 2.7 ms of 1 MiB, 6.1 ms with one; quartiles 5, 7, 10, 16 ms
#: bytes of gradients in one message, unless told otherwise
BUCKET_BYTES = 1 << 18


class RankError(RuntimeError):
    """Ranks that have gone apart: another does not answer, or they hold different values."""


class Communicator:
    """The ranks of a training; this class is a world of one, `MPICommunicator` one of several.

    All ranks call the same methods in the same order. Arrays of any library are taken; they go through the memory of the
    host, and results come in the library, on the device and in the dtype of what was given.

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
    """

    rank = 0
    size = 1
    local_rank = 0
    bucket_bytes = BUCKET_BYTES
    compression: str | None = None

    @property
    def is_first(self) -> bool:
        """Return whether this is rank 0, which prints and writes files."""
        return self.rank == 0

    def allreduce(self, arrays: Sequence[Array]) -> list[Array]:
        """Add up arrays over all ranks.

        The terms are added in the order of the ranks, each element by one rank: all have bitwise identical results, and the
        same in every run. Arrays in half precision are added up in float32.

        Parameters
        ----------
        arrays : sequence of arrays
            On every rank of the same shapes and dtypes.

        Returns
        -------
        list of arrays
        """
        kinds: dict[str, list[int]] = {}
        hosts = [asnumpy(a) for a in arrays]
        for place, host in enumerate(hosts):
            kinds.setdefault(host.dtype.str + host.dtype.name, []).append(place)
        sums: list[Array] = list(arrays)
        for places in kinds.values():
            total = self.sum_in_order(np.concatenate([hosts[place].ravel() for place in places]))
            begin = 0
            for place in places:
                host, a = hosts[place], arrays[place]
                part = total[begin : begin + host.size].reshape(host.shape)
                sums[place] = part if a is host else Backend.of(a).asarray(part, dtype_name(a.dtype))
                begin += host.size
        return sums

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

    def bcast(self, value: Any) -> Any:
        """Return the value of rank 0, which can be pickled; that of others is ignored."""
        return value

    def barrier(self) -> None:
        """Wait until all ranks are here."""

    def describe(self) -> str:
        """Describe the ranks in one line."""
        return "one process"

    def __repr__(self) -> str:
        return f"{type(self).__name__}(rank={self.rank}, size={self.size})"


def added_up(terms: Iterable[Buffer]) -> Buffer:
    """Add vectors in their order, in float32 where they are in half precision, and round once."""
    first, *others = terms
    total = first.astype(np.float32) if is_half(first) else first.copy()
    with np.errstate(all="ignore"):  # infinite gradients, as a loss scale finds them
        for term in others:
            total += term
        return total.astype(first.dtype, copy=False)
