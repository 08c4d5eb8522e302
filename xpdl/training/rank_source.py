"""Batches that come ready made, of which each of several ranks takes its rows."""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Iterator
from typing import Any

from xpdl.backends import asnumpy
from xpdl.backends.random import Stream
from xpdl.data.batches import BatchIterator, Transforms
from xpdl.data.structure import arrays_of, map_arrays, rows_in, take_rows
from xpdl.distributed import Communicator, RankError
from xpdl.ops.shares import share_of
from xpdl.training.batch_source import RANK_ARGUMENTS, BatchSource, argument_count

# Message of a rank about a batch: rows, or None after the last; what all ranks must have alike; whether it knows a row
_Word = tuple[int | None, Any, bool]


class RankSource(BatchSource):
    """A `BatchSource` in a training by several ranks, which gives this rank's rows of every global batch.

    - A function with three parameters gives the rows of its rank alone; those of all ranks, in their order, are the batch.
      A rank may have fewer rows or batches than others, or an empty batch.
    - Of `Batches` and `ChunkedBatches`, the rank's share of each batch is read.
    - Anything else gives the same batches on all ranks, each of which takes its share.

    Parameters
    ----------
    source, name, network, seed, transform
        As of `BatchSource`. A transform gets the whole batch on every rank, but of a function with three parameters the rows
        of the rank, with random numbers of its own.
    communicator : Communicator
    """

    def __init__(
        self,
        source: Any,
        name: str,
        network: Any,
        seed: int | None = None,
        transform: Transforms | None = None,
        *,
        communicator: Communicator,
    ) -> None:
        super().__init__(source, name, network, seed, transform)
        self.communicator = communicator
        self.place = communicator.rank, communicator.size
        self.is_sharded = callable(source) and argument_count(source) == RANK_ARGUMENTS
        inner = getattr(source, "batches", source)
        self._reads_own = isinstance(inner, BatchIterator) and transform is None
        if isinstance(inner, BatchIterator):
            if inner.shard not in ((0, 1), self.place):
                raise ValueError(f"{name}: rank {self.place[0]} has batches with shard={inner.shard}; leave it out")
            self.source = source.of_rank(*(self.place if self._reads_own else (0, 1)))
        self._shares = not (self.is_sharded or self._reads_own)
        if self._shares:
            self.shard = self.place
        else:
            self.least_rows = 0
        if self.is_sharded:
            self.seed = Stream(self.seed, f"rank {communicator.rank}").words("seed")[0]
        #: a row for the steps in which this rank has none, which counts for nothing
        self._row: Any = None

    def _batches(self, stream: Stream, first: int) -> Iterator[tuple[Any, ...]]:
        own = super()._batches(stream, first)
        for number in itertools.count(first + 1):
            batch = next(own, None)
            rows, token = (None, None) if batch is None else (rows_in(batch), self._token(batch))
            words: list[_Word] = self.communicator.allgather((rows, token, self._row is not None))
            if all(rows is None for rows, *_ in words):
                return
            if not self.is_sharded:
                self._require_same(words, number)
            if self._shares:
                assert batch is not None and rows is not None
                self.span = *share_of(rows, *self.place), rows
                yield take_rows(batch, *self._read_rows(rows))
            else:
                yield self._of_this_rank(batch, words)

    def _token(self, batch: Any) -> Any:
        """Return what must be the same on all ranks: of whole batches a checksum of all targets and of the first inputs."""
        if self.is_sharded:
            return None
        if self._reads_own:
            source = getattr(self.source, "batches", self.source)
            return source.seed, source.batch_size, getattr(source, "rows", None)
        x, t, *_ = batch
        checksum = 0
        for _, array in arrays_of((take_rows(x, 0, 1), t)):
            checksum = zlib.crc32(asnumpy(array).tobytes(), checksum)
        return checksum

    def _require_same(self, words: list[_Word], number: int) -> None:
        """Refuse ranks whose sources give different batches.

        Raises
        ------
        RankError
            On every rank; names the first that differs.
        """
        size, whole = self.communicator.size, sum(rows or 0 for rows, *_ in words)
        for rank, (rows, token, _) in enumerate(words):
            start, stop = share_of(whole, rank, size)
            same_rows = rows == (stop - start if self._reads_own else words[0][0])
            if token != words[0][1] or not same_rows:
                raise RankError(
                    f"{self.name}, batch {number} of epoch {self.epoch}: rank {rank} has another one than rank 0; give all "
                    "ranks the same batches, by a seed for example, or pass a function of (epoch, rank, ranks) that gives "
                    "each its own rows"
                )

    def _of_this_rank(self, batch: Any, words: list[_Word]) -> Any:
        """Return the rows of this rank, or, where it has none, a row that counts for nothing."""
        counts = [rows or 0 for rows, *_ in words]
        if not any(counts):
            raise ValueError(f"{self.name}: a batch of epoch {self.epoch} has no rows on any rank")
        start = sum(counts[: self.communicator.rank])
        own = counts[self.communicator.rank]
        self.span = start, start + own, sum(counts)
        if self._row is None and own:
            self._row = _copied(take_rows(batch, 0, 1))
        if any(not rows and not has_row for rows, _, has_row in words):
            giver = next(rank for rank, rows in enumerate(counts) if rows)
            row = self.communicator.allgather(self._row if self.communicator.rank == giver else None)[giver]
            self._row = row if self._row is None else self._row
        return batch if own else self._row


def _copied(row: Any) -> Any:
    return map_arrays(lambda a: asnumpy(a).copy(), row)
