"""Initial weights: bitwise identical on every backend, with the variance of the papers."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from tests.harness import Backend
from xpdl import initializers
from xpdl.backends import make_backend
from xpdl.backends.namespaces import dtype_name, is_writable, on_device_of
from xpdl.backends.random import Stream
from xpdl.errors import ShapeError
from xpdl.layers import Convolution, ConvolutionTranspose

NAMES = ("normal", "xavier", "glorot", "he", "lecun", "orthogonal", "zeros", "ones", "relu", "sigmoid")
WEIGHTS, FILTERS = (40, 30), (20, 8, 3, 5)


def on_host(spec: Any, shape: tuple[int, ...], seed: int = 0, name: str = "W", dtype: str = "float64") -> Any:
    return initializers.draw(spec, shape, Stream(seed), name, make_backend("numpy", dtype=dtype))


# --- draw


@pytest.mark.parametrize("spec", [*NAMES, 0.05])
@pytest.mark.parametrize("shape", [WEIGHTS, FILTERS])
@pytest.mark.backends("eager")
def test_one_seed_gives_the_same_bits_on_every_backend(backend: Backend, spec: Any, shape: tuple[int, ...]) -> None:
    for dtype in ("float64", "float32") if backend.spec.float64 else ("float32",):
        with backend.use(dtype) as there, backend.rules():
            drawn = initializers.draw(spec, shape, Stream(7), "W1", there)
        backend.check(drawn, on_host(spec, shape, 7, "W1", dtype), rtol=0.0, atol=0.0)


@pytest.mark.backends("torch", "jax")
@pytest.mark.backends("plain")
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_is_rounded_once(backend: Backend, dtype: str) -> None:
    """Halfway between two numbers but for a bit that float32 has not: float16 by way of float32 goes the wrong way."""
    with backend.use(dtype) as there:
        values = np.array([1 + 2**-11 + 2**-40, 1.0, 1 / 3])
        drawn = initializers.draw(lambda shape, generator: values, (3,), Stream(0), "W", there)
    assert dtype_name(drawn.dtype) == dtype
    wanted = values.astype("float16") if dtype == "float16" else [1.0, 1.0, 0.333984375]
    np.testing.assert_array_equal(backend.to_numpy(drawn), np.asarray(wanted, backend.to_numpy(drawn).dtype))


def test_the_name_and_the_seed_decide_and_not_the_order() -> None:
    stream, there = Stream(3), make_backend("numpy")
    alone = initializers.draw("he", WEIGHTS, stream, "W2", there)
    for name in ("W1", "b1", "W3"):
        initializers.draw("he", WEIGHTS, stream, name, there)
    np.testing.assert_array_equal(initializers.draw("he", WEIGHTS, stream, "W2", there), alone)
    for other in (
        initializers.draw("he", WEIGHTS, stream, "W1", there),
        initializers.draw("he", WEIGHTS, Stream(4), "W2", there),
        initializers.draw("he", WEIGHTS, stream.child("block"), "W2", there),
    ):
        assert abs(np.corrcoef(other.ravel(), alone.ravel())[0, 1]) < 5 / math.sqrt(alone.size)


def test_no_global_random_state_is_read_or_changed() -> None:
    np.random.seed(0)
    before, first = np.random.get_state()[1].copy(), on_host("orthogonal", WEIGHTS)
    np.testing.assert_array_equal(np.random.get_state()[1], before)
    np.random.seed(1)
    np.testing.assert_array_equal(on_host("orthogonal", WEIGHTS), first)


@pytest.mark.backends("eager")
def test_what_is_drawn_belongs_to_the_caller(backend: Backend) -> None:
    """Also when an initializer keeps the array it returns."""
    kept = np.ones((2, 3))
    with backend.use() as there:
        first, second = (initializers.draw(lambda s, g: kept, (2, 3), Stream(0), "W", there) for _ in range(2))
    kept[...] = 5.0
    if is_writable(first):
        with on_device_of(first):
            first[...] = 7.0
    assert is_writable(first) == (backend.spec.library != "jax")
    backend.check(second, np.ones((2, 3)))


def test_an_initializer_that_returns_another_shape_is_refused() -> None:
    with pytest.raises(ShapeError, match=r"returned shape \(3,\) for W, expected \(2, 3\)"):
        on_host(lambda shape, generator: np.ones(3), (2, 3))


# --- spread


def standard_deviation(name: str, shape: tuple[int, ...]) -> float:
    """By hand, from the papers."""
    fan_in, fan_out = {WEIGHTS: (40, 30), FILTERS: (8 * 3 * 5, 20 * 3 * 5)}[shape]
    return {
        "normal": 0.01,
        "xavier": math.sqrt(1 / fan_in),
        "sigmoid": math.sqrt(1 / fan_in),
        "lecun": math.sqrt(1 / fan_in),
        "glorot": math.sqrt(2 / (fan_in + fan_out)),
        "he": math.sqrt(2 / fan_in),
        "relu": math.sqrt(2 / fan_in),
    }[name]


@pytest.mark.parametrize("name", ["normal", "xavier", "sigmoid", "lecun", "glorot", "he", "relu"])
@pytest.mark.parametrize("shape", [WEIGHTS, FILTERS])
def test_erratum_24_the_spread_follows_from_the_shape(name: str, shape: tuple[int, ...]) -> None:
    drawn = np.stack([on_host(name, shape, seed) for seed in range(20)])
    std, n = standard_deviation(name, shape), drawn.size
    # five standard errors, of the deviation and of the mean
    assert abs(drawn.std() - std) < 5 * std / math.sqrt(2 * n)
    assert abs(drawn.mean()) < 5 * std / math.sqrt(n)
    # a normal distribution has 0.27 % beyond three deviations
    beyond = np.mean(np.abs(drawn) > 3 * std)
    assert abs(beyond - 0.0027) < 5 * math.sqrt(0.0027 / n)


@pytest.mark.parametrize("std", [0.05, 2, np.float32(0.5), 0.0])
def test_a_number_is_a_standard_deviation(std: Any) -> None:
    np.testing.assert_array_equal(on_host(std, (7,)), float(std) * Stream(0).generator("W").standard_normal(7))
    np.testing.assert_array_equal(on_host(initializers.normal(std), (7,)), on_host(std, (7,)))


def test_zeros_and_ones_serve_any_shape() -> None:
    for shape in ((), (3,), (2, 0), (2, 3, 4)):
        np.testing.assert_array_equal(on_host("zeros", shape), np.zeros(shape))
        np.testing.assert_array_equal(on_host("ones", shape), np.ones(shape))


@pytest.mark.parametrize("shape", [(5, 5), (7, 3), (3, 7), (4, 2, 3, 3), (30, 2, 3, 3)])
def test_orthogonal_has_orthonormal_rows_or_columns(shape: tuple[int, ...]) -> None:
    matrix = on_host("orthogonal", shape).reshape(shape[0], -1)
    small = matrix @ matrix.T if matrix.shape[0] <= matrix.shape[1] else matrix.T @ matrix
    np.testing.assert_allclose(small, np.eye(len(small)), atol=1e-14)


def test_orthogonal_is_uniform() -> None:
    """Entries of uniform orthogonal matrices have mean 0 and mean square 1/n; plain QR fails at the first."""
    drawn = np.stack([on_host("orthogonal", (3, 3), seed) for seed in range(1000)])
    assert np.all(np.abs(drawn.mean(axis=0)) < 5 * math.sqrt(1 / 3 / 1000))
    # the variance of a squared entry is 4/45
    assert np.all(np.abs((drawn**2).mean(axis=0) - 1 / 3) < 5 * math.sqrt(4 / 45 / 1000))


@pytest.mark.parametrize("name", ["xavier", "glorot", "he", "lecun", "orthogonal"])
@pytest.mark.parametrize("shape", [(), (5,), (0, 3), (3, 0)])
def test_a_shape_without_fan_in_is_refused(name: str, shape: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError, match="fan-in needs weights"):
        on_host(name, shape)


# --- resolve


def test_names_are_found_in_any_case_and_those_of_the_book_are_aliases() -> None:
    for name in NAMES:
        assert initializers.resolve(name.upper()) is initializers.resolve(name)
    for name in ("xavier", "glorot", "he", "lecun", "orthogonal", "zeros", "ones"):
        assert initializers.resolve(name) is getattr(initializers, name)
    assert initializers.resolve("relu") is initializers.he
    assert initializers.resolve("Sigmoid") is initializers.xavier


def test_every_name_is_in_these_tests() -> None:
    assert set(initializers._NAMES) == set(NAMES)


def test_a_function_stands_for_itself_and_normal_for_its_default() -> None:
    def mine(shape: Any, generator: Any) -> Any:
        return generator.uniform(size=shape)

    assert initializers.resolve(mine) is mine
    np.testing.assert_array_equal(on_host(initializers.normal, (4,)), on_host("normal", (4,)))


@pytest.mark.parametrize("spec", ["hee", None, True, [0.1], np.ones(2)])
def test_anything_else_is_refused_with_the_names_there_are(spec: Any) -> None:
    with pytest.raises(ValueError, match="normal, xavier, glorot, he, lecun, orthogonal, zeros, ones, relu, sigmoid"):
        initializers.resolve(spec)


@pytest.mark.parametrize("std", [-0.1, math.nan, math.inf])
def test_a_standard_deviation_out_of_bounds_is_refused(std: float) -> None:
    with pytest.raises(ValueError, match="at least 0"):
        initializers.resolve(std)


# --- groups of a convolution


def filters_of(layer: Any, channels: int) -> Any:
    """Filters (groups, FN / groups, C / groups, ...) of a convolution, drawn in float64."""
    layer.build((channels, 9, 9), stream=Stream(3), backend=make_backend("numpy", None, "float64"))
    groups, W = layer.groups, layer.W
    if isinstance(layer, ConvolutionTranspose):
        return W.reshape(groups, channels // groups, *W.shape[1:]).swapaxes(1, 2)
    return W.reshape(groups, layer.filters // groups, *W.shape[1:])


GROUPS = [(32, 32, 32), (8, 16, 4), (6, 6, 1)]


@pytest.mark.parametrize("cls", [Convolution, ConvolutionTranspose])
@pytest.mark.parametrize("name", [*NAMES, initializers.glorot, initializers.orthogonal, 0.3])
@pytest.mark.parametrize(("channels", "filters", "groups"), GROUPS)
def test_each_group_of_filters_is_drawn_by_itself(
    cls: Any, name: Any, channels: int, filters: int, groups: int
) -> None:
    """A depthwise convolution has the fan-out of one filter, not of all."""
    shape = (filters // groups, channels // groups, 3, 3)
    drawn = filters_of(cls(filters=filters, size=(3, 3), groups=groups, init=name), channels)
    generator = Stream(3).generator("W")
    np.testing.assert_array_equal(drawn, [initializers.resolve(name)(shape, generator) for _ in range(groups)])


def test_a_function_draws_the_filters_of_all_groups_at_once() -> None:
    layer = Convolution(
        filters=4, size=(3, 3), groups=2, init=lambda shape, generator: np.full(shape, len(shape) * shape[0])
    )
    np.testing.assert_array_equal(filters_of(layer, 6), np.full((2, 2, 3, 3, 3), 16.0))
