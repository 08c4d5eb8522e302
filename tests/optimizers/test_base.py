"""The loop over parameters: where results are written, the options, and the state."""

from __future__ import annotations

import copy
import os
from contextlib import nullcontext as does_not_raise
from typing import Any

import numpy as np
import pytest

from tests.backends.watched import own_kernels
from tests.harness import Backend, nonempty
from tests.optimizers.roster import Rule, assert_same, each_rule, moved, sample, snapshot, values
from xpdl import optimizers
from xpdl.backends import dispatch, registry
from xpdl.backends.namespaces import array_namespace, is_writable
from xpdl.layers import Affine
from xpdl.layers.parameter_view import ParameterView
from xpdl.optimizers import SGD, Adam, Momentum, Optimizer
from xpdl.optimizers.fused_update import flush_denormals
from xpdl.optimizers.momentum import momentum_step


@each_rule
@pytest.mark.backends("eager")
def test_arrays_are_written_in_place_where_they_can_be_and_rebound_elsewhere(backend: Backend, rule: Rule) -> None:
    host, (g,) = sample(1)
    params, grads, optimizer = moved(backend, host), moved(backend, g), rule.make()
    before = dict(params)
    writable = {name: is_writable(p) for name, p in params.items()}
    with backend.rules():
        optimizer.update(params, grads)
    for name, p in nonempty(before.items()):
        if backend.spec.values:
            changed = not np.array_equal(backend.to_numpy(params[name]), host[name].astype(backend.float))
            assert changed, f"{name} has not been updated"
        if writable[name]:
            assert params[name] is p
        else:
            assert params[name] is not p
            backend.check(p, host[name])
        # an array still, also where the shape is ()
        assert type(params[name]) is type(p)
        assert all(type(getattr(optimizer, kind)[name]) is type(p) for kind in optimizer.state_names)


@pytest.mark.backends("numpy:readonly", "jax")
@pytest.mark.backends("eager")
def test_the_backends_that_rebind_are_really_not_writable(backend: Backend) -> None:
    assert not is_writable(backend.asarray([1.0]))


@each_rule
@pytest.mark.backends("values")
@pytest.mark.backends("eager")
def test_gradients_are_not_modified(backend: Backend, rule: Rule) -> None:
    host, history = sample(3)
    options: dict[str, Any] = {} if rule.id == "AdamW" else {"weight_decay": {"l1": 0.1, "l2": 0.1}}
    params, optimizer = moved(backend, host), rule.make(clip_norm=0.1, max_norm=0.5, **options)
    for g in nonempty(history):
        grads = moved(backend, g)
        given, before = dict(grads), values(backend, grads)
        with backend.rules():
            optimizer.update(params, grads)
        assert all(grads[name] is a for name, a in given.items())
        assert_same(values(backend, grads), before)


@each_rule
@pytest.mark.backends("values")
@pytest.mark.backends("eager")
def test_optimizer_state_is_no_array_of_the_caller(backend: Backend, rule: Rule) -> None:
    """Layers may overwrite their gradients in the next step."""
    host, history = sample(3)
    ours, theirs = moved(backend, host), moved(backend, host)
    one, other = rule.make(), rule.make()
    shared = moved(backend, history[0])
    for g in history:
        for name, array in shared.items():
            if is_writable(array):
                array[...] = backend.asarray(g[name])
            else:
                shared[name] = backend.asarray(g[name])
        one.update(ours, shared)
        other.update(theirs, moved(backend, g))
    assert_same(values(backend, ours), values(backend, theirs))


@pytest.mark.backends("eager")
def test_layers_are_updated_through_a_view_of_their_parameters(backend: Backend) -> None:
    layers = [Affine(backend.asarray(np.ones((3, 2))), backend.asarray(np.ones(2))) for _ in range(2)]
    view = ParameterView({f"{key}{i}": (layer.params, key) for i, layer in enumerate(layers) for key in ("W", "b")})
    with backend.rules():
        SGD(lr=0.5).update(view, {name: backend.asarray(np.full(p.shape, 2.0)) for name, p in view.items()})
    for layer in layers:
        backend.check(layer.W, np.zeros((3, 2)))
        backend.check(layer.b, np.zeros(2))


