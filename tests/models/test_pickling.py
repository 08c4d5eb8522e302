"""Pickles and copies of whole models: they hold no rows of a batch, and compute what the model does."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest

import xpdl
from tests.harness import nonempty
from xpdl import layers as L


def squares(y: Any, t: Any) -> Any:
    return 0.5 * ((y - t) ** 2).sum() / len(y), (y - t) / len(y)


def images() -> xpdl.Sequential:
    block = L.Residual(L.Convolution(filters=4, size=3, pad=1), L.BatchNormalization(), L.Relu())
    layers = [L.Convolution(filters=4, size=3), L.Relu(), L.Pooling(2, 2), block, L.Dropout(0.3), L.Affine(units=3)]
    return xpdl.Sequential(*layers, loss=xpdl.SoftmaxWithLoss, seed=0)


def unfused() -> xpdl.Sequential:
    return xpdl.Sequential(
        L.Flatten(), L.Affine(units=5), L.Sigmoid(), L.Affine(units=3), loss=squares, seed=0, fuse=False
    )


def trained(make: Any, rows: int) -> tuple[xpdl.Sequential, Any]:
    """A model after one gradient, and other rows."""
    rng = np.random.default_rng(0)
    net, x = make(), rng.random((rows, 1, 8, 8), dtype=np.float32)
    t = np.eye(3, dtype=np.float32)[rng.integers(0, 3, rows)]
    weights = {} if make is unfused else {"sample_weight": np.ones(rows, np.float32)}
    net.gradient(x, t, **weights)
    return net, rng.random((4, 1, 8, 8), dtype=np.float32)


@pytest.mark.parametrize("make", [images, unfused])
def test_a_pickle_of_a_model_holds_no_rows(make: Any) -> None:
    small, large = (len(pickle.dumps(trained(make, rows)[0])) for rows in (5, 100))
    assert small == large


@pytest.mark.parametrize("make", [images, unfused])
def test_a_copy_predicts_and_trains_as_the_model(make: Any) -> None:
    net, x = trained(make, 5)
    t = np.eye(3, dtype=np.float32)[[0, 2, 1, 1]]
    copies = [copy.deepcopy(net), pickle.loads(pickle.dumps(net))]
    y, gradients = net.predict(x), net.gradient(x, t)
    for other in nonempty(copies):
        np.testing.assert_array_equal(other.predict(x), y)
        for name, gradient in other.gradient(x, t).items():
            np.testing.assert_array_equal(gradient, gradients[name])


def test_layers_of_ones_own_name_what_they_save() -> None:
    copied = pickle.loads(pickle.dumps(_used_layer()))
    assert (copied.mask, copied.weights.tolist()) == (None, [1.0, 2.0])


class Masking(L.Layer):
    saved_names = ("mask",)

    def __init__(self) -> None:
        super().__init__()
        self.mask = None
        self.weights = np.array([1.0, 2.0])

    def forward(self, x: Any) -> Any:
        self.mask = x > 0
        return x * self.mask * self.weights


def _used_layer() -> Masking:
    layer = Masking()
    layer.forward(np.array([[1.0, -1.0]]))
    return layer
