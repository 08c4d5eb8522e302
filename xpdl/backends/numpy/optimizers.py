"""Optimizer steps in pieces that stay in the cache, so that a rule's temporaries never reach memory."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from xpdl.backends.dispatch import DECLINE, kernel
from xpdl.backends.numpy import threads

Host = np.ndarray[Any, Any]

# Elements of one call of the rule, and of a task.
_PIECE = 1 << 15
_TASK_SIZE = 1 << 18


@kernel("numpy", "step_elementwise")
def step_elementwise(
    p: Host, step: Callable[..., tuple[Host, ...]], g: Host, memory: tuple[Host, ...]
) -> tuple[Host, ...]:
    """As `xpdl.optimizers.base.step_elementwise`; results are written into `p` and `memory`."""
    arrays = (p, g, *memory)
    if (
        p.size < 2 * _PIECE
        or not all(a.flags.c_contiguous for a in arrays)
        or not all(a.flags.writeable for a in (p, *memory))
    ):
        return DECLINE  # type: ignore[no-any-return]
    lines = [a.reshape(-1) for a in arrays]

    def task(begin: int, end: int) -> None:
        for start in range(begin, end, _PIECE):
            pieces = [line[start : min(start + _PIECE, end)] for line in lines]
            for old, new in zip((pieces[0], *pieces[2:]), step(*pieces), strict=True):
                old[...] = new

    starts = range(0, p.size, _TASK_SIZE)
    threads.run([functools.partial(task, start, min(start + _TASK_SIZE, p.size)) for start in starts])
    return (p, *memory)
