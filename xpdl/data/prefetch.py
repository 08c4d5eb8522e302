"""Batches made ahead of time, by a thread."""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Generator, Iterable, Iterator
from contextlib import AbstractContextManager
from typing import Any, cast

from xpdl.backends import streams
from xpdl.data.batches import Batches
from xpdl.data.chunks import ChunkedBatches
from xpdl.ops.checks import positive_int

_END = object()


class Prefetch:
    """The same batches in the same order, read and transformed by a thread while others are computed with.

    Worth it where a batch has to be waited for: rows read from a disk or computed by another program, transforms on the
    host for a net on a GPU. Where the net keeps all processors busy, as on NumPy, transforms cost what they cost.

    Parameters
    ----------
    batches : Batches, ChunkedBatches or any iterable
        Iterated over in the thread: what it calls, a ``transform`` for example, runs there. Such a function must not
        share what it changes with the rest of the program.
    ahead : int
        So many batches are in memory at most, beside the one that was handed out.

    Attributes
    ----------
    epoch : int
        That of `batches`, where it has one.
    first_batch : int
        That of `batches`, where it has one.

    Raises
    ------
    ShapeError
        If `ahead` is no positive int.

    Notes
    -----
    What the thread raises is raised here, after the batches before it, and ends the pass. A loop that is left early, by
    ``break`` or an exception, ends the thread with its iterator; it waits for the batch that is being made. A forked process
    has no such thread: an iterator that it inherits is an error there, and a new one works.

    Examples
    --------
    >>> x, t = np.arange(10.0).reshape(5, 2), np.arange(5)
    >>> [len(t) for x, t in Prefetch(Batches(x, t, 2, seed=0))]
    [2, 2, 1]
    """

    def __init__(self, batches: Batches | ChunkedBatches | Iterable[Any], ahead: int = 2) -> None:
        if not isinstance(batches, Iterable):
            raise TypeError(f"Prefetch: batches must be something to iterate over, got {batches!r}")
        self.batches = batches
        self.ahead = positive_int(ahead, "ahead", "Prefetch")

    def __len__(self) -> int:
        return len(cast(Batches, self.batches))

    @property
    def epoch(self) -> int:
        return cast(Batches, self.batches).epoch

    @epoch.setter
    def epoch(self, epoch: int) -> None:
        cast(Batches, self.batches).epoch = epoch

    @property
    def first_batch(self) -> int:
        return cast(Batches, self.batches).first_batch

    @first_batch.setter
    def first_batch(self, number: int) -> None:
        cast(Batches, self.batches).first_batch = number

    def of_rank(self, rank: int, ranks: int) -> Prefetch:
        """Return one of the rows of a rank; `AttributeError` where its `batches` cannot be shared."""
        return Prefetch(cast(Batches, self.batches).of_rank(rank, ranks), self.ahead)

    def __iter__(self) -> Iterator[Any]:
        made: queue.SimpleQueue[Any] = queue.SimpleQueue()
        slots, stop = threading.Semaphore(self.ahead), threading.Event()
        thread = threading.Thread(
            target=_make_on,
            args=(streams.of_this_thread(), self.batches, made, slots, stop),
            name="xpdl.Prefetch",
            daemon=True,
        )
        thread.start()
        process = os.getpid()
        try:
            while (item := made.get()) is not _END:
                batch, error = item
                if error is not None:
                    raise error
                slots.release()
                yield batch
                if os.getpid() != process:
                    raise RuntimeError("Prefetch: a forked process has no thread for this pass; begin a new one in it")
        finally:
            # a forked process has the locks as they were, which nobody releases there
            if os.getpid() == process:
                stop.set()
                slots.release()
                thread.join()


def _make_on(stream: AbstractContextManager[Any], *args: Any) -> None:
    with stream:
        _make(*args)


def _make(
    batches: Iterable[Any], made: queue.SimpleQueue[Any], slots: threading.Semaphore, stop: threading.Event
) -> None:
    """The thread: a slot is taken before a batch is made, so that no more than these are ever in memory."""
    try:
        iterator = iter(batches)
        while True:
            slots.acquire()
            if stop.is_set():
                break
            if (batch := next(iterator, _END)) is _END:
                break
            made.put((batch, None))
        if isinstance(iterator, Generator):
            iterator.close()
        made.put(_END)
    except BaseException as error:  # any: the waiting thread must learn of it
        made.put((None, error))
