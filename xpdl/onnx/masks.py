"""Masks of steps: booleans that the input of a file gives, and what it computes of them for its recurrent nodes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from xpdl.layers.bidirectional import Bidirectional
from xpdl.layers.flatten import Flatten
from xpdl.layers.merging import Concatenate
from xpdl.layers.rearranging import Reshape, Slice
from xpdl.layers.recurrent import GRU, LSTM, RNN
from xpdl.onnx.evaluating import MOST_VALUES, values_of
from xpdl.onnx.importing import Reader
from xpdl.onnx.nodes import BATCH, ONE, Given, Node, Signal, constant, integers, signal
from xpdl.onnx.source import HostArray, Unmapped
from xpdl.onnx.steps import Step, Unfinished, known

_LONGEST = 2**12  # sequences whose lengths are looked into


class OfMask(Unfinished):
    """Integers computed of a mask.

    Parameters
    ----------
    node, before : str
        For messages.
    function : callable
        Masks (N, T) of booleans -> what the file computes of them.
    """

    def __init__(self, node: str, before: str, function: Callable[[HostArray], HostArray]) -> None:
        super().__init__(node, before)
        self.function = function


def numbers_of(node: Node, reader: Reader, x: Given) -> Signal | None:
    """Return a mask as integers; None of something else."""
    x = signal(x)
    if x.step.inputs or x.step.name not in reader.booleans or x.axes != (BATCH, 0):
        return None
    return Signal(
        Step(
            node.outputs[0],
            OfMask(node.label, x.step.name, lambda mask: mask.astype(np.int64)),
            x.step,
            shape=x.step.shape,
        ),
        x.axes,
    )


def computed(node: Node, function: Callable[..., HostArray], x: Given, y: Given) -> Signal | None:
    """Return what a node computes of integers of one mask, and of constants; None where there are others."""
    steps = [one.step for one in (x, y) if isinstance(one, Signal)]
    if (
        not steps
        or not all(isinstance(step.layer, OfMask) for step in steps)
        or len({step.inputs for step in steps}) > 1
    ):
        return None
    parts = [_function(one) for one in (x, y)]
    first = next(one for one in (x, y) if isinstance(one, Signal))
    whole = OfMask(node.label, first.step.name, lambda mask: function(*(part(mask) for part in parts)))
    return Signal(Step(node.outputs[0], whole, *first.step.inputs, shape=first.step.shape), first.axes)


def _function(value: Given) -> Callable[[HostArray], HostArray]:
    if isinstance(value, Signal) and isinstance(value.step.layer, OfMask):
        return value.step.layer.function
    array = constant(value, "input")
    return lambda mask: array


def reduced(function: Callable[..., HostArray]) -> Callable[..., Signal]:
    """Return the importer of a reduction of a mask over its steps."""

    def importer(node: Node, reader: Reader, x: Given, axes: Given = None) -> Signal:
        x = signal(x)
        found = node.integers("axes") if axes is None else integers(axes, "axes")
        inside = x.step.layer
        if (
            not isinstance(inside, OfMask)
            or x.axes != (BATCH, 0)
            or found not in ((1,), (-1,))
            or node.integer("keepdims", 1)
        ):
            raise Unmapped("xpdl has no layer for it, other than of a mask, for the lengths of its sequences")
        whole = OfMask(node.label, x.step.name, lambda mask: function(inside.function(mask), axis=1))
        return Signal(Step(node.outputs[0], whole, *x.step.inputs, shape=()), (BATCH,))

    return importer


def mask_of_lengths(lengths: Given, steps: int) -> Step | None:
    """Return the mask whose first steps `lengths` count; None where all steps do."""
    if lengths is None or (isinstance(lengths, np.ndarray) and np.all(lengths == steps)):
        return None
    if isinstance(lengths, Signal) and isinstance(lengths.step.layer, OfMask) and steps <= _LONGEST:
        # of each number of steps that count
        masks = np.tri(steps + 1, steps, -1, dtype=bool)
        found = lengths.step.layer.function(masks)
        if np.array_equal(found, np.arange(steps + 1)):
            return lengths.step.inputs[0]
    raise Unmapped(
        "its sequence_lens are no numbers of steps of a mask that begins with those that count",
        "layers take a mask of booleans, of which the file has to compute them, as export writes it",
    )


def kept_state(condition: Given, x: Given, other: Given) -> Signal | None:
    """Return the states of a recurrent layer, where a file has the last of them at steps that do not count."""
    if not all(isinstance(one, Signal) for one in (condition, x, other)):
        return None
    mask, y, last = signal(condition), signal(x), signal(other)
    layer = y.step.layer
    if not isinstance(layer, (RNN, LSTM, GRU, Bidirectional)) or y.step.inputs[1:] != (mask.step,):
        return None
    # along the features of each step, and the same at each
    placed = (
        mask.axes == (BATCH, 0, ONE) and y.axes == (BATCH, 0, 1) and last.axes[:1] == (BATCH,) and last.row[:1] == (1,)
    )
    return y if placed and _is_last(last.step, y.step, isinstance(layer, Bidirectional)) else None


def _is_last(end: Step, states: Step, two: bool) -> bool:
    """Return whether a value is the last states of a layer; of its way back, which has not begun there, zeros."""
    length, width = known(states.shape)
    if length * width > MOST_VALUES:
        return False
    y = np.random.default_rng(0).standard_normal((1, length, width))
    found = values_of(end, states, y, (Concatenate, Flatten, Reshape, Slice))
    y[..., width // 2 :] *= not two
    return found is not None and np.array_equal(found.reshape(-1), y[0, -1])
