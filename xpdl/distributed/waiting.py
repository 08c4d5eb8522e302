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
# for ranks that wait as long to say so
_GRACE = 5.0
_TAG = 7


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

    def finished(self, request: Any, seconds: float) -> bool:
        """Wait for a request, and return False where it is not finished after so many seconds."""
        for _ in range(_YIELDS):
            if request.Test():
                return True
            if hasattr(os, "sched_yield"):
                os.sched_yield()
        end, pause = time.monotonic() + seconds, _FIRST_PAUSE
        while not request.Test():
            if time.monotonic() > end:
                return False
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)
        return True

    def report(self, what: str, seconds: float, processes: Sequence[tuple[int, str]]) -> str:
        """Describe the ranks, each with its process and machine, that did not send `what` in so many seconds."""
        ranks = self._silent()
        if self._reports.Get_rank() != next(rank for rank in range(len(processes)) if rank not in ranks):
            time.sleep(_GRACE)  # the first rank that waits ends all, and one line is enough
        silent = [f"{rank} (process {processes[rank][0]} on {processes[rank][1]})" for rank in ranks]
        who = f"rank {', '.join(silent)}" if silent else "no rank alone: they wait for different messages, so one"
        return (
            f"xpdl: rank {self._reports.Get_rank()} waited {seconds:g} s for {what}; {who} did not send it; all "
            "ranks are ended"
        )

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
