"""Lines and warnings of a training; a stream that is closed or broken never ends it."""

from __future__ import annotations

import contextlib
import os
import sys
import warnings
from typing import Any


def say(text: str, stream: str = "stdout") -> None:
    """Print a line at once to ``sys.stdout`` or ``sys.stderr``, if anybody can still read it there."""
    file = getattr(sys, stream)
    if file is None:  # of a program without a console
        return
    with contextlib.suppress(OSError, ValueError):  # no space, no terminal any more, or closed
        try:
            print(text, file=file, flush=True)
        except UnicodeEncodeError:
            say(text.encode("ascii", "backslashreplace").decode(), stream)
        except BrokenPipeError:
            _discard(file)


def warn(text: str, stacklevel: int = 2) -> None:
    """``warnings.warn``, also where the standard error that it is printed to is closed."""
    try:
        warnings.warn(text, stacklevel=stacklevel + 1)
    except ValueError:
        # a warning that is an error is no ValueError
        if not getattr(sys.stderr, "closed", False):
            raise


def is_terminal(file: Any) -> bool:
    """Return whether `file` is open, and a terminal."""
    try:
        return bool(file is not None and file.isatty())
    except (OSError, ValueError):
        return False


def _discard(file: Any) -> None:
    """Let what nobody reads any more go nowhere: the interpreter's last flush would fail, and the exit code with it."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, file.fileno())
        os.close(nowhere)
