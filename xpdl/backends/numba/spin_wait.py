"""Threads that wait for each other without the GIL and without sleep: waking takes as long as a small task.

A waiting thread yields the processor to any other thread again and again, and sleeps after a millisecond.
"""

from __future__ import annotations

from typing import Any

from numba import types

from xpdl.backends.numba.jit import compiled

yield_processor = types.ExternalFunction("sched_yield", types.int32())

# Of 0.2 us each, if nobody wants the processor.
_TURNS = 5000
# The poster of a job holds the GIL until its own task has begun; asking for it earlier means to sleep.
_LATER = 40


@compiled
def posted(count: Any, seen: int, away: Any, place: int) -> bool:
    """Return whether the number of jobs differs from `seen` before long; `away` says that the GIL is not held here."""
    away[place] = True
    for _ in range(_TURNS):
        if count[0] != seen:
            for _ in range(_LATER):
                yield_processor()
            return True
        yield_processor()
    return False


@compiled
def all_away(away: Any) -> None:
    """Wait until that is so of all threads, but not for long."""
    for place in range(len(away)):
        for _ in range(_TURNS):
            if away[place]:
                break
            yield_processor()
