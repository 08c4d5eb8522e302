"""Batches of a data set that comes in pieces."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from typing import Any, cast

from xpdl.backends import Backend
from xpdl.backends.namespaces import array_namespace
from xpdl.backends.random import Stream
from xpdl.data.batches import BatchIterator, Pair, Transforms, row_count, rows_of
from xpdl.data.structure import rows_in, take_rows
from xpdl.ops.checks import positive_int
from xpdl.ops.targets import check_labels


class ChunkedBatches(BatchIterator):
    """The batches of a data set too large for the memory, of which one piece is looked at after the other.

    A batch may have rows of several pieces; only the last one of a pass has what is left.

    Parameters
    ----------
    chunks : sequence of pairs (x, t), or function
        Pieces of any size, arrays (N, ...) of any library such as memory-mapped files, which nobody writes to while a pass
        lasts. A function is called without arguments in each pass and returns the pairs one by one, as one
        that yields them does.
    batch_size, drop_last, seed, transform, classes, backend, shard
        As for `Batches`; but every rank reads all pieces.
    shuffle : bool
        In each pass, the rows of every piece come in another order, and so do the pieces of a sequence. Rows of different
        pieces are not mixed further than that: where rows are sorted, by their label say, make pieces that are not.

    Attributes
    ----------
    epoch, first_batch : int
        As of `Batches`; skipped batches are read all the same, since the sizes of unread chunks are unknown.

    Raises
    ------
    TypeError
        If `chunks` is a generator, which is used up after one pass, or neither a sequence nor a function; in a pass, if a
        piece is no pair of arrays.
    ShapeError
        In a pass, if the rows of a piece do not fit together.
    LabelError
        In a pass, if a piece has a label that is not one of `classes`.

    Examples
    --------
    >>> def days():
    ...     for day in range(3):
    ...         yield np.full((3, 2), float(day)), np.full(3, day)
    >>> [t.tolist() for x, t in ChunkedBatches(days, 4, shuffle=False)]
    [[0, 0, 0, 1], [1, 1, 2, 2], [2]]
    """

    def __init__(
        self,
        chunks: Sequence[Pair] | Callable[[], Iterable[Pair]],
        batch_size: int,
        *,
        shuffle: bool = True,
        seed: int | None = None,
        drop_last: bool = False,
        transform: Transforms | None = None,
        classes: int | None = None,
        backend: Backend | None = None,
        shard: tuple[int, int] = (0, 1),
    ) -> None:
        if isinstance(chunks, Generator):
            raise TypeError("ChunkedBatches: a generator is used up after one pass; pass the function that makes it")
        if not callable(chunks) and not isinstance(chunks, Sequence):
            raise TypeError(
                f"ChunkedBatches: expected a sequence of pairs (x, t) or a function that returns them, got {chunks!r}"
            )
        super().__init__(batch_size, shuffle, seed, drop_last, transform, backend, shard)
        self.chunks = chunks
        self.classes = None if classes is None else positive_int(classes, "classes", "ChunkedBatches")

    def _batches(self, stream: Stream, first: int) -> Iterator[Pair]:
        for batch in itertools.islice(self._all_batches(stream), first, None):
            yield take_rows(batch, *self._read_rows(rows_in(batch)))

    def _all_batches(self, stream: Stream) -> Iterator[Pair]:
        waiting: Pair | None = None
        for number, chunk in self._pieces(stream):
            x, t = self._checked(number, chunk)
            take = rows_of(x, t, rng=stream.generator(f"order of chunk {number}") if self.shuffle else None)
            begin, rows = 0, x.shape[0]
            while begin < rows:
                missing = self.batch_size - (0 if waiting is None else waiting[0].shape[0])
                part = cast(Pair, take(begin, min(begin + missing, rows)))
                begin += missing
                batch = part if waiting is None else _joined(waiting, part)
                whole = batch[0].shape[0] == self.batch_size
                waiting = None if whole else batch
                if whole:
                    yield batch
        if waiting is not None and not self.drop_last:
            yield waiting

    def _pieces(self, stream: Stream) -> Iterator[tuple[int, Any]]:
        if callable(self.chunks):
            yield from enumerate(self.chunks())
            return
        count = len(self.chunks)
        order = stream.generator("order of chunks").permutation(count) if self.shuffle else range(count)
        for number in order:
            yield int(number), self.chunks[number]

    def _checked(self, number: int, chunk: Any) -> Pair:
        owner = f"ChunkedBatches: chunk {number}"
        try:
            x, t = chunk
        except (TypeError, ValueError):
            raise TypeError(f"{owner}: expected a pair (x, t), got {type(chunk).__name__}") from None
        row_count(x, t, owner)
        if self.classes is not None:
            check_labels(t, self.classes, owner)
        return x, t


def _joined(one: Pair, other: Pair) -> Pair:
    x, t = (
        array_namespace(a, b, owner="ChunkedBatches").concat([a, b], axis=0) for a, b in zip(one, other, strict=True)
    )
    return x, t
