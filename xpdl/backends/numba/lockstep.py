"""Steps in compiled code that threads do together: each does parts of every step, and waits for the others without the GIL.

A part belongs to the thread that claims it first. Each begins with its own parts and goes on with those that nobody has
begun, so that no step waits for a thread which the system has not started yet.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import extending, types
from numba.core import cgutils

from xpdl.backends.arrays import NDArray
from xpdl.backends.numba.jit import inline
from xpdl.backends.numba.spin_wait import yield_processor

_intrinsic: Callable[[Callable[..., Any]], Callable[..., Any]] = extending.intrinsic


def board(steps: int, parts: int) -> tuple[NDArray, NDArray]:
    """Return what threads have in common: the claimed parts of each step, and how many of them are done."""
    return np.zeros((steps, parts), np.int64), np.zeros((steps, 1), np.int64)


@inline
def part_of(worker: Any, workers: Any, parts: Any, turn: Any) -> Any:
    """The part that a worker looks at in its turn: neighbours begin at both ends of what they have, and meet last."""
    if worker % 2 == 0:
        return (parts * worker // workers + turn) % parts
    return (parts * (worker + 1) // workers - 1 - turn) % parts


@inline
def claim(claimed: Any, step: Any, part: Any) -> Any:
    """Return whether nobody else does this part of the step."""
    return _exchange(claimed, step, part) == 0


@inline
def finish(done: Any, step: Any) -> None:
    """Tell the others that a part is done, and show them what was written."""
    _increase(done, step)


@inline
def wait_for(done: Any, step: Any, parts: Any) -> None:
    """Wait until all parts of a step are done."""
    while _value(done, step) < parts:
        yield_processor()


def _pointer(context: Any, builder: Any, array_type: Any, array: Any, indices: list[Any]) -> Any:
    made = context.make_array(array_type)(context, builder, array)
    return cgutils.get_item_pointer(context, builder, array_type, made, indices, wraparound=False)


@_intrinsic
def _exchange(typing_context: Any, claimed: Any, step: Any, part: Any) -> Any:
    """Set an entry to 1 and return what it was, atomically."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array, *indices = arguments
        pointer = _pointer(context, builder, signature.args[0], array, indices)
        return builder.atomic_rmw("xchg", pointer, context.get_constant(types.int64, 1), "acq_rel")

    return types.int64(claimed, types.intp, types.intp), code


@_intrinsic
def _increase(typing_context: Any, done: Any, step: Any) -> Any:
    """Add 1 to an entry, atomically, after all that was written before."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array, step = arguments
        pointer = _pointer(context, builder, signature.args[0], array, [step, context.get_constant(types.intp, 0)])
        return builder.atomic_rmw("add", pointer, context.get_constant(types.int64, 1), "acq_rel")

    return types.int64(done, types.intp), code


@_intrinsic
def _value(typing_context: Any, done: Any, step: Any) -> Any:
    """Read an entry before all that is read later."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array, step = arguments
        pointer = _pointer(context, builder, signature.args[0], array, [step, context.get_constant(types.intp, 0)])
        return builder.load_atomic(pointer, "acquire", 8)

    return types.int64(done, types.intp), code
