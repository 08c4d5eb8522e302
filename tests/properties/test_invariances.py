"""Invariances of softmax and batch normalization, up to rounding."""

import numpy as np
import pytest

pytest.importorskip("hypothesis", reason="hypothesis is not installed")

from hypothesis import given
from hypothesis import strategies as st

from xpdl.ops.activations import log_softmax, softmax
from xpdl.ops.affine import affine
from xpdl.ops.convolution import convolution
from xpdl.ops.losses import softmax_with_loss, softmax_with_loss_backward
from xpdl.ops.normalization import batch_normalization, batch_normalization_backward

SEEDS = st.integers(0, 2**32 - 1)
SHAPES = st.sampled_from([(4, 3), (7, 1), (2, 3, 4, 5), (3, 2, 1, 1)])


def close(one, other, tolerance=1e-9):
    np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance)


class TestSoftmax:
    @given(SEEDS, st.integers(1, 6), st.floats(-500, 500))
    def test_does_not_see_a_shift(self, seed, classes, by):
        x = np.random.default_rng(seed).standard_normal((3, classes))
        close(softmax(x + by), softmax(x))
        close(log_softmax(x + by), log_softmax(x))

    @given(SEEDS, st.integers(1, 6), st.floats(0, 1e4))
    def test_is_a_distribution_for_any_scores(self, seed, classes, scale):
        y = softmax(scale * np.random.default_rng(seed).standard_normal((3, classes)))
        assert (y >= 0).all()
        close(y.sum(axis=-1), 1.0)

    @given(SEEDS, st.permutations(range(5)))
    def test_order_of_classes_goes_through(self, seed, order):
        x = np.random.default_rng(seed).standard_normal((3, 5))
        close(softmax(x)[:, order], softmax(x[:, order]))

    @given(SEEDS, st.integers(2, 6), st.floats(-100, 100))
    def test_loss_does_not_see_a_shift_and_its_gradient_sums_to_0(self, seed, classes, by):
        rng = np.random.default_rng(seed)
        x, t = rng.standard_normal((3, classes)), rng.integers(0, classes, 3)
        (loss, y), (shifted, _) = softmax_with_loss(x, t), softmax_with_loss(x + by, t)
        close(loss, shifted)
        close(softmax_with_loss_backward(y, t).sum(axis=-1), 0.0)


class TestBatchNormalization:
    @given(SEEDS, SHAPES, st.floats(0.1, 100), st.floats(-100, 100))
    def test_does_not_see_scale_and_shift(self, seed, shape, scale, by):
        """As far as eps allows."""
        x = np.random.default_rng(seed).standard_normal(shape)
        ones, zeros = np.ones(shape[1]), np.zeros(shape[1])
        close(
            batch_normalization(scale * x + by, ones, zeros, 1e-12 * scale**2)[0],
            batch_normalization(x, ones, zeros, 1e-12)[0],
            1e-7,
        )

    @given(SEEDS, SHAPES)
    def test_gives_mean_beta_and_variance_gamma_squared(self, seed, shape):
        rng = np.random.default_rng(seed)
        x, gamma, beta = rng.standard_normal(shape), rng.standard_normal(shape[1]), rng.standard_normal(shape[1])
        y, _, var = batch_normalization(x, gamma, beta, 1e-5)
        axes = (0, *range(2, len(shape)))
        close(y.mean(axis=axes), beta)
        close(y.var(axis=axes), gamma**2 * var / (var + 1e-5))

    @given(SEEDS, SHAPES)
    def test_gradient_is_orthogonal_to_shift_and_scale(self, seed, shape):
        """The output is shift and scale invariant, so the gradient sums to 0, by itself and times x_hat."""
        rng = np.random.default_rng(seed)
        x, gamma, beta = rng.standard_normal(shape), rng.standard_normal(shape[1]), rng.standard_normal(shape[1])
        _, mean, var = batch_normalization(x, gamma, beta, 1e-14)
        dx, _, _ = batch_normalization_backward(rng.standard_normal(shape), x, gamma, mean, var, 1e-14)
        x_hat, _, _ = batch_normalization(x, np.ones_like(gamma), np.zeros_like(beta), 1e-14)
        axes = (0, *range(2, len(shape)))
        scale = np.abs(dx).sum() + 1
        close(dx.sum(axis=axes) / scale, 0.0, 1e-7)
        close((dx * x_hat).sum(axis=axes) / scale, 0.0, 1e-7)


# unit roundoff: half the distance from 1 to the next larger number
ROUNDOFF = {"float16": 2.0**-11, "float32": 2.0**-24, "float64": 2.0**-53}


@pytest.mark.parametrize("dtype", ROUNDOFF)
class TestRounding:
    """Errors stay below ``(n + 2) u sum |x| |w|`` for sums of n products with unit roundoff u: the bound that holds for any
    order of summation (N. J. Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed., section 3.1).
    """

    @given(SEEDS, st.integers(1, 300))
    def test_of_a_sum_of_products(self, dtype, seed, n):
        rng = np.random.default_rng(seed)
        x, W, b = (
            a.astype(dtype) for a in (rng.standard_normal((3, n)), rng.standard_normal((n, 2)), rng.standard_normal(2))
        )
        exact = x.astype(np.longdouble) @ W.astype(np.longdouble) + b
        bound = (
            (n + 2) * ROUNDOFF[dtype] * (np.abs(x.astype(float)) @ np.abs(W.astype(float)) + np.abs(b.astype(float)))
        )
        assert (np.abs(affine(x, W, b) - exact) <= bound).all()

    @given(SEEDS, st.integers(1, 40))
    def test_of_a_convolution(self, dtype, seed, channels):
        """A sum of as many products as a filter has weights."""
        rng = np.random.default_rng(seed)
        x = rng.standard_normal((1, channels, 8, 8)).astype(dtype)
        W = rng.standard_normal((2, channels, 3, 3)).astype(dtype)
        wide = convolution(x.astype(np.float64), W.astype(np.float64), None, pad=(1, 1))
        sizes = convolution(np.abs(x).astype(np.float64), np.abs(W).astype(np.float64), None, pad=(1, 1))
        bound = (9 * channels + 2) * ROUNDOFF[dtype] * sizes
        assert (np.abs(convolution(x, W, None, pad=(1, 1)).astype(np.float64) - wide) <= bound).all()

    @given(SEEDS, st.floats(0.1, 8))
    def test_of_softmax(self, dtype, seed, scale):
        """``exp`` turns an absolute error of its argument into a relative one of the result."""
        x = (scale * np.random.default_rng(seed).standard_normal((3, 10))).astype(dtype)
        exact = softmax(x.astype(np.float64))
        spread = np.ptp(x.astype(np.float64), axis=-1, keepdims=True)
        smallest = np.finfo(dtype).tiny * 2
        bound = (20 + 2 * spread) * ROUNDOFF[dtype] * exact + smallest
        assert (np.abs(softmax(x).astype(np.float64) - exact) <= bound).all()
