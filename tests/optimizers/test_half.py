"""Parameters in half precision: updates are computed in float32 and rounded once, whatever library and rule."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest

from tests.harness import Backend, nonempty
from tests.optimizers.roster import Rule, each_rule, expected
from xpdl.backends import dispatch
from xpdl.backends.dtypes import dtype_by_name
from xpdl.backends.namespaces import dtype_name
from xpdl.optimizers import SGD, Adam, Momentum
from xpdl.optimizers.clipping import global_norm_scale

# In float16 squares of the first overflow and those of the last three are 0, as are the default values of eps.
SIZES = [300.0, 1.0, 0.1, 5e-3, 1e-3, 1e-4, 2e-7]
STEPS = 5


def halves(backend: Backend) -> list[str]:
    """The names of half-precision dtypes that the library has."""
    return ["float16"] if backend.spec.library == "numpy" else ["float16", "bfloat16"]


def made(backend: Backend, values: Any, dtype: str) -> Any:
    """An array in half precision, rounded by its library."""
    return backend.xp.astype(backend.asarray(values, "float32"), dtype_by_name(dtype, backend.xp))


def rounding(values: Any, dtype: str) -> Any:
    """Half the distance between neighbours of the size of `values`."""
    bits = {"float16": 11, "bfloat16": 8}[dtype]
    return np.maximum(np.abs(values), 2.0**-14) * 2.0**-bits


def sample(backend: Backend, dtype: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    rng = np.random.default_rng(0)
    sizes = np.array(SIZES)
    params = {"W": rng.uniform(0.5, 2, (4, len(SIZES))), "b": rng.uniform(-2, -0.5, len(SIZES))}
    grads = [{name: sizes * rng.uniform(0.5, 1, p.shape) for name, p in params.items()} for _ in range(STEPS)]
    return {name: made(backend, p, dtype) for name, p in params.items()}, [
        {name: made(backend, g, dtype) for name, g in each.items()} for each in grads
    ]


def wide(backend: Backend, arrays: dict[str, Any]) -> dict[str, Any]:
    return {name: backend.to_numpy(a).astype("float64") for name, a in arrays.items()}


half_backends = pytest.mark.backends("numpy", "numpy:readonly", "torch", "jax", "cupy")
on_values = pytest.mark.backends("values")


@each_rule
@half_backends
@on_values
@pytest.mark.backends("eager")
def test_every_step_is_that_of_float64_but_for_rounding_the_parameter(backend: Backend, rule: Rule) -> None:
    for dtype in nonempty(halves(backend)):
        params, history = sample(backend, dtype)
        optimizer = rule.cls()  # eps and all as by default
        other, exact = rule.cls(), wide(backend, params)
        for grads in nonempty(history):
            before = wide(backend, params)
            with backend.rules():
                optimizer.update(params, grads)
            # starts at the rounded parameters: the optimizer state is not rounded
            exact = {name: p.copy() for name, p in before.items()}
            other.update(exact, wide(backend, grads))
            for name, p in nonempty(params.items()):
                assert dtype_name(p.dtype) == dtype
                off = np.abs(wide(backend, params)[name] - exact[name])
                limit = 1.01 * rounding(exact[name], dtype) + 1e-4 * np.abs(exact[name] - before[name])
                assert np.all(off <= limit), (dtype, name, off, limit)
        for kind in rule.cls.state_names:
            for name, a in getattr(optimizer, kind).items():
                assert dtype_name(a.dtype) == "float32"
                np.testing.assert_allclose(backend.to_numpy(a), getattr(other, kind)[name], rtol=1e-4, atol=1e-30)


@each_rule
@half_backends
@on_values
@pytest.mark.backends("eager")
def test_the_rule_is_that_of_the_paper(backend: Backend, rule: Rule) -> None:
    """Against the independent numbers, with a step that moves the parameters by many times their rounding."""
    start, gradients = np.array([0.5, -0.25]), [np.array([1e-3, -2e-4])] * 3
    params = {"p": made(backend, start, "float16")}
    optimizer = rule.make()
    for g in gradients:
        optimizer.update(params, {"p": made(backend, g, "float16")})
    rounded = [g.astype("float16").astype("float64") for g in gradients]
    want = expected(rule.oracle, start, rounded, **rule.hyper_parameters)[-1]
    np.testing.assert_allclose(wide(backend, params)["p"], want, rtol=0, atol=4 * 2.0**-12)


@half_backends
@on_values
@pytest.mark.backends("eager")
@pytest.mark.parametrize("options", [{}, {"weight_decay": {"l1": 1e-5, "l2": 1e-5}}, {"max_norm": 0.3}], ids=str)
def test_options_are_computed_in_float32(backend: Backend, options: Any) -> None:
    for dtype in nonempty(halves(backend)):
        params = {"p": made(backend, [0.5, -0.25], dtype)}
        grads = {"p": made(backend, [1e-3, 1e-3], dtype)}
        exact = wide(backend, params)
        ours, theirs = Momentum(lr=1.0, **options), Momentum(lr=1.0, **options)
        with backend.rules():
            ours.update(params, grads)
        theirs.update(exact, wide(backend, grads))
        assert np.all(np.abs(wide(backend, params)["p"] - exact["p"]) <= 1.01 * rounding(exact["p"], dtype))
        np.testing.assert_allclose(backend.to_numpy(ours.v["p"]), theirs.v["p"], rtol=1e-6)


@half_backends
@on_values
@pytest.mark.parametrize("values", [[60000.0] * 3, [1e-4] * 3, [3.0, 4.0], [6e-8, 0.0]], ids=str)
def test_the_norm_of_gradients_neither_overflows_nor_vanishes(backend: Backend, values: list[float]) -> None:
    for dtype in nonempty(halves(backend)):
        grads = [made(backend, [v], dtype) for v in values]
        norm = float(np.linalg.norm([backend.to_numpy(g).astype("float64") for g in grads]))
        for limit in (norm / 8, norm / 1024):
            scale = backend.call(lambda *g, limit=limit: global_norm_scale(list(g), limit), *grads)
            assert float(backend.to_numpy(scale)) == pytest.approx(limit / norm, rel=1e-5)
            assert dtype_name(scale.dtype) == "float32"
        params = {str(k): made(backend, [1.0], dtype) for k in range(len(values))}
        SGD(lr=1.0, clip_norm=0.25).update(params, {str(k): g for k, g in enumerate(grads)})
        factor = min(1.0, 0.25 / norm)
        for k, g in nonempty(enumerate(grads)):
            want = 1.0 - factor * backend.to_numpy(g).astype("float64")
            assert abs(wide(backend, params)[str(k)] - want) <= 1.01 * rounding(want, dtype)


def test_many_small_gradients_have_a_norm() -> None:
    grads = [np.full(300_000, 1e-3, "float16")]
    norm = float(grads[0][0]) * np.sqrt(300_000)
    assert float(global_norm_scale(grads, norm / 2)) == pytest.approx(0.5, rel=1e-5)
    with dispatch.generic_only():
        assert float(global_norm_scale(grads, norm / 2)) == pytest.approx(0.5, rel=1e-5)


@half_backends
@on_values
@pytest.mark.backends("eager")
def test_a_float32_gradient_is_not_rounded_first(backend: Backend) -> None:
    params = {"p": made(backend, [1.0, 1.0], "float16")}
    optimizer = Momentum(lr=2.0**-30)
    optimizer.update(params, {"p": backend.asarray([2.0**20, 2.0**-40], "float32")})
    np.testing.assert_array_equal(backend.to_numpy(optimizer.v["p"]), np.float32([-(2.0**-10), -(2.0**-70)]))
    np.testing.assert_array_equal(wide(backend, params)["p"], [1 - 2.0**-10, 1.0])


@each_rule
@half_backends
@on_values
@pytest.mark.backends("eager")
def test_a_skipped_update_changes_nothing(backend: Backend, rule: Rule) -> None:
    params, (g, *_) = sample(backend, "float16")
    optimizer, before = rule.cls(), wide(backend, params)
    optimizer.update(params, g, apply_if=backend.asarray(False, "bool"), skipped_steps=backend.asarray(0.0, "float32"))
    after = wide(backend, params)
    for name, p in nonempty(before.items()):
        np.testing.assert_array_equal(after[name], p)
        assert dtype_name(params[name].dtype) == "float16"
        assert all(not backend.to_numpy(getattr(optimizer, kind)[name]).any() for kind in optimizer.state_names)


@each_rule
@half_backends
@on_values
@pytest.mark.backends("eager")
def test_state_goes_on_with_the_same_bits(backend: Backend, rule: Rule) -> None:
    params, history = sample(backend, "float16")
    optimizer, resumed = rule.cls(), rule.cls()
    optimizer.update(params, history[0])
    twin = {name: backend.xp.asarray(p, copy=True) for name, p in params.items()}
    resumed.load_state_dict(optimizer.state_dict())
    for g in history[1:]:
        optimizer.update(params, g)
        resumed.update(twin, g)
    for name, p in nonempty(wide(backend, params).items()):
        np.testing.assert_array_equal(wide(backend, twin)[name], p)


@pytest.mark.parametrize("way", ["load_state_dict", "pickle"])
def test_state_that_earlier_versions_kept_in_float16_is_widened(way: str) -> None:
    params = {"W": np.ones(3, "float16")}
    optimizer = Adam()
    optimizer.update(params, {"W": np.full(3, 0.5, "float16")})
    old = optimizer.state_dict()
    for kind in ("m", "v"):
        old[kind] = {name: a.astype("float16") for name, a in old[kind].items()}
    resumed = Adam()
    if way == "load_state_dict":
        resumed.load_state_dict(old)
        assert resumed.m["W"].dtype == np.float32
    else:
        optimizer.m, optimizer.v = old["m"], old["v"]
        resumed = pickle.loads(pickle.dumps(optimizer))
    resumed.update(params, {"W": np.full(3, 0.5, "float16")})
    assert resumed.iter == 2 and resumed.m["W"].dtype == resumed.v["W"].dtype == np.float32
    np.testing.assert_allclose(resumed.m["W"], 0.1 * 0.5 * 0.9 + 0.1 * 0.5, rtol=1e-3)


@pytest.mark.backends("jit")
def test_a_traced_update_is_the_same(backend: Backend) -> None:
    def run(p: Any, g: Any) -> Any:
        params = {"p": p}
        Adam().update(params, {"p": g})
        return params["p"]

    for dtype in nonempty(halves(backend)):
        given = made(backend, [0.5], dtype), made(backend, [5e-3], dtype)
        got = backend.call(run, *given)
        assert dtype_name(got.dtype) == dtype
        assert abs(float(backend.to_numpy(got)[0]) - 0.499) <= 1.01 * rounding(0.5, dtype)


def test_a_parameter_beyond_float16_becomes_infinite_without_a_warning() -> None:
    params = {"W": np.full(2, 60000.0, "float16")}
    SGD(lr=1.0).update(params, {"W": np.full(2, -60000.0, "float16")})
    assert np.all(np.isinf(params["W"]))
    with dispatch.generic_only():
        params = {"W": np.full(2, 60000.0, "float16")}
        SGD(lr=1.0).update(params, {"W": np.full(2, -60000.0, "float16")})
    assert np.all(np.isinf(params["W"]))
