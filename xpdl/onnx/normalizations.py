"""Normalization of rows without statistics of the batch: as operators, and in pieces, by means, powers and quotients."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import starmap
from typing import Any

import numpy as np

from xpdl.layers.base import Layer
from xpdl.layers.flatten import Flatten
from xpdl.layers.merging import Add, Multiply
from xpdl.layers.pooling import GlobalAveragePooling, GlobalMaxPooling
from xpdl.layers.rearranging import Permute, Reshape
from xpdl.layers.row_normalization import GroupNormalization, LayerNormalization, RMSNormalization
from xpdl.onnx import masks
from xpdl.onnx.arranging import after, arranged, reshaped
from xpdl.onnx.evaluating import MOST_VALUES, Function, Mean, values_of
from xpdl.onnx.importing import Reader, grids_of, then
from xpdl.onnx.nodes import BATCH, ONE, Given, Node, Signal, constant, decimal, integers, signal
from xpdl.onnx.source import HostArray, Unmapped
from xpdl.onnx.steps import Row, Scaling, Step, known

RowNormalization = LayerNormalization | RMSNormalization | GroupNormalization

#: steps between the input of a normalization and its quotient
_MOST_STEPS = 16
_TOLERANCE = 1e-6
_MOST_CHANNELS = 2**16  # a shape of a file must not ask for a large scale
_INSIDE = (Add, Multiply, GlobalAveragePooling, Reshape, Flatten, Permute, Mean)


# operators


def layer_normalization(node: Node, reader: Reader, x: Given, scale: Given, bias: Given = None) -> Signal:
    """Return the normalization over the last axes."""
    gamma = reader.weights(scale, "scale")
    beta = np.zeros_like(gamma) if bias is None else reader.weights(bias, "bias")
    eps = node.number("epsilon", 1e-5)
    return _over_last(node, signal(x), gamma, lambda: LayerNormalization(eps, gamma=_row(gamma), beta=_row(beta)))


def rms_normalization(node: Node, reader: Reader, x: Given, scale: Given) -> Signal:
    """Return the division by the root mean square over the last axes."""
    gamma, eps = reader.weights(scale, "scale"), node.number("epsilon", 1e-5)
    return _over_last(node, signal(x), gamma, lambda: RMSNormalization(eps, gamma=_row(gamma)))


def _row(values: HostArray) -> HostArray:
    return values.reshape(-1)


def _over_last(node: Node, x: Signal, gamma: HostArray, make: Callable[[], Layer]) -> Signal:
    """Return a normalization over the axes from ``axis`` on; several are made one for it."""
    axis = node.integer("axis", -1)
    own = x.place(axis, node.label)
    first = axis % len(x.axes)
    if own == BATCH or BATCH in x.axes[first:]:
        raise Unmapped(f"it is over the axes from {axis} on of rows of shape {x.row}, and the rows of a batch mix")
    x = arranged(node.outputs[0], x)
    row, start = x.step.shape, x.axes[first]
    if start == len(row) - 1:
        return then(node, x, make())
    sizes = known(row)
    if gamma.shape != sizes[start:]:
        raise Unmapped(f"its scale of shape {gamma.shape} does not fit the axes from {axis} on of rows of shape {row}")
    flat = reshaped(node.outputs[0], x.step, (*sizes[:start], math.prod(sizes[start:])))
    return Signal(reshaped(node.outputs[0], after(node.outputs[0], flat, make()), sizes), x.axes)


def group_normalization(node: Node, reader: Reader, x: Given, scale: Given, bias: Given) -> Signal:
    """Return the normalization of groups of channels; before opset 21, the scale is one of each group."""
    grids, groups = grids_of(node, x), node.integer("num_groups", 0)
    channels = grids.step.shape[0]
    gamma, beta = reader.weights(scale, "scale"), reader.weights(bias, "bias")
    if channels is not None and channels > _MOST_CHANNELS:
        raise Unmapped(f"rows of shape {grids.row} have too many channels")
    if channels is None or groups < 1 or channels % groups:
        raise Unmapped(f"its {groups} groups do not divide the channels of rows of shape {grids.row}")
    if node.opset < 21 and gamma.shape == beta.shape == (groups,):
        gamma, beta = (np.repeat(values, channels // groups) for values in (gamma, beta))
    return then(node, grids, GroupNormalization(groups, node.number("epsilon", 1e-5), gamma=gamma, beta=beta))


def instance_normalization(node: Node, reader: Reader, x: Given, scale: Given, bias: Given) -> Signal:
    """Return the normalization of each channel."""
    grids, gamma, beta = grids_of(node, x), reader.weights(scale, "scale"), reader.weights(bias, "B")
    layer = GroupNormalization(max(gamma.size, 1), node.number("epsilon", 1e-5), gamma=gamma, beta=beta)
    return then(node, grids, layer)


# in pieces


def mean(node: Node, reader: Reader, x: Given, axes: Given = None) -> Signal:
    """Return the mean of all axes of a row but one, which is that of the channels, or a part of a normalization."""
    x = signal(x)
    own = _reduced(node, x, axes)
    pooled = _over_grids(node, x, own, GlobalAveragePooling)
    return pooled or _part_mean(node, x, [x.axes[place] for place in own], bool(node.integer("keepdims", 1)))


def largest(node: Node, reader: Reader, x: Given, axes: Given = None) -> Signal:
    """Return the largest value of all axes of a row but one, or the length of a mask."""
    x = signal(x)
    pooled = (
        None
        if isinstance(x.step.layer, masks.OfMask)
        else _over_grids(node, x, _reduced(node, x, axes), GlobalMaxPooling)
    )
    return pooled or masks.reduced(np.max)(node, reader, x, axes)


def _reduced(node: Node, x: Signal, axes: Given) -> set[int]:
    """Return the places of the axes that a node reduces."""
    found = node.integers("axes") if axes is None else integers(axes, "axes")
    places = {axis % len(x.axes) for axis in found} if x.axes else set()
    if not places or BATCH in [x.axes[place] for place in places] or BATCH not in x.axes:
        raise Unmapped(f"it reduces the axes {found[:8]}, which are not axes of a row")
    return places


def _over_grids(node: Node, x: Signal, reduced: set[int], make: Callable[[], Layer]) -> Signal | None:
    """Return the pooling of all axes of a row but one, which is that of the channels; None of others."""
    own = [x.axes[place] for place in reduced]
    kept = [axis for axis in x.real if axis not in own]
    if len(kept) != 1 or len(x.real) < 2:
        return None
    if kept != [0]:
        layer = Permute([axis + 1 for axis in (*kept, *sorted(set(x.real) - set(kept)))])
        x = Signal(after(node.outputs[0], x.step, layer), tuple(0 if axis == kept[0] else axis for axis in x.axes))
    left = [ONE if i in reduced else 0 if axis == kept[0] else axis for i, axis in enumerate(x.axes)]
    if not node.integer("keepdims", 1):
        left = [axis for i, axis in enumerate(left) if i not in reduced]
    return then(node, x, make(), tuple(left))


def _part_mean(node: Node, x: Signal, own: list[int], keeps: bool) -> Signal:
    """Return the mean along axes of a row, which stay with size 1."""
    own = [axis for axis in own if axis >= 0]
    if not keeps or not own or x.order is not None:
        raise Unmapped("xpdl has no layer for it, other than of all axes of images but the channels")
    along = tuple(axis + 1 for axis in own)
    part = Mean(node.label, x.step.name, along)
    shape = tuple(1 if axis in own else size for axis, size in enumerate(x.step.shape))
    return Signal(Step(node.outputs[0], part, x.step, shape=shape), x.axes)


def quotient(node: Node, x: Given, y: Signal) -> Signal:
    """Return the quotient of two values, or of a number and a value, which are parts of a normalization."""
    if not isinstance(x, Signal):
        number = constant(x, "dividend")
        if number.size != 1:
            raise Unmapped("xpdl has no layer for it")
        inverse = Function(node.label, y.step.name, lambda values: float(number.reshape(())) / values)
        return then(node, y, inverse)
    if x.axes != y.axes or x.order is not None or y.order is not None:
        x, y = (arranged(node.outputs[0], one) for one in (x, y))
    if x.axes != y.axes:
        raise Unmapped(f"it divides rows of shape {x.row} by others of shape {y.row}")
    part = Function(node.label, x.step.name, np.divide)
    return Signal(Step(node.outputs[0], part, x.step, y.step, shape=x.step.shape), x.axes)


def recognised(x: Signal) -> Signal:
    """Return a value as the output of a normalization of the last axis, where the steps before it make one."""
    if x.order is not None or not x.step.shape or None in x.step.shape or math.prod(known(x.step.shape)) > MOST_VALUES:
        return x
    # that of the most steps: the second half of a layer normalization is one by the root mean square
    found, base, numbers = x, x.step.fork, _numbers(x.step)
    while base is not None and numbers and x.step.depth - base.depth <= _MOST_STEPS:
        if base.shape == x.step.shape:
            values = [(eps, one) for eps in numbers if (one := _values(x.step, base, eps)) is not None]
            layer = next((one for one in starmap(_layer_of, values) if one is not None), None)
            found = found if layer is None else Signal(after(x.step.name, base, layer), x.axes)
        base = base.fork
    return found


def _numbers(end: Step) -> list[HostArray]:
    """Return positive numbers that are added to values, near before a step."""
    found, steps = [], [end]
    for _ in range(4 * _MOST_STEPS):
        if not steps:
            break
        step = steps.pop(0)
        if isinstance(step.layer, Scaling) and step.layer.shift.size == 1 and step.layer.shift.reshape(()) > 0:
            found.append(step.layer.shift.reshape(()))
        steps += step.inputs
    return found


def _inputs(shape: tuple[int, ...], eps: float) -> list[HostArray]:
    """Return rows whose scale `eps` does not change, and rows of which it is the whole."""
    x = np.random.default_rng(0).standard_normal((1, *shape)) + 0.5
    return [x, x * (1e-3 * math.sqrt(eps))]


def _values(end: Step, base: Step, eps: HostArray) -> list[HostArray] | None:
    """Return what the steps after `base` compute of such rows; None of other steps."""
    with np.errstate(all="ignore"):
        values = [values_of(end, base, x, _INSIDE) for x in _inputs(known(end.shape), float(eps))]
    return None if any(one is None or one.shape != (1, *known(end.shape)) for one in values) else values  # type: ignore[return-value]


def _layer_of(eps: HostArray, values: list[HostArray]) -> Layer | None:
    """Return the normalization, without scale and shift, that gives these values."""
    number = decimal(float(eps)) if eps.dtype == np.float32 else float(eps)
    shape = values[0].shape
    for kind in (RMSNormalization, LayerNormalization):
        layer: Layer = _without(kind(number), shape[-1], np.float64)
        expected = [layer.forward(x) for x in _inputs(shape[1:], float(eps))]
        if all(map(_are_close, values, expected)):
            found: Layer = _without(kind(number), shape[-1], eps.dtype)
            return found
    return None


def _without(layer: Any, features: int, dtype: Any) -> Any:
    """Return a normalization that neither scales nor shifts."""
    layer.params = {key: np.full(features, value, dtype) for key, value in layer.fill.items()}
    return layer


def _are_close(a: Any, b: HostArray) -> bool:
    return bool(np.abs(a - b).max() <= _TOLERANCE * np.abs(b).max())


# scale and shift after it


def of_groups(x: Signal, target: Row) -> Step | None:
    """Return the normalization of groups of channels, whose values a reshape puts into the shape they had before it."""
    layer, before = x.step.layer, x.step.inputs[0] if x.step.inputs else None
    if not isinstance(layer, RowNormalization) or before is None or not isinstance(before.layer, Reshape):
        return None
    base, shape = before.inputs[0], before.shape
    if base.shape != target or None in target or len(shape) != 2 or not x.is_plain or not _is_without(layer):
        return None
    groups, channels = known(shape)[0], known(target)[0]
    by_group = isinstance(layer, LayerNormalization) or (
        isinstance(layer, GroupNormalization) and layer.groups == groups
    )
    if not by_group or channels % groups or channels > _MOST_CHANNELS:
        return None
    return after(x.step.name, base, _without(GroupNormalization(groups, layer.eps), channels, layer.gamma.dtype))


def _is_without(layer: RowNormalization) -> bool:
    """Return whether a normalization neither scales nor shifts."""
    return all(np.all(value == layer.fill[key]) for key, value in layer.params.items())


def with_factor(node: Node, reader: Reader, x: Signal, factor: HostArray) -> Signal | None:
    """Return a normalization with a factor of each feature or channel; None of something else."""
    layer = x.step.layer
    if not isinstance(layer, RowNormalization) or not _is_without(layer):
        return None
    values = _along(layer, x, factor)
    channels = x.step.shape[0] if x.step.shape else None
    of_channels = isinstance(layer, LayerNormalization) and len(x.step.shape) == 2 and factor.size == channels
    if values is None and of_channels and channels is not None:  # of as many groups as channels
        layer = _without(GroupNormalization(channels, layer.eps), channels, layer.gamma.dtype)
        values = _along(layer, x, factor)
    return None if values is None else _changed(node, x, layer, gamma=reader.weights(values, "factor"))


def with_summand(node: Node, reader: Reader, x: Signal, summand: HostArray) -> Signal | None:
    """Return a normalization with a summand of each feature or channel; None of something else."""
    layer = x.step.layer
    if not isinstance(layer, (LayerNormalization, GroupNormalization)) or np.any(layer.beta != 0):
        return None
    values = _along(layer, x, summand)
    return None if values is None else _changed(node, x, layer, beta=reader.weights(values, "summand"))


def _along(layer: RowNormalization, x: Signal, values: HostArray) -> HostArray | None:
    """Return the values of a constant along the axis of the features of a layer; None where it depends on others."""
    rank = len(x.step.shape)
    place = layer.axis % rank
    sizes = (*[1] * (len(x.axes) - values.ndim), *values.shape)
    if not x.is_arranged or len(sizes) != len(x.axes) or values.dtype.kind != "f":
        return None
    wanted = tuple(x.size(axis) if axis == place else 1 for axis in x.axes)
    return values.reshape(-1) if sizes == wanted else None


def _changed(node: Node, x: Signal, layer: RowNormalization, **params: HostArray) -> Signal:
    options: dict[str, Any] = {"groups": layer.groups} if isinstance(layer, GroupNormalization) else {}
    changed = type(layer)(eps=layer.eps, **options, **{**layer.params, **params})
    return Signal(Step(node.outputs[0], changed, *x.step.inputs, shape=x.step.shape), x.axes)
