"""Gradients of several mini-batches as one."""

from __future__ import annotations

from xpdl.backends.namespaces import Array

Grads = dict[str, Array]


class Accumulated:
    """Adds up gradients of mean losses, each weighted by the rows of its batch.

    Parameters
    ----------
    count : int
        Batches that make one update.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self._sums: Grads = {}
        self._rows = self._batches = 0

    def add(self, grads: Grads, rows: int, last: bool) -> Grads | None:
        """The gradients of all rows since the last update, when it is time for one, at the `last` batch in any case."""
        if self.count == 1:
            return grads
        weighted = {name: grad * float(rows) for name, grad in grads.items()}
        self._sums = {name: self._sums[name] + grad for name, grad in weighted.items()} if self._sums else weighted
        self._rows += rows
        self._batches += 1
        if self._batches < self.count and not last:
            return None
        mean = {name: total / float(self._rows) for name, total in self._sums.items()}
        self._sums, self._rows, self._batches = {}, 0, 0
        return mean
