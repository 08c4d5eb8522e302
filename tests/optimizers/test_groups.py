"""Weight decay and learning rates by parameter: each group is updated as by an optimizer of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.harness import Backend
from tests.optimizers.roster import RULES, Rule
from xpdl import SGD, AdamW, Affine, Sequential, SoftmaxWithLoss, StepLR, Trainer
from xpdl.optimizers import Optimizer

NAMES = ("Affine1.W", "Affine1.b", "BatchNormalization1.gamma", "Affine2.W", "Affine2.b")
SHAPES = {"W": (4, 3), "b": (3,), "gamma": (3,)}

#: decay= -> the names that decay
DECAYS: dict[str, tuple[Any, set[str]]] = {
    "wildcard": ("*.W", {"Affine1.W", "Affine2.W"}),
    "one name": ("Affine1.b", {"Affine1.b"}),
    "list": (["Affine2.*", "*.gamma"], {"Affine2.W", "Affine2.b", "BatchNormalization1.gamma"}),
    "weights": ("weights", {"Affine1.W", "Affine2.W"}),
    "predicate": (lambda name: name.startswith("Affine1"), {"Affine1.W", "Affine1.b"}),
}

each_rule = pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.id)


def arrays(seed: int) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    return {name: rng.standard_normal(SHAPES[name.split(".")[1]]) for name in NAMES}


def decaying(rule: Rule, **more: Any) -> Optimizer:
    strength: Any = 0.1 if rule.cls is AdamW else {"l1": 0.05, "l2": 0.1}
    return rule.make(weight_decay=strength, **more)


def spared(rule: Rule, **more: Any) -> Optimizer:
    return rule.make(**({"weight_decay": 0.0} if rule.cls is AdamW else {}), **more)


def updated(backend: Backend, optimizers: Callable[[str], Optimizer]) -> dict[str, Any]:
    """Parameters after three updates, each by the optimizer of its name."""
    params = {name: backend.asarray(a) for name, a in arrays(0).items()}
    for step in range(1, 4):
        grads = {name: backend.asarray(a) for name, a in arrays(step).items()}
        for optimizer in {id(o): o for o in map(optimizers, NAMES)}.values():
            own = {name: p for name, p in params.items() if optimizers(name) is optimizer}
            optimizer.update(own, grads)
            params.update(own)
    return {name: backend.to_numpy(p) for name, p in params.items()}


@pytest.mark.backends("values")
@pytest.mark.backends("eager")
@each_rule
class TestOnEveryBackend:
    @pytest.mark.parametrize("name", DECAYS)
    def test_decay_applies_to_what_is_named(self, backend: Backend, rule: Rule, name: str) -> None:
        decay, decays = DECAYS[name]
        two = {True: decaying(rule), False: spared(rule)}
        wanted = updated(backend, lambda name: two[name in decays])
        one = decaying(rule, decay=decay)
        found = updated(backend, lambda name: one)
        without = spared(rule)
        plain = updated(backend, lambda name: without)
        for name in NAMES:
            np.testing.assert_array_equal(found[name], wanted[name], err_msg=name)
            assert np.array_equal(found[name], plain[name]) == (name not in decays)

    def test_rates_apply_to_what_is_named(self, backend: Backend, rule: Rule) -> None:
        factors = {"Affine1.*": 0.1, "*.b": 3.0, "Affine2.W": 0.0}
        own = {"Affine1.W": 0.1, "Affine1.b": 0.1, "BatchNormalization1.gamma": 1.0, "Affine2.W": 0.0, "Affine2.b": 3.0}
        lr = rule.make().lr
        several = {name: decaying(rule, lr=lr * factor) for name, factor in own.items()}
        one = decaying(rule, lr_groups=factors)
        found, wanted = updated(backend, lambda name: one), updated(backend, several.__getitem__)
        for name in NAMES:
            np.testing.assert_allclose(found[name], wanted[name], rtol=1e-6, err_msg=name)
        assert one.lr == lr


@each_rule
def test_hyper_parameters_are_as_before_after_a_step_that_fails(rule: Rule) -> None:
    class Failing(rule.cls):  # type: ignore[name-defined,misc]
        def step(self, p: Any, g: Any, *memory: Any) -> Any:
            raise RuntimeError("no")

    optimizer = Failing(decay="*.W", lr_groups={"*.b": 0.5}, weight_decay=0.1 if rule.cls is AdamW else {"l2": 0.1})
    before = optimizer.state_dict()
    with pytest.raises(RuntimeError, match="no"):
        optimizer.update(arrays(0), arrays(1))
    assert optimizer.state_dict() == before


@pytest.mark.parametrize("options", [{"decay": "Afine*"}, {"decay": ["*.W", "Afine*"]}, {"lr_groups": {"Afine*": 0.1}}])
def test_a_name_of_no_parameter_is_an_error(options: Any) -> None:
    params = arrays(0)
    with pytest.raises(ValueError, match=r"SGD: no parameter is called 'Afine\*'; there are Affine1.W, "):
        SGD(weight_decay={"l2": 0.1}, **options).update(params, arrays(1))
    for name, p in arrays(0).items():
        np.testing.assert_array_equal(params[name], p)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"decay": 3}, TypeError),
        ({"decay": []}, TypeError),
        ({"decay": ""}, TypeError),
        ({"decay": [1]}, TypeError),
        ({"lr_groups": ["W"]}, TypeError),
        ({"lr_groups": {1: 0.5}}, TypeError),
        ({"lr_groups": {"W": -1}}, ValueError),
        ({"lr_groups": {"W": float("nan")}}, ValueError),
        ({"lr_groups": {"W": "0.1"}}, ValueError),
    ],
)
def test_other_values_are_refused(options: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match=rf"SGD: {next(iter(options))}"):
        SGD(**options)


def test_repr_says_what_decays() -> None:
    some: Any = {"weight_decay": {"l2": 0.5}}
    shown = "SGD(lr=0.01, l2=0.5, decay=('*.W',), lr_groups={'*.b': 2.0})"
    assert repr(SGD(decay="*.W", lr_groups={"*.b": 2}, **some)) == shown

    def weights_only(name: str) -> bool:
        return name.endswith("W")

    shown = repr(SGD(decay=weights_only, **some))
    assert "decay=" in shown and " at 0x" not in shown


def test_schedules_and_factors_compose() -> None:
    rng = np.random.default_rng(0)
    x, t = rng.standard_normal((40, 4)), np.arange(40) % 3
    net = Sequential(Affine(units=3), loss=SoftmaxWithLoss, seed=0)
    net.build((4,))
    before = {name: p.copy() for name, p in net.params.items()}
    optimizer = SGD(lr=0.1, lr_groups={"*.b": 0.0})
    Trainer(net, x, t, x, t, 2, 20, optimizer, verbose=False, seed=0, callbacks=[StepLR(1, 0.5)]).train()
    assert optimizer.lr < 0.1
    np.testing.assert_array_equal(net.params["Affine1.b"], before["Affine1.b"])
    assert not np.array_equal(net.params["Affine1.W"], before["Affine1.W"])
