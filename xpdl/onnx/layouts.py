"""Nodes that move values without computing: axes of a file beside those of xpdl, and flattening."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from xpdl.layers.batch_normalization import BatchNormalization
from xpdl.layers.flatten import Flatten
from xpdl.layers.sigmoid import Sigmoid
from xpdl.onnx.nodes import Given, Node, Signal, integers, signal, sizes
from xpdl.onnx.source import Damaged, Unmapped
from xpdl.onnx.steps import Scaling, Step, row_after

_MOST_FEATURES = 2**24  # of rows that are flattened in another order


def transpose(node: Node, reader: Any, x: Given) -> Signal:
    """Return the same values; the layers compute with the axes in the order of xpdl."""
    x = signal(x)
    rank = len(x.axes) + 1
    perm = node.integers("perm", tuple(range(rank))[::-1])
    if sorted(perm) != list(range(rank)):
        raise Damaged(f"{node.label}: perm={perm[:8]} is no order of {rank} axes")
    if perm[0] != 0:
        raise Unmapped(f"perm={perm} moves the axis of the rows")
    return Signal(x.step, tuple(x.axes[axis - 1] for axis in perm[1:]), x.order)


def flatten(node: Node, reader: Any, x: Given) -> Signal:
    """Return a row of features for each row."""
    x = signal(x)
    rank = len(x.axes) + 1
    axis = node.integer("axis", 1)
    if not -rank <= axis <= rank:
        raise Damaged(f"{node.label}: axis={axis} is none of {rank}")
    if axis % rank != 1 and not (axis == rank == 1):
        raise Unmapped(f"axis={axis} does not keep the rows of a batch apart")
    return flattened(node, x)


def flattened(node: Node, x: Signal) -> Signal:
    """Return a row of features for each row; the order is kept where it is another in the file."""
    real = [axis for axis in x.axes if axis >= 0]
    if len(real) == 1:
        return Signal(x.step, (real[0],), x.order)
    layer, shape = Flatten(), x.step.shape
    order = None
    if real != sorted(real):
        if None in shape:
            raise Unmapped("the sizes of a row are not known", "give input_shape=")
        known = [size for size in shape if size is not None]
        if math.prod(known) > _MOST_FEATURES:
            raise Unmapped(f"rows of {math.prod(known):,} values are too large to be put into another order")
        order = np.arange(math.prod(known)).reshape(known).transpose(real).reshape(-1)
    return Signal(Step(node.outputs[0], layer, x.step, shape=row_after(layer, shape)), (0,), order)


def reshape(node: Node, reader: Any, x: Given, shape: Given = None) -> Signal:
    """Return rows of features, or the same values with more or fewer axes of size 1."""
    x = signal(x)
    wanted = node.integers("shape") if shape is None else sizes(shape, "shape")
    target = _target(wanted, x.row, bool(node.integer("allowzero", 0)))
    if len(target) == 1 and len(x.axes) > 1:
        return flattened(node, x)
    before = _before_normalization(x)
    if before is not None and before.shape == target:
        return Signal(Step(node.outputs[0], x.step.layer, before, shape=target), tuple(range(len(target))))
    if [size for size in target if size != 1] != [size for size in x.row if size != 1] or None in target:
        raise Unmapped(f"it makes rows of shape {target} of rows of shape {x.row}")
    long = [axis for axis, size in zip(x.axes, x.row, strict=True) if size != 1]
    if any(size == 1 and axis >= 0 for axis, size in zip(x.axes, x.row, strict=True)) and target != x.row:
        raise Unmapped(f"it makes rows of shape {target} of rows of shape {x.row}")
    axes = x.axes if target == x.row else tuple(-1 if size == 1 else long.pop(0) for size in target)
    return Signal(x.step, axes, x.order)


def _target(wanted: tuple[int | None, ...], row: tuple[int | None, ...], allow_zero: bool) -> tuple[int | None, ...]:
    """Return the shape of a row that a reshape makes."""
    if not wanted:
        raise Unmapped("it makes one number of the batch")
    copied: list[int | None] = [
        (None, *row)[i] if size == 0 and not allow_zero and i <= len(row) else size for i, size in enumerate(wanted)
    ]
    first, rest = copied[0], copied[1:]
    if any(size is not None and size < -1 for size in copied) or sum(size == -1 for size in copied) > 1:
        raise Damaged(f"a node makes the shape {wanted}")
    size = None if None in row else math.prod(one for one in row if one is not None)
    if rest == [-1]:
        return (size,)
    if None in rest or size is None:
        # the weights of the next layer say how many features there are
        if first == -1 and len(rest) == 1:
            return tuple(rest)
        raise Unmapped(f"it makes the shape {wanted} of rows of shape {row}")
    if -1 in rest:
        known = math.prod(one for one in rest if one is not None and one != -1)
        if known < 1 or size % known:
            raise Unmapped(f"it makes the shape {wanted} of rows of shape {row}")
        rest = [size // known if one == -1 else one for one in rest]
    if math.prod(one for one in rest if one is not None) != size:
        raise Unmapped(f"it makes the shape {wanted} of rows of shape {row}, and so other rows")
    return tuple(rest)


def _before_normalization(x: Signal) -> Step | None:
    """Return what was flattened for a batch normalization of each activation (the book's form for images)."""
    flat = x.step.fork if isinstance(x.step.layer, BatchNormalization) else None
    return flat.fork if flat is not None and isinstance(flat.layer, Flatten) and x.order is None else None


def squeeze(node: Node, reader: Any, x: Given, axes: Given = None) -> Signal:
    """Return the same values without axes of size 1 that only the file has."""
    x = signal(x)
    rank = len(x.axes) + 1
    given = node.integers("axes") if axes is None else integers(axes, "axes")
    gone = {axis % rank for axis in given}
    if not gone or 0 in gone or any(x.axes[axis - 1] >= 0 for axis in gone):
        raise Unmapped(f"it takes the axes {given} from rows of shape {x.row}")
    return Signal(x.step, tuple(axis for i, axis in enumerate(x.axes, start=1) if i not in gone), x.order)


def unsqueeze(node: Node, reader: Any, x: Given, axes: Given = None) -> Signal:
    """Return the same values with axes of size 1 that only the file has."""
    x = signal(x)
    given = node.integers("axes") if axes is None else integers(axes, "axes")
    rank = len(x.axes) + 1 + len(given)
    new = {axis % rank for axis in given}
    if 0 in new or len(new) != len(given) or rank > 8:
        raise Unmapped(f"it adds the axes {given[:8]} to rows of shape {x.row}")
    old = iter(x.axes)
    return Signal(x.step, tuple(-1 if i in new else next(old) for i in range(1, rank)), x.order)


def concatenate(node: Node, *parts: Given) -> Signal:
    """Return the probability of the second of two classes, where its complement stands beside it."""
    if len(parts) == 2:
        other, sure = signal(parts[0]), signal(parts[1])
        scaling = other.step.layer
        if (
            isinstance(scaling, Scaling)
            and isinstance(sure.step.layer, Sigmoid)
            and other.step.fork is sure.step
            and np.all(scaling.scale == -1)
            and np.all(scaling.shift == 1)
            and sure.step.shape == (1,)
            and node.integer("axis", 1) in (1, -1)
        ):
            return sure
    raise Unmapped("it joins branches, which have no place in a Sequential")
