"""Ops of images with operands in either memory order, compared with the generic ops."""

import dataclasses
import itertools
from collections.abc import Callable
from typing import Any

import numpy as np

from tests.harness import RTOL, nonempty
from xpdl.backends import dispatch
from xpdl.backends.cupy import trace
from xpdl.backends.cupy.layout import in_layout, is_channels_last
from xpdl.ops import activations, affine, arithmetic, dropout, normalization, pooling

DTYPES = ("float16", "bfloat16", "float32", "float64")
# Odd numbers of channels, packs of 16 bytes in all dtypes or in some, one channel, one pixel, and several blocks.
SHAPES = [
    (2, 3, 5, 4),
    (3, 8, 4, 7),
    (2, 12, 3, 3),
    (2, 5, 1, 6),
    (3, 16, 2, 2),
    (2, 1, 6, 5),
    (4, 24, 1, 1),
    (70, 8, 9, 4),
]


@dataclasses.dataclass(frozen=True)
class Row:
    """An op with its arrays, of which the first `images` are placed in either order.

    `make` gives them, with options, for random numbers and a shape of images. `result` says the memory order of the result:
    channels-last where one of the images is so ("any"), that of the axes ("axes"), or each result's own ("each").
    Kernels of some ops are for channels-last images only.
    """

    op: Callable[..., Any]
    make: Callable[[Any, tuple[int, ...]], tuple[list[Any], dict[str, Any]]]
    images: int
    result: str = "any"
    name: str = ""
    only_channels_last: bool = False

    @property
    def id(self) -> str:
        return self.name or self.op.__name__


def images(count):
    return lambda rng, shape: ([rng.normal(size=shape) for _ in range(count)], {})


def masked(rng, shape):
    return [rng.normal(size=shape), rng.random(shape) > 0.3], {"scale": 1.25}


def of_mask(rng, shape):
    return [rng.normal(size=shape)], {"drop_ratio": 0.4, "words": (1, 2, 3, 4), "counter": 7}


def of_channels(rng, shape, count):
    return [rng.normal(size=shape[1]) + 0.5 for _ in range(count)]


def trained(extra):
    def make(rng, shape):
        return [*images(1 + extra)(rng, shape)[0], *of_channels(rng, shape, 2)], {}

    return make


def evaluated(extra):
    def make(rng, shape):
        mean, var = rng.normal(size=(2, shape[1]))
        return [*images(1 + extra)(rng, shape)[0], *of_channels(rng, shape, 2), mean, np.abs(var) + 0.1], {}

    return make


def upstream(extra):
    def make(rng, shape):
        mean, var = rng.normal(size=(2, shape[1]))
        return [*images(2 + extra)(rng, shape)[0], *of_channels(rng, shape, 1), mean, np.abs(var) + 0.1], {}

    return make


def tracked(x, gamma, beta):
    running = gamma * 0, gamma * 0 + 1
    return normalization.tracked_batch_normalization(x, gamma, beta, *running, 0.9, 1e-3, activation="relu")


def summed(x, residual, gamma, beta):
    return normalization.batch_normalization(x, gamma, beta, 1e-3, activation="relu", residual=residual)


def evaluated_sum(x, residual, gamma, beta, mean, var):
    return normalization.normalize(x, gamma, beta, mean, var, 1e-3, activation="relu", residual=residual)


def add_relu(x, y):
    return arithmetic.add(x, y, activation="relu")


def plain(op):
    return lambda *arrays: op(*arrays, 1e-3)


def from_relu(op):
    return lambda dy, x, y, *others: op(dy, x, *others, 1e-3, y=y, activation="relu")


WINDOWS = {"size": (3, 2), "stride": (2, 1), "pad": (1, 1)}


def ties(rng, shape):
    return rng.integers(-3, 4, shape) / 2


def windowed(rng, shape):
    return [ties(rng, shape)], WINDOWS


def windowed_gradient(rng, shape):
    x = ties(rng, shape)
    return [rng.integers(-8, 9, pooling.max_pooling(x, **WINDOWS).shape) / 8, x], WINDOWS


def without_taps(rng, shape):
    [dy, x], _ = windowed_gradient(rng, shape)
    return [dy, x, pooling.max_pooling(x, **WINDOWS)], WINDOWS


def pooled(activation):
    """Both passes; taps come from the forward pass and are given to the backward pass."""

    def both(dy, x, **static):
        y, taps = pooling.max_pooling_with_taps(x, **static, activation=activation)
        return y, pooling.max_pooling_backward(dy, x, y, **static, taps=taps, activation=activation)

    return both


def averaged(rng, shape):
    return [rng.normal(size=shape), rng.normal(size=shape[:2])], {}


def spread(x, dy):
    return pooling.global_average_pooling_backward(dy, x)


