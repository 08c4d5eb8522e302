"""Base of the book's nets: their names for parameters, and constructor arguments kept for files."""

from __future__ import annotations

from typing import Any

from xpdl.layers.affine import Affine
from xpdl.layers.base import Layer
from xpdl.layers.batch_normalization import BatchNormalization
from xpdl.layers.convolution import Convolution
from xpdl.layers.losses import SoftmaxWithLoss
from xpdl.models.sequential import Sequential


class BookNet(Sequential):
    """A `Sequential` with softmax loss whose parameters are shown as in the book: ``W1 b1 W2 b2 ...``, ``gamma1 beta1``.

    Its arrays are made at once, on the backend in use.
    """

    def __init__(
        self, layers: list[tuple[str, Layer]], input_shape: tuple[int, ...], seed: int | None, config: dict[str, Any]
    ) -> None:
        super().__init__(*layers, loss=SoftmaxWithLoss, seed=seed)
        self.aliases = _numbered(layers)
        self.config = config
        self.build(input_shape)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "seed": self.seed}


def _numbered(layers: list[tuple[str, Layer]]) -> dict[str, str]:
    """Path -> the book's name: the k-th layer with weights has ``Wk`` and ``bk``, a normalisation after it ``gammak``."""
    names = {}
    count = 0
    for path, layer in layers:
        if isinstance(layer, (Affine, Convolution)):
            count += 1
            keys = ("W", "b")
        elif isinstance(layer, BatchNormalization):
            keys = ("gamma", "beta")
        else:
            continue
        names.update({f"{path}.{key}": f"{key}{count}" for key in keys})
    return names
