"""Central differences: right at any rank on any library, in place where that is promised, and always undone."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from tests.harness import Backend
from tests.pairs import sample
from xpdl.errors import DTypeError, ShapeError
from xpdl.gradients import gradient_descent, numerical_diff, numerical_gradient

SHAPES = [(), (3,), (2, 3), (2, 1, 2), (1, 2, 2, 2), (0, 2)]
# the caller of f reads its result; and JAX would compile anew for each array
each_eager = pytest.mark.backends("eager")
each_valued = pytest.mark.backends("values")


def cubes(xp: Any, x: Any, weights: Any) -> Any:
    """A function whose gradient ``3 weights x^2`` differs from element to element."""
    return xp.sum(weights * x * x * x)


def linear(shape: tuple[int, ...]) -> tuple[Any, Any]:
    rng = np.random.default_rng(len(shape))
    return sample(rng, *shape), sample(rng, *shape)


class TestNumericalDiff:
    def test_example_of_the_book(self) -> None:
        got = [numerical_diff(lambda x: 0.01 * x**2 + 0.1 * x, x) for x in (5, 10)]
        assert got == pytest.approx([0.2, 0.3], rel=1e-9)
        assert {type(value) for value in got} == {float}

    @pytest.mark.parametrize("x", [0.3, np.float64(0.3), np.array(0.3), np.array([0.3, -1.2])], ids=repr)
    def test_numbers_and_arrays(self, x: Any) -> None:
        np.testing.assert_allclose(numerical_diff(np.sin, x), np.cos(x), rtol=1e-8)

    @each_eager
    @each_valued
    def test_elementwise_on_any_library(self, backend: Backend) -> None:
        x = np.array([[0.25, -0.5], [1.5, 3.0]])
        want = 3.0 * x**2
        got = numerical_diff(lambda v: v * v * v, backend.asarray(x))
        backend.check(got, want, rtol=1e-7 if backend.spec.float64 else 2e-4)

    @pytest.mark.parametrize(("dtype", "tolerance"), [("float16", 0.02), ("float32", 1e-4), ("float64", 1e-7)])
    def test_the_step_follows_the_dtype(self, dtype: str, tolerance: float) -> None:
        got = numerical_diff(lambda v: v * v, np.array([3.0], dtype))
        assert got.dtype == dtype
        np.testing.assert_allclose(got, 6.0, rtol=tolerance)

    def test_an_array_that_is_writable_is_not_changed(self) -> None:
        x = np.array([1.0, 2.0])
        numerical_diff(lambda v: v * v, x)
        assert x.tolist() == [1.0, 2.0]


class TestNumericalGradient:
    @each_eager
    @each_valued
    @pytest.mark.parametrize("shape", SHAPES, ids=str)
    def test_any_rank_on_any_library(self, backend: Backend, shape: tuple[int, ...]) -> None:
        x, weights = linear(shape)
        given, scale = backend.asarray(x), backend.asarray(weights)
        got = numerical_gradient(lambda v: cubes(backend.xp, v, scale), given)
        tolerance = 1e-7 if backend.spec.float64 else 1e-3
        backend.check(got, 3.0 * weights * x**2, rtol=tolerance)
        np.testing.assert_array_equal(backend.to_numpy(given), x, err_msg="x was not restored")

    def test_example_of_the_book(self) -> None:
        """Integers written as floats: ``[3, 4]`` without points is the error below."""
        for x in ([3.0, 4.0], [0.0, 2.0], [3.0, 0.0]):
            got = numerical_gradient(lambda v: np.sum(v**2), np.array(x))
            np.testing.assert_allclose(got, 2 * np.array(x), rtol=1e-9, atol=1e-9)

    @pytest.mark.parametrize("dtype", ["int64", "uint8", "bool"])
    @each_eager
    def test_integers_are_an_error(self, backend: Backend, dtype: str) -> None:
        with pytest.raises(
            DTypeError, match=f"numerical_gradient: expected a floating array, got {dtype}; pass floats"
        ):
            numerical_gradient(lambda v: 0.0, backend.asarray([0, 1], dtype))

    def test_lists_and_numbers_are_an_error(self) -> None:
        for x in ([1.0, 2.0], 3.0, None):
            with pytest.raises(TypeError, match=r"numerical_gradient: expected arrays.*xpdl.asarray"):
                numerical_gradient(lambda v: 0.0, x)

    def test_float32_is_no_noise(self) -> None:
        """With the book's step of 1e-4 the third digit is wrong already."""
        x = np.linspace(-3.0, 3.0, 8, dtype=np.float32)
        got = numerical_gradient(lambda v: np.sum(v**2), x)
        assert got.dtype == np.float32
        np.testing.assert_allclose(got, 2 * x, rtol=5e-4)

    @pytest.mark.parametrize("shape", [(), (1,), (1, 1)], ids=str)
    @each_eager
    @each_valued
    def test_f_may_return_an_array_of_one_element(self, backend: Backend, shape: tuple[int, ...]) -> None:
        xp = backend.xp
        got = numerical_gradient(lambda v: xp.reshape(xp.sum(v * v), shape), backend.asarray([1.0, -2.0]))
        backend.check(got, np.array([2.0, -4.0]), rtol=1e-7 if backend.spec.float64 else 1e-4)

    @pytest.mark.parametrize("number", [float, np.float64, np.float32, int])
    def test_f_may_return_a_number(self, number: Any) -> None:
        got = numerical_gradient(lambda v: number(1e4 * v[0]), np.array([1.0]))
        np.testing.assert_allclose(got, 1e4, rtol=1e-4 if number is np.float32 else 1e-9)

    @pytest.mark.parametrize("writable", [True, False])
    def test_more_than_one_element_is_an_error(self, writable: bool) -> None:
        x = np.array([1.0, 2.0])
        x.flags.writeable = writable
        with pytest.raises(ShapeError, match=r"f must return one number, such as a sum, got an array of shape \(2,\)"):
            numerical_gradient(lambda v: v * 1.0, x)
        assert x.tolist() == [1.0, 2.0]


