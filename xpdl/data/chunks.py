"""Batches of a data set that comes in pieces."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from typing import Any, cast

from xpdl.backends import Backend
from xpdl.backends.random import Stream
from xpdl.data.batches import BatchIterator, Pair, Transforms, is_mapped, row_count, rows_of
from xpdl.data.structure import concat_rows, rows_in, take_rows
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
        As for `Batches`. Of mapped files, a rank reads its own rows alone; pieces that a function loads, each rank loads.
    shuffle : bool
        In each pass, the rows of every piece come in another order, and so do the pieces of a sequence. Rows of different
        pieces are not mixed further than that: where rows are sorted, by their label say, make pieces that are not.

    Attributes
    ----------
    epoch, first_batch : int
        As of `Batches`; pieces of skipped batches are asked for all the same, since their sizes are unknown.

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
        for parts in itertools.islice(self._all_batches(stream), first, None):
            start, stop = self._read_rows(sum(part.rows for part in parts))
            yield _joined(parts, start, stop)

    def _all_batches(self, stream: Stream) -> Iterator[list[_Part]]:
        """Yield the parts of each batch, of one piece or several."""
        waiting: list[_Part] = []
        for number, chunk in self._pieces(stream):
            x, t = self._checked(number, chunk)
            take = rows_of(x, t, rng=stream.generator(f"order of chunk {number}") if self.shuffle else None)
            begin, rows, reads_ahead = 0, rows_in(x), not is_mapped((x, t))
            while begin < rows:
                missing = self.batch_size - sum(part.rows for part in waiting)
                end = min(begin + missing, rows)
                # the rows that wait for those of the next piece: a piece in memory is not kept for them
                waiting.append(_Part(take, begin, end, gather=reads_ahead and end - begin < missing))
                begin = end
                if waiting[-1].rows == missing:
                    yield waiting
                    waiting = []
        if waiting and not self.drop_last:
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


class _Part:
    """Rows of a batch that are of one piece, from `begin` to `end` in the order of `take`."""

    def __init__(self, take: Callable[[int, int], tuple[Any, ...]], begin: int, end: int, *, gather: bool) -> None:
        self.take, self.begin, self.rows = take, begin, end - begin
        if gather:
            rows = take(begin, end)
            self.take, self.begin = (lambda start, stop: take_rows(rows, start, stop)), 0

    def between(self, start: int, stop: int) -> Pair:
        """Return those of the rows that are rows `start` to `stop` of a batch in which these begin at 0."""
        return cast(Pair, self.take(self.begin + max(start, 0), self.begin + min(stop, self.rows)))


def _joined(parts: Sequence[_Part], start: int, stop: int) -> Pair:
    """Read rows `start` to `stop` of a batch."""
    begins = itertools.accumulate((part.rows for part in parts), initial=0)
    read = [
        part.between(start - begin, stop - begin)
        for part, begin in zip(parts, begins, strict=False)
        if begin < stop and start < begin + part.rows
    ] or [parts[0].between(0, 0)]
    return read[0] if len(read) == 1 else cast(Pair, concat_rows(read, "ChunkedBatches"))
