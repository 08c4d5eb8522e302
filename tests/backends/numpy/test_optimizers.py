"""Steps in place and in pieces are the generic ones, for every rule, float and shape: bit for bit, where not compiled."""

import tracemalloc
from contextlib import nullcontext as does_not_raise

import numpy as np
import pytest

from xpdl import SGD, AdaDelta, AdaGrad, Adam, AdamW, Momentum, Nesterov, Optimizer, RMSprop, use
from xpdl.backends import dispatch
from xpdl.backends.cpu.tuning import TUNING, tuned
from xpdl.backends.numpy import optimizers as kernels
from xpdl.optimizers.clipping import global_norm_scale
from xpdl.optimizers.fused_update import flush_denormals

RULES = [SGD, AdaDelta, AdaGrad, Adam, AdamW, Momentum, Nesterov, RMSprop]
SIZE = 2 * TUNING.optimizer_task + 17
SMALL = TUNING.compiled_parameters // 2
SHAPES = {"large": (SIZE,), "matrix": (7, 5), "one": (1,), "scalar": (), "none": (0, 3)}


def trained(rule, dtype="float32", steps=3, **options):
    rng = np.random.default_rng(0)
    params = {name: np.asarray(rng.normal(size=shape), dtype) for name, shape in SHAPES.items()}
    optimizer = rule(0.01, **options)
    for _ in range(steps):
        grads = {name: np.asarray(rng.normal(size=p.shape), dtype) for name, p in params.items()}
        optimizer.update(params, grads)
    return params, optimizer.state_dict()


@pytest.mark.parametrize(
    "dtype, options",
    [
        ("float32", {}),
        ("float64", {}),
        ("float16", {}),
        ("float32", {"max_norm": 0.5}),
        ("float32", {"clip_norm": 1.0, "weight_decay": {"l1": 0.01, "l2": 0.1}}),
    ],
    ids=str,
)
@pytest.mark.parametrize("rule", RULES)
def test_every_rule_gives_what_the_generic_step_gives(rule, dtype, options, code):
    if rule is AdamW and "weight_decay" in options:
        options = options | {"weight_decay": 0.1}
    params, state = trained(rule, dtype, **options)
    with dispatch.generic_only():
        expected, expected_state = trained(rule, dtype, **options)
    # the norm that gradients are clipped to is a sum in another order
    exact = not code.ran and "clip_norm" not in options
    for name, value in expected.items():
        assert params[name].dtype == dtype
        equal(params[name], value, exact)
    for kind in rule.state_names:
        for name, value in expected_state[kind].items():
            equal(state[kind][name], value, exact)
    code.assert_compiled("fused_update")


def equal(found, wanted, exact):
    """Bitwise identical; compiled code, which has fused multiply-adds, may be off by a few units in the last place."""
    accuracy = 0 if exact else 16 * np.finfo(found.dtype).eps
    np.testing.assert_allclose(found, wanted, rtol=accuracy, atol=accuracy)


@pytest.mark.parametrize("options", [{}, {"max_norm": 0.5}, {"weight_decay": {"l1": 0.1, "l2": 0.1}}], ids=str)
@pytest.mark.parametrize("rule", [SGD, Adam])
def test_values_that_are_not_finite_are_those_of_the_generic_step(rule, options, code):
    special = [0.0, -0.0, np.inf, -np.inf, np.nan, 1.0, -2.0, 1e-40, 3e38]
    p, g = (a.ravel() for a in np.meshgrid(special, special))

    def stepped():
        params = {"W": np.ones(SIZE, np.float32)}
        params["W"][: p.size] = p
        grads = {"W": np.ones(SIZE, np.float32)}
        grads["W"][: g.size] = g
        optimizer = rule(0.01, **options)
        with np.errstate(all="ignore"):
            optimizer.update(params, grads)
        return [params["W"], *(getattr(optimizer, kind)["W"] for kind in rule.state_names)]

    found = stepped()
    with dispatch.generic_only():
        wanted = stepped()
    for a, b in zip(found, wanted, strict=True):
        equal(a, b, exact=not code.ran)
        np.testing.assert_array_equal(np.signbit(a[a == 0]), np.signbit(b[b == 0]))
    code.assert_compiled("fused_update")


