"""``xpdl.use(..., dtype="bfloat16")``: results in the dtype of what came, as good as their rounding."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import xpdl
from tests.harness import Backend
from tests.optimizers.roster import Rule, each_rule
from xpdl import (
    SGD,
    Affine,
    AveragePooling,
    BatchNormalization,
    Convolution,
    Dropout,
    GlobalAveragePooling,
    MultiLayerNetExtend,
    Pooling,
    Relu,
    Residual,
    Sequential,
    Sigmoid,
    SimpleConvNet,
    SoftmaxWithLoss,
    Tanh,
    Trainer,
    augment,
    functional,
)
from xpdl.backends.namespaces import dtype_name
from xpdl.backends.random import Stream

pytestmark = pytest.mark.backends("torch", "cupy")
RNG = np.random.default_rng(0)
SCORES = (RNG.integers(-16, 17, (3, 4)) + 0.5) / 8
SHARES = np.exp2(RNG.integers(-3, 1, (3, 4)).astype("float64"))
IMAGES = RNG.integers(1, 17, (6, 2, 9, 8)) / 16
LABELS = np.array([0, 3, 1])
OF_ONE = ("relu", "relu_grad", "sigmoid", "sigmoid_grad", "tanh", "softmax", "log_softmax", "identity_function")
OF_TWO = ("sum_squared_error", "mean_squared_error", "cross_entropy_error", "softmax_cross_entropy")
TRANSFORMS = {name: getattr(augment, name)() for name in augment.__all__ if name not in ("Compose", "Transform")}


def check(backend: Backend, found: Any, want: Any, rtol: float, *dtypes: str) -> None:
    assert dtype_name(found.dtype) in dtypes
    assert xpdl.backends.namespaces.device(found) == backend.device
    if backend.spec.values:
        values = backend.to_numpy(found)
        np.testing.assert_allclose(values, want, rtol=rtol, atol=rtol * float(np.abs(want).max()))


@pytest.mark.parametrize("name", OF_ONE)
def test_functions_of_one_array(backend: Backend, name: str) -> None:
    found = backend.call(getattr(functional, name), backend.asarray(SCORES, "bfloat16"))
    check(backend, found, getattr(functional, name)(SCORES), 2**-7, "bfloat16")


@pytest.mark.parametrize("name", OF_TWO)
@pytest.mark.parametrize("labels", [False, True])
@pytest.mark.applies(lambda name, labels: not (labels and "squared" in name))
def test_errors(backend: Backend, name: str, labels: bool) -> None:
    t = LABELS if labels else np.eye(4)[LABELS]
    y = SCORES if name == "softmax_cross_entropy" else SHARES
    given = backend.asarray(t) if labels else backend.asarray(t, "bfloat16")
    found = backend.call(getattr(functional, name), backend.asarray(y, "bfloat16"), given)
    # losses of a batch are float32, which a sum of many rows needs
    check(backend, found, getattr(functional, name)(y, t), 2**-6, "bfloat16", "float32")


def test_other_functions(backend: Backend) -> None:
    x = backend.asarray(SCORES, "bfloat16")
    check(backend, xpdl.training.smooth_curve(x[0, :]), xpdl.training.smooth_curve(SCORES[0]), 2**-6, "bfloat16")
    step = backend.call(functional.step_function, x)
    assert dtype_name(step.dtype).startswith("int")


@pytest.mark.parametrize("transform", TRANSFORMS.values(), ids=TRANSFORMS)
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_augmentations(backend: Backend, transform: Any, dtype: str) -> None:
    found = backend.call(transform, backend.asarray(IMAGES, dtype), stream=Stream(0, "test"))
    check(backend, found, transform(IMAGES, Stream(0, "test")), 2**-7, dtype)


def network() -> Sequential:
    return Sequential(
        Convolution(filters=4, size=3, pad=1),
        BatchNormalization(),
        Relu(),
        Pooling(2, 2),
        Residual(Convolution(filters=4, size=3, pad=1, groups=2), Tanh()),
        AveragePooling(2, 2),
        Dropout(0.2),
        Convolution(filters=6, size=1),
        Sigmoid(),
        GlobalAveragePooling(),
        Affine(units=3),
        loss=SoftmaxWithLoss,
        seed=0,
    )


def trained(backend: Backend, net: Any, shape: tuple[int, ...] = (2, 8, 8), **options: Any) -> Trainer:
    rng = np.random.default_rng(1)
    x, t = rng.normal(size=(12, *shape)), rng.integers(0, 3, 12)
    with backend.use("bfloat16"):
        trainer = Trainer(
            net() if callable(net) else net,
            x,
            t,
            x,
            t,
            2,
            5,
            options.pop("optimizer", "sgd"),
            {},
            verbose=False,
            seed=0,
            **options,
        )
    trainer.train()
    assert all(map(np.isfinite, trainer.history.train_loss_list))
    for name, p in trainer.network.params.items():
        assert dtype_name(p.dtype) == "bfloat16", name
        assert xpdl.backends.namespaces.device(p) == backend.device, name
    return trainer


on_values = pytest.mark.backends("values")


@each_rule
@on_values
def test_every_optimizer_trains(backend: Backend, rule: Rule) -> None:
    options: Any = {"weight_decay": {"l1": 1e-3, "l2": 1e-3}, "max_norm": 0.5, "clip_norm": 0.5}
    if rule.id == "AdamW":
        options.pop("weight_decay")
    trainer = trained(backend, network, optimizer=rule.make(**options))
    before = trained(backend, network, optimizer=SGD(lr=0.0))
    assert any(
        (backend.to_numpy(p) != backend.to_numpy(before.network.params[name])).any()
        for name, p in trainer.network.params.items()
    )


@on_values
@pytest.mark.parametrize(
    "options", [{"accumulate_grad_batches": 2}, {"validation_split": 0.25}, {"callbacks": [xpdl.EMA()]}], ids=str
)
def test_trains_with(backend: Backend, options: Any) -> None:
    trained(backend, network, **options)


@on_values
def test_nets_of_the_book(backend: Backend) -> None:
    trained(backend, lambda: SimpleConvNet((1, 12, 12), hidden_size=8), (1, 12, 12))
    trained(
        backend,
        lambda: MultiLayerNetExtend(9, [7, 6], 3, weight_decay_lambda=0.1, use_dropout=True, use_batchnorm=True),
        (9,),
    )


@on_values
def test_files(backend: Backend, tmp_path: Any) -> None:
    net = trained(backend, network).network
    net.save_params(tmp_path / "net.safetensors")
    with backend.use("bfloat16"):
        other = network()
        other.build((2, 8, 8))
    other.load_params(tmp_path / "net.safetensors")
    x = np.random.default_rng(2).normal(size=(3, 2, 8, 8)).astype("float32")
    scores = other.predict(x)
    assert scores.dtype == np.float32
    np.testing.assert_array_equal(scores, net.predict(x))
    assert xpdl.check_gradients(net, backend.asarray(x, "bfloat16"), backend.asarray(LABELS[:3] % 3)).passed
