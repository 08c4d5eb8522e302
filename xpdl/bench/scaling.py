"""Scaling of an operation: time per image against the batch, and per pixel against the side of the image."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Callable, Sequence
from typing import Any

from xpdl.backends import get_backend, use
from xpdl.backends.random import Stream
from xpdl.bench.timing import alternating
from xpdl.layers import Affine, BatchNormalization, Convolution, Dropout, Layer, Pooling, Relu

BATCHES = (1, 4, 16, 64, 256, 1024, 4096)
SIDES = (28, 56, 112, 224)

_CHANNELS, _SIDE, _BATCH = 8, 28, 16
_SECONDS = 0.1
_ROUNDS = 5

# For an image: what takes a batch (N, 8, side, side) forward and backward.
OPERATIONS: dict[str, Callable[[], Layer]] = {
    "affine": lambda: Affine(units=64),
    "convolution 3x3": lambda: Convolution(filters=16, size=3, pad=1),
    "convolution 5x5": lambda: Convolution(filters=16, size=5, pad=2),
    "convolution 3x3, stride 2": lambda: Convolution(filters=16, size=3, pad=1, stride=2),
    "pooling 2x2": lambda: Pooling(2, 2, stride=2),
    "batch normalization": BatchNormalization,
    "relu": Relu,
    "dropout": lambda: Dropout(0.5),
}


@dataclasses.dataclass(frozen=True)
class ScalingCurve:
    """Microseconds of an operation, forward and backward, for each size.

    Attributes
    ----------
    against : {"batch", "side"}
    sizes : sequence of int
    microseconds : sequence of float
        Medians, per image against the batch, and per 1000 pixels of an image against its side.
    """

    operation: str
    against: str
    sizes: Sequence[int]
    microseconds: Sequence[float]


def scaling(
    *, backend: str = "numpy", batches: Sequence[int] = BATCHES, sides: Sequence[int] = SIDES
) -> list[ScalingCurve]:
    """Time each of `OPERATIONS` on images of 8 channels: batches of 28x28 pixels, and 16 images with longer sides.

    The affine map has a weight for each pixel, so against the side, its weights grow as well.
    """
    found = []
    with use(backend):
        for name, make in OPERATIONS.items():
            per_image = [1e6 * _seconds(make(), n, _SIDE) / n for n in batches]
            per_pixel = [1e9 * _seconds(make(), _BATCH, side) / (_BATCH * side * side) for side in sides]
            found += [ScalingCurve(name, "batch", batches, per_image), ScalingCurve(name, "side", sides, per_pixel)]
    return found


def _seconds(layer: Layer, batch: int, side: int) -> float:
    """Median time of a pass forward and backward."""
    generator = Stream(0, "scaling").generator("rows")
    x = get_backend().asarray(generator.random((batch, _CHANNELS, side, side), dtype="float32") - 0.5)
    dout = layer.forward(x)

    def call() -> Any:
        layer.forward(x)
        return layer.backward(dout)

    times = alternating({"": lambda: call}, _ROUNDS, seconds=_SECONDS / _ROUNDS, pause=0.0)
    return statistics.median(times[""])
