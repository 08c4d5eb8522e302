"""A rank's share of a batch, which layers see while a step of several ranks is made."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

from xpdl.backends.namespaces import Array
from xpdl.layers.base import Layer
from xpdl.layers.composite import Composite
from xpdl.ops.shares import share_of


class Reduces(Protocol):
    """The part of `xpdl.distributed.Communicator` that layers need."""

    rank: int
    size: int

    def allreduce(self, arrays: Sequence[Array]) -> list[Array]:
        """The sums of arrays over all ranks."""

    def allgather(self, value: Any) -> list[Any]:
        """The values of all ranks, in their order."""


class BatchShare:
    """The rows ``start`` to ``stop`` of a global batch of so many `rows`, which one rank computes.

    A rank without rows makes its passes on a row of another one, which counts for nothing, so that all ranks exchange the
    same messages.

    Parameters
    ----------
    rows : int
        Of the global batch.
    communicator : Communicator
    span : (int, int), optional
        `start` and `stop`, where they are not those of `share_of`.
    exchanges : bool
        False: layers exchange nothing, as when one rank looks for a NaN.

    Attributes
    ----------
    start, stop, rows : int
    is_idle : bool
        Without rows.
    loss, weight : float or None
        The mean loss of the global batch and its divisor, after `exchange`.
    factor : float
        That of this rank's gradients, after `exchange`.
    """

    def __init__(
        self, rows: int, communicator: Reduces, span: tuple[int, int] | None = None, *, exchanges: bool = True
    ) -> None:
        self.start, self.stop = span or share_of(rows, communicator.rank, communicator.size)
        self.rows, self.is_idle = rows, self.start == self.stop
        self.communicator = communicator if exchanges else None
        self.loss: float | None = None
        self.weight: float | None = None
        self.factor = 1.0

    def exchange(self, loss: Any, weight: Any) -> float:
        """Compute the loss of the global batch, and return the factor of this rank's gradients in its gradient.

        Parameters
        ----------
        loss : array () or float
            The mean over the rows of this rank.
        weight : array () or float
            The divisor of that mean.

        Returns
        -------
        float
            `weight` as a share of that of all ranks; their gradients, multiplied by it, add up to that of the batch.
        """
        assert self.communicator is not None
        own = (0.0, 0.0) if self.is_idle else (float(loss), float(weight))
        pairs = self.communicator.allgather(own)
        self.weight = total = sum(weight for _, weight in pairs)
        shares = [weight / total if total else 0.0 for _, weight in pairs]
        self.loss = sum(loss * share for (loss, _), share in zip(pairs, shares, strict=True))
        self.factor = shares[self.communicator.rank]
        return self.factor


@contextlib.contextmanager
def shared(network: Any, share: BatchShare) -> Iterator[None]:
    """Let the layers of `network` see that a batch is a share: dropout takes its rows of the mask, for example."""
    layers: list[Layer] = [network, *network.leaves()] if isinstance(network, Composite) else []
    for layer in layers:
        layer.share = share
    try:
        yield
    finally:
        for layer in layers:
            layer.share = None
