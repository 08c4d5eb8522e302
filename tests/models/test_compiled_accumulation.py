"""Compiled steps on JAX that accumulate gradients, scale the loss, or go on with recurrent states: as eager ones."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import pytest

import xpdl
from tests.harness import nonempty
from xpdl import (
    SGD,
    Adam,
    AdamW,
    Affine,
    BatchNormalization,
    CosineLR,
    Dropout,
    MixedPrecision,
    Relu,
    RnnLm,
    Sequential,
    SoftmaxWithLoss,
    Trainer,
)
from xpdl.data import ContiguousWindows

pytestmark = pytest.mark.needs("jax")
RNG = np.random.default_rng(0)
X, T, WEIGHTS = RNG.normal(size=(45, 4)), RNG.integers(0, 3, 45), RNG.random(45)
TEXT = RNG.integers(0, 7, 121)


def net(loss: Any = SoftmaxWithLoss) -> Sequential:
    layers = Affine(units=5, use_bias=False), BatchNormalization(), Relu(), Dropout(0.3), Affine(units=3)
    return Sequential(*layers, loss=loss, seed=0)


def rows_trainer(dtype: str = "float64", loss: Any = SoftmaxWithLoss, **options: Any) -> Trainer:
    """Seven full batches an epoch, and one of three rows."""
    with xpdl.use("jax", dtype=dtype):
        network = net(loss)
        network.build((4,))
    return Trainer(network, X, T, epochs=3, mini_batch_size=6, seed=0, verbose=False, **options)


def text_trainer(dtype: str = "float64", **options: Any) -> Trainer:
    """Four windows an epoch, of which each goes on with the states of the one before."""
    with xpdl.use("jax", dtype=dtype):
        network = RnnLm(7, 4, 5, depth=1, dropout_ratio=0.2, seed=0)
        network.build((3,))
    return Trainer(network, ContiguousWindows(TEXT, 3, 10), epochs=2, seed=0, verbose=False, **options)


#: make -> options of the trainer, and the steps that are compiled
CASES: dict[str, tuple[Any, dict[str, Any], int]] = {
    "every second batch": (rows_trainer, {"accumulate_grad_batches": 2}, 2),
    "every third batch, clipped": (
        rows_trainer,
        {"accumulate_grad_batches": 3, "optimizer": lambda: SGD(0.5, clip_norm=0.05), "callbacks": [CosineLR()]},
        2,
    ),
    "more than an epoch has": (rows_trainer, {"accumulate_grad_batches": 100}, 1),
    "groups and decay": (
        rows_trainer,
        {
            "accumulate_grad_batches": 2,
            "optimizer": lambda: AdamW(0.01, weight_decay=0.1, decay="weights", lr_groups={"Affine2.*": 0.1}),
            "callbacks": [CosineLR()],
        },
        2,
    ),
    "weights of rows and classes": (
        lambda **options: rows_trainer(loss=SoftmaxWithLoss(class_weights=[1.0, 2.0, 0.5]), **options),
        {"accumulate_grad_batches": 3, "sample_weight": WEIGHTS},
        2,
    ),
    "full batches alone": (rows_trainer, {"accumulate_grad_batches": 2, "drop_last": True}, 2),
    "truncated backpropagation": (text_trainer, {}, 1),
    "truncated backpropagation, every second window": (text_trainer, {"accumulate_grad_batches": 2}, 2),
    "float32 in float64": (
        rows_trainer,
        {"accumulate_grad_batches": 2, "precision": lambda: MixedPrecision("float32")},
        2,
    ),
    "float32 in float64, scaled": (
        rows_trainer,
        {
            "accumulate_grad_batches": 2,
            "precision": lambda: MixedPrecision("float32", scale=2.0**10, growth_interval=2),
            "optimizer": lambda: AdamW(0.01, weight_decay=0.1, decay="weights", lr_groups={"Affine2.*": 0.1}),
            "callbacks": [CosineLR()],
        },
        2,
    ),
    "states in float32": (
        text_trainer,
        {"accumulate_grad_batches": 2, "precision": lambda: MixedPrecision("float32", scale=8.0)},
        2,
    ),
}


def trained(make: Any, options: dict[str, Any], compiles: bool) -> Any:
    own = {name: value() if name in ("optimizer", "precision") else value for name, value in options.items()}
    trainer = make(compile=compiles, **{"optimizer": Adam(0.01), **own})
    trainer.train()
    return trainer


#: those that CI runs
OFTEN = (
    "every third batch, clipped",
    "weights of rows and classes",
    "truncated backpropagation, every second window",
    "float32 in float64, scaled",
)


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    "case", [case if case in OFTEN else pytest.param(case, marks=pytest.mark.slow) for case in CASES]
)
def test_trains_as_eagerly(case: str) -> None:
    make, options, compilations = CASES[case]
    ours, theirs = (trained(make, options, compiles) for compiles in (True, False))
    rtol = 1e-4 if "precision" in options else 1e-8
    assert (ours.step.problem, ours.step.compilations) == (None, compilations)
    assert sum(step.compiled.traces for step in ours.step._recorded.values()) == compilations
    assert ours.optimizer.iter == theirs.optimizer.iter > 0
    np.testing.assert_allclose(ours.history.train_loss_list, theirs.history.train_loss_list, rtol=rtol)
    np.testing.assert_allclose(ours.history.epoch_loss_list, theirs.history.epoch_loss_list, rtol=rtol)
    state = theirs.network.state_dict()
    for name, array in nonempty(ours.network.state_dict().items()):
        np.testing.assert_allclose(array, state[name], rtol=rtol, atol=rtol, err_msg=name)


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    ("make", "dtype", "count"),
    [
        (rows_trainer, "float16", 1),
        pytest.param(rows_trainer, "float16", 2, marks=pytest.mark.slow),
        pytest.param(rows_trainer, "bfloat16", 2, marks=pytest.mark.slow),
        (text_trainer, "float16", 2),
    ],
)
def test_half_precision(make: Any, dtype: str, count: int) -> None:
    """The scale begins so high that updates are skipped; it and the skipped updates are those of eager steps."""
    scaled: dict[str, Any] = {"scale": 2.0**22, "growth_interval": 3} if dtype == "float16" else {}

    def half() -> dict[str, Any]:
        return {"precision": lambda: MixedPrecision(dtype, **scaled), "accumulate_grad_batches": count}

    ours, theirs = (trained(lambda **given: make("float32", **given), half(), compiles) for compiles in (True, False))
    assert (ours.step.problem, ours.step.compilations) == (None, count)
    assert ours.precision.loss_scale.state_dict() == theirs.precision.loss_scale.state_dict()
    assert (ours.precision.skipped_steps > 1) == (dtype == "float16")
    assert ours.optimizer.iter == theirs.optimizer.iter > 0
    np.testing.assert_allclose(ours.history.train_loss_list, theirs.history.train_loss_list, rtol=0.02)


@pytest.mark.exhaustive
def test_updates_only_with_the_last_of_the_batches() -> None:
    """Two batches of six rows make the update of one of twelve."""
    with xpdl.use("jax", dtype="float64"):
        x, t = xpdl.asarray(X[:12]), xpdl.asarray(T[:12])
        networks = [Sequential(Affine(units=3), loss=SoftmaxWithLoss, seed=0) for _ in range(2)]
        for network in networks:
            network.build((4,))
    optimizers = SGD(0.5), SGD(0.5)
    step = networks[0].compiled_step(optimizers[0], accumulate_grad_batches=2)
    for _ in range(3):
        before = np.asarray(networks[0].params["Affine1.W"])
        step(x[:6], t[:6])
        np.testing.assert_array_equal(networks[0].params["Affine1.W"], before)
        step(x[6:], t[6:])
        optimizers[1].update(networks[1].params, networks[1].gradient(x, t))
        np.testing.assert_allclose(networks[0].params["Affine1.W"], networks[1].params["Affine1.W"], rtol=1e-12)
    assert (step.compilations, optimizers[0].iter) == (2, 3)
    step(x[:6], t[:6])
    step.finish()
    step.finish()
    optimizers[1].update(networks[1].params, networks[1].gradient(x[:6], t[:6]))
    np.testing.assert_allclose(networks[0].params["Affine1.W"], networks[1].params["Affine1.W"], rtol=1e-12)
    assert optimizers[0].iter == 4


@pytest.mark.exhaustive
def test_no_parameter_is_copied_from_step_to_step() -> None:
    """Steps that accumulate and those that update give each other their arrays, whose memory they use again."""
    with xpdl.use("jax"):
        x, t = xpdl.asarray(X[:6]), xpdl.asarray(T[:6])
        network = Sequential(Affine(units=3), loss=SoftmaxWithLoss, seed=0)
        network.build((4,))
    step = network.compiled_step(Adam(), accumulate_grad_batches=2)
    step(x, t)
    kept = []
    for _ in range(4):
        kept += [
            *network.params.values(),
            *step.passes.accumulator.sums.values(),
            *cast(Adam, step.passes.optimizer).m.values(),
        ]
        step(x, t)
    assert len(kept) == 24 and all(array.is_deleted() for array in kept)


@pytest.mark.exhaustive
def test_states_go_on_within_an_epoch_and_begin_anew_with_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first batch of each of two epochs, which has no states before it, is eager."""
    ours: Any = text_trainer(compile=True)
    made: list[bool] = []
    replay = ours.step.replay

    def noted(*batch: Any, **last: Any) -> Any:
        made.append((result := replay(*batch, **last)) is not None)
        return result

    monkeypatch.setattr(ours.step, "replay", noted)
    ours.train()
    assert made == [False, True, True, True] * 2
    assert ours.step.problem is None


@pytest.mark.exhaustive
def test_a_shape_that_comes_again_is_not_compiled_again() -> None:
    with xpdl.use("jax"):
        network = Sequential(xpdl.Embedding(5, 3), xpdl.LSTM(3, return_sequences=False), Affine(units=2))
        network.last_layer = SoftmaxWithLoss()
        ids = [xpdl.asarray(np.zeros((2, length), "int32")) for length in (3, 4)]
        t = xpdl.asarray([0, 1])
        network.build((3,))
    step = network.compiled_step(SGD(0.1))
    for number in range(6):
        step(ids[number % 2], t)
    assert step.compilations == 2