@pytest.mark.backends("numpy", "jax")
@pytest.mark.backends("plain")
def test_a_kernel_may_write_into_the_parameter_and_the_memory(
    backend: Backend,
) -> None:
    calls = []

    def in_place(p: Any, g: Any, v: Any, *, lr: float, momentum: float) -> Any:
        if not is_writable(p):
            return dispatch.DECLINE
        calls.append(p)
        v *= momentum
        v -= lr * g
        p += v
        return p, v

    # without the kernels that do the whole update
    for group in ("numba", "numpy"):
        registry.withdraw(group, "fused_update")
    registry.kernel(backend.spec.library, "momentum_step")(in_place)
    host, history = sample(4)
    fast, slow = moved(backend, host), moved(backend, host)
    arrays, one, other = dict(fast), Momentum(), Momentum()
    for g in history:
        one.update(fast, moved(backend, g))
        with dispatch.generic_only():
            other.update(slow, moved(backend, g))
    assert len(calls) == (4 * len(host) if backend.spec.library == "numpy" else 0)
    assert all(fast[name] is p for name, p in arrays.items() if calls)
    for name, p in slow.items():
        backend.check(fast[name], backend.to_numpy(p))


@pytest.fixture(autouse=True)
def kernels_of_before() -> Any:
    """A test may register and withdraw kernels."""
    dispatch.kernels_for(array_namespace(np.empty(0)))
    with own_kernels():
        yield


def flushes_denormals() -> bool:
    """A GPU does, and kernels on the host with CUPY_ON_HOST=1 HOSTCUDA_FTZ=1 alone."""
    return "CUPY_ON_HOST" not in os.environ or os.environ.get("HOSTCUDA_FTZ") == "1"


@pytest.mark.backends("values")
@pytest.mark.backends("eager")
@pytest.mark.applies(lambda backend: backend.library != "cupy" or flushes_denormals())
def test_state_of_a_dead_weight_decays_to_zero_and_never_to_denormals(backend: Backend) -> None:
    params, optimizer = {"W": backend.asarray([1.0, 1.0], "float32")}, Adam()
    for k in range(900):
        with backend.rules():
            optimizer.update(params, {"W": backend.asarray([1.0, 1.0 if k < 5 else 0.0], "float32")})
        if k % 9 == 8:
            m = np.abs(backend.to_numpy(optimizer.m["W"]))
            assert np.all((m == 0) | (m >= np.finfo(np.float32).smallest_normal))
    assert m[0] > 0.9 and m[1] == 0


@pytest.mark.backends("eager")
def test_gradients_without_a_parameter_are_passed_over_and_count_for_nothing(backend: Backend) -> None:
    params, g = {"W": backend.asarray([1.0])}, backend.asarray([3.0])
    with backend.rules():
        SGD(lr=1.0, clip_norm=3.0).update(params, {"W": g, "frozen": backend.asarray([1e6])})
    backend.check(params["W"], np.array([-2.0]))


@pytest.mark.backends("eager")
@pytest.mark.backends("float64")
@pytest.mark.parametrize("options", [{}, {"clip_norm": 1e9}])
def test_gradients_of_another_precision_take_that_of_the_parameter(backend: Backend, options: Any) -> None:
    for p_dtype, g_dtype in (("float32", "float64"), ("float64", "float32")):
        params = {"W": backend.asarray([1.0, 2.0], p_dtype), "b": backend.asarray(1.0, "float64")}
        optimizer = Momentum(lr=0.5, **options)
        with backend.rules():
            grads = {"W": backend.asarray([1.0, 1.0], g_dtype), "b": backend.asarray(1.0, "float64")}
            optimizer.update(params, grads)
        backend.check(params["W"], np.array([0.5, 1.5]), dtype=p_dtype)
        backend.check(optimizer.v["W"], np.array([-0.5, -0.5]), dtype=p_dtype)


def test_nothing_to_update_is_fine() -> None:
    with does_not_raise():
        SGD(clip_norm=1.0).update({}, {})
        empty = {"W": np.zeros((0, 3))}
        SGD(clip_norm=1.0).update(empty, empty)


