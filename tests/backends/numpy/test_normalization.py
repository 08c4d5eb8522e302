"""Batch normalisation on NumPy equals the generic one, in either order of images in memory."""

import numpy as np
import pytest

from tests.backends.numpy.test_convolution import ORDERS
from xpdl.backends import dispatch
from xpdl.backends.numpy import normalization as kernels
from xpdl.ops import normalization as ops

SHAPES = [(1, 1, 1, 1), (1, 3, 2, 2), (4, 3, 5, 2), (7, 1, 3, 3), (60, 16, 28, 20)]


@pytest.mark.parametrize("dtype, tolerance", [("float64", 1e-11), ("float32", 2e-5)])
@pytest.mark.parametrize("order", ["C", "images innermost"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_equals_the_generic_op(shape, order, dtype, tolerance):
    rng = np.random.default_rng(0)
    x = ORDERS[order](rng.normal(3.0, 2.0, shape).astype(dtype))
    gamma, beta = (rng.normal(size=shape[1]).astype(dtype) for _ in range(2))
    dy = rng.normal(size=shape).astype(dtype)
    for array in (x, gamma, beta, dy):
        array.flags.writeable = False
    with dispatch.generic_only():
        expected = ops.batch_normalization(x.astype("float64"), gamma.astype("float64"), beta.astype("float64"), 1e-3)
        back = ops.batch_normalization_backward(dy.astype("float64"), expected[1], expected[2], gamma.astype("float64"))
    found = kernels.batch_normalization(x, gamma, beta, 1e-3)
    for actual, desired in zip(found, expected, strict=True):
        assert actual.dtype == dtype and actual.shape == desired.shape
        np.testing.assert_allclose(actual, desired, rtol=tolerance, atol=tolerance * max(1, np.abs(desired).max()))
    for other in ORDERS.values():
        gradients = kernels.batch_normalization_backward(other(dy), found[1], found[2], gamma)
        for actual, desired in zip(gradients, back, strict=True):
            assert actual.dtype == dtype and actual.shape == desired.shape
            np.testing.assert_allclose(actual, desired, rtol=tolerance, atol=tolerance * max(1, np.abs(desired).max()))


def test_memory_order_is_kept():
    x = ORDERS["images innermost"](np.random.default_rng(0).normal(size=(5, 3, 4, 2)))
    y, x_hat, inv_std, *_ = kernels.batch_normalization(x, np.ones(3), np.zeros(3), 1e-6)
    dx, _, _ = kernels.batch_normalization_backward(np.ascontiguousarray(y), x_hat, inv_std, np.ones(3))
    for array in (y, x_hat, dx):
        assert array.transpose(2, 1, 3, 0).flags.c_contiguous


def test_is_called_and_generic_only_switches_it_off(monkeypatch):
    calls = []
    run = kernels.threads.run
    monkeypatch.setattr(kernels.threads, "run", lambda tasks: calls.append(len(tasks)) or run(tasks))
    x = np.random.default_rng(0).normal(size=(60, 16, 28, 20))
    _, x_hat, inv_std, *_ = ops.batch_normalization(x, np.ones(16), np.zeros(16), 1e-6)
    ops.batch_normalization_backward(x, x_hat, inv_std, np.ones(16))
    assert calls == [2, 2]
    with dispatch.generic_only():
        ops.batch_normalization(x, np.ones(16), np.zeros(16), 1e-6)
    assert len(calls) == 2


@pytest.mark.parametrize("x", [np.ones((3, 4)), np.ones((2, 3, 4, 4), "float16"), np.ones((2, 3, 4, 8))[..., ::2]])
def test_declines_what_it_does_not_serve(x):
    p = np.ones(x.shape[1], x.dtype)
    assert kernels.batch_normalization(x, p, p, 1e-6) is dispatch.DECLINE
    assert kernels.batch_normalization_backward(x, x, p, p) is dispatch.DECLINE
