"""The book's nets: its constructors, its names, its shapes, and the same numbers as its formulas."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest

import xpdl
from tests import oracles
from xpdl import DeepConvNet, MultiLayerNet, MultiLayerNetExtend, ShapeError, SimpleConvNet, TwoLayerNet
from xpdl.models import MODELS

SIGNATURES = {
    TwoLayerNet: "input_size hidden_size output_size weight_init_std=0.01",
    MultiLayerNet: "input_size hidden_size_list output_size activation='relu' weight_init_std='relu' weight_decay_lambda=0",
    MultiLayerNetExtend: "input_size hidden_size_list output_size activation='relu' weight_init_std='relu' "
    "weight_decay_lambda=0 use_dropout=False dropout_ration=0.5 use_batchnorm=False",
    SimpleConvNet: "input_dim=(1, 28, 28) conv_param={'filter_num': 30, 'filter_size': 5, 'pad': 0, 'stride': 1} "
    "hidden_size=100 output_size=10 weight_init_std=0.01",
    DeepConvNet: "input_dim=(1, 28, 28) "
    + " ".join(
        f"conv_param_{k}={{'filter_num': {n}, 'filter_size': 3, 'pad': {pad}, 'stride': 1}}"
        for k, n, pad in ((1, 16, 1), (2, 16, 1), (3, 32, 1), (4, 32, 2), (5, 64, 1), (6, 64, 1))
    )
    + " hidden_size=50 output_size=10",
}


@pytest.mark.parametrize("kind", SIGNATURES)
def test_constructors_take_what_the_book_gives_by_place(kind: Any) -> None:
    given = [p for p in inspect.signature(kind).parameters.values() if p.kind is p.POSITIONAL_OR_KEYWORD]
    shown = " ".join(p.name if p.default is p.empty else f"{p.name}={p.default!r}" for p in given)
    assert shown == SIGNATURES[kind]


def test_all_are_known_by_name() -> None:
    assert set(MODELS.values()) == set(SIGNATURES)


SHAPES = {
    "TwoLayerNet": (TwoLayerNet(784, 50, 10), {"W1": (784, 50), "b1": (50,), "W2": (50, 10), "b2": (10,)}),
    "MultiLayerNet": (
        MultiLayerNet(8, [5, 6], 3),
        {"W1": (8, 5), "b1": (5,), "W2": (5, 6), "b2": (6,), "W3": (6, 3), "b3": (3,)},
    ),
    "MultiLayerNetExtend": (
        MultiLayerNetExtend(8, [5], 3, use_batchnorm=True),
        {"W1": (8, 5), "b1": (5,), "gamma1": (5,), "beta1": (5,), "W2": (5, 3), "b2": (3,)},
    ),
    "SimpleConvNet": (
        SimpleConvNet(),
        {"W1": (30, 1, 5, 5), "b1": (30,), "W2": (4320, 100), "b2": (100,), "W3": (100, 10), "b3": (10,)},
    ),
    "DeepConvNet": (
        DeepConvNet(),
        {
            **{f"W{k}": (n, c, 3, 3) for k, c, n in ((1, 1, 16), (2, 16, 16), (3, 16, 32), (4, 32, 32), (5, 32, 64))},
            "W6": (64, 64, 3, 3),
            "W7": (1024, 50),
            "W8": (50, 10),
            **{f"b{k}": (n,) for k, n in enumerate((16, 16, 32, 32, 64, 64, 50, 10), start=1)},
        },
    ),
}


@pytest.mark.parametrize("name", SHAPES)
def test_parameters_have_the_names_and_shapes_of_the_book(name: str) -> None:
    network, shapes = SHAPES[name]
    assert {key: p.shape for key, p in network.params.items()} == shapes
    assert all(p.dtype == np.float32 for p in network.params.values())


LAYERS = {
    "TwoLayerNet": "Affine1 Relu1 Affine2",
    "MultiLayerNet": "Affine1 Activation_function1 Affine2 Activation_function2 Affine3",
    "MultiLayerNetExtend": "Affine1 BatchNorm1 Activation_function1 Affine2",
    "SimpleConvNet": "Conv1 Relu1 Pool1 Affine1 Relu2 Affine2",
}


@pytest.mark.parametrize("name", LAYERS)
def test_layers_have_the_names_of_the_book(name: str) -> None:
    network = SHAPES[name][0]
    assert " ".join(network.layers) == LAYERS[name]
    assert network.layers["Affine1"].W is network.params["W2" if name == "SimpleConvNet" else "W1"]
    assert isinstance(network.last_layer, xpdl.SoftmaxWithLoss)


@pytest.mark.parametrize(
    ("spec", "std"), [(0.01, 0.01), ("relu", (2 / 400) ** 0.5), ("He", (2 / 400) ** 0.5), ("sigmoid", (1 / 400) ** 0.5)]
)
def test_initial_weights_have_the_spread_of_the_book(spec: Any, std: float) -> None:
    network = MultiLayerNet(400, [300], 10, weight_init_std=spec, seed=0)
    assert np.std(network.params["W1"]) == pytest.approx(std, rel=0.02)
    assert not network.params["b1"].any()


def test_weight_decay_is_in_the_loss_and_in_the_gradient() -> None:
    with xpdl.use("numpy", dtype="float64"):
        decayed, plain = (MultiLayerNet(6, [5], 3, weight_decay_lambda=decay, seed=0) for decay in (0.3, 0))
    x, t = np.random.default_rng(0).standard_normal((4, 6)), np.array([0, 2, 1, 0])
    squares = sum(float(np.sum(decayed.params[name] ** 2)) for name in ("W1", "W2"))
    assert float(decayed.loss(x, t)) == pytest.approx(float(plain.loss(x, t)) + 0.5 * 0.3 * squares, rel=1e-12)
    numerical = decayed.numerical_gradient(x, t)
    for name, gradient in decayed.gradient(x, t).items():
        np.testing.assert_allclose(gradient, numerical[name], atol=1e-6)


@pytest.mark.parametrize("activation", ["relu", "sigmoid", "tanh", "ReLU"])
def test_predictions_are_those_of_the_formulas(activation: str) -> None:
    with xpdl.use("numpy", dtype="float64"):
        network = MultiLayerNet(6, [5, 4], 3, activation=activation, weight_init_std=0.5, seed=0)
    x = np.random.default_rng(0).standard_normal((4, 6))
    f, p = getattr(oracles, activation.lower()), network.params
    z = f(f(x @ p["W1"] + p["b1"]) @ p["W2"] + p["b2"])
    np.testing.assert_allclose(network.predict(x), z @ p["W3"] + p["b3"], rtol=1e-12)


@pytest.mark.parametrize("size", [9, 10, 11, 12])
def test_sizes_between_layers_follow_from_any_image(size: int) -> None:
    network = SimpleConvNet((2, size, size), {"filter_num": 3, "filter_size": 3}, 5, 4)
    assert network.predict(np.zeros((2, 2, size, size), np.float32)).shape == (2, 4)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: TwoLayerNet(0, 5, 3), ShapeError, "input_size must be an int of at least 1"),
        (lambda: TwoLayerNet(4, 5.5, 3), ShapeError, "hidden_size must be an int of at least 1, got 5.5"),
        (lambda: TwoLayerNet(4, 5, 3, "foo"), ValueError, "expected a standard deviation"),
        (lambda: MultiLayerNet(4, [5], 3, activation="foo"), ValueError, "activation must be one of relu"),
        (lambda: MultiLayerNet(4, [5], 3, weight_decay_lambda=-1), ValueError, "must be a finite number at least 0"),
        (lambda: SimpleConvNet((1, 4, 4)), ShapeError, "the filter covers 5"),
        (lambda: SimpleConvNet((28, 28)), ShapeError, "expected images"),
        (lambda: SimpleConvNet(conv_param={"filters": 3}), ValueError, "unknown filters; it takes filter_num"),
    ],
)
def test_wrong_arguments_are_named(make: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        make()
