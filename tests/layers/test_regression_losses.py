"""Losses of numbers and of Gaussians, beyond the values and gradients of the table."""

from __future__ import annotations

import numpy as np
import pytest

import xpdl
from xpdl.errors import DTypeError, MixedArraysError, ShapeError
from xpdl.layers import GaussianKL, Hinge, Huber, IdentityWithLoss, MeanAbsoluteError, MeanSquaredError

X = np.random.default_rng(0).standard_normal((6, 4))


def test_the_mean_of_squares_is_that_of_the_book_but_for_its_scale() -> None:
    mean, book = MeanSquaredError(), IdentityWithLoss()
    assert mean.forward(X, 0 * X) == pytest.approx(2 * book.forward(X, 0 * X) / 4)
    np.testing.assert_allclose(mean.backward(), 2 * book.backward() / 4, rtol=1e-12)


def test_huber_is_quadratic_near_and_linear_far() -> None:
    t = np.zeros(2)
    layer = Huber(0.5)
    assert layer.forward(np.array([0.5, 0.0]), t) == 0.5 * 0.25 / 2
    np.testing.assert_allclose(layer.backward(), [0.25, 0.0])
    assert layer.forward(np.array([3.0, 0.0]), t) == 0.5 * (3.0 - 0.25) / 2
    np.testing.assert_allclose(layer.backward(), [0.25, 0.0])


@pytest.mark.parametrize("cls", [MeanSquaredError, MeanAbsoluteError, Huber])
def test_metrics_of_a_regression_fit(cls: type) -> None:
    net = xpdl.Sequential(xpdl.Affine(units=1), loss=cls, seed=0)
    t = X[:, 0] - 0.5 * X[:, 1]
    trainer = xpdl.Trainer(
        net,
        X,
        t,
        X,
        t,
        epochs=60,
        optimizer="Adam",
        verbose=False,
        seed=0,
        metrics=["mse", "mae", "r2"],
        mini_batch_size=3,
    )
    history = trainer.train()
    assert history.metrics["test_r2"][-1] > history.metrics["test_r2"][0]
    with pytest.raises(TypeError, match="accuracy is for classification"):
        net.accuracy(X, t)


def test_hinge_decides_as_the_scores_do() -> None:
    layer = Hinge()
    np.testing.assert_array_equal(layer.correct(X, np.argmax(X, axis=1)), np.ones(6, bool))
    np.testing.assert_array_equal(layer.correct(X, np.eye(4)[np.argmin(X, axis=1)]), np.zeros(6, bool))
    with pytest.raises(ShapeError, match=r"scores \(N, K\)"):
        layer.forward(X[None], np.zeros((1, 6), int))


class TestGaussians:
    def test_a_gaussian_is_nowhere_from_itself(self) -> None:
        layer = GaussianKL()
        assert layer.forward(np.zeros((3, 4))) == 0.0
        assert layer.forward(X, X) == pytest.approx(0.0, abs=1e-12)
        np.testing.assert_allclose(layer.backward(), np.zeros_like(X), atol=1e-12)

    def test_odd_values_are_refused(self) -> None:
        with pytest.raises(ShapeError, match=r"means and log variances \(N, 2 D\), .* got shape \(2, 3\)"):
            GaussianKL().forward(np.ones((2, 3)))

    def test_other_shapes_of_targets_are_refused(self) -> None:
        with pytest.raises(ShapeError, match=r"t must have shape \(6, 4\), got \(6, 2\)"):
            GaussianKL().forward(X, X[:, :2])

    def test_integers_are_refused(self) -> None:
        with pytest.raises(DTypeError, match="GaussianKL: expected a floating array"):
            GaussianKL().forward(np.ones((2, 4), int))

    def test_empty_batches_have_no_mean(self) -> None:
        with pytest.raises(ShapeError, match="the mean over an empty batch is undefined"):
            GaussianKL().forward(np.ones((0, 4)))

    @pytest.mark.needs("torch")
    def test_arrays_of_two_libraries_are_refused(self, torch) -> None:  # type: ignore[no-untyped-def]
        with pytest.raises(MixedArraysError, match="GaussianKL: arrays of numpy and torch"):
            GaussianKL().forward(X, torch.tensor(X))

    def test_backward_needs_a_forward(self) -> None:
        with pytest.raises(RuntimeError, match="backward needs a forward first"):
            GaussianKL().backward()
