"""Measures over whole data sets equal those of one pass over all rows."""

import numpy as np
import pytest

from xpdl import Affine, Sequential, ShapeError, SoftmaxWithLoss
from xpdl.training import evaluation

RNG = np.random.default_rng(0)


@pytest.fixture
def case():
    network = Sequential(Affine(units=3), loss=SoftmaxWithLoss, seed=0)
    network.build((4,))
    return network, RNG.normal(size=(457, 4)).astype(np.float32), RNG.integers(0, 3, 457)


def test_accuracy_counts_all_rows(case):
    network, x, t = case
    assert evaluation.accuracy(network, x, t) == np.mean(network.predict(x).argmax(axis=1) == t)


def test_mean_loss_weighs_all_rows_alike(case):
    network, x, t = case
    assert evaluation.mean_loss(network, x, t) == pytest.approx(float(network.loss(x, t)), rel=1e-5)


@pytest.mark.parametrize("measure", [evaluation.accuracy, evaluation.mean_loss])
def test_rows_must_fit_together(case, measure):
    network, x, t = case
    for rows in (0, 3):
        with pytest.raises(ShapeError, match="as many rows"):
            measure(network, x[:0], t[:rows])