def flat(rng, shape):
    return [rng.normal(size=shape), rng.normal(size=(int(np.prod(shape[1:])), 4)) / 8, rng.normal(size=4)], {}


def flat_gradient(dy, x, W):
    dx, dW, db = affine.affine_backward(dy, x, W)
    return dx, dW, db


ROWS = [
    Row(activations.relu, images(1), 1),
    Row(activations.relu_backward, images(2), 2),
    Row(activations.sigmoid, images(1), 1),
    Row(activations.sigmoid_backward, images(2), 2),
    Row(activations.tanh_backward, images(2), 2),
    Row(arithmetic.add, images(2), 2),
    Row(add_relu, images(2), 2),
    Row(dropout.dropout, masked, 2),
    Row(dropout.dropout_mask, of_mask, 1),
    Row(plain(normalization.batch_normalization), trained(0), 1, name="batch_normalization"),
    Row(tracked, trained(0), 1, name="tracked_batch_normalization"),
    Row(summed, trained(1), 2, name="batch_normalization and a sum"),
    Row(plain(normalization.normalize), evaluated(0), 1, name="normalize"),
    Row(evaluated_sum, evaluated(1), 2, name="normalize and a sum"),
    Row(plain(normalization.batch_normalization_backward), upstream(0), 2, name="batch_normalization_backward"),
    Row(
        from_relu(normalization.batch_normalization_backward),
        upstream(1),
        3,
        name="with relu, batch_normalization_backward",
    ),
    Row(plain(normalization.normalize_backward), upstream(0), 2, name="normalize_backward"),
    Row(from_relu(normalization.normalize_backward), upstream(1), 3, name="with relu, normalize_backward"),
    Row(pooling.max_pooling, windowed, 1),
    Row(pooling.average_pooling, windowed, 1),
    Row(pooling.average_pooling_backward, windowed_gradient, 2),
    Row(pooled(None), windowed_gradient, 2, "each", "max_pooling with taps"),
    Row(pooled("relu"), windowed_gradient, 2, "each", "max_pooling with taps and relu"),
    Row(pooling.max_pooling_backward, without_taps, 3, "axes"),
    Row(pooling.global_average_pooling, images(1), 1, "each", only_channels_last=True),
    Row(spread, averaged, 1, name="global_average_pooling_backward", only_channels_last=True),
    Row(affine.affine, flat, 1, "axes"),
]


def compare_channels_last(gpu, dtype):
    """Every kernel for channels-last images against its op."""
    rng = np.random.default_rng(0)
    for row in ROWS:
        for shape in ((3, 5, 6, 4), (3, 16, 6, 4)):
            compare(gpu, row, dtype, rng, shape, [(True,) * row.images])


def place(gpu, a, dtype, channels_last):
    a = np.asarray(a)
    placed = gpu.array(a.astype(dtype) if a.dtype.kind == "f" else a)
    return in_layout(placed, True) if channels_last else placed


def outputs(result):
    return [part for part in (result if isinstance(result, tuple) else (result,)) if part is not None]


def compare(gpu, row, dtype, rng, shape, all_orders):
    """The op of a row with its images in each of `all_orders`, against the generic op in float64 from the same values."""
    arrays, static = row.make(rng, shape)
    exact = [place(gpu, a, dtype, False).get() for a in arrays]
    exact = [a if a.dtype.kind in "bi" else a.astype("float64") for a in exact]
    with dispatch.generic_only():
        desired = outputs(row.op(*exact, **static))
    for orders in nonempty(all_orders):
        given = [place(gpu, a, dtype, last) for a, last in itertools.zip_longest(arrays, orders, fillvalue=False)]
        before = [a.get() for a in given]
        with gpu.rules(), trace.traced() as calls:
            actual = outputs(row.op(*given, **static))
        assert (calls or (row.only_channels_last and not is_channels_last(*given))) and len(actual) == len(desired)
        for a, values in zip(given, before, strict=True):
            np.testing.assert_array_equal(a.get(), values, err_msg="an operand was modified")
        for got, want in zip(actual, desired, strict=True):
            close(got, want, dtype)
        both = actual[0].ndim < 4 or min(actual[0].shape[1], actual[0].shape[2] * actual[0].shape[3]) == 1
        last = row.result == "any" and is_channels_last(*given) and not both
        assert row.result == "each" or (actual[0].flags.c_contiguous, is_channels_last(actual[0])) == (not last, last)


def close(got, want, dtype):
    assert tuple(got.shape) == np.shape(want)
    if got.dtype.kind == "b":
        np.testing.assert_array_equal(got.get(), want)
        return
    tolerance = RTOL[dtype]
    values = got.get().astype("float64")
    np.testing.assert_allclose(values, want, rtol=tolerance, atol=tolerance * np.abs(want).max(initial=0.0))
