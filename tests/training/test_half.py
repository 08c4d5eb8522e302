"""Networks whose parameters are in half precision: layers, statistics, averages and files keep what needs float32."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import xpdl
from tests.harness import Backend
from xpdl import functional, layers, models, optimizers
from xpdl.backends.namespaces import dtype_name
from xpdl.models.gradient_accumulator import Accumulated
from xpdl.ops import losses
from xpdl.training import EMA, Trainer

on_half = pytest.mark.backends("numpy", "torch", "jax")
plain = pytest.mark.backends("plain")

RNG = np.random.default_rng(0)
X, T = RNG.normal(size=(40, 6)), RNG.integers(0, 3, 40)


def half(backend: Backend, a: Any) -> Any:
    return backend.asarray(a, "float16")


def wide(backend: Backend, a: Any) -> Any:
    return backend.to_numpy(a).astype("float64")


def network() -> Any:
    stack = [layers.Affine(units=8), layers.BatchNormalization(), layers.Relu(), layers.Affine(units=3)]
    return models.Sequential(*stack, loss=layers.SoftmaxWithLoss, seed=0)


@on_half
@plain
def test_global_average_of_large_images(backend: Backend) -> None:
    x = half(backend, 300.0 + RNG.normal(size=(2, 3, 40, 40)))
    layer = layers.GlobalAveragePooling()
    y = layer.forward(x)
    assert dtype_name(y.dtype) == "float16"
    np.testing.assert_allclose(wide(backend, y), wide(backend, x).mean(axis=(2, 3)), rtol=2.0**-11)
    # each of 300 x 300 pixels has a share that float16 holds, though not their number
    many = half(backend, np.zeros((1, 1, 300, 300)))
    layer.forward(many)
    dx = layer.backward(half(backend, [[1000.0]]))
    np.testing.assert_allclose(wide(backend, dx), 1000.0 / 90000, rtol=2.0**-11)


@on_half
@plain
def test_statistics_stay_in_float32(backend: Backend) -> None:
    layer, x = layers.BatchNormalization(momentum=0.5), half(backend, 500.0 * RNG.normal(size=(200, 3)))
    layer.forward(x, True)
    exact = wide(backend, x)
    for key, want in (("running_mean", 0.5 * exact.mean(0)), ("running_var", 0.5 + 0.5 * exact.var(0))):
        assert dtype_name(layer.state[key].dtype) == "float32"
        np.testing.assert_allclose(backend.to_numpy(layer.state[key]), want, rtol=1e-5)
    y = layer.forward(x, False)
    assert dtype_name(y.dtype) == "float16"
    mean, var = 0.5 * exact.mean(0), 0.5 + 0.5 * exact.var(0)
    np.testing.assert_allclose(wide(backend, y), (exact - mean) / np.sqrt(var), rtol=1e-3, atol=1e-3)


@on_half
@plain
def test_given_statistics_in_float16_are_widened(backend: Backend) -> None:
    stats = [half(backend, [v]) for v in (1.0, 0.0, 0.0, 1.0)]
    layer = layers.BatchNormalization(*stats[:2], 0.9, *stats[2:])
    layer.forward(half(backend, [[1.0], [3.0]]), True)
    assert dtype_name(layer.running_mean.dtype) == "float32"
    np.testing.assert_allclose(backend.to_numpy(layer.running_mean), [0.2], rtol=1e-6)


@on_half
@plain
def test_a_network_in_float16_learns_and_its_loss_is_float32(backend: Backend) -> None:
    with backend.use("float16"):
        net, adam = network(), optimizers.Adam(0.01)
        x, t = half(backend, X), backend.asarray(T)
        first = float(net.loss(x, t))
        for _ in range(30):
            adam.update(net.params, net.gradient(x, t))
        assert {dtype_name(p.dtype) for p in net.params.values()} == {"float16"}
        assert dtype_name(net.last_loss.dtype) == "float32"
        assert float(net.last_loss) < 0.6 * first


@pytest.mark.needs("torch")
def test_moved_networks_keep_their_statistics() -> None:
    with xpdl.use("numpy", dtype="float16"):
        net = network()
        net.build((6,))
        net.gradient(X.astype("float16"), T)
    before = {name: a.copy() for name, a in net.buffers.items()}
    net.to("torch")
    assert {dtype_name(a.dtype) for a in net.params.values()} == {"float16"}
    for name, a in net.buffers.items():
        np.testing.assert_array_equal(a.numpy(), before[name])
    other = network()
    with xpdl.use("torch", dtype="float16"):
        other.build((6,))
    other.load_state_dict(net.state_dict())
    for name, a in other.buffers.items():
        np.testing.assert_array_equal(a.numpy(), before[name])


def test_a_run_in_float16_goes_on_with_the_same_bits(tmp_path: Any) -> None:
    def run(epochs: int, path: Any) -> Any:
        with xpdl.use("numpy", dtype="float16"):
            net, x = network(), X.astype("float16")
            callbacks = [EMA(0.9)]
            trainer = Trainer(
                net,
                x,
                T,
                x,
                T,
                epochs,
                8,
                "adam",
                {"lr": 0.01},
                verbose=False,
                seed=0,
                checkpoint=path,
                callbacks=callbacks,
            )
            trainer.train()
        return trainer

    whole = run(4, None)
    run(2, tmp_path / "run")
    resumed = run(4, tmp_path / "run")
    assert resumed.train_loss_list == whole.train_loss_list
    for name, p in whole.network.params.items():
        np.testing.assert_array_equal(resumed.network.params[name], p)
    for name, a in whole.network.buffers.items():
        assert a.dtype == np.float32
        np.testing.assert_array_equal(resumed.network.buffers[name], a)
    assert resumed.optimizer.m["Affine1.W"].dtype == np.float32


def test_an_average_follows_changes_that_float16_would_lose() -> None:
    class Net:
        def __init__(self) -> None:
            self.params = {"W": np.zeros(1, "float16")}

    class Run:
        network = Net()

    average, exact = EMA(0.999), 0.0
    average.on_train_begin(Run)
    Run.network.params["W"][:] = 1.0
    for step in range(9000, 9400):
        average.on_batch_end(Run, step)
        exact = exact * 0.999 + 0.001
    np.testing.assert_allclose(average.average["W"], exact, rtol=1e-4)
    average.on_test_begin(Run, 1)
    assert Run.network.params["W"].dtype == np.float16
    np.testing.assert_allclose(Run.network.params["W"], exact, rtol=1e-3)


def test_gradients_of_many_batches_are_added_in_float32() -> None:
    total = Accumulated(100)
    for _ in range(99):
        assert total.add({"W": np.full(2, 3e-4, "float16")}, 1000, False) is None
    mean = total.add({"W": np.full(2, 3e-4, "float16")}, 1000, False)
    np.testing.assert_allclose(mean["W"], float(np.float16(3e-4)), rtol=1e-5)


def test_weight_decay_of_a_large_network_does_not_overflow() -> None:
    with xpdl.use("numpy", dtype="float16"):
        net = models.MultiLayerNet(4, [5], 3, weight_decay_lambda=0.5, seed=0)
        for name in ("W1", "W2"):
            net.params[name] = np.full(net.params[name].shape, 200.0, "float16")
        x, t = np.zeros((2, 4), "float16"), np.array([0, 1])
        # the bias of 0 leaves log 3 of the loss
        assert float(net.loss(x, t)) == pytest.approx(0.25 * 35 * 40000 + np.log(3), rel=1e-5)
        grads = net.gradient(x, t)
    assert grads["W1"].dtype == np.float16
    np.testing.assert_array_equal(grads["W1"], 100.0)


@pytest.mark.parametrize(("value", "rtol"), [(0.75, 0.02), (300.0, 0.02), (-1000.0, 0.02)])
def test_numerical_gradients_of_values_whose_neighbours_are_far_away(value: float, rtol: float) -> None:
    x = np.array([value], "float16")
    g = functional.numerical_gradient(lambda x: float(x.astype("float64")[0]) ** 2, x)
    assert g.dtype == np.float16
    np.testing.assert_allclose(g.astype("float64"), 2 * value, rtol=rtol)
    slope = functional.numerical_diff(lambda x: x * x / 1000, x)
    assert slope.dtype == np.float16
    np.testing.assert_allclose(slope.astype("float64"), 2 * value / 1000, rtol=rtol)


def test_numerical_gradients_of_large_values_in_float32() -> None:
    x = np.array([1e6, -3e5], "float32")
    g = functional.numerical_gradient(lambda x: np.sum(x.astype("float64") ** 2), x)
    np.testing.assert_allclose(g, 2 * x, rtol=1e-3)


@pytest.mark.parametrize("label", [np.array([[0, 1], [1, 0]]), np.zeros((2, 2, 3))], ids=["labels", "rows"])
def test_scores_of_sequences_are_refused(label: Any) -> None:
    for op in (losses.softmax_with_loss, losses.softmax_with_loss_backward):
        with pytest.raises(xpdl.ShapeError, match=r"SoftmaxWithLoss: expected scores \(N, K\).*sequences.*\(2, 2, 3\)"):
            op(np.zeros((2, 2, 3)), label)
