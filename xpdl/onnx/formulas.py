"""Functions of single values in pieces, such as gelu by its error function, as the layers that compute the same."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from xpdl.layers.base import Layer
from xpdl.layers.elu import Elu
from xpdl.layers.gelu import Gelu
from xpdl.layers.leaky_relu import LeakyRelu
from xpdl.layers.merging import Add, Multiply
from xpdl.layers.relu import Relu
from xpdl.layers.sigmoid import Sigmoid
from xpdl.layers.silu import Silu
from xpdl.layers.softplus import Softplus
from xpdl.layers.tanh import Tanh
from xpdl.onnx.evaluating import Function, values_of
from xpdl.onnx.importing import Importer, Reader, then
from xpdl.onnx.nodes import Given, Node, Signal, constant, signal
from xpdl.onnx.source import HostArray, Unmapped
from xpdl.onnx.steps import Step

#: steps between the value and what a formula computes of it
_MOST_STEPS = 24
_GRID = np.linspace(-6.0, 6.0, 121)[None, :]
_TOLERANCE = 2e-6  # constants of a file are float32
_ELEMENTWISE = (Add, Elu, Gelu, LeakyRelu, Multiply, Relu, Sigmoid, Silu, Softplus, Tanh)


def function(ufunc: Callable[..., Any]) -> Importer:
    """Return the importer of a function of one value, or of a value and a number."""

    def importer(node: Node, reader: Reader, x: Given, y: Given = None) -> Signal:
        x = signal(x)
        if y is None:
            whole = ufunc
        else:
            other = constant(y, "second input")
            if other.size != 1:
                raise Unmapped("xpdl has no layer for it")
            number = float(other.reshape(()))

            def whole(values: HostArray) -> HostArray:
                return np.asarray(ufunc(values, number))

        return then(node, x, Function(node.label, x.step.name, whole))

    return importer


def choice(node: Node, condition: Given, x: Given, y: Given) -> Signal:
    """Return the values of one of two where a condition holds, else of the other, as a layer does."""
    given = (condition, x, y)
    signals = [one for one in given if isinstance(one, Signal)]
    numbers = [one for one in given if isinstance(one, np.ndarray)]
    alike = len({one.axes for one in signals}) == 1 and len({one.step.shape for one in signals}) == 1
    if (
        len(signals) + len(numbers) < 3
        or not alike
        or any(one.size != 1 or one.dtype.kind not in "fiu" for one in numbers)
    ):
        raise Unmapped("xpdl has no layer for it")

    def whole(*values: HostArray) -> HostArray:
        rest = iter(values)
        c, a, b = (
            next(rest) if isinstance(one, Signal) else float(constant(one, "input").reshape(())) for one in given
        )
        return np.where(c, a, b)

    first = signals[0]
    part = Function(node.label, first.step.name, whole)
    step = Step(node.outputs[0], part, *(one.step for one in signals), shape=first.step.shape)
    found = recognised(Signal(step, first.axes, first.order))
    if found.step.layer is part:
        raise Unmapped("xpdl has no layer for it")
    return found


error_function = np.vectorize(math.erf, otypes=[np.float64])


def recognised(x: Signal) -> Signal:
    """Return a value as the output of one layer, where the steps before it make a function that a layer is."""
    base: Step | None = x.step.fork
    while base is not None and x.step.depth - base.depth <= _MOST_STEPS:
        values = values_of(x.step, base, _GRID, _ELEMENTWISE)
        if values is None:
            return x
        layer = _layer_of(values)
        if layer is not None and base.shape == x.step.shape:
            return Signal(Step(x.step.name, layer, base, shape=base.shape), x.axes, x.order)
        base = base.fork
    return x


def _layer_of(values: HostArray) -> Layer | None:
    """Return the layer that gives these values in the grid."""
    if values.shape != _GRID.shape or values.dtype.kind != "f" or not np.all(np.isfinite(values)):
        return None
    candidates: list[Layer] = [Gelu("none"), Gelu("tanh"), Silu(), Softplus()]
    below = float(values[0, 0])
    if below < 0:
        slope, alpha = _plain(below / _GRID[0, 0]), _plain(below / math.expm1(_GRID[0, 0]))
        candidates += [LeakyRelu(slope)] if 0 <= slope < 1 else []
        candidates += [Elu(alpha)] if alpha > 0 else []
    scale = np.abs(values).max()
    # gelu and its approximation differ by more than that
    for layer in candidates:
        if np.abs(layer.forward(_GRID) - values).max() <= _TOLERANCE * scale:
            return layer
    return None


def _plain(value: float) -> float:
    """Return a number that was rounded to float32, as the decimal that it was, if that is near."""
    short = float(f"{value:.7g}")
    return short if math.isclose(short, value, rel_tol=1e-7) else value
