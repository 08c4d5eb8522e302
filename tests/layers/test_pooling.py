"""The pooling layers, beyond the values and gradients of the table."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from xpdl.errors import DTypeError, ShapeError
from xpdl.layers import AveragePooling, GlobalAveragePooling, GlobalMaxPooling, Pooling


def test_the_gradient_goes_to_the_first_of_equal_maxima() -> None:
    layer = Pooling(2, 2)
    layer.forward(np.zeros((1, 1, 2, 4)))
    dx = layer.backward(np.array([[[[3.0, 5.0]]]]))
    np.testing.assert_array_equal(dx, [[[[3.0, 0.0, 5.0, 0.0], [0.0, 0.0, 0.0, 0.0]]]])


def test_a_border_never_wins_over_negative_values() -> None:
    x = np.full((1, 1, 3, 3), -7.0)
    np.testing.assert_array_equal(Pooling(2, 2, 1, 1).forward(x), np.full((1, 1, 4, 4), -7.0))


def test_a_border_counts_as_zeros_of_the_average() -> None:
    y = AveragePooling(2, 2, 2, 1).forward(np.full((1, 1, 2, 2), 8.0))
    np.testing.assert_array_equal(y, np.full((1, 1, 2, 2), 2.0))


@pytest.mark.parametrize("cls", [Pooling, AveragePooling])
def test_output_sizes_are_rounded_down(cls: type) -> None:
    assert cls(2, 2).output_shape((3, 7, 5)) == (3, 3, 2)
    assert cls(3, 2, (1, 2), (1, 0)).output_shape((3, 7, 5)) == (3, 7, 2)


def test_the_average_of_an_image_is_per_channel() -> None:
    layer = GlobalAveragePooling()
    np.testing.assert_array_equal(layer.forward(np.arange(8.0).reshape(1, 2, 2, 2)), [[1.5, 5.5]])
    np.testing.assert_array_equal(layer.backward(np.array([[4.0, 8.0]])), np.repeat([1.0, 2.0], 4).reshape(1, 2, 2, 2))


@pytest.mark.parametrize("cls", [Pooling, AveragePooling])
@pytest.mark.parametrize(
    ("args", "message"),
    [
        ((0, 2), r"pool_h, pool_w must be at least 1"),
        ((2, 2.5), r"must be an int or a pair of ints"),
        ((2, 2, 0), r"stride must be at least 1"),
        ((2, 2, 2, -1), r"pad must be at least 0"),
        ((2, 3, 1, 2), r"pad \(2, 2\) must be smaller than the window \(2, 3\)"),
        ((2, 3, 1, ((0, 2), 1)), r"pad \(\(0, 2\), \(1, 1\)\) must be smaller than the window \(2, 3\)"),
        ((), r"give either pool_h and pool_w or size, got pool_h=None, pool_w=None, size=None"),
        ((2,), r"give either pool_h and pool_w or size, got pool_h=2, pool_w=None, size=None"),
    ],
)
def test_wrong_arguments_are_an_error(cls: type, args: Any, message: str) -> None:
    with pytest.raises(ShapeError, match=f"^{cls.__name__}: .*{message}|^{cls.__name__}: {message}"):
        cls(*args)


@pytest.mark.parametrize(
    ("layer", "layout"),
    [
        (Pooling(3, 3), r"images \(N, C, H, W\)"),
        (AveragePooling(3, 3), r"images \(N, C, H, W\)"),
        (Pooling(size=(3,)), r"signals \(N, C, L\)"),
        (AveragePooling(size=(3, 3, 3)), r"volumes \(N, C, D, H, W\)"),
        (GlobalAveragePooling(), r"signals \(N, C, L\), images \(N, C, H, W\) or volumes \(N, C, D, H, W\)"),
    ],
)
def test_wrong_inputs_are_an_error(layer: Any, layout: str) -> None:
    name = type(layer).__name__
    with pytest.raises(ShapeError, match=rf"^{name}: expected {layout}, got rows of shape \(4,\)"):
        layer.forward(np.ones((3, 4)))
    with pytest.raises(DTypeError, match=rf"^{name}: expected a floating array, got uint8"):
        layer.forward(np.ones((1, *(1, 4, 4, 4)[: 1 + len(getattr(layer, "size", "hw"))]), np.uint8))


@pytest.mark.parametrize("cls", [Pooling, AveragePooling])
def test_two_names_of_a_size_are_an_error(cls: type) -> None:
    with pytest.raises(ShapeError, match=f"^{cls.__name__}: give either pool_h and pool_w or size"):
        cls(2, 2, size=2)


@pytest.mark.parametrize("cls", [Pooling, AveragePooling])
def test_a_window_larger_than_the_image_is_an_error(cls: type) -> None:
    with pytest.raises(ShapeError, match=f"^{cls.__name__}"):
        cls(3, 3).forward(np.ones((1, 1, 2, 4)))


def test_the_gradient_of_a_channel_goes_to_its_first_maximum() -> None:
    layer = GlobalMaxPooling()
    np.testing.assert_array_equal(layer.forward(np.array([[[[1.0, 2.0], [2.0, 0.0]]]])), [[2.0]])
    np.testing.assert_array_equal(layer.backward(np.array([[3.0]])), [[[[0.0, 3.0], [0.0, 0.0]]]])
