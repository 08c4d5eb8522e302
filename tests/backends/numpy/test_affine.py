"""The affine map on NumPy beside test_roster.py: special values, threads, memory order, tasks."""

import numpy as np
import pytest

from tests.backends.numpy.cases import ORDERS
from xpdl.backends import dispatch, use
from xpdl.backends.numpy import affine as kernels
from xpdl.ops import affine as ops


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("shape, units", [((4, 3), 5), ((90, 30), 700), ((600, 30), 300), ((2, 3), 1 << 17)])
def test_relu_of_values_that_are_not_finite_is_that_of_the_generic_op(shape, units, dtype):
    special = np.array([np.nan, np.inf, -np.inf, 0.0, -1.0], dtype)
    x, W, b = np.zeros(shape, dtype), np.zeros((shape[1], units), dtype), np.zeros(units, dtype)
    b[:5], x[0, 0], W[0, -1] = special, 2.0, -1.5
    with dispatch.generic_only():
        wanted = ops.affine(x, W, b, activation="relu")
    found = ops.affine(x, W, b, activation="relu")
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, wanted)
    np.testing.assert_array_equal(found[1, :5], [np.nan, np.inf, 0, 0, 0])


def test_is_bitwise_identical_for_any_number_of_threads():
    rng = np.random.default_rng(0)
    for n, d, m in ((100, 700, 600), (600, 300, 300)):
        x, W, b = (rng.normal(size=size).astype("float32") for size in ((n, d), (d, m), (m,)))
        found = []
        for count in (1, 3):
            with use("numpy", threads=count):
                found.append(ops.affine(x, W, b, activation="relu"))
        np.testing.assert_array_equal(*found)


def test_gradient_of_images_keeps_their_memory_order():
    x = ORDERS["images innermost"](np.ones((5, 3, 4, 2)))
    dx, _, _ = kernels.affine_backward(np.ones((5, 2)), x, np.ones((24, 2)))
    assert dx.transpose(2, 1, 3, 0).flags.c_contiguous


def test_is_called_and_generic_only_switches_it_off(monkeypatch):
    calls = []
    run = kernels.thread_pool.run
    monkeypatch.setattr(kernels.thread_pool, "run", lambda tasks: calls.append(len(tasks)) or run(tasks))
    for rows, features, units in ((3, 9, 4), (100, 784, 50), (300, 900, 400), (600, 700, 660), (1200, 1000, 1000)):
        ops.affine(np.ones((rows, features)), np.ones((features, units)))
    # products that BLAS computes in one thread anyway are not run as tasks; wide ones are finished in a second run
    assert calls == [1, 2, 4, 4, 8]
    with dispatch.generic_only():
        ops.affine(np.ones((100, 784)), np.ones((784, 50)))
    assert len(calls) == 5
    ops.affine(np.ones((100, 784)), np.ones((784, 50)), activation="relu")
    assert len(calls) == 6


def test_shapes_that_do_not_fit_get_the_generic_error():
    with pytest.raises(ValueError):
        ops.affine(np.ones((2, 3)), np.ones((4, 2)))