class TestInPlace:
    @pytest.mark.backends("numpy", "torch", "array_api_strict")
    @each_valued
    @pytest.mark.skip_backend("numpy:readonly", reason="its arrays cannot be written to")
    def test_f_may_ignore_its_argument(self, backend: Backend) -> None:
        """The book's ``lambda W: net.loss(x, t)`` reads the weights of the network, which are the array itself."""
        x, weights = linear((2, 3))
        own, scale = backend.asarray(x), backend.asarray(weights)
        got = numerical_gradient(lambda _: cubes(backend.xp, own, scale), own)
        backend.check(got, 3.0 * weights * x**2, rtol=1e-7 if backend.spec.float64 else 1e-3)

    def test_a_view_moves_its_base(self) -> None:
        base = np.arange(6.0).reshape(2, 3)
        got = numerical_gradient(lambda _: (base**2).sum(), base[:, ::2])
        np.testing.assert_allclose(got, 2 * base[:, ::2], rtol=1e-9)
        assert base.tolist() == [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]

    @pytest.mark.parametrize("at_call", range(6))
    def test_x_is_restored_when_f_raises(self, at_call: int) -> None:
        x = np.array([0.1, 0.2, 0.3])
        calls = 0

        def f(v: Any) -> float:
            nonlocal calls
            calls += 1
            if calls > at_call:
                raise KeyboardInterrupt
            return float(v.sum())

        with pytest.raises(KeyboardInterrupt):
            numerical_gradient(f, x)
        assert x.tolist() == [0.1, 0.2, 0.3]

    def test_x_is_restored_to_the_bit(self) -> None:
        # adding and taking away h would not bring these back
        x = np.array([1e-30, 1e30, 0.1, -0.0, math.pi])
        before = x.tobytes()
        numerical_gradient(lambda v: 0.0, x)
        assert x.tobytes() == before

    @each_eager
    @each_valued
    def test_one_element_moves_at_a_time(self, backend: Backend) -> None:
        x = np.array([[1.0, 2.0], [3.0, 4.0]])
        seen = []

        def f(v: Any) -> float:
            seen.append(backend.to_numpy(v) - x)
            return 0.0

        numerical_gradient(f, backend.asarray(x))
        assert len(seen) == 2 * x.size
        assert [np.flatnonzero(moved).tolist() for moved in seen] == [[0], [0], [1], [1], [2], [2], [3], [3]]
        assert [float(np.sign(moved.sum())) for moved in seen] == [1.0, -1.0] * 4

    def test_a_read_only_array_gets_copies(self) -> None:
        x = np.array([1.0, 2.0])
        x.flags.writeable = False
        seen = []
        got = numerical_gradient(lambda v: seen.append(v) or (v**2).sum(), x)
        np.testing.assert_allclose(got, [2.0, 4.0], rtol=1e-9)
        assert not any(np.shares_memory(v, x) for v in seen)

    @pytest.mark.needs("jax")
    def test_jax_arrays_are_never_written(self) -> None:
        from jax import numpy as jnp

        x = jnp.asarray([1.0, 2.0])
        got = numerical_gradient(lambda v: (v * v).sum(), x)
        np.testing.assert_allclose(np.array(got), [2.0, 4.0], rtol=1e-7)
        assert x.tolist() == [1.0, 2.0]


class TestGradientDescent:
    def test_example_of_the_book(self) -> None:
        got = gradient_descent(lambda v: np.sum(v**2), np.array([-3.0, 4.0]), lr=0.1, step_num=100)
        # each step multiplies by 1 - 2 lr
        np.testing.assert_allclose(got, np.array([-3.0, 4.0]) * 0.8**100, rtol=1e-5, atol=1e-11)

    @pytest.mark.filterwarnings("ignore:overflow")
    def test_learning_rates_of_the_book_that_fail(self) -> None:
        start = np.array([-3.0, 4.0])
        far = gradient_descent(lambda v: np.sum(v**2), start, lr=10.0)
        near = gradient_descent(lambda v: np.sum(v**2), start, lr=1e-10)
        assert np.abs(far).max() > 1e10
        np.testing.assert_allclose(near, start, atol=1e-7)

    @each_eager
    @each_valued
    def test_each_step_goes_against_the_gradient(self, backend: Backend) -> None:
        x = np.array([[0.5, -1.0]])
        given = backend.asarray(x)
        got = gradient_descent(lambda v: backend.xp.sum(v * v), given, lr=0.25, step_num=3)
        backend.check(got, x * 0.5**3, rtol=1e-7 if backend.spec.float64 else 1e-4)
        np.testing.assert_array_equal(backend.to_numpy(given), x, err_msg="the start was moved")

    def test_no_steps_give_a_copy_of_the_start(self) -> None:
        x = np.array([1.0])
        got = gradient_descent(lambda v: 0.0, x, step_num=0)
        assert got.tolist() == [1.0]
        assert not np.shares_memory(got, x)

    def test_integers_are_an_error(self) -> None:
        with pytest.raises(DTypeError, match="pass floats"):
            gradient_descent(lambda v: np.sum(v**2), np.array([-3, 4]))
