"""Sequences of different lengths: padded to the same one, and in batches of similar ones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from xpdl.backends import Backend, asarray, asnumpy
from xpdl.backends.namespaces import Array, is_array
from xpdl.backends.random import Stream
from xpdl.data.batches import BatchIterator
from xpdl.errors import DTypeError, ShapeError
from xpdl.ops.checks import flag, integer, positive_int

Ids = np.ndarray[Any, Any]
Sequences = Sequence[Array] | Sequence[Sequence[int]]


def pad_sequences(sequences: Sequences, *, padding: int = 0, length: int | None = None) -> tuple[Array, Array]:
    """Put sequences of ids into one array, with padding after the shorter ones.

    Parameters
    ----------
    sequences : sequence of integer arrays (T,) of any library, or of sequences of int
    padding : int
        ``Vocabulary.padding_id``, or what a loss has as its `ignore_label`.
    length : int, optional
        Of the rows, by default that of the longest sequence.

    Returns
    -------
    ids : integer array (N, length)
    mask : bool array (N, length)
        True where there is no padding. Both are of the backend in use.

    Raises
    ------
    ShapeError
        If there are no sequences, one is not of one row, or one is longer than `length`.
    DTypeError
        If they are no integers.

    Examples
    --------
    >>> ids, mask = pad_sequences([[3, 4, 5], [6]])
    >>> ids.tolist(), mask.tolist()
    ([[3, 4, 5], [6, 0, 0]], [[True, True, True], [True, False, False]])
    """
    rows = _checked_sequences(sequences, "pad_sequences: sequences")
    value = integer(padding, "padding", "pad_sequences")
    longest = max(map(len, rows))
    width = longest if length is None else positive_int(length, "length", "pad_sequences")
    if longest > width:
        raise ShapeError(
            f"pad_sequences: a sequence of {longest} ids is longer than length={length!r}; cut it, or raise that"
        )
    ids, mask = _padded(rows, width, value)
    return asarray(ids), asarray(mask)


class PaddedBatches(BatchIterator):
    """The batches of sequences of different lengths, each padded to the longest one in it.

    Sequences of similar lengths come together, in batches that have little padding.

    Parameters
    ----------
    x : sequence of integer arrays (T,) of any library, or of sequences of int
        Ids, see `Vocabulary.encode`. They are kept on the host.
    t : the same, or integer array (N,)
        Targets: sequences, which are padded, too, or labels of the sequences.
    batch_size : int
    padding, target_padding : int
        After the ids of `x`, and of targets that are sequences: that is no label, and the `ignore_label` of a loss.
    mask : bool
        Give a tuple of ids and their mask as `x`, for a network of two inputs: bool (N, T), True where there is no padding.
    pool : int
        So many batches have their rows sorted by length together. 1 leaves all rows in their random order, and more means
        less padding and less chance.
    shuffle, seed, drop_last, backend, shard
        As of `Batches`.

    Attributes
    ----------
    epoch, first_batch : int
        As of `Batches`.

    Raises
    ------
    ShapeError
        If there are not as many targets as sequences, or none, one has more than one axis, or a count is not a positive int.
    DTypeError
        If they are no integers.

    Examples
    --------
    >>> batches = PaddedBatches([[1, 2, 3], [4], [5, 6]], [0, 1, 0], 2, shuffle=False)
    >>> for x, t in batches:
    ...     print(x.tolist(), t.tolist())
    [[4, 0], [5, 6]] [1, 0]
    [[1, 2, 3]] [0]
    """

    def __init__(
        self,
        x: Sequences,
        t: Sequences | Array,
        batch_size: int,
        *,
        padding: int = 0,
        target_padding: int = -1,
        mask: bool = False,
        pool: int = 50,
        shuffle: bool = True,
        seed: int | None = None,
        drop_last: bool = False,
        backend: Backend | None = None,
        shard: tuple[int, int] = (0, 1),
    ) -> None:
        super().__init__(batch_size, shuffle, seed, drop_last, None, backend, shard)
        owner = "PaddedBatches"
        self.x = _checked_sequences(x, f"{owner}: x")
        self.t = _checked_targets(t, owner)
        self.rows = len(self.x)
        if len(self.t) != self.rows:
            raise ShapeError(f"{owner}: {self.rows} sequences x have {len(self.t)} targets t; give one for each")
        if not len(self):
            raise ShapeError(f"{owner}: {self.rows} sequences do not fill one batch of {self.batch_size}")
        self.padding, self.target_padding = (
            integer(value, name, owner) for value, name in ((padding, "padding"), (target_padding, "target_padding"))
        )
        self.mask, self.pool = flag(mask, "mask", owner), positive_int(pool, "pool", owner)

    def __len__(self) -> int:
        whole, rest = divmod(self.rows, self.batch_size)
        return whole + (rest > 0 and not self.drop_last)

    def _batches(self, stream: Stream, first: int) -> Iterator[tuple[Any, ...]]:
        for rows in self._order(stream)[first:]:
            begin, end = self._read_rows(len(rows))
            width = max(len(self.x[row]) for row in rows)
            ids, mask = _padded([self.x[row] for row in rows[begin:end]], width, self.padding)
            yield (ids, mask) if self.mask else ids, self._targets(rows, begin, end)

    def _order(self, stream: Stream) -> list[list[int]]:
        """Return the rows of each batch of a pass."""
        order = stream.generator("order").permutation(self.rows).tolist() if self.shuffle else [*range(self.rows)]
        order = order[: len(self) * self.batch_size]  # before they are sorted, or long ones would be dropped
        size = self.batch_size * self.pool
        pools = [sorted(order[i : i + size], key=lambda row: len(self.x[row])) for i in range(0, len(order), size)]
        sorted_rows = [row for pool in pools for row in pool]
        batches = [sorted_rows[i * self.batch_size : (i + 1) * self.batch_size] for i in range(len(self))]
        if not self.shuffle:
            return batches
        return [batches[i] for i in stream.generator("order of batches").permutation(len(batches))]

    def _targets(self, rows: list[int], begin: int, end: int) -> Ids:
        if isinstance(self.t, np.ndarray):
            return self.t[rows[begin:end]]
        width = max(len(self.t[row]) for row in rows)
        return _padded([self.t[row] for row in rows[begin:end]], width, self.target_padding)[0]


def _padded(rows: Sequence[Ids], width: int, padding: int) -> tuple[Ids, Ids]:
    lengths = np.asarray([len(row) for row in rows], dtype=np.int64)
    mask = np.arange(width) < lengths[:, np.newaxis]
    ids = np.full(mask.shape, padding, dtype=np.int64)
    for padded, row in zip(ids, rows, strict=True):
        padded[: len(row)] = row
    return ids, mask


def _checked_sequences(sequences: Any, owner: str) -> list[Ids]:
    if isinstance(sequences, str) or is_array(sequences) or not isinstance(sequences, Sequence):
        cure = "; pass list(...) of its rows" if is_array(sequences) else ""
        raise TypeError(f"{owner} must be a list of sequences of ids, got {type(sequences).__name__}{cure}")
    if not sequences:
        raise ShapeError(f"{owner} has no sequence, got {sequences!r}")
    return [_host_ids(row, owner) for row in sequences]


def _checked_targets(t: Any, owner: str) -> list[Ids] | Ids:
    """Return targets of sequences on the host: one number each, or sequences."""
    is_sequences = isinstance(t, Sequence) and len(t) and not np.isscalar(t[0])
    return _checked_sequences(t, f"{owner}: t") if is_sequences else _host_ids(t, f"{owner}: t")


def _host_ids(row: Any, owner: str) -> Ids:
    if not is_array(row) and (isinstance(row, str) or not isinstance(row, Sequence)):
        raise TypeError(f"{owner}: expected integers in one row, got {row!r}")
    try:
        ids = np.asarray(asnumpy(row) if is_array(row) else row)
    except ValueError:
        raise ShapeError(f"{owner}: expected integers in one row, got {row!r}") from None
    if ids.ndim != 1:
        raise ShapeError(f"{owner}: expected integers in one row, got {row!r}")
    if ids.size and ids.dtype.kind not in "iu":
        raise DTypeError(f"{owner}: expected integers in one row, got {row!r}")
    return ids.astype(np.int64)
