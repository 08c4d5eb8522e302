"""Pooling on NumPy beside test_roster.py: borders, tasks, special values, memory order, what is declined."""

import numpy as np
import pytest

from tests.backends.numpy.cases import ORDERS
from tests.backends.watched import kernels
from xpdl.backends import dispatch
from xpdl.backends.cpu import thread_pool
from xpdl.backends.cpu.tuning import tuned
from xpdl.ops import pooling as ops


@pytest.fixture
def few_neighbours():
    """Compiled code also where NumPy's functions are faster, which the small images of these tests are for."""
    with tuned(compiled_pooling_neighbours_backward=1):
        yield


@pytest.mark.usefixtures("few_neighbours")
@pytest.mark.parametrize("order", ["C", "images innermost"])
def test_windows_in_the_border_alone_have_no_value_and_no_gradient(order):
    x = ORDERS[order](np.random.default_rng(0).normal(size=(2, 3, 4, 3)).astype(np.float32))
    geometry = (2, 2), (1, 2), (3, 3)
    with dispatch.generic_only():
        expected = ops.max_pooling(x, *geometry)
        expected_dx = ops.max_pooling_backward(expected, x, expected, *geometry)
    assert np.isneginf(expected).any()
    y = kernels.max_pooling(x, *geometry)
    np.testing.assert_array_equal(y, expected)
    dx = kernels.max_pooling_backward(y, x, y, *geometry)
    np.testing.assert_allclose(dx, expected_dx, rtol=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_many_images_are_compiled_and_many_values_of_one_image_are_not(dtype, code):
    x = np.random.default_rng(0).normal(size=(32, 2, 6, 7)).astype(dtype)
    y = kernels.max_pooling(ORDERS["images innermost"](x), (2, 3), (2, 1), (1, 0))
    dx = kernels.max_pooling_backward(y, ORDERS["images innermost"](x), y, (2, 3), (2, 1), (1, 0))
    code.assert_compiled("max_pooling", "max_pooling_backward")
    code.ran.clear()
    np.testing.assert_array_equal(kernels.max_pooling_backward(y, x, y, (2, 3), (2, 1), (1, 0)), dx)
    large = np.ones((1, 1, 256, 256), dtype)
    assert (kernels.max_pooling(large, (2, 2), (2, 2)) == 1).all()
    assert not code.ran


@pytest.mark.parametrize("shape", [(64, 3, 9, 8), (2, 64, 9, 8)], ids=str)
@tuned(pooling_task=1 << 11, compiled_pooling_task=1 << 11)
def test_parts_make_the_whole(shape, code):
    x = ORDERS["images innermost" if shape[0] > shape[1] else "channels last"](
        np.random.default_rng(0).normal(size=shape)
    )
    y = kernels.max_pooling(x, (3, 3), (2, 2), (1, 1))
    dx = kernels.max_pooling_backward(y, x, y, (3, 3), (2, 2), (1, 1))
    with dispatch.generic_only():
        np.testing.assert_array_equal(y, ops.max_pooling(x, (3, 3), (2, 2), (1, 1)))
        expected = ops.max_pooling_backward(y, x, y, (3, 3), (2, 2), (1, 1))
    np.testing.assert_allclose(dx, expected, rtol=1e-12, atol=1e-12)


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
    run = thread_pool.run
    monkeypatch.setattr(thread_pool, "run", lambda tasks: calls.append(len(tasks)) or run(tasks))
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
    for kernel in (kernels.max_pooling, kernels.average_pooling):
        assert kernel(np.ones((1, 1, 2, 2)), (3, 3), (1, 1)) is dispatch.DECLINE
    x = ORDERS["images innermost"](np.ones((32, 1, 4, 4), np.float32))
    with pytest.raises(ValueError, match="broadcast"):
        kernels.max_pooling_backward(x, x, x, (2, 2), (2, 2))
    assert kernels.average_pooling_backward(x, x, (2, 2), (2, 2)) is dispatch.DECLINE
    empty = np.ones((0, 1, 2, 2))
    assert kernels.max_pooling_backward(empty, empty, empty, (1, 1), (1, 1)) is dispatch.DECLINE
