"""Nodes that join values, or take parts of them."""

from __future__ import annotations

import numpy as np

from xpdl.layers.embedding import Embedding
from xpdl.layers.merging import Concatenate
from xpdl.layers.rearranging import Slice
from xpdl.layers.sigmoid import Sigmoid
from xpdl.onnx.arranging import after, arranged
from xpdl.onnx.importing import Reader
from xpdl.onnx.layouts import squeezed
from xpdl.onnx.nodes import BATCH, ONE, Given, Node, Signal, constant, integers, signal
from xpdl.onnx.source import Damaged, Unmapped
from xpdl.onnx.steps import Scaling, Step, row_after

_MOST_PARTS = 1000


def concatenate(node: Node, reader: Reader, *parts: Given) -> Signal:
    """Return branches one behind the other; of two classes that stand beside each other, the second."""
    xs = [signal(part) for part in parts]
    two = _second_of_two(node, xs)
    if two is not None:
        return two
    first = xs[0]
    if any(len(x.axes) != len(first.axes) for x in xs):
        raise Unmapped(f"it joins rows of shape {' and '.join(str(x.row) for x in xs)}")
    if any(x.axes != first.axes for x in xs) or first.place(node.integer("axis", 1), node.label) == ONE:
        xs = [arranged(node.outputs[0], x) for x in xs]
        first = xs[0]
    own = first.place(node.integer("axis", 1), node.label)
    if own == BATCH or any(x.axes != first.axes or x.order is not None for x in xs):
        raise Unmapped(f"it joins batches along axis {node.integer('axis', 1)}, and not values of a row")
    if len(xs) == 1:
        return first
    steps = [x.step for x in xs]
    layer = Concatenate(own + 1)
    return Signal(Step(node.outputs[0], layer, *steps, shape=row_after(layer, *(x.shape for x in steps))), first.axes)


def _second_of_two(node: Node, parts: list[Signal]) -> Signal | None:
    """Return the probability of the second of two classes, where its complement stands beside it, as scikit-learn has it."""
    if len(parts) != 2 or node.integer("axis", 1) not in (1, -1):
        return None
    other, sure = parts
    scaling = other.step.layer
    if not (isinstance(scaling, Scaling) and isinstance(sure.step.layer, Sigmoid)):
        return None
    complement = other.step.inputs[0] is sure.step and np.all(scaling.scale == -1) and np.all(scaling.shift == 1)
    return sure if complement and sure.step.shape == (1,) else None


def part(
    node: Node,
    reader: Reader,
    x: Given,
    starts: Given = None,
    ends: Given = None,
    axes: Given = None,
    steps: Given = None,
) -> Signal:
    """Return the entries between two bounds, along one axis after the other."""
    x = signal(x)
    bounds = [
        node.integers(name) if value is None else integers(value, name)
        for name, value in (("starts", starts), ("ends", ends))
    ]
    along = tuple(range(len(bounds[0])))
    along = node.integers("axes", along) if axes is None else integers(axes, "axes")
    every = (1,) * len(along) if steps is None else integers(steps, "steps")
    if not len(along) == len(every) == len(bounds[0]) == len(bounds[1]) or len(along) > len(x.axes):
        raise Damaged(f"{node.label}: starts, ends, axes and steps are not as many")
    if any(step != 1 for step in every):
        raise Unmapped(f"its steps are {every}, and layers take entries one beside the other")
    for axis, start, stop in zip(along, *bounds, strict=True):
        x = taken(node, x, axis, start, stop)
    return x


def taken(node: Node, x: Signal, axis: int, start: int, stop: int) -> Signal:
    """Return the entries of an axis of a file from `start` up to `stop`."""
    own = x.place(axis, node.label)
    if x.order is not None or (own == BATCH and (start, stop >= 2**31 - 1) != (0, True)):
        raise Unmapped("it takes some of the rows of a batch, or features in another order than in xpdl")
    if own == BATCH:
        return x
    size = x.size(own)
    if size is None:
        raise Unmapped("the sizes of a row are not known", "give input_shape=")
    bounds = slice(start, stop).indices(size)
    if bounds[:2] == (0, size):
        return x
    if own == ONE:
        raise Unmapped("it takes nothing of an axis of size 1")
    return Signal(after(node.outputs[0], x.step, Slice(*bounds[:2], own + 1)), x.axes)


def split(node: Node, reader: Reader, x: Given, sizes: Given = None) -> tuple[Signal, ...]:
    """Return the parts of a value along an axis."""
    x = signal(x)
    axis = node.integer("axis", 0)
    whole = x.size(x.place(axis, node.label))
    if whole is None:
        raise Unmapped("it takes some of the rows of a batch, or of an axis whose size is not known")
    count = len(node.outputs)
    found = node.integers("split") if sizes is None else integers(sizes, "split")
    if not found:
        each = -(-whole // max(count, 1))
        found = (*[each] * (count - 1), whole - each * (count - 1))
    if len(found) != count or count > _MOST_PARTS or sum(found) != whole or min(found) < 1:
        raise Damaged(f"{node.label}: {count} parts of sizes {found[:8]} are not an axis of size {whole}")
    ends = np.cumsum(found)
    return tuple(taken(node, x, axis, int(end) - size, int(end)) for end, size in zip(ends, found, strict=True))


def gather(node: Node, reader: Reader, table: Given, numbers: Given) -> Signal:
    """Return rows of a constant table, by ids, or one entry of an axis."""
    if isinstance(table, Signal):
        return _entry(node, table, numbers)
    ids, W = signal(numbers, "numbers"), reader.weights(table, "table")
    if node.integer("axis", 0) != 0:
        raise Unmapped("it takes entries of its input, and not rows of a constant by their numbers")
    if W.ndim != 2:
        raise Unmapped(f"its table has shape {W.shape}")
    if ids.step.inputs or not ids.is_plain:
        raise Unmapped("its numbers are computed from the input of the model, and are not that itself")
    step = Step(node.outputs[0], Embedding(W=W), ids.step, shape=(*ids.step.shape, W.shape[1]))
    reader.tables.append((constant(table, "table"), step))
    return Signal(step, (*ids.axes, len(ids.step.shape)))


def _entry(node: Node, x: Signal, numbers: Given) -> Signal:
    """Return one entry of an axis, which is gone then, or stays with size 1."""
    axis = node.integer("axis", 0)
    if not isinstance(numbers, np.ndarray) or numbers.size != 1 or numbers.ndim > 1 or numbers.dtype.kind not in "iu":
        raise Unmapped("it takes entries of its input by a list, and layers take one, or those between two bounds")
    own, number = x.place(axis, node.label), int(numbers.reshape(()))
    size = x.size(own)
    if own == BATCH or size is None or not -size <= number < size:
        raise Unmapped(f"it takes the entry {number} of axis {axis} of rows of shape {x.row}")
    x = taken(node, x, axis, number % size, number % size + 1)
    return x if numbers.ndim else squeezed(node, x, {axis % len(x.axes)})
