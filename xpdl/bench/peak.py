"""The most memory that a step holds at once."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from typing import Any

from xpdl.backends.cpu import buffer_pool


def peak_megabytes(step: Callable[[], Any]) -> float:
    """Megabytes of arrays beyond those that were there before the second call of `step`."""
    step()
    tracemalloc.start()
    # memory that the step reuses from earlier results counts, too
    buffer_pool.clear()
    try:
        before = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        step()
        return (tracemalloc.get_traced_memory()[1] - before) / 1e6
    finally:
        tracemalloc.stop()
