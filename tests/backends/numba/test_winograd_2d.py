"""Convolutions by sixteen products for four outputs equal those of the generic op, whatever the blocks, and really run."""

import numpy as np
import pytest

from tests.backends.watched import kernels
from xpdl.backends import dispatch
from xpdl.backends.cpu import thread_pool
from xpdl.backends.cpu.tuning import tuned
from xpdl.backends.numba import loading
from xpdl.ops import convolution as ops


@pytest.fixture
def tiles(monkeypatch):
    """The module, and in `calls` the tasks it did."""
    if loading.problem():
        pytest.skip(loading.problem())
    module = loading.load("xpdl.backends.numba.winograd_2d")
    calls, correlate = [], module._correlate
    monkeypatch.setattr(module, "_correlate", lambda *args: calls.append(args) or correlate(*args))
    module.calls = calls
    yield module
    del module.calls


def images(rng, shape):
    """(N, C, H, W) in the order (H, C, W, N) of memory."""
    n, c, h, w = shape
    return rng.normal(size=(h, c, w, n)).astype(np.float32).transpose(3, 1, 0, 2)


def both(x, W, b, dy, **options):
    """Forward and backward in float32, and in float64 by the generic op."""

    def compute(x, W, b, dy):
        return ops.convolution(x, W, b, **options), *ops.convolution_backward(dy, x, W, **options)

    with dispatch.generic_only():
        exact = compute(*(a if a is None else a.astype(np.float64) for a in (x, W, b, dy)))
    return compute(x, W, b, dy), exact


@pytest.mark.parametrize("columns", [1, 50, 400])
@pytest.mark.parametrize("seed", range(10))
@tuned(winograd_2d_channels=0, winograd_2d_task_images=9)
def test_equals_the_generic_op(tiles, seed, columns):
    rng = np.random.default_rng(seed)
    pad = tuple(int(p) for p in rng.integers(0, 5, 2))
    size = [max(2, 4 - 2 * p) + int(rng.integers(0, 8)) for p in pad]
    n, c, f = int(rng.integers(8, 20)), *(int(v) for v in rng.integers(1, 8, 2))
    x, W, b = images(rng, (n, c, *size)), rng.normal(size=(f, c, 3, 3)).astype("f"), rng.normal(size=f).astype("f")
    dy = images(rng, (n, f, *(s + 2 * p - 2 for s, p in zip(size, pad, strict=True))))
    with tuned(winograd_2d_columns=columns):
        found, exact = both(x, W, b, dy, pad=pad)
    assert len(tiles.calls) > 1
    for actual, desired in zip(found, exact, strict=True):
        np.testing.assert_allclose(actual, desired, rtol=0, atol=1e-5 * np.abs(desired).max())


@pytest.mark.parametrize("axes", [(3, 2, 1, 0), (2, 1, 3, 0), (0, 2, 3, 1)])
def test_filters_may_lie_in_any_order_of_memory(tiles, axes):
    rng = np.random.default_rng(0)
    x, dy, W = images(rng, (8, 16, 7, 7)), images(rng, (8, 12, 7, 7)), rng.normal(size=(12, 16, 3, 3)).astype("f")
    in_order = both(x, W, None, dy, pad=(1, 1))[0]
    W = np.ascontiguousarray(W.transpose(axes)).transpose(np.argsort(axes))
    for actual, desired in zip(both(x, W, None, dy, pad=(1, 1))[0], in_order, strict=True):
        np.testing.assert_allclose(actual, desired, rtol=0, atol=1e-5 * np.abs(desired).max())
    assert tiles.calls


@tuned(winograd_2d_channels=0)
def test_small_integers_are_exact(tiles):
    rng = np.random.default_rng(0)
    x, dy = (np.round(3 * images(rng, shape)) for shape in ((8, 4, 7, 7), (8, 5, 7, 7)))
    W, b = np.round(4 * rng.normal(size=(5, 4, 3, 3))).astype("f"), np.arange(5, dtype=np.float32)
    found, exact = both(x, W, b, dy, pad=(1, 1))
    assert tiles.calls
    for actual, desired in zip(found, exact, strict=True):
        np.testing.assert_array_equal(actual, desired)


@pytest.mark.parametrize(
    ("n", "filters", "depth", "dtype", "runs"),
    [(8, 32, 32, "f", True), (7, 32, 32, "f", False), (8, 32, 32, "d", False), (8, 64, 3, "f", False)],
)
def test_serves_what_it_is_quicker_for(tiles, n, filters, depth, dtype, runs):
    rng = np.random.default_rng(0)
    x, W = images(rng, (n, depth, 9, 9)).astype(dtype), rng.normal(size=(filters, depth, 3, 3)).astype(dtype)
    y = kernels.convolution(x, W, pad=(1, 1))
    assert bool(tiles.calls) is runs
    for options in ({"stride": (1, 2)}, {"dilation": (2, 1)}):
        tiles.calls.clear()
        kernels.convolution(x, W, **options)
        assert not tiles.calls
    kernels.convolution_backward(y, x, W, pad=(1, 1))
    assert bool(tiles.calls) is runs


def test_groups_are_left_to_others(tiles):
    rng = np.random.default_rng(0)
    x, W = images(rng, (8, 32, 9, 9)), rng.normal(size=(32, 16, 3, 3)).astype("f")
    kernels.convolution_backward(kernels.convolution(x, W, groups=2), x, W, groups=2)
    assert not tiles.calls


def test_rounds_about_as_plain_sums_do(tiles):
    rng = np.random.default_rng(0)
    x, dy, W = images(rng, (20, 64, 14, 14)), images(rng, (20, 64, 14, 14)), rng.normal(size=(64, 64, 3, 3)).astype("f")
    found, exact = both(x, W, np.zeros(64, np.float32), dy, pad=(1, 1))
    assert tiles.calls
    for actual, desired in zip(found, exact, strict=True):
        assert np.abs(actual - desired).max() < 3e-6 * np.abs(desired).max()


def test_the_bits_do_not_depend_on_threads(tiles, monkeypatch):
    rng = np.random.default_rng(0)
    x, dy, W = images(rng, (40, 32, 16, 16)), images(rng, (40, 32, 16, 16)), rng.normal(size=(32, 32, 3, 3)).astype("f")
    results = []
    for threads in (1, 2, 3, 7):
        monkeypatch.setattr(thread_pool, "_chosen", threads)
        results.append((kernels.convolution(x, W, pad=(1, 1)), *kernels.convolution_backward(dy, x, W, pad=(1, 1))))
    assert tiles.calls
    for other in results[1:]:
        for first, second in zip(results[0], other, strict=True):
            np.testing.assert_array_equal(first, second)


def test_memory_left_by_another_task_does_not_matter(tiles, monkeypatch):
    monkeypatch.setattr(thread_pool, "_chosen", 1)
    rng = np.random.default_rng(0)
    x, W = images(rng, (9, 16, 7, 6)), rng.normal(size=(16, 16, 3, 3)).astype("f")
    first = kernels.convolution(x, W, pad=(2, 1)).copy()
    tiles.scratch("tiles", (1 << 18,), np.float32)[:] = np.nan
    np.testing.assert_array_equal(kernels.convolution(x, W, pad=(2, 1)), first)


def test_filters_of_a_subclass_are_taken():
    rng = np.random.default_rng(0)
    x, W = (rng.normal(size=shape).astype("float32") for shape in ((16, 12, 6, 6), (12, 12, 3, 3)))
    np.testing.assert_array_equal(kernels.convolution(x, np.ma.array(W)), kernels.convolution(x, W))
