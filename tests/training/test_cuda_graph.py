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
@pytest.mark.skip_backend("jax", reason="compiles steps, see tests/models/test_compiled_step.py")
def test_capture_is_refused_where_there_are_no_cuda_graphs(backend: harness.Backend) -> None:
    if backend.spec.library == "cupy":
        assert type(trained(backend, capture=True)[0].step) is GraphedStep
        return
    with backend.use("float32"), pytest.raises(BackendError, match="steps are compiled with CuPy"):
        trainer(capture=True)


def trained(backend: harness.Backend, capture: bool, *, recording: bool = True) -> tuple[Trainer, list[str]]:
    """The trainer after its training, and the routes its matrix products took."""
    from xpdl.backends.cupy import cublas, products

    routes = []

    def noted(name, function):
        def product(*args):
            routes.append(name)
            return function(*args)

        return product

    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("error")
        patch.setattr(cublas, "matmul", noted("cuBLAS by ctypes", cublas.matmul))
        patch.setattr(products, "tiled", noted("kernel of xpdl", products.tiled))
        with backend.use("float32"):
            run = trainer(capture)
        if capture and not recording:
            run.step.problem = "none is wanted"
        run.train()
    return run, routes


def assert_bitwise_identical(one: Trainer, other: Trainer) -> None:
    assert one.history.train_loss_list == other.history.train_loss_list
    for name, value in one.network.state_dict().items():
        np.testing.assert_array_equal(asnumpy(value), asnumpy(other.network.state_dict()[name]), err_msg=name)


@pytest.fixture
def route(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The way products are computed: by cuBLAS, where it can be called by ctypes, or by a kernel."""
    from xpdl.backends.cupy import cublas

    if request.param == "kernel of xpdl":
        monkeypatch.setattr(cublas, "problem", lambda: "libcublas is hidden")
    elif reason := cublas.problem():
        pytest.skip(reason)
    return request.param


@pytest.mark.backends("cupy")
@pytest.mark.parametrize("route", ["cuBLAS by ctypes", "kernel of xpdl"], indirect=True)
def test_captured_and_uncaptured_steps_of_a_trainer_with_capture(backend: harness.Backend, route: str) -> None:
    """They are bitwise identical, also where cuBLAS cannot be called by ctypes."""
    captured, routes = trained(backend, capture=True)
    uncaptured, same_routes = trained(backend, capture=True, recording=False)
    assert captured.step.problem is None and captured.step._recorded
    # evaluation has products of its own
    assert route in routes and route in same_routes
    assert_bitwise_identical(captured, uncaptured)
    without, other_routes = trained(backend, capture=False)
    if route == "cuBLAS by ctypes":
        assert set(other_routes) == {route}
        assert_bitwise_identical(captured, without)
    else:
        # CuPy calls cuBLAS, whose sums have another order
        assert not other_routes
        np.testing.assert_allclose(
            captured.history.train_loss_list, without.history.train_loss_list, rtol=1e-4, err_msg="losses"
        )


@pytest.mark.backends("cupy")
def test_updates_that_are_left_out_are_left_out_in_captured_steps_too(backend: harness.Backend) -> None:
    with backend.use("float32"):
        captured, alike = (trainer(True, MixedPrecision(scale=2.0**24, growth_interval=3)) for _ in range(2))
    alike.step.problem = "none is wanted"
    for run in (captured, alike):
        run.train()
    assert captured.step.problem is None and captured.step._recorded
    scaling = captured.precision.loss_scale.state_dict()
    assert scaling == alike.precision.loss_scale.state_dict() and scaling["skipped_steps"] > 3
    assert captured.optimizer.iter == alike.optimizer.iter
    assert captured.history.train_loss_list == alike.history.train_loss_list
    for name, value in captured.network.state_dict().items():
        np.testing.assert_array_equal(asnumpy(value), asnumpy(alike.network.state_dict()[name]), err_msg=name)
