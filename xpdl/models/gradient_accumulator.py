"""Accumulation of the gradients of several mini-batches into one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from xpdl.backends.namespaces import Array, array_namespace, device, is_array, wide_dtype, widened

Grads = dict[str, Array]


class Accumulated:
    """Adds up gradients of mean losses, each weighted by what its mean was divided by.

    That is the number of rows of a batch, or the sum of their weights: the result is the gradient of the mean over the rows
    of all batches together. Those in half precision are added up in float32.

    Parameters
    ----------
    count : int
        Batches that make one update.

    Attributes
    ----------
    sums : dict of str to array
        Weighted gradients since the last update.
    weight : array () or float
        The sum of their weights.
    batches : int
        Batches since the last update.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self.sums: Grads = {}
        self.clear()

    def clear(self) -> None:
        """Forget the gradients since the last update."""
        self.sums.clear()
        self.weight: Array | float = 0.0
        self.batches = 0

    def is_due(self, last: bool) -> bool:
        """Return whether the next batch, or the `last` one of an epoch, makes an update."""
        return last or self.batches + 1 >= self.count

    def add(self, grads: Grads, weight: Array | float, last: bool) -> Grads | None:
        """The gradients of all rows since the last update, when it is time for one, at the `last` batch in any case."""
        if self.count == 1:
            return grads
        due, sums = self.is_due(last), self.sums
        weighted = {name: _times(widened(grad), weight) for name, grad in grads.items()}
        sums.update({name: sums[name] + grad if name in sums else grad for name, grad in weighted.items()})
        self.weight = self.weight + weight
        self.batches += 1
        return self.rest() if due else None

    def rest(self) -> Grads | None:
        """Return the gradients of the rows since the last update, and forget them; None where there are none."""
        if not self.batches:
            return None
        share = _inverse(self.weight)
        means = {name: _times(total, share) for name, total in self.sums.items()}
        self.clear()
        return means

    def entries(self, params: Mapping[str, Array]) -> list[tuple[dict[str, Any], str]]:
        """Return the arrays that a compiled step adds to, each as its dict and key; zeros are made where there are none."""
        if self.count == 1:
            return []
        for name, p in params.items():
            xp, beside = array_namespace(p), {"dtype": wide_dtype(p), "device": device(p)}
            if name not in self.sums:
                self.sums[name] = xp.zeros(p.shape, **beside)
            if not is_array(self.weight):
                self.weight = xp.asarray(self.weight, **beside)
        return [*((self.sums, name) for name in sorted(self.sums)), (vars(self), "weight")]

    def count_batch(self, updated: bool) -> None:
        """Count a batch of a compiled step, which has added its gradients or has updated with all of them."""
        self.batches = 0 if updated else self.batches + 1


def _times(grad: Array, factor: Array | float) -> Array:
    """Multiply, in the dtype of `grad`."""
    if not is_array(factor):
        return grad * float(factor)
    xp = array_namespace(grad, factor)
    return grad * xp.astype(factor, grad.dtype)


def _inverse(weight: Array | float) -> Array | float:
    """``1 / weight``, and 0 where nothing had one: all gradients are 0 then."""
    if not is_array(weight):
        return 1.0 / weight if weight else 0.0
    xp = array_namespace(weight)
    return xp.where(weight == 0, 0.0, 1.0 / xp.where(weight == 0, 1.0, weight))
