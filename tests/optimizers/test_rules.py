"""Each rule, step by step: against independent numbers, against PyTorch, and as a traced function."""

from __future__ import annotations

import importlib
import math
import pkgutil
from typing import Any

import numpy as np
import pytest

import xpdl.optimizers
from tests.harness import RTOL, Backend, nonempty
from tests.optimizers.roster import RULES, Rule, each_rule, expected, moved, nesterov, sample
from xpdl.backends import dispatch
from xpdl.backends.namespaces import dtype_name
from xpdl.optimizers import Optimizer
from xpdl.optimizers.adam import corrected_rate


@each_rule
@pytest.mark.backends("eager")
def test_thirty_steps_agree_with_independent_numbers(backend: Backend, rule: Rule) -> None:
    host, gradients = sample(30)
    want = {
        name: expected(rule.oracle, host[name], [g[name] for g in gradients], **rule.hyper_parameters) for name in host
    }
    params, optimizer = moved(backend, host), rule.make()
    for t, g in nonempty(enumerate(gradients)):
        with backend.rules():
            optimizer.update(params, moved(backend, g))
        for name, p in nonempty(params.items()):
            backend.check(p, want[name][t])


@each_rule
@pytest.mark.backends("eager")
def test_thirty_steps_in_float32_stay_in_float32(backend: Backend, rule: Rule) -> None:
    host, gradients = sample(30)
    params, optimizer = moved(backend, host, "float32"), rule.make(clip_norm=1e9, max_norm=1e9)
    computed, step = [], optimizer.step

    def spy(*arrays: Any) -> Any:
        # writing in place casts in silence: what is looked at is what the rule was given and gave
        out = step(*arrays)
        computed.extend(dtype_name(a.dtype) for a in (*arrays, *out))
        return out

    optimizer.step = spy  # type: ignore[method-assign]
    for g in gradients:
        # a schedule may well set NumPy's own float64
        optimizer.lr = np.float64(rule.hyper_parameters["lr"])
        with backend.rules():
            optimizer.update(params, moved(backend, g, "float32"))
    assert set(computed) == {"float32"}
    for name, p in params.items():
        start, history = host[name].astype("float32"), [g[name].astype("float32") for g in gradients]
        want = expected(rule.oracle, start, history, **rule.hyper_parameters)[-1]
        backend.check(p, want, dtype="float32", rtol=10 * RTOL["float32"])


@each_rule
@pytest.mark.backends("numpy")
@pytest.mark.backends("plain")
def test_default_hyper_parameters_are_those_of_the_contract(backend: Backend, rule: Rule) -> None:
    host, gradients = sample(3)
    # those that have no default in the oracle: SURFACE's values, typed once more
    stated = {"SGD": {"lr": 0.01}, "Momentum": {"lr": 0.01, "momentum": 0.9}, "Nesterov": {"lr": 0.01, "momentum": 0.9}}
    hyper_parameters = {**stated, "AdaGrad": {"lr": 0.01}}.get(rule.id, {})
    params, optimizer = moved(backend, host), rule.cls()
    for g in gradients:
        optimizer.update(params, moved(backend, g))
    for name, p in nonempty(params.items()):
        backend.check(p, expected(rule.oracle, host[name], [g[name] for g in gradients], **hyper_parameters)[-1])


@pytest.mark.needs("torch")
@each_rule
@pytest.mark.backends("torch")
@pytest.mark.backends("plain")
def test_agrees_with_torch_optim(backend: Backend, rule: Rule) -> None:
    import torch

    host, gradients = sample(30)
    name, arguments = rule.torch
    # in these two alone eps stands elsewhere: made so small that its place does not matter
    tiny = {"eps": 1e-30} if name.startswith("Adam") else {}
    optimizer, params = rule.make(**tiny), moved(backend, host)
    theirs = {key: torch.tensor(a, requires_grad=True) for key, a in host.items()}
    reference = getattr(torch.optim, name)(theirs.values(), lr=rule.hyper_parameters["lr"], **arguments, **tiny)
    for g in nonempty(gradients):
        optimizer.update(params, moved(backend, g))
        for key, p in theirs.items():
            p.grad = torch.tensor(g[key])
        reference.step()
        for key, p in nonempty(theirs.items()):
            backend.check(params[key], p.detach().numpy())


@each_rule
@pytest.mark.backends("jit")
def test_three_steps_agree_when_traced(backend: Backend, rule: Rule) -> None:
    host, gradients = sample(3)

    def run(W: Any, *history: Any) -> Any:
        params, optimizer = {"W": W}, rule.make()
        for g in history:
            optimizer.update(params, {"W": g})
        return params["W"]

    got = backend.call(run, *(backend.asarray(a) for a in (host["W"], *(g["W"] for g in gradients))))
    backend.check(got, expected(rule.oracle, host["W"], [g["W"] for g in gradients], **rule.hyper_parameters)[-1])


