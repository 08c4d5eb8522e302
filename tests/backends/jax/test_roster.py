"""Ops on JAX's arrays, by kernels and compiled: equal to the generic op, without a compilation at every step."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from tests.backends.numpy.roster import op_of
from tests.backends.torch import roster
from tests.backends.torch.roster import RECURRENT, ROWS_OF_A_BATCH
from tests.harness import nonempty
from tests.pairs import as_tuple
from xpdl.backends import dispatch
from xpdl.backends.dispatch import DECLINE
from xpdl.backends.namespaces import array_namespace

pytestmark = pytest.mark.needs("jax")
TOLERANCE = {"float32": 2e-5, "float64": 1e-11}
# a case compiles an op, which takes a tenth of a second
QUICK = {
    "convolution_backward grouped with relu",
    "max_pooling overlapping",
    "affine_backward with relu",
    "dropout_mask",
}
# generic ops that tests of layers drive on JAX, and that take a second to compile
OF_TORCH_ALONE = {
    f"{op}{end}" for op in ("attention", "gelu", "layer_normalization", "embedding") for end in ("", "_backward")
}
MAKE = {
    name: make
    for name, make in roster.MAKE.items()
    if op_of(name) not in OF_TORCH_ALONE and not name.endswith("of every step")
}
each_op = pytest.mark.parametrize("name", MAKE)


def as_jax(value: Any) -> Any:
    """Nested arguments with arrays of JAX for those of NumPy."""
    if isinstance(value, (list, tuple)):
        return type(value)(map(as_jax, value))
    if isinstance(value, dict):
        return {name: as_jax(item) for name, item in value.items()}
    return importlib.import_module("jax.numpy").asarray(value) if isinstance(value, np.ndarray) else value


def made(name: str, dtype: str = "float32", seed: int = 0) -> Any:
    return as_jax(MAKE[name](np.random.default_rng(seed), dtype, ROWS_OF_A_BATCH))


def call(name: str) -> Any:
    """The op, as layers call it."""
    generic = dispatch._generics[op_of(name)]
    return getattr(importlib.import_module(generic.__module__), generic.__name__)


def registered(jax: Any) -> dict[str, tuple[Any, ...]]:
    return {name: found for name, found in dispatch.kernels_for(array_namespace(jax.numpy.zeros(1))).items() if found}


def of_kernels(names: list[str]) -> list[str]:
    return [name for name in names if op_of(name) in KERNELS]


KERNELS = {
    *("convolution", "convolution_backward", "dropout_mask", "flush_denormals"),
    *("max_pooling", "max_pooling_backward", "average_pooling", "average_pooling_backward"),
    *RECURRENT,
}
# small windows are quicker by the generic op
DECLINED = {
    *("max_pooling", "max_pooling with relu", "average_pooling", "average_pooling_backward"),
    *("max_pooling_backward", "max_pooling_backward with relu"),
    *("max_pooling_backward overlapping", "max_pooling_backward overlapping with relu"),
}


@pytest.fixture
def compilations(jax: Any) -> Iterator[list[str]]:
    """The events of a compilation that JAX has reported so far."""
    found: list[str] = []

    def listen(event: str, duration: float, **more: Any) -> None:
        if event.endswith("backend_compile_duration"):
            found.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    yield found
    jax.monitoring.unregister_event_duration_listener(listen)


def test_every_kernel_is_in_the_roster(jax: Any) -> None:
    assert set(registered(jax)) == KERNELS == {op_of(name) for name in of_kernels([*MAKE])}


@pytest.mark.quick(lambda name, dtype: name in QUICK and dtype == "float32")
# compiled generic ops are the same function for both
@pytest.mark.applies(lambda name, dtype: dtype == "float32" or op_of(name) in KERNELS)
@each_op
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_equals_the_generic_op(jax: Any, name: str, dtype: str) -> None:
    args, options = made(name, dtype)
    before = jax.tree.map(np.array, (args, options))
    of_numpy, same = MAKE[name](np.random.default_rng(0), dtype, ROWS_OF_A_BATCH)
    with dispatch.generic_only():  # of NumPy: one that JAX does not compile as a whole takes seconds
        expected = as_tuple(call(name)(*of_numpy, **same))
    found = as_tuple(call(name)(*args, **options))
    jax.tree.map(np.testing.assert_array_equal, (args, options), before)
    for got, want in nonempty(zip(found, expected, strict=True)):
        if want is None:
            assert got is None
            continue
        assert isinstance(got, jax.Array) and (got.dtype, got.shape) == (want.dtype, want.shape)
        scale = float(abs(want).max()) if want.dtype.kind == "f" else 0.0
        np.testing.assert_allclose(got, want, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype] * scale)


@pytest.mark.quick(lambda name: name in QUICK)
@pytest.mark.parametrize("name", of_kernels([*MAKE]))
def test_a_kernel_answers(jax: Any, name: str) -> None:
    args, options = made(name)
    (kernel,) = registered(jax)[op_of(name)]
    assert (kernel(*args, **options) is DECLINE) == (name in DECLINED)


@pytest.mark.parametrize(
    "name", [name for name in of_kernels([*MAKE]) if name not in ("dropout_mask", "flush_denormals")]
)
def test_declines_an_empty_batch(jax: Any, name: str) -> None:
    args, options = made(name)
    args = tuple(a[:0] if isinstance(a, jax.Array) and len(a) == ROWS_OF_A_BATCH else a for a in args)
    (kernel,) = registered(jax)[op_of(name)]
    assert kernel(*args, **options) is DECLINE


@pytest.mark.quick(lambda name, dtype: False)
@pytest.mark.parametrize(
    "name", [name for name in of_kernels([*MAKE]) if name not in ("dropout_mask", "flush_denormals")]
)
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_is_computed_in_float32_and_rounded_once(jax: Any, name: str, dtype: str) -> None:
    args, options = made(name)
    half = jax.tree.map(lambda a: a.astype(dtype) if isinstance(a, jax.Array) and a.dtype == "float32" else a, args)
    wide = jax.tree.map(lambda a: a.astype("float32") if isinstance(a, jax.Array) and a.dtype == dtype else a, half)
    (kernel,) = registered(jax)[op_of(name)]
    found, expected = kernel(*half, **options), kernel(*wide, **options)
    assert (found is DECLINE) == (expected is DECLINE) == (name in DECLINED)
    if found is not DECLINE:
        for got, want in zip(as_tuple(found), as_tuple(expected), strict=True):
            assert (got is None) == (want is None)
            if want is not None:
                assert got.dtype == dtype
                np.testing.assert_array_equal(got, want.astype(dtype))


@pytest.mark.quick(lambda name: name in QUICK)
@pytest.mark.parametrize("name", [name for name in MAKE if name not in ("dropout_mask", "flush_denormals")])
def test_may_be_traced_and_mapped(jax: Any, name: str) -> None:
    """Under `jax.jit` and `jax.vmap` together, over two batches."""
    args, options = made(name)
    is_array = [isinstance(a, jax.Array) for a in args]
    other, _ = made(name, seed=1)

    def run(*arrays: Any) -> Any:
        given = iter(arrays)
        return call(name)(*[next(given) if a else value for a, value in zip(is_array, args, strict=True)], **options)

    both = [jax.numpy.stack([one, two]) for one, two, a in zip(args, other, is_array, strict=True) if a]
    found = as_tuple(jax.jit(jax.vmap(run))(*both))
    for place, given in nonempty(enumerate((args, other))):
        expected = as_tuple(run(*[value for value, a in zip(given, is_array, strict=True) if a]))
        assert [a is None for a in found] == [a is None for a in expected]
        for got, want in nonempty((got, want) for got, want in zip(found, expected, strict=True) if want is not None):
            np.testing.assert_allclose(got[place], want, rtol=2e-5, atol=2e-4)


@pytest.mark.parametrize("name", ["convolution grouped", "max_pooling overlapping", "average_pooling overlapping"])
def test_derivative_of_jax_is_our_backward_pass(jax: Any, name: str) -> None:
    (x, *others), options = made(name, "float64")
    y, pull = jax.vjp(lambda x: call(name)(x, *others, **options), x)
    dy = jax.numpy.asarray(np.random.default_rng(2).normal(size=y.shape))
    backward = call(f"{op_of(name)}_backward")
    if name.startswith("convolution"):
        expected = backward(dy, x, others[0], **options)[0]
    else:
        # no ties, which JAX may break otherwise
        x = x + jax.numpy.asarray(np.random.default_rng(3).normal(size=x.shape))
        y, pull = jax.vjp(lambda x: call(name)(x, *others, **options), x)
        expected = backward(dy, x, *([y] if name.startswith("max") else []), *others, **options)
    np.testing.assert_allclose(pull(dy)[0], expected, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize(
    ("name", "option", "values"),
    [
        ("adam_step", "lr", (0.1, 0.05, 2)),
        ("adam_w_step", "keep", (0.9, 0.99, 1)),
        ("dropout_mask", "counter", (1, 2, 3)),
        ("softmax_with_loss_backward", "dout", (1.0, 0.5, 2)),
    ],
)
def test_numbers_that_change_at_every_step_compile_nothing(
    jax: Any, compilations: list[str], name: str, option: str, values: tuple[float, ...]
) -> None:
    generic = dispatch._generics[name]
    rows: dict[str, Any] = {
        "adam_step": ((np.ones(3),) * 4, {"lr": 0.2, "beta1": 0.9, "beta2": 0.99, "eps": 1e-7}),
        "adam_w_step": ((np.ones(3),) * 4, {"lr": 0.2, "keep": 0.8, "beta1": 0.9, "beta2": 0.99, "eps": 1e-7}),
        "dropout_mask": ((np.ones((2, 3)), 0.5, (5, 6)), {"counter": 0}),
        "softmax_with_loss_backward": ((np.full((2, 3), 1 / 3), np.array([0, 2])), {"dout": 0.25}),
    }
    args, options = as_jax(rows[name])
    call(name)(*args, **options)
    assert compilations, "JAX reports no compilation"
    # a whole number is another dtype, once
    call(name)(*args, **{**options, option: 7})
    del compilations[:]
    found = [call(name)(*args, **{**options, option: value}) for value in values]
    assert not compilations
    with jax.disable_jit():
        for got, value in zip(found, values, strict=True):
            expected = generic(*args, **{**options, option: value})
            jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12), got, expected)


def test_constants_of_equal_values_are_told_apart(jax: Any) -> None:
    """1, 1.0 and True are one key of a dict, and other dtypes of a result."""
    from xpdl.backends.jax.generic import adapted

    def times(x: Any, factor: Any) -> Any:
        return x * factor

    times.__module__ = "xpdl.ops"
    compiled = adapted(times)
    x = jax.numpy.arange(3)
    assert [compiled(x, factor).dtype.kind for factor in (1, 1.0, True)] == ["i", "f", "i"]


def test_mixed_libraries_are_refused_as_by_the_generic_op(jax: Any) -> None:
    losses = importlib.import_module("xpdl.ops.losses")
    with pytest.raises(importlib.import_module("xpdl").MixedArraysError, match="arrays of jax and numpy are mixed"):
        losses.softmax_with_loss(jax.numpy.zeros((2, 3)), np.zeros(2, dtype=int))


def test_ops_of_others_may_read_values(jax: Any) -> None:
    @dispatch.op
    def first_positive(x: Any) -> Any:
        return next(float(value) for value in x if value > 0)

    assert first_positive(jax.numpy.asarray([-1.0, 2.0])) == 2.0
    del dispatch._generics["first_positive"]
