"""Handling of SIGINT and SIGTERM, deferred to a moment that suits the training."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterable
from types import FrameType, TracebackType
from typing import Any, NoReturn

from xpdl.training.messages import say

# The handlers that Python installs, also while a notebook runs a cell. A handler of the program's own stays in place.
_DEFAULTS = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}


class Interrupts:
    """While it is entered, the first SIGINT or SIGTERM is only noted; a second one does at once what it always does.

    Outside of the main thread, which alone may handle signals, it changes nothing.

    Parameters
    ----------
    numbers : iterable of signal.Signals
        Of these two, those to be noted.

    Attributes
    ----------
    noted : signal.Signals or None
    """

    def __init__(self, numbers: Iterable[signal.Signals] = tuple(_DEFAULTS)) -> None:
        self.numbers = tuple(numbers)
        self.noted: signal.Signals | None = None
        self._process = os.getpid()
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is threading.main_thread():
            for number in self.numbers:
                if signal.getsignal(number) == _DEFAULTS[number]:
                    self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._restore()
        # it came too late for the training to stop
        if self.noted is not None and kind is None:
            signal.raise_signal(self.noted)

    def _note(self, number: int, frame: FrameType | None) -> None:
        # nobody looks at what a forked process notes
        if self.noted is not None or os.getpid() != self._process:
            self._restore()
            signal.raise_signal(number)
            return
        self.noted = signal.Signals(number)

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def stop(self, how_to_resume: str, *, says_so: bool = True) -> NoReturn:
        """End the program as the noted signal asks for, after one line that says how the training goes on.

        Of several ranks one `says_so`.

        Raises
        ------
        KeyboardInterrupt
            For SIGINT, with that line as its message.
        SystemExit
            For SIGTERM, with the code that a shell gives it, 143; the line goes to standard error.
        """
        if self.noted is signal.SIGINT:
            raise KeyboardInterrupt(how_to_resume)
        if says_so:
            say(f"terminated: {how_to_resume}", "stderr")
        raise SystemExit(128 + signal.SIGTERM)
