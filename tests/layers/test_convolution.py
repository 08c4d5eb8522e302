"""The convolution layer, beyond the values and gradients of the table."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.harness import Backend
from xpdl.backends import asnumpy
from xpdl.errors import DTypeError, ShapeError
from xpdl.layers import Affine, Convolution


@pytest.mark.parametrize(
    ("kwargs", "image", "out"),
    [
        ({}, (28, 28), (24, 24)),
        ({"pad": 2}, (28, 28), (28, 28)),
        ({"stride": 2}, (28, 28), (12, 12)),
        ({"stride": (1, 3), "pad": (2, 0)}, (7, 9), (7, 2)),
        ({"dilation": 2}, (10, 9), (2, 1)),
    ],
)
def test_the_output_size_follows_the_formula(kwargs: Any, image: tuple[int, int], out: tuple[int, int]) -> None:
    layer = Convolution(filters=3, size=5, **kwargs)
    assert layer.build((2, *image)) == (3, *out)
    assert layer.forward(np.ones((1, 2, *image), np.float32)).shape == (1, 3, *out)


def test_an_image_may_change_its_size_between_calls() -> None:
    layer = Convolution(filters=2, size=3)
    for side in (5, 8, 4):
        y = layer.forward(np.ones((1, 1, side, side)))
        assert layer.backward(y).shape == (1, 1, side, side)


def test_gradients_of_parameters_alone_are_the_same() -> None:
    rng = np.random.default_rng(0)
    layer = Convolution(rng.random((3, 2, 2, 2)), rng.random(3), 1, 1)
    x = rng.random((2, 2, 4, 4))
    dout = rng.random(layer.forward(x).shape)
    layer.backward(dout)
    full, layer.grads = layer.grads, {}
    layer.forward(x)
    assert layer.backward_parameters(dout) is None
    assert list(layer.grads) == list(full)
    for name, grad in full.items():
        np.testing.assert_allclose(layer.grads[name], grad, rtol=1e-12)


def test_filters_without_bias_make_a_layer_without_bias() -> None:
    layer = Convolution(np.ones((1, 1, 1, 1)))
    layer.backward(layer.forward(np.ones((1, 1, 2, 2))))
    assert layer.b is None and list(layer.grads) == ["W"]


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({}, r"give the array W \(and b\), or filters=16, size=3"),
        ({"filters": 3}, r"give the array W"),
        ({"size": 3}, r"give the array W"),
        ({"filters": 3, "size": 3, "b": np.ones(3)}, r"give the array W"),
        ({"W": np.ones((1, 1, 2, 2)), "filters": 1}, r"filters and size follow from W"),
        ({"W": np.ones((2, 2))}, r"W must be \(FN, C / groups, FH, FW\)"),
        ({"W": np.ones((2, 1, 2, 2)), "b": np.ones(3)}, r"got \(2, 1, 2, 2\) and \(3,\)"),
        ({"filters": 0, "size": 3}, r"filters must be an int of at least 1, got 0"),
        ({"filters": 1, "size": 0}, r"size must be at least 1, got 0"),
        (
            {"filters": 1, "size": (1, 2, 3, 4)},
            r"size must be an int, or one for each of 1, 2 or 3 axes, got \(1, 2, 3, 4\)",
        ),
        ({"filters": 1, "size": ()}, r"size must be an int, or one for each of 1, 2 or 3 axes"),
        ({"filters": 1, "size": (3,), "stride": (1, 2)}, r"stride must be an int or one in a tuple, got \(1, 2\)"),
        ({"filters": 1, "size": (3, 3, 3), "dilation": (1, 2)}, r"dilation must be an int or three ints, got \(1, 2\)"),
        ({"filters": 1, "size": 3, "pad": "valid"}, r'pad must be "same", an int, or one for each axis, got \'valid\''),
        (
            {"filters": 1, "size": 3, "pad": ((1, 2), 3, 4)},
            r"pad must have an int or \(before, after\) for each of 2 axes",
        ),
        ({"filters": 1, "size": 3, "pad": ((1, 2, 3), 3)}, r"pad \(before, after\) must be an int or a pair of ints"),
        ({"filters": 1, "size": 3, "pad": ((1, -2), 3)}, r"pad \(before, after\) must be at least 0, got \(1, -2\)"),
        ({"W": np.ones((1, 1, 3)), "pad": (1, 2)}, r"pad must be an int or one in a tuple"),
        ({"filters": 1, "size": 3, "stride": 0}, r"stride must be at least 1, got 0"),
        ({"filters": 1, "size": 3, "stride": 1.5}, r"stride must be an int or a pair of ints, got 1\.5"),
        ({"filters": 1, "size": 3, "pad": -1}, r"pad must be at least 0, got -1"),
        ({"filters": 1, "size": 3, "dilation": (1, 0)}, r"dilation must be at least 1"),
        ({"filters": 3, "size": 3, "groups": 2}, r"3 filters do not divide into 2 groups"),
        ({"filters": 3, "size": 3, "groups": 0}, r"groups must be an int of at least 1"),
    ],
)
def test_wrong_arguments_are_an_error(kwargs: Any, message: str) -> None:
    with pytest.raises(ShapeError, match=f"^Convolution: .*{message}|^Convolution: {message}"):
        Convolution(**kwargs)


def test_integer_filters_are_an_error() -> None:
    with pytest.raises(DTypeError, match=r"Convolution: W must be a floating array, got int64"):
        Convolution(np.ones((1, 1, 2, 2), np.int64))


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((2, 4), r"expected images \(N, C, H, W\)"),
        ((2, 3, 4, 4), r"expected 2 channels, as W \(3, 2, 3, 3\) in 1 group"),
        ((1, 2, 2, 4), r"Convolution"),
    ],
)
def test_images_that_do_not_fit_are_an_error(shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(ShapeError, match=message):
        Convolution(np.ones((3, 2, 3, 3))).forward(np.ones(shape))


@pytest.mark.skip_backend("meta", reason="has no values to compare")
@pytest.mark.parametrize("number", [0, 0.0])
@pytest.mark.parametrize(
    ("kind", "shape", "x_shape"), [(Convolution, (3, 2, 2, 2), (2, 2, 4, 3)), (Affine, (6, 3), (2, 6))]
)
def test_0_as_bias_is_an_array_of_zeros(backend: Backend, kind: Any, shape: Any, x_shape: Any, number: float) -> None:
    rng = np.random.default_rng(0)
    W, x = (backend.asarray(rng.standard_normal(size)) for size in (shape, x_shape))
    layer, same = kind(W, number), kind(W, backend.asarray(np.full(3, float(number))))
    assert layer.b.dtype == W.dtype and tuple(layer.b.shape) == (3,)
    y = layer.forward(x)
    np.testing.assert_array_equal(asnumpy(y), asnumpy(same.forward(x)))
    dx, same_dx = layer.backward(y), same.backward(y)
    np.testing.assert_array_equal(asnumpy(dx), asnumpy(same_dx))
    np.testing.assert_array_equal(asnumpy(layer.db), asnumpy(same.db))
    for other in (False, 1):
        with pytest.raises(TypeError, match="b must be an array, got "):
            kind(W, other)
