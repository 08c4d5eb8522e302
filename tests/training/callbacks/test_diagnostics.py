"""Dead units, saturation and sizes of updates, as a callback and as a figure."""

import json
from typing import Any

import numpy as np
import pytest

import xpdl
from tests.harness import Backend
from xpdl import plots
from xpdl.layers import Affine, Convolution, Dropout, Pooling, Relu, Residual, Sigmoid, SoftmaxWithLoss, Tanh
from xpdl.models import Sequential
from xpdl.training import Diagnostics, Trainer

RNG = np.random.default_rng(0)
X = RNG.standard_normal((12, 1, 6, 6)).astype(np.float32)
T = np.arange(12) % 3


def net() -> Sequential:
    model = Sequential(
        Convolution(filters=4, size=3),
        Relu(),
        Pooling(2, 2),
        Residual(Convolution(filters=4, size=3, pad=1), Relu()),
        Affine(units=6),
        Sigmoid(),
        Dropout(0.5),
        Affine(units=5),
        Tanh(),
        Affine(units=3),
        loss=SoftmaxWithLoss,
        seed=0,
    )
    model.build((1, 6, 6))
    return model


def train(model: Any, layers: Any, epochs: int = 2, **options: Any) -> Trainer:
    options = {"optimizer": "SGD", "optimizer_param": {"lr": 0.1}, **options}
    trainer = Trainer(
        model, X, T, X, T, epochs=epochs, mini_batch_size=5, verbose=False, callbacks=[layers], seed=0, **options
    )
    trainer.train()
    return trainer


@pytest.mark.backends("values")
@pytest.mark.backends("precompiled")
def test_measures_what_is_planted(backend: Backend) -> None:
    with backend.use("float32"):
        model = net()
    # channel 2 can never be positive, channel 1 always is; sigmoids 0 and 1 sit at their ends, 2 to 5 in the middle
    b = np.asarray([0.0, 100.0, -100.0, 0.0], dtype=np.float32)
    model.params["Convolution1.b"] = backend.asarray(b)
    model.params["Affine1.W"] = backend.asarray(np.zeros((16, 6), dtype=np.float32))
    ends = np.asarray([-50.0, 50.0, 0.1, 0.1, -0.1, 0.0], dtype=np.float32)
    model.params["Affine1.b"] = backend.asarray(ends)
    model.params["Affine2.W"] = backend.asarray(np.zeros((6, 5), dtype=np.float32))
    # atanh 0.9 is 1.472
    model.params["Affine2.b"] = backend.asarray(np.asarray([1.48, -1.48, 1.46, -1.46, 0.0], dtype=np.float32))
    layers = Diagnostics(X)
    train(model, layers, epochs=1, optimizer_param={"lr": 0.0})
    assert layers.history["dead_relu"]["Relu1"] == [0.25]
    assert layers.history["saturation"] == {
        "Sigmoid1": [pytest.approx(2 / 6, rel=1e-6)],
        "Tanh1": [pytest.approx(2 / 5, rel=1e-6)],
    }
    assert list(layers.history["dead_relu"]) == ["Relu1", "Residual1.body.Relu1"]
    assert layers.history["update_ratio"] == {name: [0.0] for name in model.params}


@pytest.mark.backends("values")
def test_a_unit_of_flat_layers_is_dead_when_no_row_wakes_it(backend: Backend) -> None:
    with backend.use("float32"):
        W = xpdl.asarray(np.eye(4))
        model = Sequential(Affine(W), Relu(), Affine(units=3), Tanh(), loss=SoftmaxWithLoss)
        model.build((4,))
    x = np.asarray([[1, -1, 0, -1], [-1, 1, -2, -1]], dtype=np.float32)
    layers = Diagnostics(x)
    trainer = Trainer(
        model, x, T[:2], x, T[:2], epochs=1, optimizer_param={"lr": 0.5}, verbose=False, callbacks=[layers]
    )
    trainer.train()
    assert layers.history["dead_relu"] == {"Relu1": [0.5]}
    assert 0.0 <= layers.history["saturation"]["Tanh1"][0] <= 1.0
    assert all(ratio > 0.0 for (ratio,) in layers.history["update_ratio"].values())


def test_update_ratio_is_that_of_the_last_step() -> None:
    model, steps = net(), []

    class Watch:
        def on_batch_begin(self, trainer: Any, step: int) -> None:
            steps.append({name: np.array(p, dtype=np.float64) for name, p in trainer.network.params.items()})

    layers = Diagnostics(X)
    options: Any = {"optimizer": "SGD", "optimizer_param": {"lr": 0.1}}
    trainer = Trainer(
        model, X, T, X, T, epochs=1, mini_batch_size=5, verbose=False, callbacks=[Watch(), layers], seed=0, **options
    )
    trainer.train()
    assert len(steps) == 3
    for name, (value,) in layers.history["update_ratio"].items():
        old, new = steps[-1][name], np.asarray(model.params[name], dtype=np.float64)
        assert value == pytest.approx(np.linalg.norm(new - old) / np.linalg.norm(old), rel=1e-3), name
        assert value > 0.0


def test_training_is_the_same_with_it() -> None:
    nothing = type("Nothing", (), {"on_epoch_end": lambda self, trainer, epoch: None})()
    with_it, without = train(net(), Diagnostics(X)), train(net(), nothing)
    assert with_it.train_loss_list == without.train_loss_list


