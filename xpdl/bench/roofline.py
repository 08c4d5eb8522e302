"""What a training step must cost at least: its products at the rate of large ones, its bytes at that of memory."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable
from typing import Any

from xpdl.backends import Backend
from xpdl.layers import Affine, Chain, Convolution, Layer, Residual
from xpdl.layers.base import Shape
from xpdl.ops.affine import affine

# Passes of a training step: forward, gradient of the input, gradient of the weights.
_PASSES = 3


@dataclasses.dataclass(frozen=True)
class Cost:
    """Floating point operations of a step's products, and bytes that must move."""

    flop: float
    bytes: float

    def seconds(self, rates: Rates) -> float:
        """The floor: neither can be quicker, and at best one hides behind the other."""
        return max(self.flop / rates.flop_per_second, self.bytes / rates.bytes_per_second)


@dataclasses.dataclass(frozen=True)
class Rates:
    """Measured on the device: large matrix products, and copies of large arrays."""

    flop_per_second: float
    bytes_per_second: float


def cost(network: Chain, input_shape: Shape, rows: int, itemsize: int, parameter_size: int | None = None) -> Cost:
    """Of one training step with Adam.

    Bytes: each layer's output is written once and read once, and so is its gradient; each parameter is read forward and
    backward, its gradient written, and Adam reads four arrays of its size and writes three. A value of what Adam has takes
    `parameter_size` bytes, any other `itemsize`; in mixed precision the former is more. Layers that could be fused
    into others are counted all the same: to go below, a compiler is needed.
    """
    flop = 0.0
    values = float(rows * math.prod(input_shape))
    passes = _PASSES - 1  # nobody asks for the gradient of the data
    for layer, shape, out in _walk(network, input_shape):
        terms = 0
        if isinstance(layer, Affine):
            terms = math.prod(shape)
        elif isinstance(layer, Convolution):
            terms = shape[0] // layer.groups * math.prod(layer.size)
        if terms:
            flop += 2.0 * rows * math.prod(out) * terms * passes
            passes = _PASSES
        values += 4.0 * rows * math.prod(out)
    parameters = sum(math.prod(p.shape) for _, owner, key in network.slots("params") for p in (owner[key],))
    return Cost(flop, itemsize * (values + 3.0 * parameters) + 7.0 * (parameter_size or itemsize) * parameters)


def _walk(chain: Chain, shape: Shape) -> list[tuple[Layer, Shape, Shape]]:
    """Every simple layer with the shapes of a row of its input and output; a residual sum is a layer too."""
    found: list[tuple[Layer, Shape, Shape]] = []
    for layer in chain.layers.values():
        out = layer.output_shape(shape)
        if isinstance(layer, Residual):
            found += _walk(layer.body, shape) + _walk(layer.shortcut, shape)
        found += _walk(layer, shape) if isinstance(layer, Chain) else [(layer, shape, out)]
        shape = out
    return found


def rates(
    backend: Backend, synchronize: Callable[[], None], *, side: int, megabytes: int, dtype: str | None = None
) -> Rates:
    """Measure on `backend`: products of square matrices of that side, of `dtype`, and copies of that many megabytes."""
    xp = backend.xp
    a = xp.ones((side, side), dtype=getattr(xp, dtype or backend.dtype), device=backend.device)
    line = xp.ones((megabytes * 2**20 // 4,), dtype=xp.float32, device=backend.device)
    # the op, which computes in the precision that is set
    products = _seconds(lambda: affine(a, a), synchronize)
    copies = _seconds(lambda: line + 0.0, synchronize)
    return Rates(2.0 * side**3 / products, 2.0 * line.shape[0] * 4 / copies)


def _seconds(call: Callable[[], Any], synchronize: Callable[[], None]) -> float:
    """The least of a few: what the device can do."""
    found = []
    for _ in range(6):
        synchronize()
        begin = time.perf_counter()
        call()
        synchronize()
        found.append(time.perf_counter() - begin)
    return min(found)
