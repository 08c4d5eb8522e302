"""Short searches, and when two are the same."""

import dataclasses

from tests.search import builds
from xpdl import choice, log_uniform, random_search, successive_halving

SPACE = {"lr": log_uniform(1e-3, 1.0), "units": choice(range(2, 8))}


def search(build=builds.net, space=SPACE, n_trials=4, **options):
    return random_search(build, space, n_trials, **{"seed": 0, "verbose": False, **options})


def halve(build=builds.net, space=SPACE, n_trials=9, **options):
    return successive_halving(build, space, n_trials, **{"seed": 0, "verbose": False, **options})


def same(one, other):
    """All but the time they took."""
    assert [dataclasses.replace(t, seconds=0, history=None) for t in one.trials] == [
        dataclasses.replace(t, seconds=0, history=None) for t in other.trials
    ]
    for a, b in zip(one.trials, other.trials, strict=True):
        if a.history is not None:
            assert a.history.train_loss_list == b.history.train_loss_list
            assert a.history.test_acc_list == b.history.test_acc_list
    assert [t.number for t in one.ranked] == [t.number for t in other.ranked]
