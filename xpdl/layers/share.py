"""A rank's share of a batch, which layers see while a step of several ranks is made."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
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

    def start_gather(self, values: Sequence[float]) -> Callable[[], Any]:
        """Begin to gather n numbers of each rank; the function returned waits for them: a NumPy array (size, n)."""


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
        The mean loss of the global batch and its divisor, after `finish`.
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
        #: waits for the losses of all ranks, once this one has sent its own
        self._wait: Callable[[], Any] | None = None
        self._is_assumed = False

    @property
    def is_exchanged(self) -> bool:
        """Return whether `exchange` was called."""
        return self._wait is not None or self.loss is not None

    def exchange(self, loss: Any, weight: Any) -> float:
        """Send the loss of this rank to all, and return the factor of this rank's gradients in that of the global batch.

        A mean over rows has a factor that needs no answer: then the backward pass does not wait for other ranks.

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
        self._wait = self.communicator.start_gather(own)
        rows = self.stop - self.start
        self._is_assumed = self.is_idle or (isinstance(weight, int) and weight == rows)
        if self._is_assumed:
            self.factor = rows / self.rows
        else:
            self.finish()
        return self.factor

    def finish(self) -> None:
        """Wait for the losses of other ranks, and compute that of the global batch.

        Raises
        ------
        RuntimeError
            If this rank has a mean over rows, and another one a weighted mean.
        """
        if self._wait is None:
            return
        assert self.communicator is not None
        wait, self._wait = self._wait, None
        pairs = wait().tolist()
        self.weight = total = sum(weight for _, weight in pairs)
        shares = [weight / total if total else 0.0 for _, weight in pairs]
        self.loss = sum(loss * share for (loss, _), share in zip(pairs, shares, strict=True))
        factor = shares[self.communicator.rank]
        if self._is_assumed and factor != self.factor:
            raise RuntimeError(
                f"Trainer: ranks weigh the rows of a batch in different ways, by {[weight for _, weight in pairs]} for "
                f"{self.rows} rows; give sample weights on all ranks or on none"
            )
        self.factor = factor


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
