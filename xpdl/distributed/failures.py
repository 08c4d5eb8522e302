"""An end of all ranks where one of them fails."""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
import traceback
from collections.abc import Iterator
from types import TracebackType
from typing import Any

# for the others to fail of the same
_GRACE = 3.0
#: communicators of this process
_ending: list[Any] = []
_process = os.getpid()


def end_all_on_errors(communicator: Any) -> None:
    """Let an exception that nobody catches end all ranks: the others would wait for this one.

    Where all ranks end with one within some seconds, each ends by itself, and rank 0 alone shows its own. A rank that ends
    without one, as by ``sys.exit``, tells the others.
    """
    before = sys.excepthook
    if not _ending:
        atexit.register(_end)
    _ending.append(communicator)

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if communicator.all_arrive(_GRACE):
            if communicator.is_first:
                before(kind, error, trace)
            return
        before(kind, error, trace)
        communicator.abort(_line(communicator, error))

    sys.excepthook = hook


def _end() -> None:
    """Tell the other ranks of all communicators that this process ends, and wait for them."""
    if os.getpid() != _process:  # forked
        return
    begun = [communicator for communicator in _ending if not communicator.mpi.Is_finalized()]
    for communicator in begun:
        communicator.waiting.say_end()
    for communicator in begun:
        communicator.waiting.wait_for_ends()


@contextlib.contextmanager
def ending_together(communicator: Any) -> Iterator[None]:
    """Raise an error on rank 0 alone where all ranks have one, and end the others quietly; else end all, with a line."""
    try:
        yield
    except BaseException as error:
        if communicator.size == 1:
            raise
        if not communicator.all_arrive(_GRACE):
            communicator.abort(_line(communicator, error))
        if communicator.is_first:
            raise
        code = error.code if isinstance(error, SystemExit) else 130 if isinstance(error, KeyboardInterrupt) else 2
        raise SystemExit(code) from None


def _line(communicator: Any, error: BaseException) -> str:
    said = " ".join(traceback.format_exception_only(error)[0].split())
    return f"xpdl: rank {communicator.rank} of {communicator.size} ended with {said}; all ranks are ended"
