"""The book's functions: value on every backend, behaviour at the extremes, and what they refuse."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import xpdl.backends
from tests import oracles
from tests.harness import Backend
from tests.pairs import sample
from xpdl import functional
from xpdl.errors import DTypeError, ShapeError

Function = Callable[..., Any]

# of a number, said again with nothing but math
ELEMENTWISE: dict[str, Callable[[float], float]] = {
    "identity_function": float,
    "step_function": lambda v: int(v > 0),
    "sigmoid": lambda v: math.exp(v) / (1.0 + math.exp(v)) if v < 0 else 1.0 / (1.0 + math.exp(-v)),
    "sigmoid_grad": lambda v: 0.25 / math.cosh(0.5 * v) ** 2 if abs(v) < 1000 else 0.0,
    "relu": lambda v: v if v > 0 else 0.0,
    "relu_grad": lambda v: float(v > 0),
    "tanh": math.tanh,
}
SCORES: dict[str, Function] = {"softmax": oracles.softmax, "log_softmax": oracles.log_softmax}
SHAPES = [(), (5,), (2, 3), (2, 1, 3, 2), (0, 3)]

names = pytest.mark.parametrize("name", ELEMENTWISE)
each_scores = pytest.mark.parametrize("name", SCORES)
# JAX compiles anew for each shape, and the ops below these functions run on it in tests/ops
quick = pytest.mark.backends("precompiled")


def values(shape: tuple[int, ...]) -> Any:
    return sample(np.random.default_rng(len(shape)), *shape)


def test_all_names_are_there_and_none_is_missed() -> None:
    tested = {
        *ELEMENTWISE,
        *SCORES,
        *("sum_squared_error", "mean_squared_error", "cross_entropy_error", "softmax_cross_entropy"),
        *("im2col", "col2im", "conv_output_size"),
        *("numerical_diff", "numerical_gradient", "gradient_descent"),  # tests/test_gradients.py
    }
    assert set(functional.__all__) == tested
    assert all(callable(getattr(functional, name)) for name in tested)


class TestElementwise:
    @quick
    @names
    @pytest.mark.parametrize("shape", SHAPES, ids=str)
    def test_value(self, backend: Backend, name: str, shape: tuple[int, ...]) -> None:
        x = values(shape)
        want = oracles.each(ELEMENTWISE[name], x)
        if name == "step_function":
            want = want.astype(np.int64)
        backend.check(backend.call(getattr(functional, name), backend.asarray(x)), want)

    @names
    @pytest.mark.backends("jax")
    def test_value_on_jax(self, backend: Backend, name: str) -> None:
        x = values((2, 3))
        want = oracles.each(ELEMENTWISE[name], x).astype("int64" if name == "step_function" else "float64")
        backend.check(backend.call(getattr(functional, name), backend.asarray(x)), want)

    @quick
    @names
    def test_float32_is_kept(self, backend: Backend, name: str) -> None:
        x = values((3, 4)).astype(np.float32)
        got = backend.call(getattr(functional, name), backend.asarray(x))
        dtype = "int64" if name == "step_function" else "float32"
        backend.check(got, oracles.each(ELEMENTWISE[name], x).astype(dtype))

    @names
    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    @pytest.mark.backends("values")
    @pytest.mark.backends("precompiled")
    @pytest.mark.backends("float64")
    def test_huge_input_gives_the_limit_without_a_warning(self, backend: Backend, name: str, dtype: str) -> None:
        largest = float(np.finfo(dtype).max)
        x = np.array([-largest, -1000.0, -80.0, 80.0, 1000.0, largest], dtype)
        want = oracles.each(ELEMENTWISE[name], x).astype("int64" if name == "step_function" else dtype)
        # the derivative of sigmoid at 80 is below what 1 - y can show; it is 0, not less
        atol = 1e-15 if name == "sigmoid_grad" else 0.0
        backend.check(getattr(functional, name)(backend.asarray(x)), want, atol=atol)

    @names
    def test_infinity_is_no_special_case(self, name: str) -> None:
        with np.errstate(all="raise"):
            got = getattr(functional, name)(np.array([-np.inf, np.inf]))
        limits = {
            "identity_function": [-np.inf, np.inf],
            "relu": [0.0, np.inf],
            "tanh": [-1.0, 1.0],
            "sigmoid_grad": [0.0, 0.0],
        }
        assert got.tolist() == limits.get(name, [0.0, 1.0])

    @names
    def test_nan_stays_nan_where_the_result_is_a_smooth_function(self, name: str) -> None:
        got = getattr(functional, name)(np.array([np.nan]))
        assert np.isnan(got).all() == (name not in ("step_function", "relu_grad"))

    @names
    def test_a_python_number_is_an_array_of_the_backend_in_use(self, name: str) -> None:
        with xpdl.backends.use("numpy", dtype="float64"):
            for number in (-2, -0.5, 0, 3):
                got = getattr(functional, name)(number)
                assert float(got) == pytest.approx(ELEMENTWISE[name](number), rel=1e-12)
                if name != "identity_function":
                    assert got.shape == ()

    @names
    def test_integers_give_floats_where_the_result_is_none(self, name: str) -> None:
        got = getattr(functional, name)(np.array([-2, 0, 3]))
        assert got.dtype == ("int64" if name in ("identity_function", "step_function", "relu") else "float64")
        np.testing.assert_allclose(got, oracles.each(ELEMENTWISE[name], [-2, 0, 3]), rtol=1e-12)

    def test_unsigned_integers_do_not_wrap(self) -> None:
        x = np.array([0, 1, 255], np.uint8)
        assert functional.relu(x).tolist() == [0, 1, 255]
        assert functional.relu(x).dtype == np.uint8
        assert functional.step_function(x).tolist() == [0, 1, 1]
        np.testing.assert_allclose(functional.tanh(x), np.tanh([0.0, 1.0, 255.0]))

    @names
    def test_does_not_modify_its_input(self, name: str) -> None:
        x = np.array([[-1.5, 0.0, 2.5]])
        getattr(functional, name)(x)
        assert x.tolist() == [[-1.5, 0.0, 2.5]]

    @pytest.mark.parametrize("name", [name for name in ELEMENTWISE if name != "identity_function"])
    def test_what_is_no_array_is_named(self, name: str) -> None:
        with pytest.raises(TypeError, match=r"expected arrays, got list; make one with xpdl.asarray"):
            getattr(functional, name)([1.0, 2.0])

    @pytest.mark.parametrize(("function", "derivative"), [("sigmoid", "sigmoid_grad"), ("relu", "relu_grad")])
    @pytest.mark.backends("values")
    @pytest.mark.backends("precompiled")
    def test_derivative_agrees_with_central_differences(self, backend: Backend, function: str, derivative: str) -> None:
        x = values((3, 4))
        want = oracles.central_differences(lambda v: oracles.each(ELEMENTWISE[function], v), [x], 0, np.ones(x.shape))
        tolerance = 1e-8 if backend.spec.float64 else 1e-5
        backend.check(backend.call(getattr(functional, derivative), backend.asarray(x)), want, rtol=tolerance)


class TestScores:
    @quick
    @each_scores
    @pytest.mark.parametrize("shape", [(1,), (5,), (2, 3), (2, 3, 4)], ids=str)
    def test_value(self, backend: Backend, name: str, shape: tuple[int, ...]) -> None:
        x = values(shape)
        backend.check(backend.call(getattr(functional, name), backend.asarray(x)), SCORES[name](x))

    @each_scores
    @pytest.mark.backends("jax")
    def test_value_on_jax(self, backend: Backend, name: str) -> None:
        x = values((2, 3))
        backend.check(backend.call(getattr(functional, name), backend.asarray(x)), SCORES[name](x))

    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    def test_huge_scores(self, dtype: str) -> None:
        largest = float(np.finfo(dtype).max) / 4
        x = np.array([[-largest, 0.0, largest], [largest, largest, -largest], [-largest, -largest, -largest]], dtype)
        y = functional.softmax(x)
        assert y.dtype == dtype
        np.testing.assert_allclose(y, [[0, 0, 1], [0.5, 0.5, 0], [1 / 3, 1 / 3, 1 / 3]], rtol=1e-6)
        logs = functional.log_softmax(x)
        assert logs.dtype == dtype
        assert logs[0].tolist() == [-2 * largest, -largest, 0.0], "where softmax is 0 its logarithm is still exact"

    @each_scores
    def test_shifting_all_scores_changes_nothing(self, name: str) -> None:
        x = values((4, 3))
        f = getattr(functional, name)
        np.testing.assert_allclose(f(x + 1024.0), f(x), rtol=1e-12)

    def test_rows_sum_to_one(self) -> None:
        y = functional.softmax(values((7, 5)))
        np.testing.assert_allclose(y.sum(axis=-1), 1.0, rtol=1e-14)

    @each_scores
    def test_integers_become_floats(self, name: str) -> None:
        np.testing.assert_allclose(getattr(functional, name)(np.array([1, 2])), SCORES[name](np.array([1.0, 2.0])))

    @each_scores
    @pytest.mark.parametrize("shape", [(), (0,), (3, 0)], ids=str)
    def test_no_scores_at_all_is_an_error(self, name: str, shape: tuple[int, ...]) -> None:
        with pytest.raises(ShapeError, match=f"^{name}: expected at least one score along the last axis, got shape"):
            getattr(functional, name)(np.zeros(shape))


@pytest.mark.backends("numpy", "strict:device1", "torch")
@pytest.mark.backends("values")
class TestOtherKindsOfNumbers:
    @pytest.mark.parametrize("name", [name for name in ELEMENTWISE if name != "identity_function"])
    def test_booleans_are_0_and_1(self, backend: Backend, name: str) -> None:
        f = getattr(functional, name)
        got = backend.to_numpy(f(backend.asarray(np.array([True, False]))))
        np.testing.assert_allclose(got, [ELEMENTWISE[name](1.0), ELEMENTWISE[name](0.0)], rtol=1e-6)

    @pytest.mark.parametrize("name", [*(name for name in ELEMENTWISE if name != "identity_function"), *SCORES])
    def test_complex_numbers_are_refused(self, backend: Backend, name: str) -> None:
        x = backend.asarray(np.ones(3, np.complex128), "complex128")
        with pytest.raises(DTypeError, match=r"expected real numbers, got complex128"):
            getattr(functional, name)(x)
