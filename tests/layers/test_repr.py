"""One-line descriptions of layers and models: the arguments that are not the default."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.layers.table import ROWS, Row
from xpdl import layers as L
from xpdl.models import DeepConvNet, Sequential, TwoLayerNet

CASES = [
    (lambda: L.Convolution(filters=16, size=3, pad=1), "Convolution(filters=16, size=3, pad=1)"),
    (lambda: L.Convolution(filters=4, size=(3, 1), groups=2), "Convolution(filters=4, size=(3, 1), groups=2)"),
    (lambda: L.Affine(units=10, init="xavier"), "Affine(units=10, init='xavier')"),
    (lambda: L.Affine(np.ones((2, 3))), "Affine(units=3, use_bias=False)"),
    (lambda: L.Pooling(2, 2), "Pooling(pool_h=2, pool_w=2)"),
    (lambda: L.AveragePooling(3, 2, stride=1, pad=(1, 0)), "AveragePooling(pool_h=3, pool_w=2, stride=1, pad=(1, 0))"),
    (L.BatchNormalization, "BatchNormalization()"),
    (lambda: L.BatchNormalization(momentum=0.5, eps=1e-3), "BatchNormalization(momentum=0.5, eps=0.001)"),
    (L.Dropout, "Dropout()"),
    (lambda: L.Dropout(0.25, inverted=True), "Dropout(dropout_ratio=0.25, inverted=True)"),
    (L.Relu, "Relu()"),
    (lambda: L.Residual(L.Relu(), fuse=False), "Residual(Relu(), fuse=False)"),
    (lambda: L.Residual(shortcut=L.Relu()), "Residual(shortcut=Relu())"),
    (lambda: L.Chain(("first", L.Affine(units=2)), L.Relu()), "Chain(('first', Affine(units=2)), Relu())"),
    (lambda: L.SoftmaxWithLoss(0.1), "SoftmaxWithLoss(label_smoothing=0.1)"),
    (
        lambda: Sequential(L.Affine(units=2), loss=L.SoftmaxWithLoss, seed=0),
        "Sequential(Affine(units=2), loss=SoftmaxWithLoss(), seed=0)",
    ),
    (Sequential, "Sequential()"),
    (lambda: TwoLayerNet(4, 3, 2), "TwoLayerNet(input_size=4, hidden_size=3, output_size=2)"),
    (DeepConvNet, "DeepConvNet()"),
]


@pytest.mark.parametrize(("make", "text"), CASES, ids=[text for _, text in CASES])
def test_shows_the_arguments_that_are_not_the_default(make: Any, text: str) -> None:
    assert repr(make()) == text


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.id)
def test_is_one_short_line_of_the_class(row: Row) -> None:
    layer = row.make({**row.params, **row.constants})
    text = repr(layer) if isinstance(layer, L.Layer) else f"{row.cls.__name__}()"
    assert text.startswith(f"{row.cls.__name__}(") and text.endswith(")")
    assert "\n" not in text and len(text) < 300 and "array(" not in text


def test_a_long_model_is_cut_in_the_middle() -> None:
    text = repr(Sequential(*(L.Affine(units=k + 1) for k in range(500))))
    assert len(text) < 400 and "Affine(units=6), ... 488 more, Affine(units=495)" in text


def test_own_layers_show_what_they_keep_whatever_it_is() -> None:
    class Own(L.Layer):
        def __init__(self, size: int, text: str = "", function: Any = None, *more: Any, lost: int = 0) -> None:
            self.size, self.text, self.function = size, text, function
            super().__init__()

    layer = Own(3, "a\n" * 200, len, 1, lost=2)
    assert repr(Own(3)) == "Own(size=3)"
    assert "\n" not in repr(layer) and len(repr(layer)) < 200
