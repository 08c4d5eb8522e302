"""The progress of a training: a bar on a terminal, and one line per epoch."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable
from typing import Any

from xpdl.training.messages import is_terminal, say

# A loss that is shown must be read from the device, which then waits for all its work: seldom enough not to be felt.
_SECONDS_BETWEEN_LOSSES = 3.0


class Progress:
    """One line per epoch on standard output; where standard error is a terminal, a bar over the steps there."""

    def __init__(self, verbose: bool) -> None:
        self.verbose = verbose
        self._bar: Any = None
        self._next_loss = 0.0

    def start(self, title: str, steps: int | None, done: int = 0) -> None:
        """Begin an epoch, or go on with one of which some steps are done; `steps` is None where nobody knows it."""
        if self.verbose and is_terminal(sys.stderr):
            from tqdm import tqdm  # takes half as long to import as NumPy

            self._bar = tqdm(total=steps, initial=done, desc=title, leave=False, file=_StandardError())
            self._next_loss = time.monotonic() + _SECONDS_BETWEEN_LOSSES

    def step(self, read_loss: Callable[[], float]) -> None:
        """A step is done; `read_loss` is called only when it is time to show the loss, and only with a bar."""
        if self._bar is None:
            return
        self._bar.update()
        if time.monotonic() >= self._next_loss:
            self._bar.set_postfix_str(f"loss {read_loss():.4f}")
            self._next_loss = time.monotonic() + _SECONDS_BETWEEN_LOSSES

    def close(self) -> None:
        """Take the bar away; also right when there is none."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def line(self, text: str) -> None:
        if self.verbose:
            say(text)


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