@pytest.mark.backends("eager")
def test_weight_decay_is_added_to_the_gradient(backend: Backend) -> None:
    p, g, l1, l2 = np.array([2.0, -3.0, 0.0]), np.array([0.5, 0.5, 0.5]), 0.1, 0.01
    for decay, extra in (
        ({"l1": l1}, l1 * np.sign(p)),
        ({"l2": l2}, l2 * p),
        ({"l1": l1, "l2": l2}, l1 * np.sign(p) + l2 * p),
    ):
        decayed, plain = {"p": backend.asarray(p)}, {"p": backend.asarray(p)}
        with backend.rules():
            Adam(lr=0.1, weight_decay=decay).update(decayed, {"p": backend.asarray(g)})
            Adam(lr=0.1).update(plain, {"p": backend.asarray(g + extra)})
        backend.check(decayed["p"], values(backend, plain)["p"])
        with backend.rules():
            SGD(lr=1.0, weight_decay=decay).update(decayed := {"p": backend.asarray(p)}, {"p": backend.asarray(g)})
        backend.check(decayed["p"], p - g - extra)


@pytest.mark.backends("eager")
def test_adam_w_decays_beside_the_gradient(backend: Backend) -> None:
    params = {"p": backend.asarray([2.0, -4.0])}
    with backend.rules():
        optimizers.AdamW(lr=0.1, weight_decay=0.5).update(params, {"p": backend.asarray([0.0, 0.0])})
    backend.check(params["p"], np.array([2.0, -4.0]) * (1 - 0.1 * 0.5))


@each_rule
@pytest.mark.backends("eager")
def test_a_loaded_state_goes_on_with_the_same_bits(backend: Backend, rule: Rule) -> None:
    host, history = sample(8)
    params, optimizer = moved(backend, host), rule.make(clip_norm=5.0)
    for g in history[:4]:
        optimizer.update(params, moved(backend, g))
    optimizer.lr *= 0.5
    state, resumed = optimizer.state_dict(), rule.cls(lr=0.123)
    twin = {name: backend.xp.asarray(p, copy=True) for name, p in params.items()}
    for g in history[4:]:
        optimizer.update(params, moved(backend, g))
    resumed.load_state_dict(state)
    for g in history[4:]:
        resumed.update(twin, moved(backend, g))
    assert_same(snapshot(backend, twin, resumed), snapshot(backend, params, optimizer))


@each_rule
def test_state_and_optimizer_share_no_array(rule: Rule) -> None:
    host, (g,) = sample(1)
    optimizer, resumed = rule.make(), rule.make()
    optimizer.update(host, g)
    state = optimizer.state_dict()
    before = copy.deepcopy(state)
    resumed.load_state_dict(state)
    for each in (optimizer, resumed):
        for kind in each.state_names:
            for array in getattr(each, kind).values():
                array[...] = 7.0
    assert state.keys() == before.keys()
    for key, value in before.items():
        if isinstance(value, dict):
            assert_same(state[key], value)
        else:
            assert state[key] == value


def test_a_state_is_numbers_and_arrays_by_parameter() -> None:
    params = {"W": np.ones((2, 3), np.float32)}
    optimizer = Adam(lr=0.5, weight_decay={"l2": 0.25})
    optimizer.update(params, params)
    state = optimizer.state_dict()
    arrays = {key: state.pop(key) for key in ("m", "v")}
    assert state == {
        "optimizer": "Adam",
        "iter": 1,
        "lr": 0.5,
        "beta1": 0.9,
        "beta2": 0.999,
        "eps": 1e-7,
        "l1": 0.0,
        "l2": 0.25,
        "max_norm": None,
        "clip_norm": None,
    }
    for kind in arrays.values():
        assert list(kind) == ["W"] and kind["W"].shape == (2, 3) and kind["W"].dtype == np.float32


def test_a_rule_of_ones_own_needs_only_step() -> None:
    class SignDescent(Optimizer):
        def __init__(self, lr: float = 0.1, **options: Any) -> None:
            super().__init__(**options)
            self.lr = lr

        def step(self, p: Any, g: Any, *memory: Any) -> Any:
            return (p - self.lr * np.sign(g),)

    params = {"p": np.array([1.0, 1.0])}
    SignDescent(max_norm=1.0).update(params, {"p": np.array([5.0, -5.0])})
    np.testing.assert_allclose(params["p"], [0.9, 1.0])


