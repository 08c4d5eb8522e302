"""The affine layer, beyond the values and gradients of the table."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from xpdl.errors import DTypeError, MixedArraysError, ShapeError
from xpdl.layers import Affine


def test_the_input_shape_is_restored() -> None:
    layer = Affine(units=3)
    y = layer.forward(np.ones((2, 4, 5, 6)))
    assert y.shape == (2, 3) and layer.backward(y).shape == (2, 4, 5, 6)


def test_weights_without_bias_make_a_layer_without_bias() -> None:
    layer = Affine(np.eye(2))
    layer.backward(layer.forward(np.ones((1, 2))))
    assert layer.b is None and layer.db is None and list(layer.grads) == ["W"]
    assert not layer.use_bias


@pytest.mark.parametrize(
    ("init", "std"), [("he", np.sqrt(2 / 300)), ("xavier", np.sqrt(1 / 300)), (0.5, 0.5), ("relu", np.sqrt(2 / 300))]
)
def test_weights_are_drawn_as_init_says_and_the_bias_is_zero(init: Any, std: float) -> None:
    layer = Affine(units=200, init=init)
    layer.build((300,))
    assert layer.W.std() == pytest.approx(std, rel=0.02)
    np.testing.assert_array_equal(layer.b, np.zeros(200))


def test_an_unknown_init_is_an_error_before_there_is_an_input() -> None:
    with pytest.raises(ValueError, match=r"Affine: init.*'hee'"):
        Affine(units=2, init="hee")


def test_gradients_of_parameters_alone_are_the_same() -> None:
    rng = np.random.default_rng(0)
    layer, dout = Affine(rng.random((3, 2)), rng.random(2)), rng.random((4, 2))
    x = rng.random((4, 3))
    layer.forward(x)
    layer.backward(dout)
    full, layer.grads = layer.grads, {}
    layer.forward(x)
    assert layer.backward_parameters(dout) is None
    assert list(layer.grads) == list(full)
    for name, grad in full.items():
        np.testing.assert_array_equal(layer.grads[name], grad)


@pytest.mark.parametrize("units", [0, -1, 2.0, "3", True])
def test_units_that_are_no_positive_int_are_an_error(units: Any) -> None:
    with pytest.raises(ShapeError, match=r"Affine: units must be an int of at least 1"):
        Affine(units=units)


@pytest.mark.parametrize(
    ("args", "kwargs", "message"),
    [
        ((), {}, r"give either the array W or the number of units"),
        ((np.eye(2),), {"units": 2}, r"give either the array W or the number of units"),
        ((None, np.ones(2)), {"units": 2}, r"b without W"),
        ((np.ones(3),), {}, r"W must be \(D, M\)"),
        ((np.ones((3, 2)), np.ones(3)), {}, r"got \(3, 2\) and \(3,\)"),
        ((np.ones((3, 2)), np.ones((1, 2))), {}, r"got \(3, 2\) and \(1, 2\)"),
    ],
)
def test_arrays_that_do_not_fit_are_an_error(args: Any, kwargs: Any, message: str) -> None:
    with pytest.raises(ShapeError, match=message):
        Affine(*args, **kwargs)


def test_integer_weights_are_an_error() -> None:
    with pytest.raises(DTypeError, match=r"Affine: W must be a floating array, got int64"):
        Affine(np.ones((3, 2), np.int64), np.ones(2))
    with pytest.raises(DTypeError, match=r"Affine: b must be a floating array, got int64"):
        Affine(np.ones((3, 2)), np.ones(2, np.int64))


def test_weights_of_two_libraries_are_an_error() -> None:
    import array_api_strict as strict

    with pytest.raises(MixedArraysError, match=r"Affine: arrays of array_api_strict and numpy are mixed"):
        Affine(np.ones((3, 2)), strict.ones(2))


@pytest.mark.parametrize("shape", [(4,), (2, 5), (2, 3, 2), ()])
def test_an_input_of_another_size_is_an_error(shape: tuple[int, ...]) -> None:
    with pytest.raises(
        ShapeError, match=r"Affine: expected a batch \(N, \.\.\.\) with 4 values a row, as W \(4, 2\) has"
    ):
        Affine(np.ones((4, 2))).forward(np.ones(shape))


def test_rows_without_an_axis_are_an_error_before_there_are_weights() -> None:
    with pytest.raises(
        ShapeError, match=r"Affine: expected a batch \(N, \.\.\.\) with rows of features, got rows of shape"
    ):
        Affine(units=2).forward(np.ones(4))


def test_something_else_than_an_array_is_an_error() -> None:
    with pytest.raises(TypeError, match=r"got list.*asarray"):
        Affine(np.ones((2, 2))).forward([[1.0, 2.0]])
