"""Values whose axes a layer puts into the order, or the shape, that a file has them in."""

from __future__ import annotations

import itertools

from xpdl.layers.base import Layer
from xpdl.layers.flatten import Flatten
from xpdl.layers.rearranging import Permute, Reshape
from xpdl.onnx.nodes import BATCH, ONE, Signal
from xpdl.onnx.source import Unmapped
from xpdl.onnx.steps import Row, Step, known, row_after


def arranged(name: str, x: Signal) -> Signal:
    """Return `x` with the axes of rows in the order of the file."""
    if x.is_arranged:
        return x
    if x.order is not None:
        raise Unmapped("its features were flattened in another order than in xpdl", "flatten (N, C, H, W)")
    step, real = x.step, x.real
    if real != sorted(real):
        step = after(name, step, Permute([axis + 1 for axis in real]))
    if ONE in x.axes:
        step = reshaped(name, step, x.row)
    numbers = itertools.count()
    return Signal(step, tuple(BATCH if axis == BATCH else next(numbers) for axis in x.axes))


def after(name: str, before: Step, layer: Layer) -> Step:
    """Return the step of a layer that takes one value."""
    return Step(name, layer, before, shape=row_after(layer, before.shape))


def reshaped(name: str, before: Step, row: Row) -> Step:
    """Return the step of rows in another shape; of two reshapes, the second alone."""
    while isinstance(before.layer, (Reshape, Flatten)):
        before = before.inputs[0]
    if before.shape == row:
        return before
    return after(name, before, Flatten() if len(row) == 1 else Reshape(known(row)))
