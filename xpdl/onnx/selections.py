"""Constants made of others by a shape, by numbers of entries, or by bounds."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from xpdl.onnx.nodes import MOST_AXES, Node, integers
from xpdl.onnx.source import Constants, Damaged, HostArray, Unmapped


def _sized(node: Node, shape: tuple[int, ...], itemsize: int, constants: Constants) -> tuple[int, ...]:
    """Return a shape, once there is memory for it."""
    if len(shape) > MOST_AXES or any(size < 0 for size in shape):
        raise Damaged(f"{node.label}: it makes a constant of shape {shape[:8]}")
    constants.memory.take(math.prod(shape) * itemsize)
    return shape


def _filled(node: Node, arrays: list[HostArray], constants: Constants) -> HostArray:
    value = constants.array(node.tensor("value")) if node.has("value") else np.zeros(1, np.float32)
    if value.size != 1:
        raise Damaged(f"{node.label}: its value is of shape {value.shape[:8]}, and not one number")
    shape = _sized(node, integers(arrays[0], "shape"), value.itemsize, constants)
    return np.full(shape, value.reshape(()), value.dtype)


def _expanded(node: Node, arrays: list[HostArray], constants: Constants) -> HostArray:
    if len(arrays) != 2:
        raise Damaged(f"{node.label}: the operator takes another number of inputs than {len(arrays)}")
    shape = np.broadcast_shapes(arrays[0].shape, integers(arrays[1], "shape"))
    return np.array(np.broadcast_to(arrays[0], _sized(node, shape, arrays[0].itemsize, constants)))


def _sliced(node: Node, arrays: list[HostArray], constants: Constants) -> HostArray:
    names = ("starts", "ends", "axes", "steps")
    found = [integers(array, name) for array, name in zip(arrays[1:], names, strict=False)]
    if len(arrays) == 1:
        found = [node.integers(name) for name in names if node.has(name)]
    starts, ends, *rest = found
    axes = rest[0] if rest else tuple(range(len(starts)))
    steps = rest[1] if len(rest) > 1 else (1,) * len(starts)
    array = arrays[0]
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        if not -array.ndim <= axis < array.ndim or step == 0:
            raise Damaged(f"{node.label}: it takes entries along axis {axis} of {array.ndim} by steps of {step}")
        array = array[(*[slice(None)] * (axis % array.ndim), slice(start, end, step))]
    return array


def _gathered(node: Node, arrays: list[HostArray], constants: Constants) -> HostArray:
    array, numbers = arrays
    axis = node.integer("axis", 0)
    if numbers.dtype.kind not in "iu" or not -array.ndim <= axis < array.ndim:
        raise Damaged(f"{node.label}: it takes entries along axis {axis} of {array.ndim} by {numbers.dtype}")
    shape = (*array.shape[: axis % array.ndim], *numbers.shape, *array.shape[axis % array.ndim + 1 :])
    _sized(node, shape, array.itemsize, constants)
    size = array.shape[axis]
    if numbers.size and not (-size <= numbers.min() and numbers.max() < size):
        raise Damaged(f"{node.label}: it takes the entry {numbers.max()} of an axis of size {size}")
    return np.take(array, numbers, axis=axis)


def _range(node: Node, arrays: list[HostArray], constants: Constants) -> HostArray:
    if len(arrays) != 3 or any(array.size != 1 for array in arrays):
        raise Damaged(f"{node.label}: its bounds and its step are not three numbers")
    start, stop, step = (array.reshape(()) for array in arrays)
    steps = (float(stop) - float(start)) / float(step) if step != 0 else math.nan
    if not math.isfinite(steps):
        raise Damaged(f"{node.label}: it goes from {start} to {stop} by steps of {step}")
    count = max(math.ceil(steps), 0)
    _sized(node, (count,), start.itemsize, constants)
    return np.asarray(start + np.arange(count) * step, start.dtype)


def _triangle(node: Node, arrays: list[HostArray], constants: Constants) -> HostArray:
    if len(arrays) > 2 or arrays[0].ndim < 2:
        raise Unmapped("its input is no matrix")
    k = int(arrays[1].reshape(-1)[0]) if len(arrays) > 1 and arrays[1].size else 0
    k = max(-arrays[0].shape[-2], min(k, arrays[0].shape[-1]))  # beyond, nothing changes
    _sized(node, arrays[0].shape, arrays[0].itemsize, constants)
    return np.triu(arrays[0], k) if node.integer("upper", 1) else np.tril(arrays[0], k)


#: operator -> function of a node, its constants, and those of the file
SELECTIONS: dict[str, Callable[[Node, list[HostArray], Constants], HostArray]] = {
    "ConstantOfShape": _filled,
    "Expand": _expanded,
    "Gather": _gathered,
    "Range": _range,
    "Slice": _sliced,
    "Trilu": _triangle,
}
