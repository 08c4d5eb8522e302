"""Captured steps where there is a GPU; how they come about is tested on a stand-in, in tests/backends/cupy."""

import warnings

import numpy as np
import pytest

from tests import harness
from xpdl import (
    Affine,
    BackendError,
    BatchNormalization,
    Convolution,
    CosineLR,
    Dropout,
    MixedPrecision,
    Pooling,
    Relu,
    Sequential,
    SoftmaxWithLoss,
    Trainer,
)
from xpdl.backends import asnumpy
from xpdl.training.cuda_graph import GraphedStep

ROWS, BATCH, EPOCHS = 70, 16, 3


def trainer(capture: bool, precision: MixedPrecision | None = None) -> Trainer:
    layers = [Convolution(filters=4, size=3), Relu(), Convolution(filters=4, size=3), BatchNormalization(), Relu()]
    net = Sequential(*layers, Pooling(2, 2), Dropout(0.25), Affine(units=5), loss=SoftmaxWithLoss, seed=0)
    rng = np.random.default_rng(0)
    x, t = rng.normal(size=(ROWS, 1, 8, 8)), rng.integers(0, 5, ROWS)
    options = {"compile": capture, "callbacks": [CosineLR()], "seed": 0, "verbose": False, "precision": precision}
    return Trainer(net, x, t, x, t, EPOCHS, BATCH, "adam", {}, **options)


@pytest.mark.backends("eager")
@pytest.mark.skip_backend("meta", reason="has no values")
def test_same_bits_as_uncaptured_steps_on_a_gpu_and_refused_elsewhere(backend: harness.Backend) -> None:
    with backend.use("float32"):
        if backend.spec.library != "cupy":
            with pytest.raises(BackendError, match="captured on a GPU by CuPy"):
                trainer(capture=True)
            return
        captured, alike, other = trainer(capture=True), trainer(capture=True), trainer(capture=False)
    assert type(captured.step) is type(alike.step) is GraphedStep
    alike.step.problem = "none is wanted"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for run in (captured, alike, other):
            run.train()
    assert captured.step.problem is None and captured.step._recorded is not None
    assert captured.history.train_loss_list == alike.history.train_loss_list
    for name, value in captured.network.state_dict().items():
        np.testing.assert_array_equal(asnumpy(value), asnumpy(alike.network.state_dict()[name]), err_msg=name)
    # by another kernel of products
    np.testing.assert_allclose(captured.history.train_loss_list, other.history.train_loss_list, rtol=1e-3)


@pytest.mark.backends("cupy")
def test_updates_that_are_left_out_are_left_out_in_captured_steps_too(backend: harness.Backend) -> None:
    with backend.use("float32"):
        captured, alike = (trainer(True, MixedPrecision(scale=2.0**24, growth_interval=3)) for _ in range(2))
    alike.step.problem = "none is wanted"
    for run in (captured, alike):
        run.train()
    assert captured.step.problem is None and captured.step._recorded is not None
    scaling = captured.precision.loss_scale.state_dict()
    assert scaling == alike.precision.loss_scale.state_dict() and scaling["steps_left_out"] > 3
    assert captured.optimizer.iter == alike.optimizer.iter
    assert captured.history.train_loss_list == alike.history.train_loss_list
    for name, value in captured.network.state_dict().items():
        np.testing.assert_array_equal(asnumpy(value), asnumpy(alike.network.state_dict()[name]), err_msg=name)
