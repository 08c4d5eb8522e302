"""Windows over a long text as batches: ids and, for each, the one that follows it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from xpdl.backends import Backend
from xpdl.backends.graphs import detached
from xpdl.backends.namespaces import Array, array_namespace, device, dtype_name
from xpdl.backends.random import Stream
from xpdl.backends.rows import rows_at
from xpdl.backends.subclasses import ids_cure
from xpdl.data.batches import BatchIterator, beside, read
from xpdl.errors import DTypeError, ShapeError
from xpdl.ops.checks import positive_int, require_rank


class ContiguousWindows(BatchIterator):
    """Batches for truncated backpropagation: each row goes on where the same row of the batch before ended.

    The text is cut into `batch_size` parts that are equally long, one for each row, and these into windows. What is left at
    the end of the text, less than `batch_size` ids, is not used.

    Parameters
    ----------
    ids : integer array (N,) of any library
        A text, see `Vocabulary.encode`. It stays where it is; of a file mapped into memory (`numpy.memmap`), a batch reads
        its own windows.
    batch_size : int
    length : int
        Of a window.
    drop_last : bool
        Leave out the last window of a part where it is shorter.
    backend, shard
        As of `Batches`.

    Attributes
    ----------
    epoch, first_batch : int
        As of `Batches`.

    Raises
    ------
    ShapeError
        If `ids` are not in one row, or too few for one batch; or a count is not a positive int.
    DTypeError
        If `ids` are not integers.

    Notes
    -----
    Batches are pairs of integer arrays (batch_size, length), in the library's own integers; the second one is the first one
    moved on by one id. A layer that keeps its state (``stateful=True``) sees the text in one piece.

    Examples
    --------
    >>> for x, t in ContiguousWindows(np.arange(9), 2, 3):
    ...     print(x.tolist(), t.tolist())
    [[0, 1, 2], [4, 5, 6]] [[1, 2, 3], [5, 6, 7]]
    [[3], [7]] [[4], [8]]
    """

    def __init__(
        self,
        ids: Array,
        batch_size: int,
        length: int,
        *,
        drop_last: bool = False,
        backend: Backend | None = None,
        shard: tuple[int, int] = (0, 1),
    ) -> None:
        super().__init__(batch_size, False, 0, drop_last, None, backend, shard)
        self.ids = _checked_ids(ids, "ContiguousWindows")
        self.length = positive_int(length, "length", "ContiguousWindows")
        self.rows: int = self.ids.shape[0] - 1
        self._part: int = self.rows // self.batch_size
        if not len(self):
            raise ShapeError(
                f"ContiguousWindows: {self.rows + 1} ids do not fill {self.batch_size} windows of "
                f"{self.length if drop_last else 1} and the id after"
            )

    def __len__(self) -> int:
        return self._part // self.length if self.drop_last else -(-self._part // self.length)

    def _batches(self, stream: Stream, first: int) -> Iterator[tuple[Array, ...]]:
        parts = [
            array_namespace(self.ids).reshape(
                self.ids[start : start + self._part * self.batch_size], (self.batch_size, self._part)
            )
            for start in (0, 1)
        ]
        begin, end = self._read_rows(self.batch_size)
        for number in range(first, len(self)):
            window = slice(number * self.length, min((number + 1) * self.length, self._part))
            yield tuple(_integers(part[begin:end, window]) for part in parts)


class RandomWindows(BatchIterator):
    """Batches of windows that begin anywhere in a text, drawn with replacement.

    Parameters
    ----------
    ids : integer array (N,) of any library
        A text, see `Vocabulary.encode`. It stays where it is; of a file mapped into memory (`numpy.memmap`), a batch reads
        its own windows.
    batch_size : int
    length : int
        Of a window.
    batches : int, optional
        Of a pass; by default so many that they have as many ids as the text, or nearly so.
    seed : int, optional
        Where windows begin depends on it and on `epoch` alone. By default it follows `xpdl.seed`.
    backend, shard
        As of `Batches`.

    Attributes
    ----------
    epoch, first_batch : int
        As of `Batches`.

    Raises
    ------
    ShapeError
        If `ids` are not in one row, or too few for one window and the id after; or a count is not a positive int.
    DTypeError
        If `ids` are not integers.

    Notes
    -----
    Batches are pairs of integer arrays (batch_size, length), in the library's own integers; the second one is the first one
    moved on by one id.

    Examples
    --------
    >>> windows = RandomWindows(np.arange(1000), 2, 4, seed=0)
    >>> len(windows)
    124
    >>> x, t = next(iter(windows))
    >>> x.tolist(), t.tolist()
    ([[803, 804, 805, 806], [759, 760, 761, 762]], [[804, 805, 806, 807], [760, 761, 762, 763]])
    """

    def __init__(
        self,
        ids: Array,
        batch_size: int,
        length: int,
        *,
        batches: int | None = None,
        seed: int | None = None,
        backend: Backend | None = None,
        shard: tuple[int, int] = (0, 1),
    ) -> None:
        super().__init__(batch_size, True, seed, False, None, backend, shard)
        self.ids = _checked_ids(ids, "RandomWindows")
        self.length = positive_int(length, "length", "RandomWindows")
        #: places where a window may begin
        self.rows = self.ids.shape[0] - self.length
        if self.rows < 1:
            raise ShapeError(
                f"RandomWindows: {self.ids.shape[0]} ids do not fill a window of {self.length} and the id after"
            )
        fitting = max(1, (self.ids.shape[0] - 1) // (self.batch_size * self.length))
        self.batches = fitting if batches is None else positive_int(batches, "batches", "RandomWindows")

    def __len__(self) -> int:
        return self.batches

    def _batches(self, stream: Stream, first: int) -> Iterator[tuple[Array, ...]]:
        begin, end = self._read_rows(self.batch_size)
        for number in range(first, self.batches):
            # one generator for each batch: a pass over a long text has more windows than there is memory for
            begins = stream.generator(f"batch {number}").integers(0, self.rows, self.batch_size)
            places = begins[begin:end, np.newaxis] + np.arange(self.length + 1)
            flat = _integers(rows_at(self.ids, beside(self.ids, places.reshape(-1))))
            windows = array_namespace(flat).reshape(flat, places.shape)
            yield windows[:, :-1], windows[:, 1:]


def _checked_ids(ids: Any, owner: str) -> Array:
    xp = array_namespace(ids, owner=owner)
    require_rank(ids, 1, owner, "ids (N,)")
    if not xp.isdtype(ids.dtype, "integral"):
        raise DTypeError(f"{owner}: ids must be integers, got {dtype_name(ids.dtype)}; {ids_cure(ids)}")
    return detached(ids)


def _integers(ids: Array) -> Array:
    """Read `ids` into memory, in the library's default integers: those of a file are small."""
    ids = read(ids)
    xp = array_namespace(ids)
    return xp.astype(ids, xp.arange(1, device=device(ids)).dtype, copy=False)