@each_rule
@pytest.mark.backends("numpy:readonly")
def test_the_generic_rule_changes_none_of_its_arguments(backend: Backend, rule: Rule) -> None:
    optimizer = rule.make()
    optimizer.iter = 1
    ones = [backend.asarray(np.ones(3)) for _ in range(2 + len(optimizer.state_names))]
    with dispatch.generic_only():
        out = optimizer.step(*ones)
    assert len(out) == 1 + len(optimizer.state_names)
    assert not any(np.shares_memory(a, b) for a in out for b in ones)


def test_every_exported_optimizer_is_in_the_roster() -> None:
    exported = {getattr(xpdl.optimizers, name) for name in xpdl.optimizers.__all__} - {Optimizer}
    assert {rule.cls for rule in RULES} == exported


def test_every_optimizer_has_one_op_that_a_kernel_can_override(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in pkgutil.iter_modules(xpdl.optimizers.__path__, "xpdl.optimizers."):
        importlib.import_module(module.name)
    ops = {name for name, f in dispatch._generics.items() if f.__module__.startswith("xpdl.optimizers.")}
    called = set()

    class Recorder:
        def __getitem__(self, name: str) -> Any:
            called.add(name)
            return ()

    monkeypatch.setattr(dispatch, "kernels_for", lambda xp: Recorder())
    for rule in RULES:
        before = set(called)
        rule.make().update({"p": np.ones(2)}, {"p": np.ones(2)})
        assert called - before, f"{rule.id} calls no op of its own"
    assert called == ops - {"global_norm_scale", "flush_denormals", "corrected_rate"}


@pytest.mark.backends("values")
@pytest.mark.backends("eager")
@pytest.mark.parametrize("beta1, beta2", [(0.9, 0.999), (0.0, 0.5), (0.5, 0.0)])
def test_the_rate_at_an_update_whose_number_a_device_alone_knows(backend: Backend, beta1: float, beta2: float) -> None:
    for updates, skipped_steps in ((1, 0), (5, 4), (7, 2), (100_003, 3)):
        t = updates - skipped_steps
        want = 0.25 * math.sqrt(1.0 - beta2**t) / (1.0 - beta1**t)
        given = backend.asarray(float(skipped_steps))
        rate = backend.call(corrected_rate, given, updates=updates, lr=0.25, beta1=beta1, beta2=beta2)
        backend.check(rate, np.asarray(want), rtol=1e-5)


def _new_velocity(p: float, gradients: list[float], lr: float, momentum: float) -> list[float]:
    """The rule of an early printing of the book."""
    v, found = 0.0, []
    for g in gradients:
        v = momentum * v - lr * g
        p += momentum * momentum * v - (1 + momentum) * lr * g
        found.append(p)
    return found


@pytest.mark.backends("eager")
def test_erratum_22_nesterov_uses_the_old_velocity(backend: Backend) -> None:
    """On f(p) = p^2 / 2 the gradient is the point looked ahead to, so a wrong rule takes another path altogether."""
    lr, momentum, p = 0.1, 0.9, backend.asarray([1.0])
    params, optimizer = {"p": p}, xpdl.optimizers.Nesterov(lr, momentum)
    ahead = [1.0]
    for _ in range(5):
        ahead.append(list(nesterov(1.0, ahead, lr, momentum))[-1])
        with backend.rules():
            optimizer.update(params, {"p": backend.xp.asarray(params["p"], copy=True)})
        backend.check(params["p"], np.array([ahead[-1]]))
    wrong = _new_velocity(1.0, ahead[:-1], lr, momentum)
    assert abs(wrong[-1] - ahead[-1]) > 0.1, "the two rules must differ here, or this test shows nothing"


@pytest.mark.backends("numpy")
@pytest.mark.backends("plain")
def test_erratum_21_ada_delta_exists_and_the_eps_of_adam_stands_outside_the_uncorrected_root(backend: Backend) -> None:
    assert "AdaDelta" in xpdl.optimizers.__all__
    g, eps, lr = 1e-7, 1e-7, 0.1
    params = {"p": backend.asarray([0.0])}
    xpdl.optimizers.Adam(lr=lr, eps=eps).update(params, {"p": backend.asarray([g])})
    m, v = 0.1 * g, 0.001 * g * g
    backend.check(params["p"], np.array([-lr * np.sqrt(1 - 0.999) / (1 - 0.9) * m / (np.sqrt(v) + eps)]))
    elsewhere = -lr * (m / 0.1) / (np.sqrt(v / 0.001) + eps)
    assert abs(float(params["p"][0]) - elsewhere) > 0.01, "the other place of eps must differ here"