def test_is_bitwise_identical_for_any_number_of_threads(code):
    many = {"W": np.linspace(-1, 1, TUNING.shared_parameters + 100, dtype=np.float32)}
    found = []
    for count in (1, 3):
        params = {"W": many["W"].copy()}
        with use("numpy", threads=count):
            Adam(weight_decay={"l2": 0.1}).update(params, many)
        found.append(params["W"])
    np.testing.assert_array_equal(*found)
    code.assert_compiled("fused_update")


def test_small_nets_and_rules_of_the_user_do_not_load_the_compiled_rules(code):
    Adam().update({"W": np.ones(SMALL, np.float32)}, {"W": np.ones(SMALL, np.float32)})
    Halved.seen = []
    Halved().update({"W": np.ones(SIZE)}, {"W": np.ones(SIZE)})
    flush_denormals(np.ones(SMALL, np.float32))
    assert not code.ran


def test_a_skipped_update_changes_nothing(code):
    params = {"W": np.ones(SIZE, np.float32)}
    Adam().update(params, {"W": np.ones(SIZE, np.float32)}, apply_if=np.asarray(False), skipped_steps=np.asarray(0.0))
    assert np.all(params["W"] == 1)
    Adam().update(params, {"W": np.ones(SIZE, np.float32)}, apply_if=np.asarray(True), skipped_steps=np.asarray(0.0))
    assert np.all(params["W"] < 1)
    code.assert_compiled("fused_update")


@pytest.mark.parametrize("rule", RULES)
@tuned(shared_parameters=TUNING.optimizer_task)
def test_every_rule_has_a_kernel_that_is_called_in_place_and_generic_only_switches_it_off(rule, monkeypatch, code):
    calls = []
    run = kernels.thread_pool.run
    monkeypatch.setattr(kernels.thread_pool, "run", lambda tasks: calls.append(len(tasks)) or run(tasks))
    W = np.ones(SIZE, np.float32)
    params = {"W": W, "b": np.ones(5, np.float32)}
    optimizer = rule(0.01)
    optimizer.update(params, {"W": W.copy(), "b": np.ones(5, np.float32)})
    memory = [getattr(optimizer, kind)["W"] for kind in rule.state_names]
    optimizer.update(params, {"W": W.copy(), "b": np.ones(5, np.float32)})
    assert calls == [4, 4] and params["W"] is W and W[0] != 1
    assert all(getattr(optimizer, kind)["W"] is a for kind, a in zip(rule.state_names, memory, strict=True))
    with dispatch.generic_only():
        optimizer.update(params, {"W": W.copy(), "b": np.ones(5, np.float32)})
    assert calls == [4, 4]
    code.assert_compiled("fused_update")


@pytest.mark.parametrize("options", [{}, {"max_norm": 0.5, "weight_decay": {"l1": 0.1, "l2": 0.1}}], ids=str)
def test_nothing_of_the_size_of_a_parameter_is_made(options):
    size = 64 * TUNING.optimizer_task
    params, grads = ({"W": np.ones(size, np.float32)} for _ in range(2))
    optimizer = Adam(**options)
    optimizer.update(params, grads)
    tracemalloc.start()
    try:
        optimizer.update(params, grads)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < params["W"].nbytes / 2


def test_gradients_are_not_modified():
    grads = {"W": np.ones(SIZE, np.float32)}
    grads["W"].flags.writeable = False
    with does_not_raise():
        for rule in RULES:
            rule().update({"W": np.ones(SIZE, np.float32)}, grads)


@pytest.mark.parametrize("make", [lambda a: a.reshape(2, -1).T, lambda a: np.repeat(a, 2)[::2]])
def test_other_memory_orders_are_served(make):
    even = np.ones(2 * TUNING.optimizer_task, np.float32)
    params = {"W": make(even)}
    Adam(0.1).update(params, {"W": np.ones(params["W"].shape, np.float32)})
    np.testing.assert_allclose(params["W"], 0.9, rtol=1e-4)


def test_read_only_parameters_are_rebound():
    W = np.ones(SIZE, np.float32)
    W.flags.writeable = False
    params = {"W": W}
    SGD(0.5).update(params, {"W": np.ones(SIZE, np.float32)})
    assert W[0] == 1 and params["W"][0] == 0.5


