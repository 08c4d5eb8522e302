"""Training of graphs: several inputs, targets and losses, checkpoints, precision, captured steps, and what helps to look."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import xpdl
from tests.harness import Backend, nonempty
from xpdl import (
    SGD,
    Affine,
    Batches,
    BatchNormalization,
    Concatenate,
    Convolution,
    Diagnostics,
    Dropout,
    Graph,
    IdentityWithLoss,
    Input,
    MixedPrecision,
    Multiply,
    Pooling,
    Relu,
    Sequential,
    ShapeError,
    SoftmaxWithLoss,
    Trainer,
    compare_backends,
)
from xpdl.backends import asnumpy

_rng = np.random.default_rng(4)
LEFT, RIGHT = _rng.standard_normal((2, 37, 4))
KIND = (LEFT[:, 0] * RIGHT[:, 0] > 0).astype(int)
X = {"left": LEFT, "right": RIGHT}
T = {"kind": KIND, "sum": LEFT[:, :2] + RIGHT[:, :2]}


def two_ended(drop: bool = True, **options: Any) -> Graph:
    """Two inputs through shared weights, and two losses."""
    left, right = Input((4,), "left"), Input((4,), "right")
    half = Sequential(Affine(units=16), BatchNormalization(), Relu(), Affine(units=6))
    u, v = half(left, name="half"), half(right)
    both = Multiply()(u, Dropout(0.2)(v) if drop else v)
    outputs = {"kind": Affine(units=2)(both), "sum": Affine(units=2)(Concatenate()(u, v))}
    losses = {"kind": SoftmaxWithLoss, "sum": IdentityWithLoss}
    return Graph([left, right], outputs, loss=losses, loss_weights={"kind": 1.0, "sum": 0.25}, seed=1, **options)


def trained(x: Any = X, t: Any = T, epochs: int = 3, **options: Any) -> Trainer:
    given = {"optimizer": "Adam", "verbose": False, "seed": 0, **options}
    trainer = Trainer(two_ended(), x, t, x, t, epochs, 10, **given)
    trainer.train()
    return trainer


def test_tuples_dicts_and_batches_train_alike() -> None:
    by_name, by_place = trained(), trained(tuple(X.values()), tuple(T.values()))
    assert by_name.history.train_loss_list == by_place.history.train_loss_list
    assert len(by_name.history.test_loss_list) == 3
    assert by_name.history.test_loss_list[-1] < by_name.history.test_loss_list[0]
    batches = list(Batches(X, T, 10, seed=3))
    net = two_ended()
    Trainer(net, batches, epochs=2, verbose=False, optimizer=SGD(lr=0.1)).train()
    other = two_ended()
    other.build()
    for _ in range(2):
        for x, t in batches:
            SGD(lr=0.1).update(other.params, other.gradient(x, t))
    for name, value in net.params.items():
        np.testing.assert_array_equal(value, other.params[name])


def test_rows_are_split_weighted_and_measured() -> None:
    def right(y: Any, t: Any) -> float:
        assert set(y) == set(t) == {"kind", "sum"}
        np.testing.assert_allclose(y["kind"].sum(axis=1), 1)
        return float((y["kind"].argmax(axis=1) == t["kind"]).mean())

    run = Trainer(
        two_ended(),
        X,
        T,
        epochs=2,
        verbose=False,
        seed=0,
        validation_split=0.25,
        sample_weight=np.arange(37.0),
        metrics=[right],
    )
    run.train()
    assert len(run.history.val_loss_list) == 2
    assert run.history.metrics["val_right"] == [pytest.approx(value) for value in run.history.metrics["val_right"]]
    x, t = run.x_val, run.t_val
    want = right({"kind": xpdl.softmax(run.network.predict(x)["kind"]), "sum": 0}, t)
    assert run.history.metrics["val_right"][-1] == want


def test_a_loss_that_names_classes_needs_one_output() -> None:
    with pytest.raises(ValueError, match="the metric 'f1' is for a network of one output; pass a function"):
        Trainer(two_ended(), X, T, metrics=["f1"])
    with pytest.raises(TypeError, match="several outputs has no single accuracy"):
        two_ended().accuracy(X, T)


def test_targets_are_checked_by_their_losses() -> None:
    with pytest.raises(xpdl.LabelError, match=r"t_train\['kind'\]"):
        Trainer(two_ended(), X, {**T, "kind": KIND + 5})
    with pytest.raises(ShapeError, match=r"the input 'right' has rows of shape \(4,\), got \(3,\)"):
        Trainer(two_ended(), {**X, "right": RIGHT[:, :3]}, T)


def test_names_of_classes_are_those_of_one_output() -> None:
    x = Input((4,))
    net = Graph(x, Affine(units=2)(x), loss=SoftmaxWithLoss, seed=0)
    Trainer(net, LEFT, np.asarray(["no", "yes"])[KIND], epochs=1, verbose=False).train()
    assert net.class_names == ["no", "yes"]


def test_a_resumed_run_is_bitwise_identical(tmp_path: Path) -> None:
    whole = trained(epochs=4)
    trained(epochs=2, checkpoint=tmp_path / "run")
    resumed = trained(epochs=4, checkpoint=tmp_path / "run")
    assert resumed.history.train_loss_list == whole.history.train_loss_list
    for name, value in whole.network.state_dict().items():
        np.testing.assert_array_equal(resumed.network.state_dict()[name], value)


def test_a_graph_is_one_file(tmp_path: Path) -> None:
    net = trained().network
    net.save(tmp_path / "net")
    again = xpdl.load_model(tmp_path / "net")
    assert type(again) is Graph
    assert repr(again) == repr(net)
    assert list(again.state_dict()) == list(net.state_dict())
    assert again.last_layer.weights == {"kind": 1.0, "sum": 0.25}
    for name, value in net.predict(X).items():
        np.testing.assert_array_equal(again.predict(X)[name], value)
    net.save_params(tmp_path / "params")
    other = two_ended()
    other.load_params(tmp_path / "params")
    np.testing.assert_array_equal(other.predict(X)["sum"], net.predict(X)["sum"])


@pytest.mark.parametrize("mixed", [MixedPrecision("float16", scale=64.0), MixedPrecision("float32")])
def test_passes_in_another_precision(mixed: MixedPrecision) -> None:
    dtype = "float32" if mixed.dtype == "float16" else "float64"
    with xpdl.use("numpy", dtype=dtype):
        net, plain = two_ended(drop=False), two_ended(drop=False)
        net.build()
        plain.build()
    x, t = ({name: a if a.dtype.kind == "i" else a.astype(dtype) for name, a in d.items()} for d in (X, T))
    got, want = mixed.gradient(net, x, t), plain.gradient(x, t)
    for name, value in nonempty(want.items()):
        assert got[name].dtype == dtype
        np.testing.assert_allclose(got[name], value, rtol=0.02, atol=0.02 * abs(value).max() + 1e-3)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_the_first_layer_that_is_not_finite_is_named() -> None:
    net = two_ended()
    net.build()
    net.layers["half"].layers["Affine2"].params["b"] = np.full(6, np.inf, dtype="float32")
    with pytest.raises(FloatingPointError, match=r"the parameter b of layer half\.Affine2 is the first"):
        Trainer(net, X, T, epochs=1, verbose=False).train()
    net = two_ended()
    net.build()
    net.params["Affine1.W"] = np.full((6, 2), 3e38, dtype="float32")
    with pytest.raises(FloatingPointError, match="the output of layer Affine1 is the first to hold NaN or infinity"):
        Trainer(net, X, T, epochs=1, verbose=False).train()


def test_backends_are_compared_use_by_use(capsys: pytest.CaptureFixture[str]) -> None:
    rows = compare_backends(two_ended(), X, T, ["numpy", "numpy"])
    assert all(value == 0 for row in rows for value in row.differences.values())
    places = [(row.layer, row.what) for row in rows]
    assert ("half (use 2).Affine1", "dW") in places
    assert places.index(("half.Affine1", "output")) < places.index(("half (use 2).Affine1", "output"))
    assert places.index(("half (use 2).Affine1", "dW")) < places.index(("half.Affine1", "dW"))
    assert [what for layer, what in places if layer.startswith("SeveralLosses")] == ["output", "dx", "dx"]
    assert "half (use 2).Affine1" in capsys.readouterr().out


def test_diagnostics_go_through_a_graph() -> None:
    diagnostics = Diagnostics(X)
    trained(callbacks=[diagnostics])
    assert {len(values) for values in diagnostics.history["dead_relu"].values()} == {3}
    assert list(diagnostics.history["dead_relu"]) == ["half.Relu1", "half (use 2).Relu1"]


def image_net() -> Graph:
    x = Input((1, 8, 8))
    a = Relu()(BatchNormalization()(Convolution(filters=4, size=3)(x)))
    joined = Pooling(2, 2)(Concatenate()(a, Relu()(Convolution(filters=2, size=3)(x))))
    return Graph(x, Affine(units=5)(Dropout(0.25)(joined)), loss=SoftmaxWithLoss, seed=0)


def two_images() -> Graph:
    left, right, conv = Input((1, 8, 8), "left"), Input((1, 8, 8), "right"), Convolution(filters=4, size=3)
    joined = Concatenate()(Relu()(conv(left)), Relu()(conv(right)))
    return Graph([left, right], Affine(units=5)(joined), loss=SoftmaxWithLoss, seed=0)


@pytest.mark.backends("jax")
@pytest.mark.backends("eager")
@pytest.mark.exhaustive
def test_traced_steps_are_those_of_eager_ones(backend: Backend) -> None:
    images, t = _rng.normal(size=(70, 1, 8, 8)), _rng.integers(0, 5, 70)
    x = {"left": images, "right": images[::-1].copy()}
    runs = []
    for compiles in (True, False):
        with backend.use("float32"):
            run = Trainer(
                two_images(),
                x,
                t,
                epochs=2,
                mini_batch_size=16,
                optimizer="adam",
                compile=compiles,
                seed=0,
                verbose=False,
            )
        run.train()
        runs.append(run)
    assert runs[0].step.problem is None
    assert runs[0].step.compilations == 1
    np.testing.assert_allclose(runs[0].train_loss_list, runs[1].train_loss_list, rtol=1e-5)


@pytest.mark.backends("cupy")
@pytest.mark.parametrize("make", [image_net, two_images])
def test_captured_steps_are_bitwise_identical(backend: Backend, make: Any) -> None:
    rng = np.random.default_rng(0)
    images, t = rng.normal(size=(70, 1, 8, 8)), rng.integers(0, 5, 70)
    x = images if make is image_net else {"left": images, "right": images[::-1].copy()}
    runs = []
    for recording in (True, False):
        with backend.use("float32"):
            run = Trainer(
                make(), x, t, epochs=3, mini_batch_size=16, optimizer="adam", compile=True, seed=0, verbose=False
            )
        run.step.problem = None if recording else "none is wanted"
        run.train()
        runs.append(run)
    captured, uncaptured = runs
    assert captured.step.problem is None
    assert captured.step._recorded
    assert captured.history.train_loss_list == uncaptured.history.train_loss_list
    for name, value in captured.network.state_dict().items():
        np.testing.assert_array_equal(asnumpy(value), asnumpy(uncaptured.network.state_dict()[name]), err_msg=name)


@pytest.mark.backends("cupy")
def test_two_masks_of_one_layer_are_not_captured(backend: Backend) -> None:
    def make() -> Graph:
        x, drop = Input((4,)), Dropout(0.5)
        return Graph(x, Affine(units=2)(Concatenate()(drop(x), drop(x))), loss=SoftmaxWithLoss, seed=0)

    with backend.use("float32"):
        run = Trainer(
            make(), LEFT, KIND, epochs=4, mini_batch_size=10, optimizer="adam", compile=True, seed=0, verbose=False
        )
        with pytest.warns(UserWarning, match="counts 'step' up by 2 in a step, and a repetition draws one mask"):
            run.train()
        other = Trainer(make(), LEFT, KIND, epochs=4, mini_batch_size=10, optimizer="adam", seed=0, verbose=False)
        other.train()
    np.testing.assert_allclose(run.train_loss_list, other.train_loss_list, rtol=1e-5)
