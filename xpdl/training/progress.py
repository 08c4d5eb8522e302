"""The progress of a training: a bar on a terminal and in a notebook, lines elsewhere, and one line per epoch."""

from __future__ import annotations

import contextlib
import sys
import time
import warnings
from collections.abc import Callable
from typing import Any

from xpdl.training.messages import is_terminal, say

# A loss that is shown must be read from the device, which then waits for all its work: seldom enough not to be felt.
_SECONDS_BETWEEN_LOSSES = 3.0
_SECONDS_BETWEEN_LINES = 10.0


class Progress:
    """One line per epoch on standard output; within an epoch a bar or lines on standard error.

    The bar is that of `tqdm`, where standard error is a terminal or there is a notebook. Elsewhere, as in a pipe or a file,
    there is a line every ten seconds, without control characters. `words` writes a loss.
    """

    def __init__(self, verbose: bool, words: Callable[[float], str] = "{:.4f}".format) -> None:
        self.verbose, self.words = verbose, words
        self._bar: Any = None
        self._next_loss = 0.0
        self._next_line = time.monotonic() + _SECONDS_BETWEEN_LINES
        self._title, self._steps, self._done, self._first, self._epochs = "", 0, 0, 0, 0
        self._begin = 0.0

    def start(self, title: str, steps: int | None, done: int = 0, epochs: int = 0) -> None:
        """Begin an epoch, or go on with one of which some steps are done.

        Parameters
        ----------
        title : str
        steps : int or None
            Of the epoch, where they are known.
        done : int
        epochs : int
            That come after this one.
        """
        self._title, self._steps, self._done, self._first, self._epochs = title, steps or 0, done, done, epochs
        self._begin = time.monotonic()
        if not self.verbose:
            return
        if is_terminal(sys.stderr) or _in_notebook():
            self._bar = _bar(total=steps, initial=done, desc=title, leave=False)
            self._next_loss = time.monotonic() + _SECONDS_BETWEEN_LOSSES

    def step(self, read_loss: Callable[[], float]) -> None:
        """Note that a step is done; `read_loss` is called only when it is time to show the loss."""
        self._done += 1
        if self._bar is not None:
            self._bar.update()
            if time.monotonic() >= self._next_loss:
                self._bar.set_postfix_str(f"loss {self.words(read_loss())}")
                self._next_loss = time.monotonic() + _SECONDS_BETWEEN_LOSSES
        elif self.verbose and time.monotonic() >= self._next_line:
            self._next_line = time.monotonic() + _SECONDS_BETWEEN_LINES
            say(self._described(read_loss()), "stderr")

    def _described(self, loss: float) -> str:
        """The line within an epoch; the time left is that of the steps of the whole call."""
        if not self._steps:
            return f"{self._title}  step {self._done}  loss {self.words(loss)}"
        spent, made = time.monotonic() - self._begin, self._done - self._first
        left = spent / made * (self._steps - self._done + self._epochs * self._steps)
        place = f"{self._title}  step {self._done}/{self._steps}"
        return f"{place}  loss {self.words(loss)}  about {duration(left)} left"

    def close(self) -> None:
        """Take the bar away; also right when there is none."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def line(self, text: str) -> None:
        if self.verbose:
            say(text)


def duration(seconds: float) -> str:
    """``m:ss``, or ``h:mm:ss`` from an hour on."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _in_notebook() -> bool:
    """Return whether a kernel of Jupyter runs this program."""
    ipython = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return ipython is not None and getattr(ipython, "kernel", None) is not None


def _bar(**options: Any) -> Any:
    with warnings.catch_warnings():
        # of widgets that are not installed: the bar is drawn as on a terminal then
        warnings.simplefilter("ignore")
        from tqdm.auto import tqdm  # takes half as long to import as NumPy

        # the widget of a notebook draws itself
        return tqdm(**options) if "notebook" in tqdm.__module__ else tqdm(file=_StandardError(), **options)


class _StandardError:
    """``sys.stderr``, for a bar that is not drawn where the terminal is gone or lacks the characters."""

    def __getattr__(self, name: str) -> Any:
        return getattr(sys.stderr, name)

    def write(self, text: str) -> None:
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.write(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.flush()
