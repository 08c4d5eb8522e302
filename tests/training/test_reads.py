"""Steps, augmentations and callbacks read no value on the host, where a GPU would be waited for."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.harness import Backend
from xpdl import (
    EMA,
    SGD,
    Adam,
    Affine,
    BatchNormalization,
    Convolution,
    CosineLR,
    Diagnostics,
    Dropout,
    EarlyStopping,
    MixedPrecision,
    OneCycleLR,
    Pooling,
    Relu,
    Residual,
    Sequential,
    SoftmaxWithLoss,
    Tanh,
    Trainer,
    augment,
)
from xpdl.backends.namespaces import on_device_of
from xpdl.training import WarmupLR
from xpdl.training.callbacks import diagnostics

RNG = np.random.default_rng(0)
X, T = RNG.normal(size=(15, 1, 8, 8)).astype("float32"), RNG.integers(0, 3, 15)
AUGMENTATIONS = {
    name.lower(): getattr(augment, name)() for name in augment.__all__ if name not in ("Compose", "Transform")
}


class Own(SGD):
    def step(self, p: Any, g: Any) -> Any:
        return (p - self.lr * g,)


LIMITS: dict[str, Any] = {"weight_decay": {"l1": 1e-3, "l2": 1e-3}, "max_norm": 0.5, "clip_norm": 0.1}
OPTIONS: dict[str, Any] = {
    "plain": dict,
    "adam with limits": lambda: {"optimizer": Adam(**LIMITS)},
    "own rule with limits": lambda: {"optimizer": Own(lr=0.1, **LIMITS)},
    "float16": lambda: {"precision": MixedPrecision("float16", growth_interval=1)},
    "bfloat16": lambda: {"precision": "bfloat16"},
    "accumulated": lambda: {"accumulate_grad_batches": 2},
    "average": lambda: {"callbacks": [EMA()]},
    "schedules": lambda: {"callbacks": [WarmupLR(1, CosineLR(2))]},
    "one cycle": lambda: {"callbacks": [OneCycleLR(2)]},
    "stopping": lambda: {"callbacks": [EarlyStopping()]},
    "class weights": lambda: {"loss": SoftmaxWithLoss(0.1, [1.0, 2.0, 3.0])},
    **{f"augmented by {name}": lambda t=t: {"augment": t} for name, t in AUGMENTATIONS.items()},
}


def trainer(backend: Backend, loss: Any = SoftmaxWithLoss, **options: Any) -> Trainer:
    net = Sequential(
        Convolution(filters=4, size=3, pad=1),
        BatchNormalization(),
        Relu(),
        Pooling(2, 2),
        Residual(Convolution(filters=4, size=3, pad=1, groups=2), Tanh()),
        Dropout(0.1),
        Affine(units=3),
        loss=loss,
        seed=0,
    )
    with backend.use("float32"):
        return Trainer(net, X, T, X, T, 2, 5, options.pop("optimizer", "sgd"), {}, verbose=False, seed=0, **options)


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.backends("cupy", "strict:nosync")
@pytest.mark.applies(lambda backend, options: options().get("precision", "float32") in backend.dtypes)
def test_steps(backend: Backend, options: Any) -> None:
    run, steps = trainer(backend, **options()), 0
    run.callbacks.call("on_train_begin", run)
    run.callbacks.call("on_epoch_begin", run, 1)
    with backend.rules(), on_device_of(run.network.params["Affine1.W"]):
        for batch in run.batches:
            run.callbacks.call("on_batch_begin", run, run.current_iter + 1)
            run.step(*batch, last=steps == 2)
            run.state.step += 1
            run.callbacks.call("on_batch_end", run, run.current_iter)
            steps += 1
    assert steps == run.current_iter == len(run.state.pending) == 3


@pytest.mark.backends("numpy", "strict:nosync", "cupy")
def test_diagnostics_read_once_for_updates_and_once_for_units(backend: Backend, monkeypatch: Any) -> None:
    reads = []
    read = diagnostics.asnumpy
    monkeypatch.setattr(diagnostics, "asnumpy", lambda a: reads.append(a.shape) or read(a))
    seen = Diagnostics(X[:4])
    trainer(backend, callbacks=[seen]).train()
    assert (
        len(seen.history["update_ratio"]) == 8
        and len(seen.history["dead_relu"]) == len(seen.history["saturation"]) == 1
    )
    assert reads == [(8, 2), (2,)] * 2
