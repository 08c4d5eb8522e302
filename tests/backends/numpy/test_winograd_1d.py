"""Convolutions by four products for two columns equal those of the generic op, whatever the blocks, and really run."""

import numpy as np
import pytest

from tests.backends.watched import kernels
from tests.harness import nonempty
from xpdl.backends import dispatch, registry
from xpdl.backends.cpu import conv_tasks, thread_pool
from xpdl.backends.cpu.choose_algorithm import FILTER_GRADIENT, ROWS, WINOGRAD_1D
from xpdl.backends.cpu.tuning import TUNING, tuned
from xpdl.backends.namespaces import array_namespace
from xpdl.backends.numpy import winograd_1d
from xpdl.ops import convolution as ops


@pytest.fixture(autouse=True)
def pure():
    """Compiled kernels have another way."""
    dispatch.kernels_for(array_namespace(np.empty(0)))
    with registry.without("numba"):
        yield


@pytest.fixture
def always(monkeypatch):
    """Serve everything that can be served, in any dtype."""
    served = []

    def always(case):
        can = case.passes != FILTER_GRADIENT and case.size[1] == 3 and case.stride == case.dilation == (1, 1)
        served.append(can)
        return WINOGRAD_1D if can else ROWS

    monkeypatch.setattr(conv_tasks, "choose_algorithm", always)
    return served


def both(x, W, b, dy, **options):
    def compute():
        gradients = ops.convolution_backward(dy, x, W, **options)
        return ops.convolution(x, W, b, **options), *gradients

    with dispatch.generic_only():
        expected = compute()
    return compute(), expected


@pytest.mark.parametrize("task_bytes", [1, 1 << 13, TUNING.winograd_1d_task_bytes])
@pytest.mark.parametrize("seed", range(20))
@tuned(winograd_1d_task_images=3, winograd_1d_few_columns=6, winograd_1d_packed_columns=6, gemm_unpacked_products=2000)
def test_equals_the_generic_op(always, seed, task_bytes):
    rng = np.random.default_rng(seed)
    height, pad, groups = int(rng.integers(1, 5)), tuple(int(p) for p in rng.integers(0, 5, 2)), int(rng.integers(1, 3))
    size = [max(1, k - 2 * p) + int(rng.integers(0, 8)) for k, p in zip((height, 3), pad, strict=True)]
    n, c, f = (int(v) for v in rng.integers(1, 8, 3))
    x, W, b = (rng.normal(size=shape) for shape in ((n, c * groups, *size), (f * groups, c, height, 3), (f * groups,)))
    options = {"pad": pad, "groups": groups}
    with dispatch.generic_only():
        dy = rng.normal(size=ops.convolution(x, W, **options).shape)
    with tuned(winograd_1d_task_bytes=task_bytes):
        found, expected = both(x, W, b, dy, **options)
    assert any(always)
    for actual, desired in zip(found, expected, strict=True):
        np.testing.assert_allclose(actual, desired, rtol=1e-11, atol=1e-11)


def test_small_integers_are_exact(always):
    rng = np.random.default_rng(0)
    x, W, b, dy = (
        rng.integers(-4, 5, size=shape).astype(np.float32) for shape in ((3, 4, 7, 7), (5, 4, 3, 3), (5,), (3, 5, 7, 7))
    )
    ours, wanted = both(x, W, b, dy, pad=(1, 1))
    for actual, desired in zip(nonempty(ours), wanted, strict=True):
        np.testing.assert_array_equal(actual, desired)


@pytest.mark.parametrize(
    ("filters", "depth", "dtype", "runs"),
    [(32, 32, np.float32, True), (32, 32, np.float64, False), (64, 3, np.float32, False), (16, 16, np.float32, False)],
)
def test_serves_what_it_is_quicker_for(monkeypatch, filters, depth, dtype, runs):
    calls = []
    outputs = winograd_1d._outputs
    monkeypatch.setattr(winograd_1d, "_outputs", lambda *args: calls.append(args) or outputs(*args))
    rng = np.random.default_rng(0)
    x, W = (
        rng.normal(size=(TUNING.small_batch_images, depth, 9, 9)).astype(dtype),
        rng.normal(size=(filters, depth, 3, 3)).astype(dtype),
    )
    y = kernels.convolution(x, W, pad=(1, 1))
    assert bool(calls) is runs
    for options in ({"stride": (1, 2)}, {"dilation": (2, 1)}):
        calls.clear()
        kernels.convolution(x, W, **options)
        assert not calls
    kernels.convolution_backward(y, x, W, pad=(1, 1))
    assert bool(calls) is runs


def test_rounds_about_as_plain_sums_do():
    rng = np.random.default_rng(0)
    x, W, dy = (rng.normal(size=shape) for shape in ((20, 64, 14, 14), (64, 64, 3, 3), (20, 64, 14, 14)))
    with dispatch.generic_only():
        exact = ops.convolution(x, W, pad=(1, 1)), *ops.convolution_backward(dy, x, W, pad=(1, 1))
    x, W, dy = (array.astype(np.float32) for array in (x, W, dy))
    found = kernels.convolution(x, W, pad=(1, 1)), *kernels.convolution_backward(dy, x, W, pad=(1, 1))
    for actual, desired in zip(found, exact, strict=True):
        assert np.abs(actual - desired).max() < 3e-6 * np.abs(desired).max()


def test_the_bits_do_not_depend_on_threads(monkeypatch):
    rng = np.random.default_rng(0)
    x, W, dy = (
        rng.normal(size=shape).astype(np.float32) for shape in ((40, 32, 16, 16), (32, 32, 3, 3), (40, 32, 16, 16))
    )
    results = []
    for threads in (1, 2, 3):
        monkeypatch.setattr(thread_pool, "_chosen", threads)
        results.append((kernels.convolution(x, W, pad=(1, 1)), *kernels.convolution_backward(dy, x, W, pad=(1, 1))))
    for other in nonempty(results[1:]):
        for first, second in zip(nonempty(results[0]), other, strict=True):
            np.testing.assert_array_equal(first, second)
