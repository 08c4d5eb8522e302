"""Refused arguments leave parameters and state unchanged."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tests.harness import Backend
from tests.optimizers.roster import Rule, assert_same, each_rule, moved, sample, snapshot, values
from xpdl.errors import DTypeError, MixedArraysError, ShapeError
from xpdl.optimizers import SGD, Adam, Momentum

BAD = {
    "a gradient is missing": (KeyError, "'scale' has no gradient", lambda b, p, g: g.pop("scale")),
    "a gradient is None": (KeyError, "'scale' has no gradient", lambda b, p, g: g.update(scale=None)),
    "a gradient is a number": (TypeError, "'scale'.*gradient must be an array", lambda b, p, g: g.update(scale=1.0)),
    "a parameter is a list": (TypeError, "'b'.*parameter must be an array", lambda b, p, g: p.update(b=[1.0] * 4)),
    "a shape differs": (ShapeError, r"'b' has shape \(4,\).*\(1,\)", lambda b, p, g: g.update(b=b.asarray([1.0]))),
    "a parameter of integers": (DTypeError, "'b'.*int64", lambda b, p, g: p.update(b=b.asarray([1, 2, 3, 4]))),
    "a gradient of integers": (DTypeError, "'b', its grad.*int64", lambda b, p, g: g.update(b=b.asarray([1, 2, 3, 4]))),
}


@each_rule
@pytest.mark.parametrize("what", BAD)
@pytest.mark.backends("numpy", "torch", "jax")
@pytest.mark.backends("plain", "numpy:readonly")
def test_bad_input_is_refused_before_anything_changes(backend: Backend, rule: Rule, what: str) -> None:
    error, message, spoil = BAD[what]
    host, history = sample(2)
    params, optimizer = moved(backend, host), rule.make(clip_norm=1.0, max_norm=1.0)
    optimizer.update(params, moved(backend, history[0]))
    grads = moved(backend, history[1])
    spoil(backend, params, grads)
    checked = {name: p for name, p in params.items() if not isinstance(p, list)}
    before = snapshot(backend, checked, optimizer)
    with pytest.raises(error, match=message):
        optimizer.update(params, grads)
    assert_same(snapshot(backend, checked, optimizer), before)


@pytest.mark.backends("torch", "jax", "array_api_strict")
@pytest.mark.backends("eager")
@pytest.mark.parametrize("which", ["the gradients", "a parameter", "the memory"])
def test_mixed_libraries_are_refused_before_anything_changes(backend: Backend, which: str) -> None:
    host, (g, _) = sample(2)
    optimizer, params, grads = Momentum(), moved(backend, host), moved(backend, g)
    if which == "the gradients":
        grads = dict(g)
    elif which == "a parameter":
        params["scale"], grads["scale"] = np.array(host["scale"]), np.array(g["scale"])
    else:
        optimizer.update({name: a.copy() for name, a in host.items()}, g)
    kept, count = dict(params), optimizer.iter
    memory = {name: np.array(v) for name, v in optimizer.v.items()}
    before = values(backend, {name: p for name, p in params.items() if not isinstance(p, np.ndarray)})
    with pytest.raises(MixedArraysError, match=r"Momentum: parameter '.*numpy.*mixed"):
        optimizer.update(params, grads)
    assert optimizer.iter == count and all(params[name] is p for name, p in kept.items())
    assert_same({name: np.array(v) for name, v in optimizer.v.items()}, memory)
    assert_same(values(backend, {name: params[name] for name in before}), before)


@pytest.mark.backends("strict:device1")
def test_mixed_devices_are_refused(backend: Backend) -> None:
    here = backend.asarray([1.0])
    elsewhere = backend.xp.asarray([1.0], device=backend.xp.Device("CPU_DEVICE"))
    for params, grads in (
        ({"a": here}, {"a": elsewhere}),
        ({"a": here, "b": elsewhere}, {"a": here, "b": elsewhere}),
    ):
        with pytest.raises(MixedArraysError, match="devices"):
            SGD().update(params, grads)


def test_what_is_no_dict_is_refused() -> None:
    one = {"a": np.ones(2)}
    for params, grads, what in ((3, one, "params"), (one, [np.ones(2)], "grads"), ([1.0], one, "params")):
        with pytest.raises(TypeError, match=rf"SGD\.update: {what} must be a dict of arrays by name, got"):
            SGD().update(params, grads)


@pytest.mark.backends("numpy", "torch")
@pytest.mark.backends("plain")
def test_another_network_under_the_same_names_is_refused(backend: Backend) -> None:
    optimizer = Adam()
    one = {"W": backend.asarray(np.ones(3))}
    optimizer.update(one, one)
    wide, narrow = backend.asarray(np.ones(4)), backend.asarray(np.ones(3), "float32")
    with pytest.raises(ShapeError, match=r"'W' has shape \(4,\), but had \(3,\) in earlier updates"):
        optimizer.update({"W": wide}, {"W": wide})
    with pytest.raises(DTypeError, match="'W' is float32, but was float64 in earlier updates"):
        optimizer.update({"W": narrow}, {"W": narrow})


@pytest.mark.exhaustive
@each_rule
@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
def test_either_byte_order_is_one_dtype(rule: Rule, dtype: str) -> None:
    """As of a file of big-endian floats: gradients and a loaded state come in the native order."""
    start, history = np.linspace(-1.0, 1.0, 12).reshape(3, 4), np.random.default_rng(5).normal(size=(6, 3, 4))
    swapped, native = ({"W": start.astype(order + dtype)} for order in "><")
    one, other = rule.make(), rule.make()
    for step, g in enumerate(history):
        if step == 3:
            one.load_state_dict(other.state_dict())
        one.update(swapped, {"W": g.astype("><"[step % 2] + dtype)})
        other.update(native, {"W": g.astype("<" + dtype)})
    assert swapped["W"].dtype == ">" + dtype
    np.testing.assert_allclose(swapped["W"].astype("f8"), native["W"].astype("f8"), rtol=float(np.finfo(dtype).eps))


BAD_STATE = {
    "no dict": lambda state: 3,
    "a key is missing": lambda state: state.pop("beta1"),
    "a key is too much": lambda state: state.update(rho=0.9),
    "another optimizer": lambda state: state.update(optimizer="AdamW"),
    "iter is negative": lambda state: state.update(iter=-1),
    "iter is a float": lambda state: state.update(iter=1.0),
    "lr is NaN": lambda state: state.update(lr=math.nan),
    "beta2 is 1": lambda state: state.update(beta2=1.0),
    "m is no dict": lambda state: state.update(m=np.ones(3)),
    "v lacks a parameter": lambda state: state["v"].pop("b"),
    "v has another parameter": lambda state: state["v"].update(c=np.ones(3)),
    "a list": lambda state: state["v"].update(b=[1.0] * 4),
    "another shape": lambda state: state["v"].update(b=np.ones(5)),
    "another dtype": lambda state: state["v"].update(b=np.ones(4, np.float32)),
    "integers": lambda state: (state["m"].update(b=np.ones(4, int)), state["v"].update(b=np.ones(4, int))),
}


@pytest.mark.parametrize("what", BAD_STATE)
def test_a_bad_state_is_refused_and_changes_nothing(what: str) -> None:
    host, history = sample(3)
    optimizer, other = Adam(), Adam(lr=0.5)
    for g in history:
        optimizer.update(host, g)
    other.update(host, history[0])
    state = other.state_dict()
    spoiled = BAD_STATE[what](state)
    before = optimizer.state_dict()
    with pytest.raises((ValueError, TypeError), match=r"Adam\.load_state_dict"):
        optimizer.load_state_dict(spoiled if what == "no dict" else state)
    after = optimizer.state_dict()
    for key, value in before.items():
        if isinstance(value, dict):
            assert_same(after[key], value)
        else:
            assert after[key] == value


def test_the_state_of_an_optimizer_that_has_done_nothing_can_be_loaded() -> None:
    resumed = Adam(lr=0.5)
    resumed.load_state_dict(Adam(lr=0.25).state_dict())
    assert (resumed.iter, resumed.lr, resumed.m) == (0, 0.25, {})


def test_a_state_with_other_keys_is_an_error_that_lists_both() -> None:
    state = SGD().state_dict()
    with pytest.raises(
        ValueError, match=r"keys \['clip_norm', 'iter', .*\], got \['clip_norm', .*'max_norm', 'momentum'"
    ) as e:
        SGD().load_state_dict({**state, "momentum": 0.9})
    assert str(sorted({*state, "momentum"})) in str(e.value)
    with pytest.raises(ValueError, match=r"SGD\.load_state_dict: expected a dict with the keys .*, got int"):
        SGD().load_state_dict(3)  # type: ignore[arg-type]


def test_a_state_with_arrays_of_two_libraries_is_refused() -> None:
    import array_api_strict as strict

    optimizer = Momentum()
    optimizer.update({"a": np.ones(2), "b": np.ones(2)}, {"a": np.ones(2), "b": np.ones(2)})
    state = optimizer.state_dict()
    state["v"]["b"] = strict.ones(2, dtype=strict.float64)
    with pytest.raises(MixedArraysError, match=r"Momentum\.load_state_dict: v\['a'\]: arrays of"):
        optimizer.load_state_dict(state)
