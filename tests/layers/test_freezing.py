"""Frozen layers: no gradient, no update, no backward pass before them, and statistics that stay."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import xpdl
from tests.layers.op_results import count_of, record
from xpdl import (
    SGD,
    Adam,
    Affine,
    BatchNormalization,
    Concatenate,
    Convolution,
    Dropout,
    Graph,
    Input,
    MultiLayerNet,
    Relu,
    Residual,
    Sequential,
    SoftmaxWithLoss,
    Trainer,
    check_gradients,
)

_rng = np.random.default_rng(12)
X = _rng.standard_normal((20, 4)).astype("float32")
T = _rng.integers(0, 3, 20)


class Watcher(xpdl.Layer):
    """Passes its input on and counts its backward passes."""

    backwards = 0

    def forward(self, x: Any) -> Any:
        return x

    def backward(self, dout: Any) -> Any:
        self.backwards += 1
        return dout


def row(*middle: Any) -> Sequential:
    return Sequential(Affine(units=6), *middle, Affine(units=3), loss=SoftmaxWithLoss, seed=0)


def graph(*middle: Any) -> Graph:
    x = Input((4,))
    node = Affine(units=6)(x)
    for layer in middle:
        node = layer(node)
    return Graph(x, Affine(units=3)(Concatenate()(node, x)), loss=SoftmaxWithLoss, seed=0)


@pytest.mark.parametrize("make", [row, graph])
@pytest.mark.parametrize("optimizer", [SGD(lr=0.5), Adam(lr=0.1, clip_norm=1.0)], ids=["SGD", "Adam"])
def test_what_is_frozen_stays_and_costs_no_backward_pass(make: Any, optimizer: Any) -> None:
    watcher = Watcher()
    net = make(watcher, Relu())
    net.build((4,))
    net.layers["Affine1"].trainable = False
    before = net.state_dict()
    optimizer = type(optimizer)(lr=optimizer.lr, clip_norm=optimizer.clip_norm)
    grads = net.gradient(X, T)
    assert list(grads) == ["Affine2.W", "Affine2.b"]
    assert watcher.backwards == 0
    optimizer.update(net.params, grads)
    after = net.state_dict()
    assert list(after) == list(before) == list(net.params)
    for name, value in after.items():
        assert (value == before[name]).all() == name.startswith("Affine1"), name
    net.layers["Affine1"].trainable = True
    assert list(net.gradient(X, T)) == list(net.params)
    assert watcher.backwards == 1


@pytest.mark.parametrize("make", [row, graph])
def test_the_other_gradients_are_those_without_freezing(make: Any) -> None:
    frozen, plain = make(Relu(), Affine(units=5), Relu()), make(Relu(), Affine(units=5), Relu())
    frozen.build((4,))
    frozen.layers["Affine2"].trainable = False
    got, want = frozen.gradient(X, T), plain.gradient(X, T)
    assert got.keys() == {name for name in want if not name.startswith("Affine2")}
    for name, value in got.items():
        np.testing.assert_array_equal(value, want[name])


def test_gradients_of_an_earlier_step_are_not_those_of_a_frozen_layer() -> None:
    net = row(Relu())
    net.gradient(X, T)
    net.layers["Affine1"].trainable = False
    assert "Affine1.W" not in net.grads
    assert "Affine1.W" in net.params
    assert list(net.params.trained) == ["Affine2.W", "Affine2.b"]


def test_a_block_is_frozen_with_all_that_is_inside() -> None:
    inner = Sequential(Residual(Affine(units=6), Relu()), Affine(units=6))
    net = row(inner)
    inner.trainable = False
    assert [name for name in net.gradient(X, T) if "Sequential" in name] == []
    assert not inner.layers["Residual1"].trainable
    inner.layers["Affine1"].trainable = True
    assert inner.trainable
    assert [name for name in net.gradient(X, T) if "Sequential" in name] == [
        "Sequential1.Affine1.W",
        "Sequential1.Affine1.b",
    ]


@pytest.mark.parametrize("images", [False, True])
def test_frozen_batch_normalization_keeps_its_statistics(images: bool) -> None:
    """It normalises by them in training, also where a convolution is computed with it."""
    layers = [Convolution(filters=3, size=2), BatchNormalization(), Relu()] if images else [BatchNormalization()]
    x = _rng.standard_normal((5, 2, 3, 3)) if images else _rng.standard_normal((5, 3))
    net = Sequential(*layers, seed=0)
    net.forward(x, True)
    norm = net.layers["BatchNormalization1"]
    mean, var = norm.running_mean, norm.running_var
    assert np.abs(net.forward(x, True) - net.forward(x, False)).max() > 0.1
    mean, var = norm.running_mean, norm.running_var
    norm.trainable = False
    want = net.forward(x, False)
    np.testing.assert_allclose(net.forward(x, True), want)
    np.testing.assert_array_equal((norm.running_mean, norm.running_var), (mean, var))
    assert check_gradients(net, x).passed


def test_a_frozen_shared_layer_gets_no_gradient() -> None:
    left, right, half = Input((4,)), Input((4,)), Affine(units=3)
    net = Graph([left, right], Affine(units=3)(Concatenate()(half(left), half(right))), loss=SoftmaxWithLoss, seed=0)
    half.trainable = False
    assert list(net.gradient((X, X), T)) == ["Affine2.W", "Affine2.b"]
    assert "Affine1.W" not in check_gradients(net, (X, X), T).errors


class Own:
    """An optimizer that wants a gradient for every parameter."""

    def update(self, params: Any, grads: Any) -> None:
        for name in params:
            params[name] = params[name] - 0.1 * grads[name]


@pytest.mark.parametrize(
    ("optimizer", "options"),
    [("adam", {}), ("adam", {"precision": "float16"}), ("adam", {"accumulate_grad_batches": 2}), (Own(), {})],
    ids=["adam", "half precision", "accumulated", "own"],
)
def test_a_trainer_trains_the_rest(optimizer: Any, options: dict[str, Any]) -> None:
    net = row(Relu(), Dropout(0.2))
    net.build((4,))
    net.layers["Affine1"].trainable = False
    before = net.state_dict()
    Trainer(net, X, T, epochs=2, optimizer=optimizer, verbose=False, **options).train()
    after = net.state_dict()
    assert {name for name in after if (after[name] == before[name]).all()} == {"Affine1.W", "Affine1.b"}


def test_weight_decay_of_a_book_net_passes_over_frozen_weights() -> None:
    net = MultiLayerNet(4, [5], 3, weight_decay_lambda=0.1, seed=0)
    net.layers["Affine1"].trainable = False
    assert list(net.gradient(X, T)) == ["W2", "b2"]


def test_trainable_is_a_bool() -> None:
    with pytest.raises(TypeError, match="trainable must be True or False, got 0"):
        Affine(units=2).trainable = 0


def test_a_run_is_resumed_with_the_same_layers_frozen(tmp_path: Path) -> None:
    def run(*frozen: str, epochs: int) -> None:
        net = row(Relu())
        net.build((4,))
        for name in frozen:
            net.layers[name].trainable = False
        Trainer(net, X, T, epochs=epochs, verbose=False, seed=0, checkpoint=tmp_path / "run").train()

    run("Affine1", epochs=1)
    run("Affine1", epochs=2)
    with pytest.raises(ValueError, match=r"frozen layers \['Affine1'\] there, \[\] here"):
        run(epochs=3)


#: a layer that stands frozen between trained ones -> the shape of a row
BETWEEN: dict[str, tuple[Any, tuple[int, ...]]] = {
    "affine": (lambda: Affine(units=5), (4,)),
    "affine of positions": (lambda: Affine(units=5, axis=-1), (3, 4)),
    "convolution": (lambda: xpdl.Convolution(filters=3, size=3, pad=1), (2, 5, 5)),
    "transposed convolution": (lambda: xpdl.ConvolutionTranspose(filters=3, size=3), (2, 5, 5)),
    "attention": (lambda: xpdl.MultiHeadAttention(2), (3, 4)),
    "rnn": (lambda: xpdl.RNN(5), (3, 4)),
    "lstm": (lambda: xpdl.LSTM(5), (9, 4)),
    "gru": (lambda: xpdl.GRU(5, return_sequences=False), (3, 4)),
    "bidirectional": (lambda: xpdl.Bidirectional(xpdl.LSTM(5)), (3, 4)),
    "positions": (lambda: xpdl.LearnedPositions(7), (3, 4)),
    "layer normalization": (lambda: xpdl.LayerNormalization(), (3, 4)),
    "rms normalization": (lambda: xpdl.RMSNormalization(), (3, 4)),
    "group normalization": (lambda: xpdl.GroupNormalization(2), (6, 3, 5)),
    "batch normalization": (lambda: BatchNormalization(), (6, 3, 5)),
}


def between(kind: str, frozen: bool) -> Any:
    """Layers that are trained, the one in question, and others that are."""
    make, shape = BETWEEN[kind]
    net = Sequential(
        ("map", Affine(units=math.prod(shape))),
        ("below", xpdl.Reshape(shape)),
        ("relu", Relu()),
        ("between", make()),
        ("above", Relu()),
        ("flat", xpdl.Flatten()),
        ("last", Affine(units=3)),
        loss=SoftmaxWithLoss,
        seed=0,
    )
    net.build((4,))
    net.layers["between"].trainable = not frozen
    return net


@pytest.mark.parametrize("kind", BETWEEN)
def test_a_frozen_layer_between_trained_ones_computes_no_weight_gradient(kind: str, monkeypatch: Any) -> None:
    shapes = record(monkeypatch)

    def results(frozen: bool) -> tuple[int, int]:
        """Of a step, those that have the shape of a parameter of the layer, and the number of these."""
        net = between(kind, frozen)
        shapes.clear()
        net.gradient(X, T)
        params = [value for name, value in net.params.items() if name.startswith("between")]
        return count_of(shapes, params), len(params)

    (computed, count), (left, _) = results(frozen=False), results(frozen=True)
    assert left == computed - count - (4 if kind == "batch normalization" else 0)  # nor the statistics of the batch


@pytest.mark.parametrize("kind", [kind for kind in BETWEEN if kind != "batch normalization"])
def test_gradients_below_a_frozen_layer_are_those_without_freezing(kind: str) -> None:
    """Bit for bit; batch normalization computes something else when it is frozen."""
    got, want = between(kind, True).gradient(X, T), between(kind, False).gradient(X, T)
    assert got.keys() == {name for name in want if not name.startswith("between")}
    for name, value in got.items():
        np.testing.assert_array_equal(value, want[name])
