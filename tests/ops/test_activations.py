"""Activations where they are hard: far out, at infinity and at kinks. Warnings are errors, so none may come."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from tests.harness import Backend
from xpdl.ops.activations import (
    log_softmax,
    log_softmax_backward,
    relu,
    relu_backward,
    sigmoid,
    sigmoid_backward,
    softmax,
    softmax_backward,
    tanh,
    tanh_backward,
)

# JAX traced only: untraced, it compiles each operation anew
pytestmark = pytest.mark.backends("precompiled", "jit")

FAR = np.array([-np.inf, -1e4, -800.0, -0.0, 0.0, 800.0, 1e4, np.inf])


@pytest.mark.parametrize(
    ("f", "values"),
    [
        (relu, [0, 0, 0, 0, 0, 800.0, 1e4, math.inf]),
        (sigmoid, [0, 0, 0, 0.5, 0.5, 1, 1, 1]),
        (tanh, [-1, -1, -1, 0, 0, 1, 1, 1]),
    ],
)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_limits_are_exact(backend: Backend, f: Any, values: Any, dtype: str) -> None:
    want = np.array(values, dtype=dtype if backend.spec.float64 else "float32")
    # exp(-800) is 0 in float32 and all but 0 in float64
    backend.check(backend.call(f, backend.asarray(FAR, dtype)), want, rtol=0, atol=1e-300)


@pytest.mark.parametrize("backward", [sigmoid_backward, tanh_backward, relu_backward])
@pytest.mark.backends("plain")
def test_gradients_far_out_are_finite(backend: Backend, backward: Any) -> None:
    forward = {sigmoid_backward: sigmoid, tanh_backward: tanh, relu_backward: relu}[backward]
    dy = backend.asarray(np.ones(FAR.shape))
    dx = backend.to_numpy(backward(dy, forward(backend.asarray(FAR))))
    np.testing.assert_array_equal(dx[[0, 1]], [0.0, 0.0])
    assert np.isfinite(dx).all()


@pytest.mark.backends("values")
def test_relu_has_gradient_zero_at_zero(backend: Backend) -> None:
    x = backend.asarray([-1.0, -0.0, 0.0, 1e-30])
    dx = backend.call(relu_backward, backend.asarray([1.0, 2.0, 3.0, 4.0]), relu(x))
    backend.check(dx, np.array([0.0, 0.0, 0.0, 4.0]))


@pytest.mark.backends("values")
def test_relu_and_tanh_pass_nan_on(backend: Backend) -> None:
    for f in (relu, sigmoid, tanh):
        assert np.isnan(backend.to_numpy(backend.call(f, backend.asarray([math.nan])))).all(), f.__name__


@pytest.mark.parametrize("shift", [0.0, 1e4, -1e4])
@pytest.mark.backends("values")
def test_softmax_does_not_depend_on_a_shift(backend: Backend, shift: float) -> None:
    row = np.array([[0.0, 1.0, -2.0, 0.5], [3.0, 3.0, 3.0, 3.0]])
    want = np.exp(row) / np.exp(row).sum(axis=1, keepdims=True)
    backend.check(backend.call(softmax, backend.asarray(row + shift)), want)
    backend.check(backend.call(log_softmax, backend.asarray(row + shift)), np.log(want))


@pytest.mark.backends("values")
def test_softmax_of_logits_far_apart(backend: Backend) -> None:
    x = backend.asarray([[1e4, -1e4, 0.0]])
    y, log_y = backend.call(softmax, x), backend.call(log_softmax, x)
    backend.check(y, np.array([[1.0, 0.0, 0.0]]))
    backend.check(log_y, np.array([[0.0, -2e4, -1e4]]))
    dy = backend.asarray([[1.0, 2.0, 3.0]])
    backend.check(backend.call(softmax_backward, dy, y), np.zeros((1, 3)), atol=0)
    backend.check(backend.call(log_softmax_backward, dy, log_y), np.array([[-5.0, 2.0, 3.0]]))


@pytest.mark.backends("values")
def test_a_logit_of_minus_infinity_has_probability_zero(backend: Backend) -> None:
    x = backend.asarray([[-np.inf, 0.0, 0.0]])
    backend.check(backend.call(softmax, x), np.array([[0.0, 0.5, 0.5]]))
    backend.check(backend.call(log_softmax, x), np.array([[-np.inf, -math.log(2), -math.log(2)]]))


@pytest.mark.backends("values")
@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
def test_a_logit_of_plus_infinity_is_nan_in_its_row_alone(backend: Backend) -> None:
    y = backend.to_numpy(backend.call(softmax, backend.asarray([[np.inf, 0.0], [1.0, 1.0]])))
    assert np.isnan(y[0, 0])
    np.testing.assert_array_equal(y[1], [0.5, 0.5])


@pytest.mark.backends("plain")
@pytest.mark.backends("float16")
def test_float16_does_not_overflow(backend: Backend) -> None:
    x = backend.asarray([[3e4, -3e4, 0.0]], "float16")
    for f in (sigmoid, tanh, softmax):
        assert np.isfinite(backend.to_numpy(f(x))).all(), f.__name__


@pytest.mark.parametrize("seed", range(20))
def test_softmax_rows_sum_to_one_along_any_axis(seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = rng.normal(scale=10, size=rng.integers(1, 5, rng.integers(1, 5)))
    axis = int(rng.integers(-x.ndim, x.ndim))
    np.testing.assert_allclose(softmax(x, axis=axis).sum(axis=axis), 1.0, rtol=1e-12)
    np.testing.assert_allclose(np.exp(log_softmax(x, axis)), softmax(x, axis), rtol=1e-10)


@pytest.mark.parametrize("forward", [softmax, log_softmax])
@pytest.mark.parametrize("shape", [(3,), (2, 3), (2, 3, 4)])
def test_softmax_goes_over_the_last_axis_unless_said_otherwise(forward: Any, shape: tuple[int, ...]) -> None:
    backward = {softmax: softmax_backward, log_softmax: log_softmax_backward}[forward]
    x = np.random.default_rng(0).normal(size=shape)
    y = forward(x)
    np.testing.assert_array_equal(y, forward(x, axis=len(shape) - 1))
    np.testing.assert_array_equal(backward(x, y), backward(x, y, axis=len(shape) - 1))