def test_an_optimizer_without_a_rule_or_a_step_says_so() -> None:
    class Nothing(Optimizer):
        pass

    with pytest.raises(NotImplementedError, match="Nothing has neither a rule nor a step"):
        Nothing().update({"p": np.ones(2)}, {"p": np.ones(2)})


@pytest.mark.parametrize("kept", [0, 2])
def test_a_step_that_returns_too_few_or_too_many_slot_variables_is_an_error(kept: int) -> None:
    class Forgetful(Optimizer):
        state_names = ("v",)

        def step(self, p: Any, g: Any, *memory: Any) -> Any:
            return (p - g, *(g for _ in range(kept)))

    params, optimizer = {"p": np.ones(2), "q": np.ones(2)}, Forgetful()
    with pytest.raises(
        ValueError, match=rf"Forgetful.step: .*state_names = \('v',\), got {1 + kept} in all for parameter 'p'"
    ):
        optimizer.update(params, {"p": np.ones(2), "q": np.ones(2)})
    assert optimizer.iter == 0 and all(np.all(p == 1) for p in params.values()) and not optimizer.v


@each_rule
@pytest.mark.backends("numpy", "strict:device1")
@pytest.mark.backends("eager")
def test_a_rule_may_be_given_arrays_in_pieces(backend: Backend, rule: Rule) -> None:
    """Kernels do so with those that say that they are elementwise."""
    assert rule.cls.elementwise
    optimizer, rng = rule.make(), np.random.default_rng(0)
    optimizer.iter = 3
    arrays = [rng.random(7) for _ in range(2 + len(optimizer.state_names))]
    with dispatch.generic_only():
        whole = optimizer.step(*(backend.asarray(a) for a in arrays))
        for piece in (slice(0, 3), slice(3, 7)):
            parts = optimizer.step(*(backend.asarray(a[piece]) for a in arrays))
            for part, array in zip(parts, whole, strict=True):
                np.testing.assert_array_equal(backend.to_numpy(part), backend.to_numpy(array)[piece])


def test_a_step_written_over_another_is_elementwise_only_if_it_says_so() -> None:
    class Renamed(SGD):
        pass

    class Normalised(SGD):
        def step(self, p: Any, g: Any, *memory: Any) -> Any:
            return super().step(p, g / np.linalg.norm(g), *memory)

    class Halved(SGD):
        elementwise = True

        def step(self, p: Any, g: Any, *memory: Any) -> Any:
            return super().step(p, g / 2, *memory)

    assert [cls.elementwise for cls in (Optimizer, Renamed, Normalised, Halved)] == [False, True, False, True]
    g = np.ones(40_000)  # more than a kernel's piece
    for cls, moved_by in ((Renamed, 1.0), (Normalised, 1 / 200), (Halved, 0.5)):
        params = {"p": np.zeros(g.shape)}
        cls(lr=1.0).update(params, {"p": g})
        np.testing.assert_allclose(params["p"], -moved_by, rtol=1e-12)


def test_numbers_are_updated_as_in_the_book() -> None:
    """Its ch. 6.1 draws the paths of the optimizers on x^2 / 20 + y^2 so."""
    params = {"x": -7.0, "y": 2}
    path, optimizer = [], Momentum(lr=0.1, momentum=0.5)
    for _ in range(2):
        path.append((params["x"], params["y"]))
        optimizer.update(params, {"x": params["x"] / 10.0, "y": 2 * params["y"]})
    assert path == [(-7.0, 2), (-7.0 + 0.07, 2 - 0.4)]
    assert {type(p) for p in params.values()} == {float}
    v = 0.5 * -0.4 - 0.1 * 3.2
    assert params["y"] == pytest.approx(1.6 + v, rel=1e-14)


def test_gradients_of_numbers_may_be_arrays_and_are_no_text() -> None:
    params = {"x": 1.0}
    SGD(lr=0.5).update(params, {"x": np.array(4.0)})
    assert params == {"x": -1.0}
    with pytest.raises(TypeError, match="'x': its gradient must be an array, got str"):
        SGD().update(params, {"x": "4.0"})  # type: ignore[dict-item]


