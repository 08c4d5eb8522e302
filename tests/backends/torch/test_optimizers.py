"""Updates of PyTorch's tensors in place are those of the generic step, for every rule, option and memory order."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import xpdl.optimizers
from tests.harness import nonempty
from tests.optimizers.roster import Rule, each_rule
from xpdl import AdamW
from xpdl.backends import dispatch, registry
from xpdl.backends.dispatch import DECLINE
from xpdl.backends.namespaces import array_namespace

pytestmark = pytest.mark.needs("torch")
SHAPES = {"matrix": (7, 5), "filters": (4, 3, 2, 2), "bias": (3,), "scalar": (), "none": (0, 3)}
OPTIONS = [
    {},
    {"max_norm": 0.5},
    {"clip_norm": 1.0},
    {"weight_decay": {"l1": 0.01, "l2": 0.1}},
    {"clip_norm": 0.3, "weight_decay": {"l2": 0.1}, "max_norm": 0.9},
]


def trained(torch: Any, rule: Rule, dtype: str, options: Any, layout: Any, apply: Any = None) -> Any:
    rng, kind = np.random.default_rng(0), getattr(torch, dtype)

    def drawn(shape: Any) -> Any:
        return torch.tensor(rng.normal(size=shape)).to(kind)

    params = {name: layout(drawn(shape)) for name, shape in SHAPES.items()}
    optimizer, kept = rule.make(**options), dict(params)
    for flag in apply or [None] * 3:
        optimizer.update(params, {name: drawn(shape) for name, shape in SHAPES.items()}, apply_if=flag)
    assert all(params[name] is p for name, p in kept.items())
    return params, {kind: getattr(optimizer, kind) for kind in rule.cls.state_names}


def as_made(a: Any) -> Any:
    return a


def columns_first(a: Any) -> Any:
    return a.T.contiguous().T if a.ndim == 2 else a


def filters_last(a: Any) -> Any:
    return a.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2) if a.ndim == 4 else a


def options_of(rule: Rule, options: Any) -> Any:
    return options | {"weight_decay": 0.1} if rule.cls is AdamW and "weight_decay" in options else options


@each_rule
@pytest.mark.parametrize("layout", [as_made, columns_first, filters_last])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16"])
def test_every_rule_gives_what_the_generic_step_gives(
    torch: Any, rule: Rule, dtype: str, options: Any, layout: Any
) -> None:
    options = options_of(rule, options)
    params, state = trained(torch, rule, dtype, options, layout)
    with dispatch.generic_only():
        expected, expected_state = trained(torch, rule, dtype, options, layout)
    rtol = {"float64": 1e-13, "float32": 1e-5}.get(dtype, 1e-2)
    for found, wanted in nonempty([(params, expected), *((state[kind], expected_state[kind]) for kind in state)]):
        torch.testing.assert_close(found, wanted, rtol=rtol, atol=rtol)


@each_rule
def test_a_kernel_answers_for_every_rule(torch: Any, rule: Rule, monkeypatch: pytest.MonkeyPatch) -> None:
    (kernel,) = dispatch.kernels_for(array_namespace(torch.zeros(1)))["fused_update"]
    answers = []

    def watched(*args: Any) -> Any:
        answers.append(kernel(*args))
        return answers[-1]

    monkeypatch.setitem(registry._lists["torch"], "fused_update", (watched,))
    trained(torch, rule, "float32", {}, as_made)
    assert len(answers) == 3 and not any(answer is DECLINE for answer in answers)


def test_every_rule_of_an_exported_optimizer_is_known(torch: Any) -> None:
    dispatch.kernels_for(array_namespace(torch.zeros(1)))
    from xpdl.backends.torch.optimizers import RULES

    exported = [getattr(xpdl.optimizers, name) for name in xpdl.optimizers.__all__]
    assert {cls.rule.__name__ for cls in exported if getattr(cls, "rule", None)} == set(RULES)


@each_rule
def test_a_skipped_update_leaves_everything_as_it_is(torch: Any, rule: Rule) -> None:
    flags = [torch.tensor(flag) for flag in (True, False, True)]
    params, state = trained(torch, rule, "float64", {}, as_made, flags)
    with dispatch.generic_only():
        expected, expected_state = trained(torch, rule, "float64", {}, as_made, flags)
    torch.testing.assert_close((params, state), (expected, expected_state), rtol=1e-13, atol=1e-13)


def test_rule_of_ones_own_is_left_to_its_step(torch: Any) -> None:
    class Halved(xpdl.SGD):
        def step(self, p: Any, g: Any, *state: Any) -> Any:
            return (p - self.lr * g / 2,)

    params = {"W": torch.ones(4)}
    Halved(0.5).update(params, {"W": torch.ones(4)})
    assert params["W"].tolist() == [0.75] * 4


def test_gradients_of_another_dtype_are_cast(torch: Any) -> None:
    params = {"W": torch.ones(4)}
    xpdl.SGD(0.5).update(params, {"W": torch.ones(4, dtype=torch.float64)})
    assert params["W"].dtype == torch.float32 and params["W"].tolist() == [0.5] * 4


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_denormals_are_flushed_below_the_limit_alone(torch: Any, dtype: str) -> None:
    from xpdl.optimizers.fused_update import flush_denormals

    info = torch.finfo(getattr(torch, dtype))
    limit = info.smallest_normal / info.eps
    values = [limit * (1 - info.eps / 2), limit, info.smallest_normal, 0.0, 1.0, float("inf"), float("nan")]
    x = torch.tensor(values + [-value for value in values], dtype=getattr(torch, dtype))
    with dispatch.generic_only():
        expected = flush_denormals(x.clone())
    torch.testing.assert_close(flush_denormals(x.clone()), expected, rtol=0, atol=0, equal_nan=True)
