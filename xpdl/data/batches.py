"""Rows in random order, and in batches."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Self

import numpy as np

from xpdl.backends import Backend
from xpdl.backends.graphs import detached
from xpdl.backends.namespaces import Array, array_namespace, copied, device, on_device_of
from xpdl.backends.random import Stream, checked_seed, next_stream
from xpdl.backends.rows import rows_at
from xpdl.data.compose import Compose, as_transform
from xpdl.data.structure import arrays_of, first_array, map_arrays, rows_in, take_rows
from xpdl.errors import ShapeError
from xpdl.ops.checks import flag, positive_int, require_shape
from xpdl.ops.shares import share_of
from xpdl.ops.targets import check_labels

Pair = tuple[Array, Array]
Transforms = Callable[..., Array] | Sequence[Callable[..., Array]]


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
    rows = row_count(x, t, "shuffle_dataset")
    order = next_stream("shuffle_dataset", seed).generator("order").permutation(rows)
    shuffled: Pair = map_arrays(lambda a: rows_at(a, beside(a, order)), (x, t))
    return shuffled


class BatchIterator:
    """Base of `Batches` and `ChunkedBatches`: passes over rows, each with a stream of random numbers of its own."""

    def __init__(
        self,
        batch_size: int,
        shuffle: bool,
        seed: int | None,
        drop_last: bool,
        transform: Transforms | None,
        backend: Backend | None,
        shard: tuple[int, int] = (0, 1),
    ) -> None:
        owner = type(self).__name__
        self.shard = checked_shard(shard, owner)
        self.batch_size = positive_int(batch_size, "batch_size", owner)
        self.shuffle, self.drop_last = flag(shuffle, "shuffle", owner), flag(drop_last, "drop_last", owner)
        if backend is not None and not callable(getattr(backend, "asarray", None)):
            raise TypeError(f"{owner}: backend must be what xpdl.use or xpdl.get_backend returned, got {backend!r}")
        self.backend = backend
        self.transform = Compose(*transform) if isinstance(transform, Sequence) else transform
        self._transform = None if self.transform is None else as_transform(self.transform, owner)
        self.seed = next_stream(owner).words("seed")[0] if seed is None else checked_seed(seed, owner)
        self.epoch = self.first_batch = 0
        self.may_be_empty = False

    def of_rank(self, rank: int, ranks: int) -> Self:
        """Return a copy for one rank, which gets an empty batch where a batch has no rows for it."""
        other = copy.copy(self)
        other.shard, other.may_be_empty = checked_shard((rank, ranks), type(self).__name__), True
        return other

    def __iter__(self) -> Iterator[tuple[Array, ...]]:
        stream = Stream(self.seed, f"epoch {self.epoch}")
        first, self.first_batch = self.first_batch, 0
        # a pass that is left early counts, or the next one would begin with the same rows
        self.epoch += 1
        for number, batch in enumerate(self._batches(stream, first), first):
            if self.backend is not None:
                batch = map_arrays(self.backend.asarray, batch)
            if self._transform is not None:
                x, *others = batch
                with on_device_of(first_array(x)):
                    if not self.shuffle:  # a transform may write into its rows, and these are a view of the data set
                        x = map_arrays(copied, x)
                    batch = (self._transform(x, stream.child(f"batch {number}")), *others)
                if self.shard[1] > 1:  # what is drawn depends on a row's place in the whole batch
                    batch = take_rows(batch, *self._share(rows_in(batch)))
            yield batch

    def _batches(self, stream: Stream, first: int) -> Iterator[tuple[Array, ...]]:
        """The rows of one pass from batch `first` on, as they are: those of `shard`, or all to be transformed."""
        raise NotImplementedError

    def _share(self, rows: int) -> tuple[int, int]:
        """Return the first row of this rank in a batch and the one after its last; a rank without rows gets the first."""
        start, stop = share_of(rows, *self.shard)
        return (0, 1) if start == stop and not self.may_be_empty else (start, stop)

    def _read_rows(self, rows: int) -> tuple[int, int]:
        """Return the rows of a batch that are read: all where a transform needs them."""
        return (0, rows) if self._transform is not None else self._share(rows)


def checked_shard(shard: Any, owner: str) -> tuple[int, int]:
    """Return `shard` as two ints; `ValueError` unless it is a rank and the number of ranks."""
    rank, ranks = shard if isinstance(shard, tuple) and len(shard) == 2 else (None, None)
    ints = isinstance(rank, int) and isinstance(ranks, int)
    if not ints or not 0 <= rank < ranks:  # type: ignore[operator]
        raise ValueError(f"{owner}: shard must be a rank from 0 and the number of ranks, such as (0, 4), got {shard!r}")
    return rank, ranks  # type: ignore[return-value]


class Batches(BatchIterator):
    """The batches of a data set: each iteration is one pass over all rows, an epoch.

    Parameters
    ----------
    x, t : array (N, ...) of any library, or tuple or dict of such arrays
        They stay where they are; batches are gathered on their device, and have the form of `x` and `t`. Of a file mapped
        into memory (`numpy.memmap`), no more than the rows of a batch are read for it: the file may be larger than the
        memory. See also `Prefetch`.
    batch_size : int
    shuffle : bool
        Another order in each epoch; without it, batches are slices of `x` and `t` in order.
    seed : int, optional
        The order depends on it and on `epoch` alone. By default it follows `xpdl.seed`.
    drop_last : bool
        Leave out the last batch where it has fewer rows.
    transform : callable or sequence of them, optional
        ``transform(x)`` -> the rows to train with, for each batch of `x`, such as those of `xpdl.data.augment`. These, and
        one that cannot be called without a second argument, get a `Stream <xpdl.backends.random.Stream>` there, which
        depends on seed, epoch and batch alone; draw from ``stream.generator(name)``. Several are put together by `Compose`.
    classes : int, optional
        Check once, here, that all labels are of so many classes, see `check_labels`.
    backend : Backend, optional
        Where each batch is moved to before it is transformed, ``xpdl.get_backend()`` for example; floats take its dtype.
    sample_weight : array (N,), optional
        Weights of the rows; batches are ``(x, t, sample_weight)`` then, for ``net.gradient(x, t, sample_weight)``.
    shard : (int, int)
        A rank, from 0, and the number of ranks: of every batch give the rows that are this rank's, as `xpdl.distributed`
        divides them, and read no others unless there is a `transform`. A rank that a small batch leaves without rows gets
        its first row.

    Attributes
    ----------
    epoch : int
        The number of the next pass, from 0; goes up with the first batch of each, and may be set.
    first_batch : int
        Set it to a number of batches that the next pass, and only that one, leaves out at its beginning: the others come as
        they would have, which is what a training that was interrupted goes on with, after `epoch` is set back to that pass.

    Raises
    ------
    ShapeError
        If `x` and `t` differ in rows or have none, or `batch_size` is not a positive int or leaves no batch.
    TypeError
        If `x` or `t` is no array, or `transform` cannot be called.
    LabelError
        If a label is not one of `classes`.

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
        transform: Transforms | None = None,
        classes: int | None = None,
        backend: Backend | None = None,
        sample_weight: Array | None = None,
        shard: tuple[int, int] = (0, 1),
    ) -> None:
        super().__init__(batch_size, shuffle, seed, drop_last, transform, backend, shard)
        self.rows = row_count(x, t, "Batches")
        self.x, self.t, self.sample_weight = map_arrays(detached, (x, t, sample_weight))
        if sample_weight is not None:
            array_namespace(sample_weight, owner="Batches")
            require_shape(sample_weight, (self.rows,), "Batches", "sample_weight, one for each row,")
        if drop_last and self.batch_size > self.rows:
            raise ShapeError(f"Batches: {self.rows} rows do not fill one batch of {self.batch_size}")
        if classes is not None:
            check_labels(t, positive_int(classes, "classes", "Batches"), "Batches")

    def __len__(self) -> int:
        whole, rest = divmod(self.rows, self.batch_size)
        return whole + (rest > 0 and not self.drop_last)

    def _batches(self, stream: Stream, first: int) -> Iterator[tuple[Array, ...]]:
        arrays = (self.x, self.t) if self.sample_weight is None else (self.x, self.t, self.sample_weight)
        take = rows_of(*arrays, rng=stream.generator("order") if self.shuffle else None)
        for number in range(first, len(self)):
            begin = number * self.batch_size
            start, stop = self._read_rows(min(self.batch_size, self.rows - begin))
            yield take(begin + start, begin + stop)