def test_floats_in_another_order_of_bytes_are_served(code):
    params = {"W": np.ones(SIZE, ">f4")}
    SGD(0.5).update(params, {"W": np.ones(SIZE, ">f4")})
    assert params["W"].dtype == ">f4" and np.all(params["W"] == 0.5)


def test_gradients_of_another_dtype_are_left_to_the_generic_step():
    params = {"W": np.ones(3, np.float32)}
    SGD(0.5).update(params, {"W": np.ones(3)})
    assert params["W"].dtype == np.float32 and params["W"][0] == 0.5


class Halved(Momentum):
    """An elementwise rule that is not one of ours."""

    elementwise = True

    def step(self, p, g, v):
        self.seen.append(p.size)
        return p - 0.5 * g - 0.5 * v, g


@pytest.mark.parametrize("options", [{}, {"max_norm": 0.5, "weight_decay": {"l2": 0.1}}], ids=str)
def test_an_elementwise_rule_of_the_user_gets_pieces(options):
    def trained():
        optimizer, params = Halved(**options), {"W": np.linspace(-1, 1, SIZE)}
        optimizer.seen = []
        for k in range(3):
            optimizer.update(params, {"W": np.linspace(k, 1, SIZE)})
        return params["W"], optimizer.v["W"], set(optimizer.seen)

    W, v, seen = trained()
    with dispatch.generic_only():
        wanted, wanted_v, whole = trained()
    np.testing.assert_array_equal(W, wanted)
    np.testing.assert_array_equal(v, wanted_v)
    assert seen == {TUNING.optimizer_task, 17} and whole == {SIZE}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("size", [1.0, 1e18, 1e-18])
def test_clipping_equals_the_generic_one(dtype, size):
    rng = np.random.default_rng(0)
    grads = [np.asarray(size * rng.normal(size=shape), dtype) for shape in ((SIZE,), (3, 4), (0,), ())]
    for limit in (size / 10, 1e4 * size):
        found = global_norm_scale(grads, limit)
        with dispatch.generic_only():
            wanted = global_norm_scale(grads, limit)
        assert found.dtype == dtype and found.shape == ()
        np.testing.assert_allclose(found, wanted, rtol=1e-5 if dtype == "float32" else 1e-12)


@pytest.mark.parametrize("value", [0.0, np.inf, np.nan])
def test_clipping_of_gradients_without_a_size_is_the_generic_one(value):
    grads = [np.full(3, value)]
    assert kernels.global_norm_scale(grads, 1.0) is dispatch.DECLINE
    assert kernels.global_norm_scale([grads[0].reshape(1, 3)[:, ::2]], 1.0) is dispatch.DECLINE


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", ">f4"])
@pytest.mark.parametrize("size", [SIZE, 3])
def test_subnormals_are_flushed_as_in_the_generic_op(dtype, size, code):
    info = np.finfo(dtype)
    subnormals, x = [info.smallest_subnormal, info.smallest_normal, -info.smallest_normal], np.ones(size, dtype)
    x[-3:] = subnormals
    x[: size - 3] = np.nan
    with dispatch.generic_only():
        wanted = flush_denormals(x)
    found = flush_denormals(x)
    np.testing.assert_array_equal(found, wanted)
    assert found is x
    np.testing.assert_array_equal(found[-3:], subnormals if dtype == "float16" else [0, 0, 0])
    if size > TUNING.compiled_parameters and dtype in ("float32", "float64"):
        code.assert_compiled("flush_denormals")


def test_rule_that_is_not_elementwise_sees_whole_arrays():
    class Normed(Adam):
        """Divides by the norm of the gradient."""

        def step(self, p, g, *memory):
            seen.append(g.shape)
            return (p - self.lr * g / np.linalg.norm(g), *memory)

    seen = []
    assert not Normed.elementwise and not Optimizer.elementwise
    for options in ({}, {"max_norm": 0.5}):
        Normed(**options).update({"W": np.ones(SIZE, np.float32)}, {"W": np.ones(SIZE, np.float32)})
    assert seen == [(SIZE,)] * 2
