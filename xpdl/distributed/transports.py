"""Ways of arrays to other ranks: the interface, and the one through the memory of the host."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from xpdl.backends import Backend, asnumpy
from xpdl.backends.namespaces import Array, dtype_name
from xpdl.backends.staging import host_buffer, way_of_messages
from xpdl.distributed.compression import FORMS
from xpdl.distributed.vectors import Buffer, summed


class Transport(Protocol):
    """Sums and copies of arrays of one library over all ranks, which all call the same methods in the same order."""

    def describe(self) -> str:
        """Describe the way, and the reason for it, as words after "gradients are"."""

    def buffer(self, size: int, dtype: Any) -> Any:
        """Return a buffer as `xpdl.backends.staging.HostBuffer`, whose values `start_sum` takes."""

    def start_sum(self, values: Array, *, scattered: bool = False) -> Callable[[], Array]:
        """Begin to add up vectors (n,), and return a function that waits for the sum, see `Communicator.start_sum`."""

    def joined(self, parts: Sequence[Array]) -> list[Array]:
        """Return for each vector the parts of all ranks, which are of equal size, one after the other."""

    def allreduce(self, arrays: Sequence[Array]) -> list[Array]:
        """Add up arrays, see `Communicator.allreduce`."""

    def broadcast(self, arrays: Sequence[Array]) -> list[Array]:
        """Return the arrays of rank 0; those of the others have the same shapes and dtypes."""


class HostRanks(Protocol):
    """The part of `xpdl.distributed.Communicator` that adds up vectors of the host."""

    compression: str | None

    def sum_in_order(self, values: Buffer) -> Buffer:
        """Add up vectors."""

    def start_sum(self, values: Buffer, *, scattered: bool = False) -> Callable[[], Buffer]:
        """Begin to add up vectors."""

    def joined(self, parts: Sequence[Buffer]) -> list[Buffer]:
        """Join the parts of all ranks."""

    def bcast(self, value: Any) -> Any:
        """Return the value of rank 0."""


class HostTransport:
    """The way through the memory of the host.

    Parameters
    ----------
    ranks : HostRanks
    backend : Backend
        Of the arrays.
    reason : str
        For this way, where there could be another one.
    """

    def __init__(self, ranks: HostRanks, backend: Backend, reason: str = "") -> None:
        self.ranks, self.backend, self.reason = ranks, backend, reason
        self.start_sum, self.joined = ranks.start_sum, ranks.joined

    def describe(self) -> str:
        words = way_of_messages(self.backend) + FORMS[self.ranks.compression].words
        return words + (f" ({self.reason})" if self.reason else "")

    def buffer(self, size: int, dtype: Any) -> Any:
        return host_buffer(self.backend, size, dtype)

    def allreduce(self, arrays: Sequence[Array]) -> list[Array]:
        totals = summed([asnumpy(a) for a in arrays], self.ranks.sum_in_order)
        return [alike(a, total) for a, total in zip(arrays, totals, strict=True)]

    def broadcast(self, arrays: Sequence[Array]) -> list[Array]:
        found = self.ranks.bcast([asnumpy(a) for a in arrays])
        return [alike(a, value) for a, value in zip(arrays, found, strict=True)]


def alike(a: Array, values: Array) -> Array:
    """Return values in the library, on the device and in the dtype of an array."""
    return values if type(values) is type(a) else Backend.of(a).asarray(values, dtype_name(a.dtype))
