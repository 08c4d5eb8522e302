"""The NumPy pooling equals the generic one, ties and borders too, in any memory order."""

import numpy as np
import pytest

from tests.backends.numpy.test_convolution import ORDERS
from xpdl.backends import dispatch
from xpdl.backends.numpy import pooling as kernels
from xpdl.ops import pooling as ops


def case(seed):
    rng = np.random.default_rng(seed)
    size, stride = (tuple(int(v) for v in rng.integers(1, 4, 2)) for _ in range(2))
    pad = tuple(int(rng.integers(0, k)) for k in size)
    shape = (*rng.integers(1, 5, 2), *(k + int(rng.integers(0, 7)) for k in size))
    # few different values: many ties
    return rng.integers(-2, 3, shape).astype(np.float32), size, stride, pad


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("seed", range(60))
def test_equals_the_generic_op(seed, order):
    x, size, stride, pad = case(seed)
    x = ORDERS[order](x)
    x.flags.writeable = False
    with dispatch.generic_only():
        expected = ops.max_pooling(x, size, stride, pad)
        dy = np.random.default_rng(seed).normal(size=expected.shape).astype(np.float32)
        expected_dx = ops.max_pooling_backward(dy, x, expected, size, stride, pad)
    y = kernels.max_pooling(x, size, stride, pad)
    dx = kernels.max_pooling_backward(ORDERS[order](dy), x, y, size, stride, pad)
    np.testing.assert_array_equal(y, expected)
    np.testing.assert_allclose(dx, expected_dx, rtol=1e-6, atol=1e-6)
    assert y.dtype == dx.dtype == np.float32


@pytest.mark.parametrize("special", [np.inf, -np.inf, np.nan])
def test_gradients_that_are_not_finite_go_to_the_winner_alone(special):
    x = np.arange(16.0).reshape(1, 1, 4, 4)
    y = kernels.max_pooling(x, (2, 2), (2, 2))
    dy = np.ones((1, 1, 2, 2))
    dy[0, 0, 0, 0] = special
    dx = kernels.max_pooling_backward(dy, x, y, (2, 2), (2, 2))
    with dispatch.generic_only():
        np.testing.assert_array_equal(dx, ops.max_pooling_backward(dy, x, y, (2, 2), (2, 2)))


def test_keeps_the_memory_order_of_the_images():
    x = ORDERS["images innermost"](np.random.default_rng(0).normal(size=(5, 3, 8, 6)))
    y = kernels.max_pooling(x, (2, 2), (2, 2))
    dx = kernels.max_pooling_backward(np.ascontiguousarray(y), x, y, (2, 2), (2, 2))
    for array in (y, dx):
        assert array.transpose(2, 1, 3, 0).flags.c_contiguous


def test_many_channels_are_shared_between_threads(monkeypatch):
    calls = []
    run = kernels.threads.run
    monkeypatch.setattr(kernels.threads, "run", lambda tasks: calls.append(len(tasks)) or run(tasks))
    x = np.random.default_rng(0).normal(size=(100, 8, 40, 40))
    with dispatch.generic_only():
        expected = ops.max_pooling(x, (3, 3), (2, 2), (1, 1))
        expected_dx = ops.max_pooling_backward(expected, x, expected, (3, 3), (2, 2), (1, 1))
    y = ops.max_pooling(x, (3, 3), (2, 2), (1, 1))
    dx = ops.max_pooling_backward(y, x, y, (3, 3), (2, 2), (1, 1))
    np.testing.assert_array_equal(y, expected)
    np.testing.assert_allclose(dx, expected_dx, rtol=1e-12, atol=1e-12)
    assert calls == [2, 2]


def test_declines_what_it_does_not_serve():
    assert kernels.max_pooling(np.ones((1, 1, 2, 2), int), (2, 2), (2, 2)) is dispatch.DECLINE
    assert kernels.max_pooling(np.ones((1, 1, 2, 2)), (3, 3), (1, 1)) is dispatch.DECLINE
    empty = np.ones((0, 1, 2, 2))
    assert kernels.max_pooling_backward(empty, empty, empty, (1, 1), (1, 1)) is dispatch.DECLINE
