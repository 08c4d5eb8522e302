"""Sparse rows, of which a batch at a time is dense."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from xpdl.backends import tables
from xpdl.backends.random import next_stream
from xpdl.data.batches import Batches

# Values of one dense piece: 8 MB in float64.
_VALUES = 1 << 20
# Rows of it at most, as many as `Sequential.predict` takes in one pass.
_ROWS = 1000


def is_sparse(a: Any) -> bool:
    """Return whether `a` is a sparse matrix or array of SciPy."""
    return hasattr(a, "toarray")


def dense(a: Any) -> Any:
    """Return sparse rows as an array; others as they are."""
    return a.toarray() if is_sparse(a) else a


def pieces(X: Any) -> Iterator[Any]:
    """Yield the rows of a sparse matrix in pieces that may be dense."""
    rows = min(_ROWS, max(1, _VALUES // X.shape[1]))
    return (X[start : start + rows] for start in range(0, X.shape[0], rows))


class SparseBatches:
    """Batches of a sparse matrix for a `Trainer`, in the order in which it would take those of the dense one.

    Parameters
    ----------
    X : sparse matrix (N, F)
    t : array (N, ...)
    row_shape : tuple of int
        Of a row as the net takes it.
    batch_size, drop_last, sample_weight
        As of `Batches`.
    seed : int
        Of the trainer.
    """

    def __init__(
        self,
        X: Any,
        t: Any,
        row_shape: tuple[int, ...],
        batch_size: int,
        *,
        seed: int,
        drop_last: bool,
        sample_weight: Any,
    ) -> None:
        self.X, self.row_shape = X, row_shape
        order = next_stream("Trainer", seed).words("order")[0]
        numbers = tables.as_array(list(range(X.shape[0])), "rows")
        self._numbers = Batches(numbers, t, batch_size, seed=order, drop_last=drop_last, sample_weight=sample_weight)
        self.epoch = self.first_batch = 0

    def __len__(self) -> int:
        return len(self._numbers)

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        self._numbers.epoch, self._numbers.first_batch = self.epoch, self.first_batch
        for rows, *others in self._numbers:
            yield dense(self.X[rows]).reshape(-1, *self.row_shape), *others
