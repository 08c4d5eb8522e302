"""Layers of nodes that compute value by value with two arrays: sums and products of branches, and with constants."""

from __future__ import annotations

import functools

import numpy as np

from xpdl.layers.affine import Affine
from xpdl.layers.base import Layer
from xpdl.layers.dropout import Dropout
from xpdl.layers.merging import Add, Multiply
from xpdl.layers.positions import LearnedPositions, SinusoidalPositions
from xpdl.onnx import attention, masks, normalizations
from xpdl.onnx.arranging import arranged
from xpdl.onnx.attention_layer import with_last_bias
from xpdl.onnx.formulas import recognised
from xpdl.onnx.importing import Reader, ordered, then
from xpdl.onnx.nodes import BATCH, ONE, Given, Node, Signal, constant, signal
from xpdl.onnx.source import HostArray, Unmapped
from xpdl.onnx.steps import Scaling, Step, row_after
from xpdl.onnx.windows import with_counts
from xpdl.ops.positional import sinusoidal_positions

_ONE, _ZERO, _MINUS = (np.asarray(value, np.float32) for value in (1, 0, -1))


def add(node: Node, reader: Reader, x: Given, y: Given) -> Signal:
    """Return the sum of two branches, or of a value and a constant."""
    of_mask = masks.computed(node, np.add, x, y)
    if of_mask is not None:
        return of_mask
    if isinstance(x, Signal) and isinstance(y, Signal):
        return _of_two(node, Add(), x, y)
    x, values = (x, constant(y, "summand")) if isinstance(x, Signal) else (signal(y), constant(x, "summand"))
    for kind in (attention.with_added_mask, with_last_bias, normalizations.with_summand, _with_bias, _with_positions):
        found = kind(node, reader, x, values)
        if found is not None:
            return found
    return shifted(node, reader, x, values)


def _of_two(node: Node, layer: Layer, x: Signal, y: Signal) -> Signal:
    """Return what a layer computes of two branches, value by value; a sum of two of one shape has none yet."""
    if x.axes != y.axes or not _same_order(x, y) or (x.step.shape != y.step.shape and ONE in x.axes):
        x, y = _side_by_side(node, x, y)
    if x.step.shape == y.step.shape and isinstance(layer, Add):
        return Signal(Step(node.outputs[0], None, x.step, y.step, shape=x.step.shape), x.axes, x.order)
    shape = row_after(layer, x.step.shape, y.step.shape)
    return Signal(Step(node.outputs[0], layer, x.step, y.step, shape=shape), x.axes, x.order)


def _side_by_side(node: Node, *values: Signal) -> list[Signal]:
    """Return values with as many axes, in one order; axes of size 1 in front of one that has fewer."""
    rank = max(len(x.axes) for x in values)
    long = [Signal(x.step, (*[ONE] * (rank - len(x.axes)), *x.axes), x.order) for x in values]
    apart = {tuple(place for place, axis in enumerate(x.axes) if axis == BATCH) for x in long}
    if len(apart) > 1:
        rows = " and of shape ".join(str(x.row) for x in values)
        raise Unmapped(f"it combines rows of shape {rows}, so that the rows of a batch do not stay apart")
    return [arranged(node.outputs[0], x) for x in long]


def _same_order(x: Signal, y: Signal) -> bool:
    return x.order is y.order or (x.order is not None and y.order is not None and np.array_equal(x.order, y.order))


def _with_bias(node: Node, reader: Reader, x: Signal, b: HostArray) -> Signal | None:
    """Return the sum of the bias to an affine layer of positions or features; None where it is something else."""
    layer = x.step.layer
    if not isinstance(layer, Affine) or layer.b is not None or b.shape != (layer.units,):
        return None
    if x.order is not None or not x.axes or x.axes[-1] != len(x.step.shape) - 1:
        return None
    biased = Affine(reader.weights(layer.W, "weights"), reader.weights(b, "bias"), axis=layer.axis)
    return Signal(Step(node.outputs[0], biased, *x.step.inputs, shape=x.step.shape), x.axes)


def _with_positions(node: Node, reader: Reader, x: Signal, added: HostArray) -> Signal | None:
    """Return the sum with a vector for each position of a sequence; None where it is something else."""
    if not x.is_arranged or x.axes != (BATCH, 0, 1) or added.shape not in (x.row, (1, *x.row)) or 1 in x.row:
        return None
    W = reader.weights(added, "summand").reshape(added.shape[-2:])
    layer: Layer
    if np.array_equal(W, sinusoidal_positions(np.zeros((1, *W.shape), W.dtype))[0]):
        layer = SinusoidalPositions()
    else:
        table = _whole_table(node, reader, W)
        layer = LearnedPositions(table.shape[0])
        layer.params["W"] = table
    return then(node, x, layer)


