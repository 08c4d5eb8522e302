"""Batch normalization: saved state and accepted arrays; values are in the table."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import xpdl
from tests import oracles
from xpdl.errors import DTypeError, ShapeError
from xpdl.layers import BatchNormalization, Relu, Residual
from xpdl.layers.base import Layer
from xpdl.models import MultiLayerNetExtend, Sequential

_rng = np.random.default_rng(15)
BATCHES = [_rng.normal(k, 1 + k, (6, 3)) for k in range(3)]


@pytest.mark.parametrize("momentum", [None, 0.0, 0.75, 1.0])
def test_running_statistics_move_by_what_momentum_leaves(momentum: float | None) -> None:
    layer = BatchNormalization() if momentum is None else BatchNormalization(momentum=momentum)
    kept = 0.9 if momentum is None else momentum
    mean, var = np.zeros(3), np.ones(3)
    for x in BATCHES:
        layer.forward(x)
        mean = kept * mean + (1 - kept) * x.mean(axis=0)
        # the biased one, where PyTorch takes the other
        var = kept * var + (1 - kept) * ((x - x.mean(axis=0)) ** 2).mean(axis=0)
        np.testing.assert_allclose(layer.running_mean, mean, rtol=1e-12, atol=1e-15)
        np.testing.assert_allclose(layer.running_var, var, rtol=1e-12)


@pytest.mark.parametrize("training", [True, False])
def test_train_flg_stands_for_the_mode_when_given(training: bool) -> None:
    x = BATCHES[0]
    asked, told = BatchNormalization().train(not training), BatchNormalization().train(training)
    np.testing.assert_array_equal(asked.forward(x, training), told.forward(x))
    np.testing.assert_array_equal(asked.running_mean, told.running_mean)
    # backward goes the way that forward went
    np.testing.assert_array_equal(asked.backward(x**2), told.backward(x**2))


def test_evaluation_changes_nothing() -> None:
    layer = BatchNormalization()
    layer.forward(BATCHES[0])
    before = {key: value.copy() for key, value in layer.state.items()}
    x = BATCHES[1]
    want = (x - before["running_mean"]) / np.sqrt(before["running_var"] + 1e-6)
    np.testing.assert_allclose(layer.forward(x, False), want, rtol=1e-12)
    for key, value in before.items():
        np.testing.assert_array_equal(layer.state[key], value)


def test_eps_is_a_millionth_unless_said_otherwise() -> None:
    x = np.array([[-1e-3], [1e-3]])  # whose variance is a millionth too
    np.testing.assert_allclose(BatchNormalization().forward(x), x / np.sqrt(2e-6), rtol=1e-12)
    np.testing.assert_allclose(BatchNormalization(eps=3e-6).forward(x), x / np.sqrt(4e-6), rtol=1e-12)


def test_numbers_fill_arrays_of_the_size_of_the_input() -> None:
    for given, gamma, beta in (({}, 1.0, 0.0), ({"gamma": 2}, 2.0, 0.0), ({"gamma": 0.5, "beta": -3.0}, 0.5, -3.0)):
        layer = BatchNormalization(**given)
        layer.build((3,))
        np.testing.assert_array_equal(layer.gamma, np.full(3, gamma))
        np.testing.assert_array_equal(layer.beta, np.full(3, beta))


GIVEN = {
    "gamma": _rng.random(3),
    "beta": _rng.random(3),
    "running_mean": _rng.random(3),
    "running_var": 1 + _rng.random(3),
}


@pytest.mark.parametrize(
    "names", [("gamma",), ("beta",), ("gamma", "beta"), ("running_mean",), ("beta", "running_var")]
)
def test_what_is_not_given_is_made_beside_what_is(names: tuple[str, ...]) -> None:
    given = {name: GIVEN[name] for name in names}
    layer = BatchNormalization(**given)
    assert not layer.built
    layer.build((3,))
    assert layer.built and list(layer.params) == ["gamma", "beta"]
    made = {"gamma": np.ones(3), "beta": np.zeros(3), "running_mean": np.zeros(3), "running_var": np.ones(3)}
    for name, start in made.items():
        array = {**layer.params, **layer.state}[name]
        if name in given:
            assert array is given[name]
        else:
            np.testing.assert_array_equal(array, start)


def test_a_gamma_of_every_activation_normalises_each_by_itself() -> None:
    """The book's form, for rows of any number of axes."""
    for shape in ((5, 2, 3), (5, 2, 3, 1)):
        x, gamma, beta = _rng.random(shape), _rng.random(6), _rng.random(6)
        want = oracles.batch_normalization(x.reshape(5, 6), gamma, beta, eps=1e-6)[0]
        np.testing.assert_allclose(BatchNormalization(gamma, beta).forward(x), want.reshape(shape), rtol=1e-9)


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"gamma": np.ones(3), "beta": np.ones(4)}, ShapeError, r"must share one shape \(C,\): \[\(3,\), \(4,\)\]"),
        ({"gamma": np.ones((3, 1))}, ShapeError, r"must share one shape"),
        ({"beta": np.ones(3), "running_var": np.ones(1)}, ShapeError, r"must share one shape"),
        ({"gamma": np.ones(3, int)}, DTypeError, "gamma must be a floating array, got int64"),
        ({"running_mean": np.zeros(3, bool)}, DTypeError, "running_mean must be a floating array, got bool"),
        ({"gamma": [1.0, 1.0]}, TypeError, "gamma must be an array, got list"),
        ({"gamma": True}, ValueError, "gamma must be a finite number, got True"),
        ({"beta": float("inf")}, ValueError, "beta must be a finite number, got inf"),
        ({"momentum": 1.1}, ValueError, r"momentum must be a finite number in \[0, 1\], got 1.1"),
        ({"eps": 0.0}, ValueError, "eps must be a finite number positive, got 0.0"),
    ],
)
def test_wrong_arguments_are_an_error(given: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=f"BatchNormalization: .*{message}"):
        BatchNormalization(**given)


