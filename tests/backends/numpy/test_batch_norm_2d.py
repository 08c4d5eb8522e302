"""Batch normalisation of rows on NumPy beside test_roster.py: memory orders, special values, threads."""

import numpy as np
import pytest

from tests.backends.numpy.cases import EPS, normalized
from xpdl.backends import dispatch
from xpdl.backends.cpu import thread_pool
from xpdl.ops import normalization as ops

FUNCTIONS = ("batch_normalization", "batch_normalization_backward", "normalize")


def close(found, expected, dtype, tolerance):
    for actual, desired in zip(found, expected, strict=True):
        assert actual.dtype == dtype and actual.shape == desired.shape
        np.testing.assert_allclose(actual, desired, rtol=tolerance, atol=tolerance * max(1, np.abs(desired).max()))


def results(dy, x, gamma, beta, mean, var, activation):
    y, *statistics = ops.batch_normalization(x, gamma, beta, EPS, activation=activation)
    back = ops.batch_normalization_backward(dy, x, gamma, *statistics, EPS, y=y, activation=activation)
    return [y, *statistics, *back, ops.normalize(x, gamma, beta, mean, var, EPS, activation=activation)]


def generic(*given):
    with dispatch.generic_only():
        return results(*given)


def test_rows_with_gaps_and_of_another_order(code):
    dy, x, *channels = normalized((40, 6), "float64")
    close(
        results(dy[::2], np.asfortranarray(x[::2]), *channels, "relu"),
        generic(dy[::2], x[::2], *channels, "relu"),
        "float64",
        1e-11,
    )
    close(
        results(dy[:, ::2], x[:, ::2], *(p[::2] for p in channels), None),
        generic(dy[:, ::2], x[:, ::2], *(p[::2] for p in channels), None),
        "float64",
        1e-11,
    )
    code.assert_compiled(*FUNCTIONS)


@pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")
@pytest.mark.parametrize("special", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_spoils_its_feature_alone(code, special):
    given = [np.array(a) for a in normalized((9, 4), "float32")]
    given[1][2, 1] = special
    for actual, desired in zip(results(*given, "relu"), generic(*given, "relu"), strict=True):
        np.testing.assert_allclose(actual, desired, rtol=2e-5, atol=2e-5)
    code.assert_compiled(*FUNCTIONS)


@pytest.mark.applies(lambda code: code != "pure")  # NumPy's functions are those of the generic op
def test_a_mean_far_above_the_deviation_costs_no_digits_of_the_variance(code):
    x = np.random.default_rng(0).normal(1e4, 1.0, (5000, 3)).astype("float32")
    _, mean, var = ops.batch_normalization(x, np.ones(3, "float32"), np.zeros(3, "float32"), 1e-6)
    exact = x.astype("float64")
    np.testing.assert_allclose(mean, exact.mean(axis=0), rtol=1e-7)
    np.testing.assert_allclose(var, exact.var(axis=0), rtol=1e-6)


def test_is_bitwise_identical_for_any_number_of_threads(code, monkeypatch):
    tasks = []
    run = thread_pool.run
    monkeypatch.setattr(thread_pool, "run", lambda made: tasks.append(len(made)) or run(made))
    given = normalized((1500, 300), "float32")
    monkeypatch.setenv("XPDL_NUM_THREADS", "1")
    alone = results(*given, "relu")
    monkeypatch.setenv("XPDL_NUM_THREADS", "3")
    for one, other in zip(alone, results(*given, "relu"), strict=True):
        np.testing.assert_array_equal(one, other)
    assert tasks == ([4] * 6 if code.name == "compiled" else [])


def test_leaves_others_to_the_generic_op(code):
    half = normalized((5, 3), "float16")
    for actual, desired in zip(results(*half, None), generic(*half, None), strict=True):
        np.testing.assert_array_equal(actual, desired, strict=True)
    for actual, desired in zip(
        results(half[0], half[1], *normalized((5, 3), "float32")[2:], None),
        generic(half[0], half[1], *normalized((5, 3), "float32")[2:], None),
        strict=True,
    ):
        np.testing.assert_array_equal(actual, desired)
    assert not code.ran