def _whole_table(node: Node, reader: Reader, W: HostArray) -> HostArray:
    """Return the table of which a file takes the first positions, or these."""
    for name in node.inputs:
        table = reader.constant_of(name)
        if table is not None and table.ndim == 2 and len(table) > len(W) and np.array_equal(table[: len(W)], W):
            return reader.weights(table, "positions")
    return W


def add_all(node: Node, reader: Reader, x: Given, *others: Given) -> Signal:
    """Return the sum of any number of values."""
    return signal(functools.reduce(lambda total, other: add(node, reader, total, other), others, x))


def subtract(node: Node, reader: Reader, x: Given, y: Given) -> Signal:
    """Return the difference of two values, or of a value and a constant."""
    of_mask = masks.computed(node, np.subtract, x, y)
    if of_mask is not None:
        return of_mask
    if isinstance(x, Signal) and isinstance(y, Signal):
        return _of_two(node, Add(), x, scaled(node, reader, y, _MINUS))
    if isinstance(x, Signal):
        return shifted(node, reader, x, np.asarray(-constant(y, "second input")))
    y, shift = _beside(node, signal(y), reader.weights(x, "first input"))
    return _scaling(node, y, _MINUS, shift)


def multiply(node: Node, reader: Reader, x: Given, y: Given) -> Signal:
    """Return the product of two values, or of one and a constant; after a dropout, the book's.

    The book's has the share that is kept as its factor.
    """
    of_mask = masks.computed(node, np.multiply, x, y)
    if of_mask is not None:
        return of_mask
    if isinstance(x, Signal) and isinstance(y, Signal):
        return normalizations.recognised(recognised(_of_two(node, Multiply(), x, y)))
    x, factor = (x, constant(y, "factor")) if isinstance(x, Signal) else (signal(y), constant(x, "factor"))
    last = x.step.layer
    if isinstance(last, Dropout) and last.inverted and factor.size == 1:
        keep = 1.0 - last.dropout_ratio
        if abs(float(factor.reshape(())) - keep) <= 1e-6 * keep:
            step = Step(node.outputs[0], Dropout(last.dropout_ratio), *x.step.inputs, shape=x.step.shape)
            return Signal(step, x.axes, x.order)
    known = attention.scaled_scores(node, x, factor) or normalizations.with_factor(node, reader, x, factor)
    return known or recognised(scaled(node, reader, x, factor))


def divide(node: Node, reader: Reader, x: Given, y: Given) -> Signal:
    """Return the quotient of a value and a constant, or of two values."""
    if isinstance(y, Signal):
        return normalizations.recognised(recognised(normalizations.quotient(node, x, y)))
    divisor, x = reader.weights(y, "divisor"), signal(x)
    counted = with_counts(node, x, divisor)
    if counted is not None:
        return counted
    if not np.all(divisor):
        raise Unmapped("it divides by 0")
    factor = np.asarray(1.0 / divisor)
    return attention.scaled_scores(node, x, factor) or recognised(scaled(node, reader, x, factor))


def negative(node: Node, reader: Reader, x: Given) -> Signal:
    """Return a value with the other sign."""
    return scaled(node, reader, signal(x), _MINUS)


def scaled(node: Node, reader: Reader, x: Signal, factor: Given) -> Signal:
    """Return the product of a value and a constant."""
    x, scale = _beside(node, x, reader.weights(factor, "factor"))
    return _scaling(node, x, scale, _ZERO)


def shifted(node: Node, reader: Reader, x: Signal, summand: Given) -> Signal:
    """Return the sum of a value and a constant."""
    x, shift = _beside(node, x, reader.weights(summand, "summand"))
    return _scaling(node, x, _ONE, shift)


def _scaling(node: Node, x: Signal, scale: HostArray, shift: HostArray) -> Signal:
    return then(node, x, Scaling(node.label, scale, shift, len(x.step.shape)))


def _beside(node: Node, x: Signal, values: HostArray) -> tuple[Signal, HostArray]:
    """Return `x`, and a constant with the axes of a row in xpdl, of size 1 where it does not depend on them."""
    if values.size == 1 and values.ndim <= len(x.axes):
        return x, np.reshape(values, ())
    reason = f"its constant of shape {values.shape} does not fit rows of shape {x.row}"
    if values.ndim > len(x.axes):
        raise Unmapped(reason)
    sizes = (*[1] * (len(x.axes) - values.ndim), *values.shape)
    if any(
        size != 1 and (axis < 0 or x.size(axis) not in (None, size)) for axis, size in zip(x.axes, sizes, strict=True)
    ):
        among = any(size != 1 and axis == BATCH for axis, size in zip(x.axes, sizes, strict=True))
        raise Unmapped(
            f"its constant of shape {values.shape} has other values for each row of a batch" if among else reason
        )
    if x.order is not None:
        return x, ordered(x, values.reshape(-1))
    real = x.real
    own = np.reshape(values, [size for axis, size in zip(x.axes, sizes, strict=True) if axis >= 0])
    return x, np.transpose(own, sorted(range(len(real)), key=real.__getitem__))
