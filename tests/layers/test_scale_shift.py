"""A layer of fixed factors and summands."""

from __future__ import annotations

import numpy as np
import pytest

from tests import oracles
from xpdl.errors import ShapeError
from xpdl.layers.scale_shift import ScaleShift


@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 1, 1), (3, 2, 4), (1, 2, 1)])
def test_gradient_is_that_of_the_loops(shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    scale, shift = rng.normal(size=shape), rng.normal(size=shape)
    x, dout = rng.normal(size=(2, 3, 2, 4)), rng.normal(size=(2, 3, 2, 4))
    layer = ScaleShift(shape, scale=scale, shift=shift)

    def naive(x: np.ndarray) -> np.ndarray:
        y = np.zeros(x.shape)
        for n, *place in np.ndindex(x.shape):
            fixed = tuple(0 if size == 1 else at for at, size in zip(place, shape, strict=True))
            y[(n, *place)] = x[(n, *place)] * scale[fixed] + shift[fixed]
        return y

    np.testing.assert_allclose(layer.forward(x), naive(x), rtol=1e-14)
    wanted = oracles.central_differences(naive, [x], 0, dout)
    np.testing.assert_allclose(layer.backward(dout), wanted, rtol=1e-8, atol=1e-9)


def test_starts_as_the_identity() -> None:
    layer = ScaleShift((3, 1))
    layer.build((None, 3, 5))
    x = np.random.default_rng(0).normal(size=(2, 3, 5))
    np.testing.assert_array_equal(layer.forward(x), x)


def test_rows_of_another_shape_are_refused() -> None:
    with pytest.raises(ShapeError, match=r"ScaleShift: expected rows that \(3, 1\) fits, got rows of shape \(4, 5\)"):
        ScaleShift((3, 1), scale=np.ones((3, 1)), shift=np.zeros((3, 1))).forward(np.ones((2, 4, 5)))
