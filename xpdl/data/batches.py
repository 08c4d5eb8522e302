"""Rows in random order, and in batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from xpdl.backends.namespaces import Array, array_namespace, device
from xpdl.backends.random import Stream, next_stream
from xpdl.data.compose import Compose, ready
from xpdl.errors import ShapeError
from xpdl.ops.checks import positive_int


def shuffle_dataset(x: Array, t: Array, *, seed: int | None = None) -> tuple[Array, Array]:
    """The rows of `x` and `t` in one random order (the book's ``common/util.py``, for any rank).

    Parameters
    ----------
    x, t : array (N, ...) of any library
    seed : int, optional
        By default the order follows `xpdl.seed`.

    Returns
    -------
    x, t : array
        New arrays, on the device of the old ones.

    Raises
    ------
    ShapeError
        If `x` and `t` differ in rows, or have none.
    TypeError
        If one of them is no array.
    """
    rows = _rows(x, t, "shuffle_dataset")
    order = next_stream("shuffle_dataset", seed).generator("order").permutation(rows)
    return _taken(x, _beside(x, order)), _taken(t, _beside(t, order))


class Batches:
    """The batches of a data set: each iteration is one pass over all rows, an epoch.

    Parameters
    ----------
    x, t : array (N, ...) of any library
        They stay where they are; batches are gathered on their device.
    batch_size : int
    shuffle : bool
        Another order in each epoch; without it, batches are slices of `x` and `t` in order.
    seed : int, optional
        The order depends on it and on `epoch` alone. By default it follows `xpdl.seed`.
    drop_last : bool
        Leave out the last batch where it has fewer rows.
    transform : callable or sequence of them, optional
        ``transform(x)`` -> the rows to train with, for each batch of `x`; see `xpdl.data.augment`. One that cannot be
        called without a second argument gets a `Stream <xpdl.backends.random.Stream>` there, which depends on seed,
        epoch and batch alone; draw from ``stream.generator(name)``. Several are put together by `Compose`.

    Attributes
    ----------
    epoch : int
        The number of the next pass, from 0; goes up with each complete one, and may be set.

    Raises
    ------
    ShapeError
        If `x` and `t` differ in rows or have none, or `batch_size` is not a positive int or leaves no batch.
    TypeError
        If `x` or `t` is no array, or `transform` cannot be called.

    Examples
    --------
    >>> x, t = np.arange(10.0).reshape(5, 2), np.arange(5)
    >>> [len(t) for x, t in Batches(x, t, 2, seed=0)]
    [2, 2, 1]
    """

    def __init__(
        self,
        x: Array,
        t: Array,
        batch_size: int,
        *,
        shuffle: bool = True,
        seed: int | None = None,
        drop_last: bool = False,
        transform: Callable[..., Array] | Sequence[Callable[..., Array]] | None = None,
    ) -> None:
        self.rows = _rows(x, t, "Batches")
        self.x, self.t = x, t
        self.batch_size = positive_int(batch_size, "batch_size", "Batches")
        if drop_last and self.batch_size > self.rows:
            raise ShapeError(f"Batches: {self.rows} rows do not fill one batch of {self.batch_size}")
        self.shuffle, self.drop_last = shuffle, drop_last
        self.transform = Compose(*transform) if isinstance(transform, Sequence) else transform
        self._transform = None if self.transform is None else ready(self.transform, "Batches")
        self.seed = next_stream("Batches").words("seed")[0] if seed is None else int(seed)
        self.epoch = 0

    def __len__(self) -> int:
        whole, rest = divmod(self.rows, self.batch_size)
        return whole + (rest > 0 and not self.drop_last)

    def __iter__(self) -> Iterator[tuple[Array, Array]]:
        stream = Stream(self.seed, f"epoch {self.epoch}")
        orders = None
        if self.shuffle:
            order = stream.generator("order").permutation(self.rows)
            # moved once for the whole pass
            orders = _beside(self.x, order), _beside(self.t, order)
        for number in range(len(self)):
            rows = slice(number * self.batch_size, min((number + 1) * self.batch_size, self.rows))
            if orders is None:
                x, t = self.x[rows, ...], self.t[rows, ...]
            else:
                x, t = _taken(self.x, orders[0][rows]), _taken(self.t, orders[1][rows])
            if self._transform is not None:
                x = self._transform(x, stream.child(f"batch {number}"))
            yield x, t
        self.epoch += 1


def _rows(x: Array, t: Array, owner: str) -> int:
    for a in (x, t):
        array_namespace(a, owner=owner)
    if x.ndim < 1 or t.ndim < 1 or x.shape[0] != t.shape[0] or x.shape[0] == 0:
        raise ShapeError(
            f"{owner}: x and t must have the same number of rows, at least one, "
            f"got shapes {tuple(x.shape)} and {tuple(t.shape)}"
        )
    return int(x.shape[0])


def _beside(a: Array, order: np.ndarray[Any, Any]) -> Array:
    """`order` in the library and on the device of `a`."""
    return array_namespace(a).asarray(order, device=device(a))


def _taken(a: Array, order: Array) -> Array:
    return array_namespace(a).take(a, order, axis=0)
