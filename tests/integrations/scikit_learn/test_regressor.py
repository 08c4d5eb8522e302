"""The regressor: targets of any scale and shape."""

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="estimators of scikit-learn")

import xpdl
from xpdl.integrations.scikit_learn import XpdlRegressor

_rng = np.random.default_rng(5)
X = _rng.standard_normal((100, 3))
Y = X[:, 0] * X[:, 1] + X[:, 2]
QUICK = {"epochs": 100, "random_state": 0}


@pytest.mark.parametrize(("factor", "offset"), [(1.0, 0.0), (1e-6, 0.0), (1e4, 1e6), (3.0, 50.0)])
def test_scale_and_offset_of_the_targets_do_not_matter(factor, offset):
    plain, other = XpdlRegressor(**QUICK).fit(X, Y), XpdlRegressor(**QUICK).fit(X, factor * Y + offset)
    np.testing.assert_allclose(other.predict(X), factor * plain.predict(X) + offset, rtol=1e-4, atol=1e-4 * abs(factor))
    assert other.score(X, factor * Y + offset) > 0.95
    assert other.target_mean_ == pytest.approx(factor * Y.mean() + offset)
    assert other.target_scale_ == pytest.approx(abs(factor) * Y.std())


def test_targets_as_they_are_are_the_outputs_of_the_net():
    model = XpdlRegressor(scale_targets=False, **QUICK).fit(X, Y + 3)
    np.testing.assert_array_equal(model.predict(X), model.net_.predict(X)[:, 0])
    assert (model.target_mean_, model.target_scale_) == (0, 1) and model.score(X, Y + 3) > 0.6


def test_bounded_outputs_are_for_targets_as_they_are():
    def build(features, targets):
        layers = [xpdl.Affine(units=20), xpdl.Relu(), xpdl.Affine(units=targets), xpdl.Sigmoid()]
        return xpdl.Sequential(*layers, loss=xpdl.IdentityWithLoss)

    y = 1 / (1 + np.exp(-3 * Y))
    bounded = XpdlRegressor(build, scale_targets=False, **QUICK).fit(X, y)
    assert bounded.score(X, y) > 0.9 and np.all((bounded.predict(X) > 0) & (bounded.predict(X) < 1))


@pytest.mark.parametrize("shape", [(100,), (100, 1), (100, 3)])
def test_predictions_have_the_shape_of_the_targets(shape):
    y = np.resize(np.stack([Y, 1000 * Y, X[:, 0]], axis=1)[:, : shape[-1] if shape[1:] else 1], shape)
    model = XpdlRegressor(**QUICK).fit(X, y)
    assert model.predict(X).shape == shape and model.score(X, y) > 0.9
    assert np.shape(model.target_scale_) == shape[1:]


@pytest.mark.parametrize("value", [0.0, 5.0, 1e8])
def test_a_constant_target_is_predicted(value):
    model = XpdlRegressor(**QUICK).fit(X, np.full(100, value))
    np.testing.assert_allclose(model.predict(X), value, rtol=1e-6, atol=0.3)
    assert model.target_scale_ == 1


@pytest.mark.parametrize(
    ("units", "loss", "error", "message"),
    [
        (
            2,
            xpdl.IdentityWithLoss,
            ValueError,
            r"build must end in 1 numbers, one for each target, got .*\(2,\)",
        ),
        (1, xpdl.SigmoidWithLoss, TypeError, "build must return a Sequential with IdentityWithLoss, got"),
        (1, None, TypeError, "build must return a Sequential with IdentityWithLoss, got"),
    ],
)
def test_a_net_that_does_not_suit_is_refused(units, loss, error, message):
    with pytest.raises(error, match=f"^XpdlRegressor: {message}"):
        XpdlRegressor(lambda: xpdl.Sequential(xpdl.Affine(units=units), loss=loss)).fit(X, Y)


def test_score_counts_rows_by_their_weights():
    model, weights = XpdlRegressor(epochs=2, random_state=0).fit(X, Y), _rng.random(100)
    y, mean = model.predict(X), np.average(Y, weights=weights)
    expected = 1 - np.average((Y - y) ** 2, weights=weights) / np.average((Y - mean) ** 2, weights=weights)
    assert model.score(X, Y, sample_weight=weights) == pytest.approx(expected)
