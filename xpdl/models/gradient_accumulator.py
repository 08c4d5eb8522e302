"""Accumulation of the gradients of several mini-batches into one."""

from __future__ import annotations

from xpdl.backends.namespaces import Array, array_namespace, is_array, widened

Grads = dict[str, Array]


class Accumulated:
    """Adds up gradients of mean losses, each weighted by what its mean was divided by.

    That is the number of rows of a batch, or the sum of their weights: the result is the gradient of the mean over the rows
    of all batches together. Those in half precision are added up in float32.

    Parameters
    ----------
    count : int
        Batches that make one update.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self.clear()

    def clear(self) -> None:
        """Forget the gradients since the last update."""
        self._sums: Grads = {}
        self._weight: Array | float = 0.0
        self._batches = 0

    def add(self, grads: Grads, weight: Array | float, last: bool) -> Grads | None:
        """The gradients of all rows since the last update, when it is time for one, at the `last` batch in any case."""
        if self.count == 1:
            return grads
        weighted = {name: _times(widened(grad), weight) for name, grad in grads.items()}
        self._sums = {name: self._sums[name] + grad for name, grad in weighted.items()} if self._sums else weighted
        self._weight = self._weight + weight
        self._batches += 1
        if self._batches < self.count and not last:
            return None
        return self.rest()

    def rest(self) -> Grads | None:
        """Return the gradients of the rows since the last update, and forget them; None where there are none."""
        if not self._sums:
            return None
        sums, share = self._sums, _inverse(self._weight)
        self.clear()
        return {name: _times(total, share) for name, total in sums.items()}


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