def test_an_input_that_does_not_fit_says_both_sizes_that_would() -> None:
    layer = BatchNormalization(np.ones(5))
    with pytest.raises(ShapeError, match=r"gamma has shape \(5,\); rows of shape \(2, 3\) need \(2,\), or \(6,\)"):
        layer.forward(np.ones((4, 2, 3)))
    with pytest.raises(ShapeError, match="got rows without an axis"):
        layer.forward(np.ones(4))


def test_a_smaller_batch_counts_in_proportion_to_its_rows() -> None:
    """As the last one of an epoch: one fifth of the rows of the batch before it have a fifth of its share."""
    x = _rng.normal(3, 2, (20, 3))
    layer = BatchNormalization()
    mean, var = np.zeros(3), np.ones(3)
    for rows, share in ((10, 0.1), (2, 0.02), (10, 0.1), (20, 0.1), (5, 0.025), (5, 0.1)):
        layer.forward(x[:rows])
        mean = (1 - share) * mean + share * x[:rows].mean(axis=0)
        var = (1 - share) * var + share * x[:rows].var(axis=0)
        np.testing.assert_allclose(layer.running_mean, mean, rtol=1e-12)
        np.testing.assert_allclose(layer.running_var, var, rtol=1e-12)


@pytest.mark.parametrize("kind", [Sequential, Residual])
@pytest.mark.parametrize("shape", [(2,), (2, 3, 3)])
def test_running_variance_of_unequal_batches_is_that_of_the_data(kind: type[Layer], shape: tuple[int, ...]) -> None:
    """In whatever the layer stands, with a relu after it too. A block adds its input to what it gives."""
    x = (_rng.normal(size=(203, *shape)) * 3 + 5).astype("float32")
    layer = BatchNormalization()
    net = Sequential(kind(layer), Relu())
    for _ in range(60):
        order = _rng.permutation(203)
        for start in (0, 100, 200):
            net.forward(x[order[start : start + 100]], True)
    axes = (0, *range(2, x.ndim))
    np.testing.assert_allclose(layer.running_var, x.var(axis=axes), rtol=0.06)
    np.testing.assert_allclose(layer.running_mean, x.mean(axis=axes), rtol=0.06)


@pytest.mark.parametrize(
    ("gamma", "shape"), [(None, (1, 4)), (None, (1, 4, 1, 1)), (np.ones(12), (1, 4, 3)), (np.ones(12), (1, 3, 2, 2))]
)
def test_training_on_one_value_per_feature_is_an_error(gamma: Any, shape: tuple[int, ...]) -> None:
    layer = BatchNormalization(gamma)
    x = np.full(shape, 2.0)
    with pytest.raises(ShapeError, match=r"BatchNormalization: .* more than one value per feature .*drop_last=True"):
        layer.forward(x)
    np.testing.assert_array_equal(layer.running_mean, np.zeros(layer.gamma.shape))
    assert layer.forward(x, False).shape == shape
    assert layer.forward(np.concatenate([x, x + 1.0])).shape == (2, *shape[1:])


def test_book_net_warns_of_a_batch_of_one_row() -> None:
    """The book checks the gradient of `MultiLayerNetExtend` on one row: what is before the normalization has none."""
    with xpdl.use("numpy", dtype="float64"):  # sigmoid: each output is beta, 0, where relu has its kink
        net = MultiLayerNetExtend(5, [4], 3, activation="sigmoid", use_batchnorm=True, seed=0)
    x, t = _rng.normal(size=(1, 5)), np.eye(3)[:1]
    with pytest.warns(UserWarning, match=r"BatchNorm1: .* more than one value per feature .*drop_last=True"):
        grad = net.gradient(x, t)
    with pytest.warns(UserWarning, match="BatchNorm1"):
        numerical = net.numerical_gradient(x, t)
    assert not grad["W1"].any() and grad["beta1"].all()
    for name, value in grad.items():
        np.testing.assert_allclose(value, numerical[name], atol=1e-8)


def test_one_image_has_a_value_at_each_position() -> None:
    x = _rng.normal(size=(1, 4, 2, 1))
    layer = BatchNormalization()
    np.testing.assert_allclose(layer.forward(x).mean(axis=(0, 2, 3)), np.zeros(4), atol=1e-12)
