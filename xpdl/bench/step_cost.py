"""Least cost of a training step by its layers: products and bytes that no implementation without a compiler saves."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator

from xpdl.bench.device_rates import Rates
from xpdl.layers import Affine, Chain, Convolution, Layer, Residual
from xpdl.layers.base import Shape

# Passes of a training step: forward, gradient of the input, gradient of the weights.
_PASSES = 3


@dataclasses.dataclass(frozen=True)
class Cost:
    """Floating-point operations, and bytes read from memory and written to it."""

    flop: float
    bytes: float

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.flop + other.flop, self.bytes + other.bytes)

    def seconds(self, rates: Rates) -> float:
        """The roofline: neither can take less, and at best one hides behind the other."""
        return max(self.flop / rates.flop_per_second, self.bytes / rates.bytes_per_second)


def least_cost(network: Chain, input_shape: Shape, rows: int, itemsize: int, parameter_size: int | None = None) -> Cost:
    """Cost of one training step with Adam: the sum of `layer_costs`."""
    costs = layer_costs(network, input_shape, rows, itemsize, parameter_size)
    return sum((cost for _, cost in costs), start=Cost(0.0, 0.0))


def layer_costs(
    network: Chain, input_shape: Shape, rows: int, itemsize: int, parameter_size: int | None = None
) -> list[tuple[str, Cost]]:
    """Cost of each layer in one training step, with its parameters' share of Adam; that of reading the input comes last.

    Parameters
    ----------
    network : Chain
        Built for rows of `input_shape`.
    rows : int
        Of a batch.
    itemsize : int
        Bytes of a value.
    parameter_size : int, optional
        Bytes of a value of a parameter and of Adam's state, where that is more, as in mixed precision.

    Notes
    -----
    FLOP are those of matrix products and convolutions: forward, ``dW`` and ``dx``, which the first of them does without.
    Each layer's output is written once and read once, and so is its gradient; each parameter is read forward and, but for
    the first of those layers, backward, its gradient is written, and Adam reads four arrays of its size and writes three.
    """
    costs = []
    passes = _PASSES - 1  # nobody asks for the gradient of the data
    adam = 7.0 * (parameter_size or itemsize)
    for name, layer, shape, out in _walk(network, input_shape):
        terms = _terms(layer, shape)
        flop = 2.0 * rows * math.prod(out) * terms * passes
        # a residual block shows the parameters of its layers, which have their own rows
        own = {} if isinstance(layer, Residual) else layer.params
        parameters = sum(math.prod(p.shape) for p in own.values())
        touched = itemsize * (passes if terms else _PASSES) + adam
        costs.append((name, Cost(flop, 4.0 * itemsize * rows * math.prod(out) + touched * parameters)))
        if terms:
            passes = _PASSES
    costs.append(("input", Cost(0.0, float(itemsize * rows * math.prod(input_shape)))))
    return costs


def column_bytes(network: Chain, input_shape: Shape, rows: int, itemsize: int) -> float:
    """Bytes that a training step moves to and from im2col's columns, which convolutions by cuDNN do not have.

    Columns are written and read forward and for ``dW``, and their gradient is written and read for ``dx``.
    """
    moved, passes = 0.0, _PASSES - 1
    for _, layer, shape, out in _walk(network, input_shape):
        if isinstance(layer, Convolution):
            moved += 2.0 * passes * itemsize * rows * _terms(layer, shape) * layer.groups * math.prod(out[1:])
        if _terms(layer, shape):
            passes = _PASSES
    return moved


def _terms(layer: Layer, shape: Shape) -> int:
    """Products that are summed up for one value of the output; 0 for layers without weights."""
    if isinstance(layer, Affine):
        return math.prod(shape)
    return shape[0] // layer.groups * math.prod(layer.size) if isinstance(layer, Convolution) else 0


def _walk(chain: Chain, shape: Shape, inside: str = "") -> Iterator[tuple[str, Layer, Shape, Shape]]:
    """Name and shapes of a row of the input and output of every simple layer; a residual sum is a layer too."""
    for name, layer in chain.layers.items():
        out = layer.output_shape(shape)
        if isinstance(layer, Residual):
            yield from _walk(layer.body, shape, f"{inside}{name}.body.")
            yield from _walk(layer.shortcut, shape, f"{inside}{name}.shortcut.")
        if isinstance(layer, Chain):
            yield from _walk(layer, shape, f"{inside}{name}.")
        else:
            yield f"{inside}{name}", layer, shape, out
        shape = out