@pytest.mark.backends("numpy", "strict:device1")
@pytest.mark.backends("plain", "strict:device1")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_flushed_is_what_is_below_the_smallest_normal_number_over_eps(backend: Backend, dtype: str) -> None:
    info = np.finfo(dtype)
    limit = info.smallest_normal / info.eps
    below = np.nextafter(limit, np.zeros_like(limit))
    host = np.array([limit, -limit, below, -below, 0, 1, np.inf, info.smallest_subnormal], dtype)
    want = np.array([limit, -limit, 0, 0, 0, 1, np.inf, 0], dtype)
    backend.check(flush_denormals(backend.asarray(host, dtype)), want, dtype=dtype, rtol=0, atol=0)
    with dispatch.generic_only():
        backend.check(flush_denormals(backend.asarray(host, dtype)), want, dtype=dtype, rtol=0, atol=0)


def test_float16_has_no_room_to_flush() -> None:
    x = np.array([1e-7, 1e-4, 1.0], np.float16)
    np.testing.assert_array_equal(flush_denormals(x.copy()), x)


@each_rule
@pytest.mark.backends("values")
@pytest.mark.backends("precompiled")
def test_an_update_that_is_left_out_is_as_if_it_had_not_been(backend: Backend, rule: Rule) -> None:
    host, (bad, g, after) = sample(3)
    params, fresh = moved(backend, host), moved(backend, host)
    optimizer, other = rule.make(), rule.make()
    floats, zero, one = backend.float, backend.asarray(0.0), backend.asarray(1.0)
    optimizer.update(params, moved(backend, bad), apply_if=backend.asarray(False, "bool"), skipped_steps=zero)
    assert_same(values(backend, params), {name: a.astype(floats) for name, a in host.items()})
    for grads in (g, after):
        optimizer.update(params, moved(backend, grads), apply_if=backend.asarray(True, "bool"), skipped_steps=one)
        other.update(fresh, moved(backend, grads))
    assert (optimizer.iter, other.iter) == (3, 2)
    for name, p in fresh.items():
        backend.check(params[name], backend.to_numpy(p))


class TestOldNames:
    """`memory` and `numbers`, which subclasses defined before `state_names` and `scalars`, work for one release."""

    def test_a_subclass_that_defines_them_trains_and_is_warned(self) -> None:
        with pytest.warns(DeprecationWarning) as caught:

            class Heavy(Optimizer):
                rule = staticmethod(momentum_step)
                memory = ("v",)

                def numbers(self) -> dict[str, float]:
                    return {"lr": 0.1, "momentum": 0.5}

        assert sorted(str(one.message) for one in caught) == [
            "Heavy.memory is deprecated; use state_names",
            "Heavy.numbers is deprecated; use scalars",
        ]
        assert {one.filename for one in caught} == {__file__}
        new, old = {"p": np.ones(3)}, {"p": np.ones(3)}
        for optimizer, params in ((Momentum(0.1, 0.5), new), (Heavy(), old)):
            for _ in range(3):
                optimizer.update(params, {"p": np.full(3, 0.25)})
        np.testing.assert_array_equal(new["p"], old["p"])

    @pytest.mark.parametrize(("old", "new"), [("memory", "state_names"), ("numbers", "scalars")])
    def test_they_are_read_with_a_warning(self, old: str, new: str) -> None:
        optimizer = Momentum(0.5)
        with pytest.warns(DeprecationWarning, match=rf"^Momentum\.{old} is deprecated; use {new}$") as caught:
            found = getattr(optimizer, old)
            assert (found() if callable(found) else found) == {"memory": ("v",), "numbers": optimizer.scalars()}[old]
        assert [one.filename for one in caught] == [__file__]

    def test_a_subclass_may_add_to_its_parents_numbers(self) -> None:
        with pytest.warns(DeprecationWarning):

            class Halved(Momentum):
                def numbers(self) -> dict[str, float]:
                    return {**super().numbers(), "lr": self.lr / 2}

            params = {"p": np.ones(1)}
            Halved(0.5).update(params, {"p": np.ones(1)})
        np.testing.assert_array_equal(params["p"], [0.75])
