"""HyperParameter-parameters: bounds, and changes between steps."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tests.harness import Backend
from tests.optimizers.roster import Rule, each_rule
from xpdl.optimizers import SGD

HYPERS = {
    "lr": (-0.1, math.nan, math.inf, None, "fast", True, np.ones(1)),
    "momentum": (-0.1, 1.0, math.nan, None),
    "decay_rate": (-0.1, 1.0),
    "rho": (-0.1, 1.0),
    "beta1": (-0.1, 1.0),
    "beta2": (-0.1, 1.0),
    "eps": (0.0, -1e-7, None),
    "max_norm": (0.0, -1.0, math.inf, "1"),
    "clip_norm": (0.0, -1.0, math.inf, "1"),
}


@each_rule
def test_hyper_parameters_out_of_bounds_are_refused(rule: Rule) -> None:
    optimizer = rule.make()
    names = [name for name in HYPERS if hasattr(optimizer, name)]
    assert {"lr", "max_norm", "clip_norm", *rule.hyper_parameters} - {"weight_decay"} <= set(names)
    for name in names:
        before = getattr(optimizer, name)
        for bad in HYPERS[name]:
            with pytest.raises(ValueError, match=f"{rule.id}: {name} must be a finite number"):
                rule.cls(**{name: bad})
            with pytest.raises(ValueError, match=name):
                setattr(optimizer, name, bad)
        assert getattr(optimizer, name) == before


@each_rule
def test_weight_decay_of_the_wrong_kind_is_refused(rule: Rule) -> None:
    wrong = [{"l2": 0.1}, -0.1, "l2"] if rule.id == "AdamW" else [0.1, {"l3": 0.1}, {"l2": -0.1}, ["l2"]]
    for bad in wrong:
        with pytest.raises(ValueError, match=f"{rule.id}: (weight_decay|l2) must be"):
            rule.cls(weight_decay=bad)


@each_rule
def test_an_unknown_option_is_refused(rule: Rule) -> None:
    with pytest.raises(TypeError, match="learning_rate"):
        rule.cls(learning_rate=0.1)


@pytest.mark.backends("eager")
def test_lr_can_be_changed_between_steps(backend: Backend) -> None:
    params, optimizer = {"p": backend.asarray([0.0])}, SGD(lr=1.0)
    g = {"p": backend.asarray([1.0])}
    optimizer.update(params, g)
    optimizer.lr = 0.0  # the end of schedules
    optimizer.update(params, g)
    optimizer.lr *= 2
    optimizer.lr += 0.5
    optimizer.update(params, g)
    backend.check(params["p"], np.array([-1.5]))
