"""Layers without parameters, beyond the values and gradients of the table."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from xpdl.layers import (
    Elu,
    Flatten,
    Gelu,
    Identity,
    LeakyRelu,
    LogSoftmax,
    Relu,
    Sigmoid,
    Silu,
    Softmax,
    Softplus,
    Tanh,
)


@pytest.mark.parametrize("cls", [Relu, Sigmoid, Softmax, LogSoftmax, Tanh, Elu, Gelu, LeakyRelu, Silu, Softplus])
@pytest.mark.parametrize("dtype", ["int64", "uint8", "bool"])
def test_integers_become_floats(cls: type, dtype: str) -> None:
    x = np.array([[0, 1, 1]])
    y = cls().forward(x.astype(dtype))
    assert y.dtype == np.float64
    np.testing.assert_array_equal(y, cls().forward(x.astype(float)))


def test_relu_has_no_slope_at_zero() -> None:
    layer = Relu()
    layer.forward(np.array([-0.0, 0.0, 1e-300]))
    np.testing.assert_array_equal(layer.backward(np.ones(3)), [0.0, 0.0, 1.0])


@pytest.mark.parametrize("cls", [Sigmoid, Tanh, Softmax])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_largest_floats_give_finite_values_and_gradients(cls: type, dtype: type) -> None:
    big = np.finfo(dtype).max / 4
    layer = cls()
    y = layer.forward(np.array([[-big, 0.0, big]], dtype))
    assert np.isfinite(y).all() and y[0, 2] == 1.0
    assert np.isfinite(layer.backward(np.ones_like(y))).all()


def test_logarithms_of_the_smallest_probabilities_are_finite() -> None:
    layer = LogSoftmax()
    np.testing.assert_array_equal(layer.forward(np.array([[-1e300, 0.0, 1e300]])), [[-2e300, -1e300, 0.0]])
    np.testing.assert_array_equal(layer.backward(np.array([[1.0, 0.0, 0.0]])), [[1.0, 0.0, -1.0]])


@pytest.mark.parametrize("cls", [Elu, Gelu, LeakyRelu, Silu, Softplus, lambda: Gelu("tanh")])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_units_of_the_largest_floats_are_finite(cls: Any, dtype: type) -> None:
    big = np.finfo(dtype).max / 4
    layer = cls()
    y = layer.forward(np.array([[-big, -50.0, 0.0, 50.0, big]], dtype))
    assert np.isfinite(y).all() and y[0, 3] == 50.0 and y[0, 4] == big
    dx = layer.backward(np.ones_like(y))
    assert np.isfinite(dx).all() and dx[0, 3] == dx[0, 4] == 1.0


def test_gelu_keeps_its_digits_in_the_tails() -> None:
    x = np.linspace(-30.0, 8.0, 77)
    want = [0.5 * v * math.erfc(-v / math.sqrt(2.0)) for v in x]
    np.testing.assert_allclose(Gelu().forward(x), want, rtol=1e-12)


def test_units_have_one_slope_at_zero() -> None:
    for layer, slope in ((LeakyRelu(0.25), 0.25), (Elu(0.5), 0.5), (Gelu(), 0.5), (Silu(), 0.5), (Softplus(), 0.5)):
        layer.forward(np.zeros(1))
        np.testing.assert_allclose(layer.backward(np.ones(1)), [slope], rtol=1e-12)


def test_rows_of_softmax_are_probabilities() -> None:
    y = Softmax().forward(np.random.default_rng(0).normal(0, 50, (6, 4)))
    np.testing.assert_allclose(y.sum(axis=1), 1.0, rtol=1e-12)
    assert (y >= 0).all()


def test_identity_gives_back_the_array_itself() -> None:
    x = np.ones(3)
    assert Identity().forward(x) is x and Identity().backward(x) is x


def test_flatten_keeps_the_order_and_what_is_flat() -> None:
    x = np.arange(24).reshape(2, 3, 2, 2)
    layer = Flatten()
    np.testing.assert_array_equal(layer.forward(x), np.arange(24).reshape(2, 12))
    np.testing.assert_array_equal(layer.backward(np.arange(24).reshape(2, 12)), x)
    assert layer.output_shape((3, 2, 2)) == (12,) and layer.output_shape((5,)) == (5,)
