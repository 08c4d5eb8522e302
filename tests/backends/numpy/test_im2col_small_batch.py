"""Few images are convolved each by itself, as the generic op does it, in parts of any size, and left as images lie."""

import numpy as np
import pytest

from tests.backends.watched import kernels
from xpdl.backends import dispatch
from xpdl.backends.cpu.tuning import TUNING, tuned
from xpdl.backends.numba import loading
from xpdl.backends.numpy import im2col_small_batch
from xpdl.ops import convolution as ops


def module(code):
    return im2col_small_batch if code.name == "pure" else loading.load("xpdl.backends.numba.im2col_small_batch")


def many(code):
    """Images that are not few any more."""
    return TUNING.small_batch_images if code.name == "pure" else TUNING.small_batch_compiled_images


@pytest.mark.parametrize("activation", [None, "relu"])
@pytest.mark.parametrize("task_bytes", [1, 1 << 11, TUNING.small_batch_task_bytes])
@pytest.mark.parametrize("seed", range(12))
@tuned(small_batch_shared_products=200)
def test_equals_the_generic_op(code, seed, task_bytes, activation):
    rng = np.random.default_rng(seed)
    size, stride, dilation = (tuple(int(v) for v in rng.integers(1, high, 2)) for high in (5, 4, 3))
    pad = tuple(int(v) for v in rng.integers(0, 4, 2))
    extent = [d * (k - 1) + 1 for d, k in zip(dilation, size, strict=True)]
    image = [max(1, e - 2 * p) + int(rng.integers(0, 7)) for e, p in zip(extent, pad, strict=True)]
    n, c, f, groups = int(rng.integers(1, many(code))), *(int(v) for v in rng.integers(1, 5, 3))
    x, W, b = (
        rng.normal(size=(n, c * groups, *image)),
        rng.normal(size=(f * groups, c, *size)),
        rng.normal(size=f * groups),
    )
    options = {"stride": stride, "pad": pad, "dilation": dilation, "groups": groups}
    options["activation"] = activation
    with dispatch.generic_only():
        expected = ops.convolution(x, W, b, **options)
    with tuned(small_batch_task_bytes=task_bytes):
        found = ops.convolution(np.asfortranarray(x), W, b, **options)
        narrow = ops.convolution(*(a.astype("float32") for a in (x, W, b)), **options)
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)
    assert found.flags.c_contiguous
    assert narrow.dtype == np.float32
    np.testing.assert_allclose(narrow, expected, rtol=2e-6, atol=2e-6 * np.abs(expected).max())
    code.assert_compiled("convolution")


def test_runs_for_few_images_alone(code, monkeypatch):
    seen = []
    fill = module(code).scratch
    monkeypatch.setattr(module(code), "scratch", lambda *args: seen.append(args[0]) or fill(*args))
    W = np.ones((2, 1, 3, 3), np.float32)
    for n in (1, many(code) - 1, many(code)):
        kernels.convolution(np.ones((n, 1, 5, 5), np.float32), W)
        assert bool(seen) is (n < many(code))
        seen.clear()


def test_relu_keeps_nan():
    x = np.full((1, 1, 3, 3), np.nan, np.float32)
    assert np.isnan(ops.convolution(x, np.ones((2, 1, 3, 3), np.float32), activation="relu")).all()


@pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")
@pytest.mark.parametrize("special", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_comes_out_again(special):
    x, W = (
        np.random.default_rng(0).normal(size=(2, 2, 6, 5)),
        np.array([[1.0, -1.0], [2.0, 1.0]])[:, :, np.newaxis, np.newaxis],
    )
    x[1, 0, 2, 3] = special
    for activation in (None, "relu"):
        with dispatch.generic_only():
            expected = ops.convolution(x, W, activation=activation)
        np.testing.assert_allclose(ops.convolution(x, W, activation=activation), expected, rtol=1e-12)


def test_the_border_counts_as_zeros_whatever_memory_held():
    x, W = np.random.default_rng(0).normal(size=(1, 4, 6, 6)), np.random.default_rng(1).normal(size=(3, 4, 3, 3))
    before = kernels.convolution(x, W, pad=(1, 1))
    kernels.convolution(np.full_like(x, np.nan), W, pad=(1, 1))
    np.testing.assert_array_equal(kernels.convolution(x, W, pad=(1, 1)), before)


@tuned(small_batch_shared_products=0)
def test_is_bitwise_identical_for_any_number_of_threads(monkeypatch):
    rng = np.random.default_rng(0)
    x, W = rng.normal(size=(3, 16, 32, 32)).astype("float32"), rng.normal(size=(16, 16, 3, 3)).astype("float32")
    monkeypatch.setenv("XPDL_NUM_THREADS", "1")
    alone = kernels.convolution(x, W, pad=(1, 1))
    monkeypatch.setenv("XPDL_NUM_THREADS", "3")
    np.testing.assert_array_equal(kernels.convolution(x, W, pad=(1, 1)), alone)
