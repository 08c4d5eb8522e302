"""A training whose loss ended above its start says so; noise on a plateau and short runs do not."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest

from xpdl import SGD, Affine, IdentityWithLoss, Sequential
from xpdl.training import History, Trainer
from xpdl.training.divergence import rise

_rng = np.random.default_rng(0)


def history(losses: Any, epochs: int) -> History:
    return History(train_loss_list=list(map(float, losses)), seconds=[1.0] * epochs)


@pytest.mark.parametrize(
    ("losses", "epochs", "before", "after"),
    [
        (np.linspace(1, 3, 40), 4, 1.23, 2.77),
        (np.linspace(1, 3, 40), 1, 1.23, 2.77),
        ([2.3, *[1e4] * 19, *[5.0] * 20], 2, 2.3, 5.0),  # exploded in the first epoch
        (np.r_[_rng.normal(-5, 0.1, 50), _rng.normal(-4, 0.1, 50)], 2, -5.0, -4.0),
        (np.linspace(1, 3, 10), 10, 1.0, 3.0),  # an epoch a step
    ],
)
def test_a_loss_that_rose_is_found(losses: Any, epochs: int, before: float, after: float) -> None:
    found = rise(history(losses, epochs))
    assert found == pytest.approx((before, after), abs=0.15)


@pytest.mark.parametrize(
    ("losses", "epochs"),
    [
        ([], 0),
        ([1.0], 1),
        ([1.0, 9.0], 1),
        (range(9), 3),
        (np.linspace(3, 1, 40), 4),
        ([2.0] * 40, 4),
        ([0.0] * 40, 1),
        (_rng.normal(2.3, 0.3, 300), 3),  # a plateau
        (np.abs(_rng.normal(0, 1, 300)), 30),  # a regression that nothing explains
        (np.r_[np.linspace(9, 1, 20), _rng.normal(1.2, 0.2, 60)], 4),
        ([1.05, 1.1, 1.25, 1.15, 1.2, 1.1, 1.2, 1.1, 1.19, 1.21, 1.19, 1.21], 4),
    ],
    ids=[
        "none",
        "one step",
        "two steps",
        "nine steps",
        "falls",
        "constant",
        "zero",
        "plateau",
        "regression",
        "overshoots",
        "lucky first step",
    ],
)
def test_noise_and_short_runs_have_not_risen(losses: Any, epochs: int) -> None:
    assert rise(history(losses, epochs)) is None


def test_plateaus_of_many_seeds_are_hardly_ever_taken_for_a_rise() -> None:
    found = sum(rise(history(np.random.default_rng(seed).normal(2.3, 0.2, 200), 4)) is not None for seed in range(300))
    assert found <= 3


def test_a_trainer_warns_once_and_says_what_to_do() -> None:
    x = np.random.default_rng(1).normal(size=(20, 3)).astype("float32")
    net = Sequential(Affine(units=1), loss=IdentityWithLoss, seed=0)
    trainer = Trainer(net, x, x[:, :1], epochs=12, mini_batch_size=20, optimizer=SGD(lr=3.0), verbose=False)
    with pytest.warns(
        UserWarning, match=r"Trainer: the loss ended above its start, at .* after .*; lower the learning rate"
    ):
        trainer.train()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert trainer.train() is trainer.history  # nothing was trained
