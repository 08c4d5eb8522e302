"""Nodes that move values without computing: other axes, other shapes, flattening."""

from __future__ import annotations

import math

import numpy as np

from xpdl.layers.batch_normalization import BatchNormalization
from xpdl.layers.flatten import Flatten
from xpdl.layers.rearranging import Reshape
from xpdl.onnx import normalizations
from xpdl.onnx.arranging import after, arranged, reshaped
from xpdl.onnx.importing import Reader
from xpdl.onnx.nodes import BATCH, ONE, Given, Node, Signal, integers, signal, sizes
from xpdl.onnx.source import Damaged, Unmapped
from xpdl.onnx.steps import Row, Step, known

_MOST_FEATURES = 2**24  # of rows that are flattened in another order
_MOST_RANK = 8


def transpose(node: Node, reader: Reader, x: Given) -> Signal:
    """Return the same values; the layers compute with the axes in the order of xpdl."""
    x = signal(x)
    rank = len(x.axes)
    perm = node.integers("perm", tuple(range(rank))[::-1])
    if sorted(perm) != list(range(rank)):
        raise Damaged(f"{node.label}: perm={perm[:8]} is no order of {rank} axes")
    return Signal(x.step, tuple(x.axes[axis] for axis in perm), x.order)


def flatten(node: Node, reader: Reader, x: Given) -> Signal:
    """Return a row of features for each row; of a file without batches, any matrix."""
    x = signal(x)
    rank, axis = len(x.axes), node.integer("axis", 1)
    if not -rank <= axis <= rank:
        raise Damaged(f"{node.label}: axis={axis} is none of {rank}")
    place = axis + rank if axis < 0 else axis
    if BATCH not in x.axes:
        row = known(x.row)
        return _in_shape(node, x, (math.prod(row[:place]), math.prod(row[place:])), None)
    # in front of an axis of size 1 behind that of the rows, there is one of them, too
    if x.axes[0] != BATCH or place < 1 or any(one != ONE for one in x.axes[1:place]):
        raise Unmapped(
            f"axis={axis} does not keep the rows of a batch apart",
            "if its input is one row, read it with batched=False",
        )
    return flattened(node, reader, x)


def flattened(node: Node, reader: Reader, x: Signal) -> Signal:
    """Return a row of features for each row.

    Of a file that transposes its input, the order is kept where it is another in the file: weights then follow that of xpdl.
    """
    x = Signal(x.step, tuple(axis for axis in x.axes if axis != ONE), x.order)
    if not reader.channels_last:
        x = arranged(node.outputs[0], x)
    real = x.real
    if len(real) == 1:
        return Signal(x.step, (BATCH, real[0]), x.order)
    order = None
    if real != sorted(real):
        shape = known(x.step.shape)
        if math.prod(shape) > _MOST_FEATURES:
            raise Unmapped(f"rows of {math.prod(shape):,} values are too large to be put into another order")
        order = np.arange(math.prod(shape)).reshape(shape).transpose(real).reshape(-1)
    if isinstance(x.step.layer, Reshape) and order is None:
        return Signal(reshaped(node.outputs[0], x.step, (math.prod(known(x.step.shape)),)), (BATCH, 0))
    return Signal(after(node.outputs[0], x.step, Flatten()), (BATCH, 0), order)


def reshape(node: Node, reader: Reader, x: Given, shape: Given = None) -> Signal:
    """Return rows in another shape."""
    x = signal(x)
    wanted = node.integers("shape") if shape is None else sizes(shape, "shape")
    place, target = _target(wanted, x, bool(node.integer("allowzero", 0)))
    of_groups = normalizations.of_groups(x, target)
    if of_groups is not None:
        return Signal(of_groups, (BATCH, *range(len(target))))
    if len(target) == 1 and len(x.axes) > 2 and place == 0 == x.axes.index(BATCH):
        return flattened(node, reader, x)
    before = _before_normalization(x)
    if before is not None and before.shape == target:
        return Signal(Step(node.outputs[0], x.step.layer, before, shape=target), (BATCH, *range(len(target))))
    return _in_shape(node, x, target, place)


def _in_shape(node: Node, x: Signal, target: Row, place: int | None) -> Signal:
    """Return rows in the shape `target`, with the axis of the batch at `place`; None where there is none."""
    long = [axis for axis, size in zip((a for a in x.axes if a != BATCH), x.row, strict=True) if size != 1]
    real_ones = any(axis >= 0 and x.size(axis) == 1 for axis in x.axes)
    if target == x.row:
        rows = [axis for axis in x.axes if axis != BATCH]
        step, order = x.step, x.order
    elif [size for size in target if size != 1] == [x.size(axis) for axis in long] and not real_ones:
        # axes of size 1 alone come and go
        rows = [ONE if size == 1 else long.pop(0) for size in target]
        step, order = x.step, x.order
    else:
        step, order = reshaped(node.outputs[0], arranged(node.outputs[0], x).step, target), None
        rows = list(range(len(target)))
    if place is not None:
        rows.insert(place, BATCH)
    return Signal(step, tuple(rows), order)


