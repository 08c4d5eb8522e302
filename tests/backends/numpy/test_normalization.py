"""Batch normalisation of images on NumPy beside test_roster.py: gradients, special values, memory, threads."""

import numpy as np
import pytest

from tests.backends.numpy.cases import EPS, ORDERS, normalized
from tests.backends.watched import kernels
from tests.harness import nonempty
from xpdl.backends import dispatch
from xpdl.backends.cpu import thread_pool
from xpdl.ops import normalization as ops


@pytest.mark.parametrize("order", ["C", "images innermost"])
def test_gradients_are_those_of_differences(code, order):
    dy, x, gamma, beta, *_ = normalized((3, 2, 4, 5), "float64", order)

    def forward(x, gamma, beta):
        return kernels.batch_normalization(ORDERS[order](x), gamma, beta, EPS, activation="relu")[0]

    y, mean, var = kernels.batch_normalization(x, gamma, beta, EPS, activation="relu")
    gradients = kernels.batch_normalization_backward(dy, x, gamma, mean, var, EPS, y=y, activation="relu")
    for position, gradient in enumerate(gradients):
        given = [np.array(a) for a in (x, gamma, beta)]
        direction = np.random.default_rng(position).normal(size=given[position].shape)
        ends = []
        for sign in (1, -1):
            moved = list(given)
            moved[position] = given[position] + sign * 1e-6 * direction
            ends.append(float((forward(*moved) * dy).sum()))
        np.testing.assert_allclose((ends[0] - ends[1]) / 2e-6, float((gradient * direction).sum()), rtol=1e-6)
    code.assert_compiled("batch_normalization", "batch_normalization_backward")


@pytest.mark.parametrize("dtype, tolerance", [("float64", 1e-10), ("float32", 3e-4)])
@pytest.mark.parametrize("order", ["C", "images innermost"])
def test_a_mean_far_above_the_deviation_costs_no_digits_of_the_variance(order, dtype, tolerance):
    x = ORDERS[order](np.random.default_rng(0).normal(1e4, 1.0, (60, 3, 15, 20)).astype(dtype))
    ones, zeros = np.ones(3, dtype), np.zeros(3, dtype)
    _, mean, var = kernels.batch_normalization(x, ones, zeros, 1e-6)
    exact = x.astype("float64")
    np.testing.assert_allclose(mean, exact.mean(axis=(0, 2, 3)), rtol=tolerance)
    np.testing.assert_allclose(var, exact.var(axis=(0, 2, 3)), rtol=tolerance)


@pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")
@pytest.mark.parametrize("order", ["C", "images innermost"])
@pytest.mark.parametrize("special", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_spoils_its_channel_alone(order, special):
    dy, x, *channels = (np.array(a) for a in normalized((5, 3, 4, 2), "float32"))
    gamma, beta = channels[:2]
    x[1, 2, 3, 0] = special
    x, dy = ORDERS[order](x), ORDERS[order](dy)
    found = kernels.batch_normalization(x, gamma, beta, EPS, activation="relu")
    back = kernels.batch_normalization_backward(dy, x, gamma, *found[1:], EPS, y=found[0], activation="relu")
    given = kernels.normalize(x, *channels, EPS, activation="relu")
    with dispatch.generic_only():
        expected = ops.batch_normalization(x, gamma, beta, EPS, activation="relu")
        expected_back = ops.batch_normalization_backward(
            dy, x, gamma, *expected[1:], EPS, y=expected[0], activation="relu"
        )
        expected_given = ops.normalize(x, *channels, EPS, activation="relu")
    for actual, desired in zip((*found, *back, given), (*expected, *expected_back, expected_given), strict=True):
        np.testing.assert_allclose(actual, desired, rtol=2e-5, atol=2e-5)


def test_memory_order_is_kept():
    dy, x, gamma, beta, mean, var = normalized((5, 3, 4, 2), "float64", "images innermost")
    y, *statistics = kernels.batch_normalization(x, gamma, beta, EPS, residual=np.ascontiguousarray(dy))
    dx, _, _ = kernels.batch_normalization_backward(np.ascontiguousarray(dy), x, gamma, *statistics, EPS)
    for array in (y, dx, kernels.normalize(x, gamma, beta, mean, var, EPS)):
        assert array.transpose(2, 1, 3, 0).flags.c_contiguous


def test_is_called_and_generic_only_switches_it_off(monkeypatch):
    calls = []
    run = thread_pool.run
    monkeypatch.setattr(thread_pool, "run", lambda tasks: calls.append(len(tasks)) or run(tasks))
    dy, x, gamma, beta, mean, var = normalized((60, 16, 28, 20), "float64")
    statistics = ops.batch_normalization(x, gamma, beta, EPS)[1:]
    ops.batch_normalization_backward(dy, x, gamma, *statistics, EPS)
    ops.normalize(x, gamma, beta, mean, var, EPS)
    assert calls == [4, 4, 9]
    with dispatch.generic_only():
        ops.batch_normalization(x, gamma, beta, EPS)
        ops.normalize(x, gamma, beta, mean, var, EPS)
    assert len(calls) == 3


def test_is_bitwise_identical_for_any_number_of_threads(monkeypatch):
    dy, x, gamma, beta, mean, var = normalized((60, 16, 28, 20), "float32")

    def results():
        y, *statistics = kernels.batch_normalization(x, gamma, beta, EPS, activation="relu")
        back = kernels.batch_normalization_backward(dy, x, gamma, *statistics, EPS, y=y, activation="relu")
        return (y, *statistics, *back, kernels.normalize(x, gamma, beta, mean, var, EPS))

    alone = results()
    monkeypatch.setenv("XPDL_NUM_THREADS", "3")
    for one, other in zip(nonempty(alone), results(), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    "x",
    [
        np.ones((3, 4), "float16"),
        np.ones((2, 3, 4, 4), "float16"),
        np.ones((2, 3, 4, 8))[..., ::2],
        # the bytes in another order
        np.ones((3, 4), np.dtype("f4").newbyteorder()),
        np.ones((2, 3, 4, 4), np.dtype("f4").newbyteorder()),
    ],
)
def test_declines_what_it_does_not_serve(x):
    p = np.ones(x.shape[1], x.dtype)
    assert kernels.batch_normalization(x, p, p, EPS) is dispatch.DECLINE
    assert kernels.batch_normalization_backward(x, x, p, p, p, EPS) is dispatch.DECLINE
    assert kernels.normalize(x, p, p, p, p, EPS) is dispatch.DECLINE
