"""Waiting for messages of other ranks, for a time, and a report of those that sent none."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

# MPI moves a message on in these calls alone, so the first ones only yield the processor: between two ranks of one machine
# the sum of 1.7 MB takes 12 ms, with pauses after 50 calls 51 ms.
_YIELDS = 1000
_FIRST_PAUSE = 2e-5
_LONGEST_PAUSE = 1e-4
_PAUSE_AT_THE_END = 1e-2
# between two looks at a clock: more is a stop of the process
_LONGEST_GAP = 1.0
# for ranks that wait as long to say so
_GRACE = 5.0
_TAG, _END_TAG = 7, 8


class RunningClock:
    """Seconds for which this process has been running, counted by calls of `now` that follow one another.

    A process that is stopped (ctrl-Z) or whose machine sleeps does not wait for others meanwhile: they may be stopped, too.
    """

    def __init__(self) -> None:
        self._seconds, self._last = 0.0, time.monotonic()

    def now(self) -> float:
        """Return the seconds since the clock was made; of a longer time since the last call, `_LONGEST_GAP` count."""
        last, self._last = self._last, time.monotonic()
        self._seconds += min(self._last - last, _LONGEST_GAP)
        return self._seconds


class Waiting:
    """Waits for requests of MPI without blocking in it.

    Parameters
    ----------
    mpi : module
        ``mpi4py.MPI``.
    reports : mpi4py.MPI.Comm
        For the words of ranks that have waited too long.
    """

    def __init__(self, mpi: Any, reports: Any) -> None:
        self._mpi, self._reports = mpi, reports
        #: ranks whose process ends
        self._ended: set[int] = set()
        self._ends: list[Any] = []

    def finished(self, request: Any, seconds: float) -> bool:
        """Wait for a request, and return False where it is not finished after so many seconds, or a rank ends without it."""
        for _ in range(_YIELDS):
            if request.Test():
                return True
            if hasattr(os, "sched_yield"):
                os.sched_yield()
        clock, pause, limit = RunningClock(), _FIRST_PAUSE, seconds
        while not request.Test():
            self._look_for_ends()
            if self._ended and limit == seconds:  # what it has sent before may be on its way
                limit = min(seconds, clock.now() + _GRACE)
            if clock.now() > limit:
                return False
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)
        return True

    def report(self, what: str, seconds: float, processes: Sequence[tuple[int, str]]) -> str:
        """Describe the ranks, each with its process and machine, that did not send `what` in so many seconds."""
        ranks = sorted(self._ended) or self._silent()
        if self._reports.Get_rank() != next(rank for rank in range(len(processes)) if rank not in ranks):
            time.sleep(_GRACE)  # the first rank that waits ends all, and one line is enough
        silent = [f"{rank} (process {processes[rank][0]} on {processes[rank][1]})" for rank in ranks]
        who = f"rank {', '.join(silent)}" if silent else "no rank alone: they wait for different messages, so one"
        own = f"xpdl: rank {self._reports.Get_rank()}"
        if self._ended:
            return f"{own} waits for {what}; {who} has ended without it; all ranks are ended"
        return f"{own} waited {seconds:g} s for {what}; {who} did not send it; all ranks are ended"

    def say_end(self) -> None:
        """Tell all other ranks that the process ends."""
        rank, word = self._reports.Get_rank(), np.zeros(1, np.uint8)
        others = [other for other in range(self._reports.Get_size()) if other != rank]
        self._ends = [self._reports.Isend([word, self._mpi.BYTE], other, _END_TAG) for other in others]

    def wait_for_ends(self) -> None:
        """Wait until all ranks have said that they end, as MPI does when it is finalized, but without a busy processor."""
        while len(self._ended) + 1 < self._reports.Get_size():
            self._look_for_ends()
            time.sleep(_PAUSE_AT_THE_END)
        self._mpi.Request.Waitall(self._ends)

    def _look_for_ends(self) -> None:
        """Note a rank that says that it ends."""
        status, word = self._mpi.Status(), np.zeros(1, np.uint8)
        # matched: another thread may look as well
        message = self._reports.Improbe(self._mpi.ANY_SOURCE, _END_TAG, status)
        if message is not None:
            message.Recv([word, self._mpi.BYTE])
            self._ended.add(status.Get_source())

    def _silent(self) -> list[int]:
        """Return the ranks that wait for no message: those that do say so here, after as many seconds."""
        rank, others = self._reports.Get_rank(), set(range(self._reports.Get_size()))
        others.discard(rank)
        word = np.zeros(1, np.uint8)
        sent = [self._reports.Isend([word, self._mpi.BYTE], other, _TAG) for other in sorted(others)]
        end = time.monotonic() + _GRACE
        while others and time.monotonic() < end:
            status = self._mpi.Status()
            if self._reports.Iprobe(self._mpi.ANY_SOURCE, _TAG, status):
                self._reports.Recv([word.copy(), self._mpi.BYTE], status.Get_source(), _TAG)
                others.discard(status.Get_source())
            else:
                time.sleep(0.01)
        self._mpi.Request.Testall(sent)
        return sorted(others)