def _target(wanted: tuple[int | None, ...], x: Signal, allow_zero: bool) -> tuple[int | None, Row]:
    """Return the place of the axis of the batch, and the shape of a row, that a reshape makes."""
    batch = x.axes.index(BATCH) if BATCH in x.axes else None
    if not wanted and batch is not None:
        raise Unmapped("it makes one number of the batch")
    if any(size is not None and size < -1 for size in wanted) or sum(size == -1 for size in wanted) > 1:
        raise Damaged(f"a node makes the shape {wanted}")
    copied = list(wanted)
    place = None if batch is None else copied.index(None) if None in copied else batch
    for i, size in enumerate(wanted):
        if size == 0 and not allow_zero and i < len(x.axes):
            copied[i] = x.size(x.axes[i])
            place = i if i == batch else place
    if place is None:
        return None, _filled(copied, x.row, wanted)
    if place >= len(copied):
        raise Unmapped(f"it makes the shape {wanted} of rows of shape {x.row}, and so other rows")
    first, rest = copied.pop(place), copied
    if None in x.row and first == -1 and len(rest) == 1:
        # the weights of the next layer say how many features there are
        return place, tuple(rest)
    target = _filled(rest, x.row, wanted)
    before = [axis for axis in x.axes if axis != BATCH][:batch]
    if math.prod(known(target[:place])) != math.prod(known(tuple(x.size(axis) for axis in before))):
        raise Unmapped(f"it makes the shape {wanted} of rows of shape {x.row}, and so other rows")
    return place, target


def _filled(rest: list[int | None], row: Row, wanted: tuple[int | None, ...]) -> Row:
    """Return the shape of a row with what stands for -1."""
    size = None if None in row else math.prod(one for one in row if one is not None)
    if rest == [-1]:
        return (size,)
    if None in rest or size is None:
        raise Unmapped(f"it makes the shape {wanted} of rows of shape {row}")
    if -1 in rest:
        others = math.prod(one for one in rest if one is not None and one != -1)
        if others < 1 or size % others:
            raise Unmapped(f"it makes the shape {wanted} of rows of shape {row}, and so other rows")
        rest = [size // others if one == -1 else one for one in rest]
    if math.prod(one for one in rest if one is not None) != size:
        raise Unmapped(f"it makes the shape {wanted} of rows of shape {row}, and so other rows")
    return tuple(rest)


def _before_normalization(x: Signal) -> Step | None:
    """Return what was flattened for a batch normalization of each activation (the book's form for images)."""
    flat = x.step.inputs[0] if isinstance(x.step.layer, BatchNormalization) else None
    if flat is None or not isinstance(flat.layer, Flatten) or x.order is not None or x.axes != (BATCH, 0):
        return None
    return flat.inputs[0]


def squeeze(node: Node, reader: Reader, x: Given, axes: Given = None) -> Signal:
    """Return the same values without axes of size 1."""
    x = signal(x)
    rank = len(x.axes)
    given = node.integers("axes") if axes is None else integers(axes, "axes")
    gone = {axis % rank for axis in given} if rank else set()
    if not gone or any(x.size(x.axes[axis]) != 1 for axis in gone):
        raise Unmapped(f"it takes the axes {given[:8]} from rows of shape {x.row}")
    return squeezed(node, x, gone)


def squeezed(node: Node, x: Signal, gone: set[int]) -> Signal:
    """Return the same values without the axes `gone`, which are of size 1."""
    if any(x.axes[axis] >= 0 for axis in gone):
        x = _with_ones(node.outputs[0], x, gone)
    return Signal(x.step, tuple(axis for i, axis in enumerate(x.axes) if i not in gone), x.order)


def _with_ones(name: str, x: Signal, gone: set[int]) -> Signal:
    """Return `x` whose axes `gone`, of size 1, are not those of a row in xpdl."""
    x = arranged(name, x)
    kept = tuple(x.size(axis) for i, axis in enumerate(x.axes) if i not in gone and axis != BATCH)
    numbers = iter(range(len(kept)))
    axes = [ONE if i in gone else BATCH if axis == BATCH else next(numbers) for i, axis in enumerate(x.axes)]
    return Signal(reshaped(name, x.step, kept), tuple(axes))


def unsqueeze(node: Node, reader: Reader, x: Given, axes: Given = None) -> Signal:
    """Return the same values with axes of size 1 that only the file has."""
    x = signal(x)
    given = node.integers("axes") if axes is None else integers(axes, "axes")
    rank = len(x.axes) + len(given)
    new = {axis % rank for axis in given} if rank else set()
    if len(new) != len(given) or rank > _MOST_RANK:
        raise Unmapped(f"it adds the axes {given[:8]} to rows of shape {x.row}")
    old = iter(x.axes)
    return Signal(x.step, tuple(ONE if i in new else next(old) for i in range(rank)), x.order)
