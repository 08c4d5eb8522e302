"""Looking up an optimizer by name."""

from __future__ import annotations

import pytest

from tests.optimizers.roster import RULES, Rule
from xpdl import optimizers
from xpdl.optimizers import SGD, Adam


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.id)
def test_every_optimizer_is_found_by_name_in_any_case(rule: Rule) -> None:
    for name in (rule.id, rule.id.lower(), rule.id.upper()):
        found = optimizers.get(name, **rule.hyper_parameters)
        assert type(found) is rule.cls
        assert {key: getattr(found, key) for key in rule.hyper_parameters} == rule.hyper_parameters


def test_a_class_is_made_and_an_optimizer_passed_through() -> None:
    optimizer = Adam()
    assert optimizers.get(optimizer) is optimizer
    assert isinstance(optimizers.get(SGD, lr=0.5), SGD)


def test_an_unknown_name_is_refused_with_the_names_there_are() -> None:
    with pytest.raises(ValueError, match=r"'adamm'.*SGD, Momentum, Nesterov, AdaGrad, RMSprop, AdaDelta, Adam, AdamW"):
        optimizers.get("adamm")


def test_parameters_for_an_existing_optimizer_are_refused() -> None:
    with pytest.raises(TypeError, match="takes no parameters"):
        optimizers.get(Adam(), lr=0.1)


@pytest.mark.parametrize("odd", [None, 3, dict])
def test_anything_else_is_refused(odd: object) -> None:
    with pytest.raises(TypeError, match="optimizer: expected its name or class, an Optimizer, or"):
        optimizers.get(odd)  # type: ignore[arg-type]


def test_a_parameter_of_another_optimizer_is_refused() -> None:
    with pytest.raises(TypeError, match="momentum"):
        optimizers.get("sgd", momentum=0.9)


def test_the_representation_shows_what_is_set() -> None:
    assert repr(SGD(lr=0.5, weight_decay={"l2": 0.1})) == "SGD(lr=0.5, l2=0.1)"
