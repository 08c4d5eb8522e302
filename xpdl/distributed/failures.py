"""An end of all ranks where one of them fails."""

from __future__ import annotations

import sys
import traceback
from types import TracebackType
from typing import Any

# for the others to fail of the same
_GRACE = 3.0


def end_all_on_errors(communicator: Any) -> None:
    """Let an exception that nobody catches end all ranks: the others would wait for this one.

    Where all ranks end with one within some seconds, each ends by itself, and rank 0 alone shows its own.
    """
    before = sys.excepthook

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if communicator.all_arrive(_GRACE):
            if communicator.is_first:
                before(kind, error, trace)
            return
        before(kind, error, trace)
        said = " ".join(traceback.format_exception_only(kind, error)[0].split())
        communicator.abort(
            f"xpdl: rank {communicator.rank} of {communicator.size} ended with {said}; all ranks are ended"
        )

    sys.excepthook = hook
