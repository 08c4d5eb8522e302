"""Convolution on NumPy beside test_roster.py: blocks of images, precision, memory, and compiled code."""

import numpy as np
import pytest

from tests.backends.watched import kernels
from xpdl.backends import dispatch
from xpdl.backends.cpu import thread_pool
from xpdl.backends.cpu.tuning import tuned
from xpdl.ops import convolution as ops


@pytest.fixture(autouse=True)
def few_images_are_enough(code):
    with tuned(compiled_rows_fewest_images=1):
        yield


@pytest.mark.parametrize("images", [1, 255, 256, 257, 600])
@pytest.mark.parametrize("stride", [1, 2])
def test_large_batches_are_cut_in_blocks(images, stride):
    rng = np.random.default_rng(0)
    x, W, b = (rng.normal(size=shape) for shape in ((images, 2, 6, 9), (3, 2, 3, 3), (3,)))
    dy = rng.normal(size=(images, 3, 6 // stride, 9 // stride + 9 % stride))
    options = {"stride": (stride, stride), "pad": (1, 1)}
    with dispatch.generic_only():
        expected = ops.convolution(x, W, b, **options), *ops.convolution_backward(dy, x, W, **options)
    found = kernels.convolution(x, W, b, **options), *kernels.convolution_backward(dy, x, W, **options)
    for actual, desired in zip(found, expected, strict=True):
        np.testing.assert_allclose(actual, desired, rtol=1e-10, atol=1e-10)


def test_float32_is_as_exact_as_the_generic_op():
    rng = np.random.default_rng(0)
    x, W = rng.normal(size=(20, 16, 14, 14)), rng.normal(size=(16, 16, 3, 3))
    with dispatch.generic_only():
        exact = ops.convolution(x, W, pad=(1, 1))
    found = kernels.convolution(x.astype(np.float32), W.astype(np.float32), pad=(1, 1))
    assert found.dtype == np.float32
    assert np.abs(found - exact).max() < 1e-5 * np.abs(exact).max()


def test_is_called_and_generic_only_switches_it_off(monkeypatch):
    calls = []
    run = thread_pool.run
    monkeypatch.setattr(thread_pool, "run", lambda tasks: calls.append(len(tasks)) or run(tasks))
    x, W = np.ones((2, 1, 4, 4)), np.ones((1, 1, 3, 3))
    y = ops.convolution(x, W)
    ops.convolution_backward(y, x, W)
    assert len(calls) == 2
    with dispatch.generic_only():
        ops.convolution(x, W)
    assert len(calls) == 2


def test_floats_in_another_order_of_bytes_are_those_of_the_generic_op():
    # enough images for compiled code, which refuses them
    rng = np.random.default_rng(0)
    x, W = rng.normal(size=(20, 3, 5, 5)).astype(">f4"), rng.normal(size=(2, 3, 2, 2)).astype(">f4")
    y = ops.convolution(x, W)
    gradients = ops.convolution_backward(y.astype(">f4"), x, W)
    with dispatch.generic_only():
        expected = ops.convolution(x, W), *ops.convolution_backward(y, x, W)
    for actual, desired in zip((y, *gradients), expected, strict=True):
        np.testing.assert_allclose(actual, desired, rtol=1e-5, atol=1e-5)


def test_columns_are_never_stored_whole():
    import tracemalloc

    x, W = np.ones((200, 8, 32, 32), np.float32), np.ones((8, 8, 5, 5), np.float32)
    y = kernels.convolution(x, W, pad=(2, 2))
    tracemalloc.start()
    kernels.convolution_backward(y, x, W, pad=(2, 2))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # all columns would be 25 times x; dx, and what the threads work on, are there
    assert peak < 6 * x.nbytes


@pytest.mark.parametrize("need_dx", [True, False])
def test_compiled_code_runs(code, need_dx):
    rng = np.random.default_rng(0)
    x, W = (rng.normal(size=shape).astype(np.float32) for shape in ((8, 3, 9, 9), (4, 3, 5, 5)))
    y = kernels.convolution(x, W)
    code.assert_compiled("convolution")
    code.ran.clear()
    kernels.convolution_backward(y, x, W, need_dx=need_dx)
    code.assert_compiled("convolution_backward")