def test_float16_has_no_overflow() -> None:
    with xpdl.use("numpy", dtype="float16"):
        model = Sequential(Affine(units=3), loss=SoftmaxWithLoss, seed=0)
        model.build((36,))
    model.params["Affine1.b"] = np.full(3, 6e4, dtype=np.float16)
    x = X.reshape(12, 36).astype(np.float16)
    layers = Diagnostics(x)
    Trainer(model, x, T, x, T, epochs=1, optimizer_param={"lr": 0.1}, verbose=False, callbacks=[layers], seed=0).train()
    assert layers.history["update_ratio"]["Affine1.b"] == [0.0]
    assert 0.0 < layers.history["update_ratio"]["Affine1.W"][0] < 1.0


def test_state_goes_through_json_and_the_history_goes_on() -> None:
    layers = Diagnostics(X)
    train(net(), layers, epochs=2)
    again = Diagnostics(X)
    again.load_state_dict(json.loads(json.dumps(layers.state_dict())))
    assert again.history == layers.history
    train(net(), again, epochs=1)
    assert {len(values) for found in again.history.values() for values in found.values()} == {3}
    assert {len(values) for found in layers.history.values() for values in found.values()} == {2}


@pytest.mark.needs("matplotlib")
def test_from_training_to_the_figure() -> None:
    layers = Diagnostics(X)
    train(net(), layers, epochs=3)
    figure = plots.diagnostics(**layers.history)
    panels = dict(zip(("dead_relu", "saturation", "update_ratio"), figure.axes, strict=True))
    for what, axes in panels.items():
        lines = {line.get_label(): list(line.get_ydata()) for line in axes.lines if len(line.get_xdata()) == 3}
        # of more than six parameters, the weights alone are drawn
        assert lines == {name: values for name, values in layers.history[what].items() if not name.endswith(".b")}
    assert set(panels["update_ratio"].get_legend_handles_labels()[1]) < set(layers.history["update_ratio"])


def test_a_network_without_layers_is_refused() -> None:
    class Plain:
        def __init__(self) -> None:
            self.params = {"W": np.zeros((36, 3), dtype=np.float32)}

        def gradient(self, x: Any, t: Any) -> Any:
            return {"W": np.zeros((36, 3), dtype=np.float32)}

        def loss(self, x: Any, t: Any) -> Any:
            return np.float32(0.0)

    with pytest.raises(TypeError, match="Diagnostics: expected a network with a dict of layers"):
        train(Plain(), Diagnostics(X))


class Given(Sigmoid):
    """Its output is what the test wants."""

    def forward(self, x: Any) -> Any:
        return x


def test_saturated_is_what_lies_beyond_the_margin() -> None:
    x = np.asarray([[0.25, 0.75], [0.2, 0.5], [0.8, 0.9]], dtype=np.float32)
    layers = Diagnostics(x, margin=0.25)
    model = Sequential(Given(), Affine(units=3), loss=SoftmaxWithLoss, seed=0)
    Trainer(model, x, T[:3], x, T[:3], epochs=1, verbose=False, callbacks=[layers], seed=0).train()
    assert layers.history["saturation"] == {"Given1": [0.5]}


def test_float64_is_measured_in_float64() -> None:
    with xpdl.use("numpy", dtype="float64"):
        model = Sequential(Affine(units=3), loss=SoftmaxWithLoss, seed=0)
        model.build((36,))
    x, layers = X.reshape(12, 36), Diagnostics(X.reshape(12, 36))
    Trainer(
        model, x, T, x, T, epochs=1, optimizer_param={"lr": 1e-12}, verbose=False, callbacks=[layers], seed=0
    ).train()
    assert 0.0 < layers.history["update_ratio"]["Affine1.W"][0] < 1e-10


def test_what_was_nothing_before_changes_by_infinitely_much() -> None:
    x, layers = X.reshape(12, 36), Diagnostics(X.reshape(12, 36))
    model = Sequential(Affine(units=3), loss=SoftmaxWithLoss, seed=0)
    model.build((36,))
    # the bias begins with zeros
    Trainer(model, x, T, x, T, epochs=1, optimizer_param={"lr": 0.1}, verbose=False, callbacks=[layers], seed=0).train()
    assert layers.history["update_ratio"]["Affine1.b"] == [np.inf]


def test_loading_replaces_what_was_measured() -> None:
    layers = Diagnostics(X)
    layers.history["dead_relu"]["Relu9"] = [0.5]
    layers.load_state_dict({"saturation/Block.a/b": [0.25]})
    assert layers.history == {"dead_relu": {}, "saturation": {"Block.a/b": [0.25]}, "update_ratio": {}}


def test_rows_to_look_at_are_floats_and_at_least_one() -> None:
    with pytest.raises(xpdl.DTypeError, match="Diagnostics: expected a floating array, got int64"):
        Diagnostics(np.ones((3, 4), dtype=np.int64))
    for wrong in (X[:0], X[0, 0, 0, 0]):
        with pytest.raises(
            xpdl.ShapeError, match=r"Diagnostics: expected x \(N, \.\.\.\) of at least one row, got shape"
        ):
            Diagnostics(np.asarray(wrong))
    assert Diagnostics(X[:1]).margin == 0.05
    for margin in (0.0, 0.5):
        with pytest.raises(ValueError, match=r"Diagnostics: margin must be a finite number in \(0, 0.5\)"):
            Diagnostics(X, margin=margin)
