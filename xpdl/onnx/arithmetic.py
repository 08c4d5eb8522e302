"""Layers of nodes that compute value by value with two arrays: sums of branches, scalings by constants."""

from __future__ import annotations

import numpy as np

from xpdl.layers.affine import Affine
from xpdl.layers.dropout import Dropout
from xpdl.layers.sigmoid import Sigmoid
from xpdl.layers.silu import Silu
from xpdl.onnx.importing import Reader, ordered, then
from xpdl.onnx.nodes import Given, Node, Signal, constant, signal
from xpdl.onnx.source import HostArray, Unmapped
from xpdl.onnx.steps import Scaling, Step


def add(node: Node, reader: Reader, x: Given, y: Given) -> Signal:
    """Return the sum of two branches, or of a value and a constant."""
    if not (isinstance(x, Signal) and isinstance(y, Signal)):
        x, values = (x, y) if isinstance(x, Signal) else (y, x)
        return _with_bias(node, reader, signal(x), values) or _scaling(node, reader, signal(x), None, values)
    if x.axes != y.axes or x.step.shape != y.step.shape or not _same_order(x, y):
        raise Unmapped(f"it adds rows of shape {x.row} and of shape {y.row}")
    return Signal(Step(node.outputs[0], None, x.step, y.step, shape=x.step.shape), x.axes, x.order)


def _with_bias(node: Node, reader: Reader, x: Signal, values: Given) -> Signal | None:
    """Return the sum of the bias to a layer of positions, along their last axis; None where it is something else."""
    layer, b = x.step.layer, constant(values, "summand")
    if not (isinstance(layer, Affine) and layer.axis == -1 and layer.b is None and b.shape == (layer.units,)):
        return None
    biased = Affine(layer.W.copy(), reader.weights(b, "bias"), axis=-1)
    return Signal(Step(node.outputs[0], biased, *x.step.inputs, shape=x.step.shape), x.axes)


def _same_order(x: Signal, y: Signal) -> bool:
    return x.order is y.order or (x.order is not None and y.order is not None and np.array_equal(x.order, y.order))


def add_all(node: Node, reader: Reader, x: Given, *others: Given) -> Signal:
    """Return the sum of any number of values."""
    for other in others:
        x = add(node, reader, x, other)
    return signal(x)


def subtract(node: Node, reader: Reader, x: Given, y: Given) -> Signal:
    """Return the difference of a value and a constant."""
    if isinstance(x, Signal):
        return _scaling(node, reader, x, None, np.asarray(-constant(y, "second input")))
    return _scaling(node, reader, signal(y), np.asarray(-1.0), x)


def multiply(node: Node, reader: Reader, x: Given, y: Given) -> Signal:
    """Return the product of a value and a constant; after a dropout, where it is the share that is kept, the book's.

    Of two values that depend on the input, ``x sigmoid(x)`` alone is a layer.
    """
    if isinstance(x, Signal) and isinstance(y, Signal) and x.axes == y.axes:
        for whole, gate in ((x, y), (y, x)):
            if isinstance(gate.step.layer, Sigmoid) and gate.step.fork is whole.step:
                return Signal(Step(node.outputs[0], Silu(), whole.step, shape=whole.step.shape), x.axes, x.order)
    x, values = (x, y) if isinstance(x, Signal) else (y, x)
    factor, last = constant(values, "factor"), signal(x).step.layer
    if isinstance(last, Dropout) and last.inverted and factor.size == 1 and isinstance(x, Signal):
        keep = 1.0 - last.dropout_ratio
        if abs(float(factor.reshape(())) - keep) <= 1e-6 * keep and x.step.fork is not None:
            step = Step(node.outputs[0], Dropout(last.dropout_ratio), x.step.fork, shape=x.step.shape)
            return Signal(step, x.axes, x.order)
    return _scaling(node, reader, signal(x), values, None)


def divide(node: Node, reader: Reader, x: Given, y: Given) -> Signal:
    """Return the quotient of a value and a constant."""
    divisor = reader.weights(y, "divisor")
    if not np.all(divisor):
        raise Unmapped("it divides by 0")
    return _scaling(node, reader, signal(x), np.asarray(1.0 / divisor), None)


def _scaling(node: Node, reader: Reader, x: Signal, scale: Given, shift: Given) -> Signal:
    one, zero = np.float64(1.0), np.float64(0.0)
    factors = one if scale is None else _along_features(x, reader.weights(scale, "factor"))
    shifts = zero if shift is None else _along_features(x, reader.weights(shift, "summand"))
    return then(node, x, Scaling(node.label, np.asarray(factors), np.asarray(shifts)))


def _along_features(x: Signal, values: HostArray) -> HostArray:
    """Return one value, or one for each of the features along the first axis of a row in xpdl."""
    if values.size == 1 and values.ndim <= len(x.axes) + 1:
        return values.reshape(())
    long = [axis for axis, size in enumerate(values.shape, start=len(x.axes) - values.ndim) if size != 1]
    if len(long) != 1 or long[0] < 0 or values.ndim > len(x.axes) + 1 or x.axes[long[0]] != 0:
        raise Unmapped(
            f"its constant of shape {values.shape} is not one value for each feature of rows of shape {x.row}",
        )
    if x.step.shape[0] not in (None, values.size):
        raise Unmapped(f"its constant of shape {values.shape} does not fit rows of shape {x.row}")
    return ordered(x, values.reshape(-1)) if len(x.axes) == 1 else values.reshape(-1)
