"""Normalization beside what the table drives: extreme statistics, and torch."""

from __future__ import annotations

import numpy as np
import pytest

from tests.harness import Backend
from tests.pairs import sample
from xpdl.ops.normalization import (
    batch_normalization,
    batch_normalization_backward,
    normalize,
    normalize_backward,
)

# JAX runs through the table; here each small case would be compiled anew
pytestmark = pytest.mark.backends("precompiled")


@pytest.mark.needs("torch")
@pytest.mark.parametrize("seed", range(40))
def test_random_shapes_agree_with_torch(seed: int) -> None:
    import torch

    rng = np.random.default_rng(seed)
    shape = tuple(int(v) for v in rng.integers(1, 5, rng.integers(2, 5)))
    shape = (shape[0] + 1, *shape[1:])
    c, eps = shape[1], 10.0 ** -int(rng.integers(1, 7))
    x, gamma, beta, dy = sample(rng, *shape), sample(rng, c), sample(rng, c), sample(rng, *shape)
    tensors = [torch.tensor(a, requires_grad=True) for a in (x, gamma, beta)]
    want = torch.nn.functional.batch_norm(tensors[0], None, None, tensors[1], tensors[2], training=True, eps=eps)
    want.backward(torch.tensor(dy))
    y, mean, var = batch_normalization(x, gamma, beta, eps)
    np.testing.assert_allclose(y, want.detach().numpy(), rtol=1e-9, atol=1e-9)
    gradients = batch_normalization_backward(dy, x, gamma, mean, var, eps)
    for got, tensor in zip(gradients, tensors, strict=True):
        desired = tensor.grad.numpy()
        # a channel of equal values has a gradient of rounding errors times 1/sqrt(eps)
        np.testing.assert_allclose(got, desired, rtol=1e-8, atol=1e-8 * (1 + np.abs(desired).max()))


@pytest.mark.backends("values")
def test_output_has_mean_beta_and_standard_deviation_gamma(backend: Backend) -> None:
    rng = np.random.default_rng(0)
    x, gamma, beta = sample(rng, 50, 2, 3, 3) * 7 + 4, np.array([2.0, 0.5]), np.array([-1.0, 3.0])
    y = backend.to_numpy(
        backend.call(batch_normalization, *(backend.asarray(a) for a in (x, gamma, beta)), eps=1e-12)[0]
    )
    np.testing.assert_allclose(y.mean(axis=(0, 2, 3)), beta, atol=1e-5)
    np.testing.assert_allclose(y.std(axis=(0, 2, 3)), gamma, rtol=1e-5)


def test_a_large_mean_does_not_cost_the_variance_its_digits() -> None:
    """The mean of squares minus the squared mean would lose all of them."""
    x = np.array([[1e8], [1e8 + 1.0], [1e8 + 2.0]])
    var = batch_normalization(x, np.ones(1), np.zeros(1), 1e-6)[2]
    np.testing.assert_allclose(var, 2 / 3, rtol=1e-12)


@pytest.mark.backends("values")
def test_equal_values_give_beta_and_a_finite_gradient(backend: Backend) -> None:
    x, gamma, beta = (backend.asarray(a) for a in (np.full((4, 2), 3.0), np.array([2.0, 1.0]), np.array([0.5, -1.0])))
    y, mean, var = backend.call(batch_normalization, x, gamma, beta, eps=1e-6)
    backend.check(y, np.tile([0.5, -1.0], (4, 1)))
    backend.check(var, np.zeros(2))
    dy = backend.asarray(np.ones((4, 2)))
    dx, _, _ = backend.call(batch_normalization_backward, dy, x, gamma, mean, var, eps=1e-6)
    backend.check(dx, np.zeros((4, 2)), atol=1e-9)


@pytest.mark.backends("values")
def test_a_constant_gradient_upstream_moves_nothing(backend: Backend) -> None:
    """Shifting all outputs alike is beta's work: x gets no part of it."""
    rng = np.random.default_rng(3)
    x, gamma, beta = (backend.asarray(a) for a in (sample(rng, 5, 3), sample(rng, 3), sample(rng, 3)))
    _, mean, var = backend.call(batch_normalization, x, gamma, beta, eps=1e-6)
    dy = backend.asarray(np.full((5, 3), 2.0))
    dx, _, dbeta = backend.call(batch_normalization_backward, dy, x, gamma, mean, var, eps=1e-6)
    backend.check(dx, np.zeros((5, 3)), atol=1e-5)
    backend.check(dbeta, np.full(3, 10.0))


def test_given_statistics_of_the_batch_give_the_same_output_but_another_gradient() -> None:
    rng = np.random.default_rng(4)
    x, gamma, beta, dy = sample(rng, 6, 2), sample(rng, 2), sample(rng, 2), sample(rng, 6, 2)
    y, mean, var = batch_normalization(x, gamma, beta, 1e-6)
    np.testing.assert_allclose(normalize(x, gamma, beta, mean, var, 1e-6), y, rtol=1e-14)
    through, *_ = batch_normalization_backward(dy, x, gamma, mean, var, 1e-6)
    around, *_ = normalize_backward(dy, x, gamma, mean, var, 1e-6)
    assert np.abs(through - around).max() > 0.01
    np.testing.assert_allclose(around, dy * gamma / np.sqrt(var + 1e-6), rtol=1e-12)


def test_the_variance_is_the_biased_one() -> None:
    x = sample(np.random.default_rng(6), 4, 2)
    var = batch_normalization(x, np.ones(2), np.zeros(2), 1e-6)[2]
    np.testing.assert_allclose(var, x.var(axis=0, ddof=0), rtol=1e-12)