def rows_of(*arrays: Array, rng: np.random.Generator | None) -> Callable[[int, int], tuple[Array, ...]]:
    """A function of (begin, end) that gives these rows of all arrays, in a random order if there is an `rng`."""
    if rng is None:
        return lambda begin, end: tuple(map_arrays(read, take_rows(arrays, begin, end)))
    order = rng.permutation(rows_in(arrays))
    # moved once for the whole pass
    ordered = map_arrays(lambda a: _Ordered(a, beside(a, order)), arrays)
    return lambda begin, end: tuple(map_arrays(lambda one: one.rows(begin, end), ordered))


class _Ordered:
    """The rows of an array in another order, of which only those that are asked for are read."""

    def __init__(self, a: Array, order: Array) -> None:
        self.a, self.order = a, order

    def rows(self, begin: int, end: int) -> Array:
        return read(rows_at(self.a, self.order[begin:end]))


def is_mapped(a: Any) -> bool:
    """Return whether `a`, or an array of it, is a file mapped into memory, which may be larger than that."""
    return any(isinstance(one, np.memmap) for _, one in arrays_of(a))


def row_count(x: Any, t: Any, owner: str, x_name: str = "x", t_name: str = "t", least: int = 1) -> int:
    """Require arrays with as many rows of all of `x` as of `t`, and at `least` one; return their number.

    Raises
    ------
    ShapeError
        If they differ, with all names and shapes.
    TypeError
        If there is no array, or something else.
    """
    for name, value in ((x_name, x), (t_name, t)):
        if not any(True for _ in arrays_of(value)):
            raise TypeError(f"{owner}: {name} is an empty {type(value).__name__}, no array at all")
    arrays = {**dict(arrays_of(x, x_name)), **dict(arrays_of(t, t_name))}
    for a in arrays.values():
        array_namespace(a, owner=owner)
    rows = {int(a.shape[0]) if a.ndim else -1 for a in arrays.values()}
    if len(rows) != 1 or min(rows) < least:
        names, shapes = (
            " and ".join(map(str, values)) for values in (arrays, (tuple(a.shape) for a in arrays.values()))
        )
        raise ShapeError(f"{owner}: {names} must have the same number of rows, at least one, got shapes {shapes}")
    return rows.pop()


def beside(a: Array, order: np.ndarray[Any, Any]) -> Array:
    """`order` in the library and on the device of `a`."""
    return array_namespace(a).asarray(order, device=device(a))


def read(a: Array) -> Array:
    """`a` itself, or what it shows of a mapped file, read into memory now."""
    return np.array(a) if is_mapped(a) else a
