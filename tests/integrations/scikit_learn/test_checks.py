"""All checks that scikit-learn has for estimators."""

from contextlib import nullcontext as does_not_raise

import pytest

pytest.importorskip("sklearn", reason="checks of scikit-learn")

from sklearn.utils.estimator_checks import parametrize_with_checks

import xpdl
from xpdl.integrations.scikit_learn import XpdlClassifier, XpdlRegressor

# few epochs, in which the small tables of the checks are learnt
QUICK = {"epochs": 10, "learning_rate": 0.02, "random_state": 0}


def answers(features, classes):
    layers = [xpdl.Affine(units=64), xpdl.Relu(), xpdl.Affine(units=classes)]
    return xpdl.Sequential(*layers, loss=xpdl.SigmoidWithLoss)


def smooth(features, targets):
    layers = [xpdl.Affine(units=16), xpdl.Tanh(), xpdl.Affine(units=16), xpdl.Tanh(), xpdl.Affine(units=targets)]
    return xpdl.Sequential(*layers, loss=xpdl.IdentityWithLoss)


DEFAULT = [XpdlClassifier(**QUICK), XpdlRegressor(**QUICK)]
OTHERS = [
    XpdlClassifier(answers, **QUICK),
    XpdlClassifier(early_stopping=True, **QUICK),
    XpdlClassifier(hidden_layer_sizes=(20, 20), **QUICK),
    XpdlClassifier(optimizer="adamw", weight_decay=0.01, schedule="constant", **QUICK),
    XpdlRegressor(smooth, **QUICK),
    XpdlRegressor(early_stopping=True, **QUICK),
    XpdlRegressor(scale_targets=False, **QUICK),
]


def expected_failures(estimator):
    """Mini-batches have so many rows, whatever these weigh; so have the rows to validate with."""
    if not estimator.early_stopping:
        return {}
    reason = "rows to validate with are drawn from those that there are, whatever their weights"
    return {f"check_sample_weight_equivalence_on_{kind}_data": reason for kind in ("dense", "sparse")}


@parametrize_with_checks(DEFAULT, expected_failed_checks=expected_failures)
def test_passes(estimator, check):
    with does_not_raise():
        check(estimator)


@pytest.mark.exhaustive
@parametrize_with_checks(OTHERS, expected_failed_checks=expected_failures)
def test_passes_with_other_parameters(estimator, check):
    with does_not_raise():
        check(estimator)
