"""A thread that looks after work of a device while the host goes on, or is blocked in it."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import NamedTuple, NoReturn

from xpdl.distributed.waiting import RunningClock

_PAUSE = 0.1


class _Work(NamedTuple):
    is_done: Callable[[], bool]
    what: str
    deadline: float


class Watchdog:
    """Ends the process where work of a device takes too long, or where something is found wrong with it.

    Parameters
    ----------
    seconds : float
        That work may take.
    overdue : callable
        Gets the description of work that takes longer, and does not return.
    failed : callable
        Gets an error, and does not return.
    """

    def __init__(
        self, seconds: float, overdue: Callable[[str], NoReturn], failed: Callable[[Exception], NoReturn]
    ) -> None:
        self._seconds, self._overdue, self._failed = seconds, overdue, failed
        self._pending: deque[_Work] = deque()
        self._clock = RunningClock()
        self._lock, self._is_pending = threading.Lock(), threading.Event()
        self._thread: threading.Thread | None = None
        #: called while there is work, and raise what is wrong with it
        self.checks: list[Callable[[], None]] = []

    def watch(self, is_done: Callable[[], bool], what: str) -> None:
        """Look after work that was begun now, until it is done; work is done in the order of the calls."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._look_for_ever, name="xpdl-watchdog", daemon=True)
            self._thread.start()
        with self._lock:
            self._pending.append(_Work(is_done, what, self._clock.now() + self._seconds))
            self._is_pending.set()

    def _look_for_ever(self) -> None:
        while self._is_pending.wait():
            time.sleep(_PAUSE)
            try:
                self._look()
            except Exception as error:
                self._failed(error)

    def _look(self) -> None:
        for check in self.checks:
            check()
        while self._pending and self._pending[0].is_done():
            self._pending.popleft()
        with self._lock:
            if not self._pending:
                self._is_pending.clear()
                return
            is_overdue = self._clock.now() > self._pending[0].deadline
        if is_overdue:
            self._overdue(self._pending[0].what)
