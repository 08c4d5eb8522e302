"""Half precision in ops: float32 inside, one rounding at the end, on every backend."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.harness import Backend, nonempty
from tests.ops.table import CASES, FIRST
from tests.pairs import HALF, Case, as_tuple, expected
from xpdl import functional
from xpdl.backends import dispatch
from xpdl.backends.dtypes import dtype_by_name
from xpdl.backends.namespaces import dtype_name, is_array, on_device_of, rounded_to
from xpdl.ops import activations, affine, arithmetic, convolution, dropout, losses, normalization, pooling, windows

BITS = {"float16": 11, "bfloat16": 8, "float32": 18}
# a product of matrices is rounded before the bias is added, and again after it, where no kernel does both
PRODUCTS = ("affine", "convolution")


def dtypes(backend: Backend) -> tuple[str, ...]:
    return ("float16",) if backend.spec.library == "numpy" else tuple(HALF)


def half(backend: Backend, a: Any, dtype: str) -> Any:
    """Floating `a` in half precision, rounded by its library."""
    if not (is_array(a) and a.dtype.kind == "f"):
        return a if not is_array(a) else backend.asarray(a)
    return backend.xp.astype(backend.asarray(a, "float32"), dtype_by_name(dtype, backend.xp))


def wide(backend: Backend, a: Any) -> Any:
    """The same numbers in float64 on the host; what is no floating array as it is."""
    if not is_array(a):
        return a
    host = backend.to_numpy(a)
    return host.astype("float64") if host.dtype.kind == "f" else host


def close(backend: Backend, got: Any, want: Any, spare: float = 0.0) -> None:
    """`want`, rounded to the dtype of `got` once; `spare` is for roundings on the way, relative to the largest value."""
    if want is None or not is_array(got):
        assert got is want
        return
    kind = dtype_name(got.dtype)
    if np.asarray(want).dtype.kind != "f":
        np.testing.assert_array_equal(backend.to_numpy(got), want)
        return
    largest = {"float16": 65504.0, "bfloat16": 3.3895e38, "float32": 3.4e38}[kind]
    values = wide(backend, got)
    inside = np.abs(want) <= largest
    np.testing.assert_array_equal(np.isinf(values)[~inside & (np.abs(want) > 1.001 * largest)], True)
    unit = 2.0 ** -BITS[kind]
    limit = 1.01 * unit * np.maximum(np.abs(want), {"float16": 2.0**-14}.get(kind, 0.0)) + spare * unit * np.abs(
        want[inside] if np.ndim(want) else want
    ).max(initial=0.0)
    # float32, rounded to, has an error of its own
    limit = limit + 1e-5 * np.abs(want)
    off = np.abs(values - want)
    assert np.all((off <= limit)[inside]), (kind, np.max((off / np.maximum(limit, 1e-300))[inside]))


def drive(backend: Backend, case: Case, dtype: str) -> None:
    pair, spare = case.pair, 2.0 if case.id.startswith(PRODUCTS) else 0.0
    arrays = [half(backend, a, dtype) for a in case.arrays]
    outputs = as_tuple(backend.call(pair.forward, *arrays, **case.static))
    with dispatch.generic_only():
        wants = as_tuple(pair.forward(*(wide(backend, a) for a in arrays), **case.static))
    for place, (got, want) in enumerate(zip(nonempty(outputs), wants, strict=True)):
        if want.dtype.kind == "f":
            assert dtype_name(got.dtype) == ("float32" if place in pair.wide else dtype)
        close(backend, got, want, spare)
    if pair.backward is None:
        return
    dy = half(backend, expected(case).dy, dtype)

    def backward(dy: Any, outputs: Any, arrays: Any) -> Any:
        return pair.call_backward(pair.backward, dy, outputs, arrays, case.static)

    found = as_tuple(backend.call(backward, dy, outputs, arrays))
    with dispatch.generic_only():
        wants = as_tuple(
            backward(wide(backend, dy), [wide(backend, y) for y in outputs], [wide(backend, a) for a in arrays])
        )
    for got, want in zip(found, wants, strict=True):
        close(backend, got, want, spare)
        assert got is None or dtype_name(got.dtype) == dtype


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
@pytest.mark.backends("numpy", "torch", "cupy")
@pytest.mark.backends("plain", "cupy")
def test_every_op_is_rounded_once(backend: Backend, case: Case) -> None:
    for dtype in nonempty(dtypes(backend)):
        drive(backend, case, dtype)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
@pytest.mark.backends("numpy")
@pytest.mark.backends("plain")
@pytest.mark.exhaustive
def test_every_generic_op_is_rounded_once(backend: Backend, case: Case) -> None:
    with dispatch.generic_only():
        drive(backend, case, "float16")


@pytest.mark.parametrize("case", FIRST, ids=lambda case: case.id)
@pytest.mark.backends("jit")
def test_every_op_is_rounded_once_when_traced(backend: Backend, case: Case) -> None:
    for dtype in nonempty(dtypes(backend)):
        drive(backend, case, dtype)


# --- sums of many values, of large ones and of small ones

_rng = np.random.default_rng(0)
MANY = 70_000
_LABELS = _rng.integers(0, 3, MANY)
_ONE_HOT = np.eye(3)[_LABELS]
_WEIGHTS = np.array([1.0, 300.0, 0.01])


def _rows(size: float, *shape: int) -> Any:
    return size * (1.0 + 0.1 * _rng.standard_normal(shape))


def _batch_pair(x: Any, dy: Any) -> Any:
    """Forward, and back with what forward gives."""
    c = x.shape[1]
    like = normalization.array_namespace(x).ones_like
    gamma = like(x[:1, ...].reshape((-1,))[:c])
    y, mean, var = normalization.batch_normalization(x, gamma, 0.5 * gamma, 1e-6)
    return y, mean, var, *normalization.batch_normalization_backward(dy, x, gamma, mean, var, 1e-6)


#: name -> (function, arrays, roundings on the way)
LARGE: dict[str, tuple[Callable[..., Any], tuple[Any, ...], float]] = {
    "affine db": (
        lambda *a: affine.affine_backward(*a)[2],
        (np.full((MANY, 2), 0.25), np.ones((MANY, 1)), np.ones((1, 2))),
        0,
    ),
    "affine dW": (
        lambda *a: affine.affine_backward(*a)[1],
        (np.full((MANY, 2), 0.25), np.ones((MANY, 1)), np.ones((1, 2))),
        0,
    ),
    "convolution backward": (
        lambda *a: convolution.convolution_backward(*a, pad=(1, 1)),
        (_rows(0.1, 300, 2, 16, 16), _rows(1.0, 300, 1, 16, 16), _rows(1.0, 2, 1, 3, 3)),
        2,
    ),
    "convolution dW beyond float16 on the way": (
        lambda *a: convolution.convolution_backward(*a, need_dx=False)[1:],
        (np.array([300.0, -299.0]).reshape(2, 1, 1, 1), np.full((2, 1, 1, 1), 300.0), np.ones((1, 1, 1, 1))),
        0,
    ),
    "softmax": (activations.softmax, (_rng.standard_normal((2, MANY)),), 0),
    "log_softmax": (activations.log_softmax, (_rng.standard_normal((2, MANY)),), 0),
    "softmax backward": (
        activations.softmax_backward,
        (_rows(1.0, 2, MANY), np.full((2, MANY), 1 / 65536)),
        1,
    ),
    "log_softmax backward": (
        activations.log_softmax_backward,
        (_rows(1.0, 2, MANY), np.full((2, MANY), -11.0)),
        1,
    ),
    "average of 60000": (lambda x: pooling.average_pooling(x, (3, 3), (1, 1)), (_rows(40000.0, 1, 1, 5, 5),), 0),
    "gradient of an average": (
        lambda dy, x: pooling.average_pooling_backward(dy, x, (16, 16), (1, 1)),
        (_rows(1.0, 1, 1, 17, 17), np.ones((1, 1, 32, 32))),
        0,
    ),
    "gradient of overlapping maxima": (
        lambda dy, x: pooling.max_pooling_backward(dy, x, pooling.max_pooling(x, (16, 16), (1, 1)), (16, 16), (1, 1)),
        (_rows(1.0, 1, 1, 17, 17), np.arange(1024.0).reshape(1, 1, 32, 32)),
        0,
    ),
    "col2im": (
        lambda col: windows.col2im(col, (1, 1, 80, 80), 40, 40),
        (np.full((41 * 41, 40 * 40), 0.75),),
        0,
    ),
    "normalization of many": (_batch_pair, (_rows(1.0, MANY, 2), 1e-3 * _rng.standard_normal((MANY, 2))), 0.2),
    "normalization of 300": (
        _batch_pair,
        (300.0 * _rng.standard_normal((999, 2)), _rng.standard_normal((999, 2))),
        0.2,
    ),
    "normalization of 1e-4": (
        _batch_pair,
        (1e-4 * _rng.standard_normal((999, 2)), _rng.standard_normal((999, 2))),
        0.2,
    ),
    "normalization of images": (
        _batch_pair,
        (_rows(100.0, 90, 2, 30, 30), 0.1 * _rng.standard_normal((90, 2, 30, 30))),
        0.2,
    ),
    "softmax loss": (losses.softmax_with_loss, (_rng.standard_normal((MANY, 3)), _LABELS), 0),
    "softmax loss of rows": (losses.softmax_with_loss, (10 * _rng.standard_normal((MANY, 3)), _ONE_HOT), 0),
    "softmax loss of weighted labels": (
        losses.softmax_with_loss,
        (10 * _rng.standard_normal((MANY, 3)), _LABELS, _WEIGHTS),
        0,
    ),
    "softmax loss backward": (
        lambda y, t: losses.softmax_with_loss_backward(y, t, 65536.0),
        (_rng.dirichlet([1, 1, 1], MANY), _LABELS),
        0,
    ),
    "sigmoid loss": (losses.sigmoid_with_loss, (10 * _rng.standard_normal((MANY, 3)), _ONE_HOT), 0),
    "sigmoid loss backward": (
        lambda y, t: losses.sigmoid_with_loss_backward(y, t, 65536.0),
        (_rng.random((MANY, 3)), _ONE_HOT),
        0,
    ),
    "squares of 300": (losses.identity_with_loss, (_rows(300.0, 100, 3), _rows(-1.0, 100, 3)), 0),
    "squares of 1e-4": (losses.identity_with_loss, (_rows(1e-4, 100, 3), _rows(3e-4, 100, 3)), 0),
    "squares of many": (losses.identity_with_loss, (_rows(1.0, MANY, 1), _rows(3.0, MANY, 1)), 0),
    "sum_squared_error": (functional.sum_squared_error, (_rows(300.0, 100, 3), _rows(-1.0, 100, 3)), 0),
    "mean_squared_error": (functional.mean_squared_error, (_rows(1e-4, 100, 3), _rows(3e-4, 100, 3)), 0),
    "cross_entropy_error": (functional.cross_entropy_error, (_rng.dirichlet([1, 1, 1], MANY), _LABELS), 0),
    "cross_entropy_error of 0": (functional.cross_entropy_error, (np.array([[0.0, 1.0]]), np.array([0])), 0),
    "softmax_cross_entropy": (functional.softmax_cross_entropy, (_rng.standard_normal((MANY, 3)), _LABELS), 0),
    "sigmoid_grad": (functional.sigmoid_grad, (np.linspace(-9, 9, 99),), 0),
    "tanh backward": (activations.tanh_backward, (_rows(1.0, 200), np.linspace(0.9, 0.9995, 200)), 0),
    "sigmoid backward": (activations.sigmoid_backward, (_rows(1.0, 200), np.linspace(0.9, 0.9995, 200)), 0),
    "dropout scale": (lambda x: dropout.dropout(x, x > 0, 1 / 0.9), (_rows(1.0, 999),), 0),
    "sum": (arithmetic.add, (_rows(1.0, 99), _rows(100.0, 99)), 0),
}


def compare(backend: Backend, name: str, dtype: str) -> None:
    function, hosts, spare = LARGE[name]
    arrays = [half(backend, a, dtype) for a in hosts]
    with backend.rules(), on_device_of(arrays[0]):
        found = as_tuple(function(*arrays))
    with dispatch.generic_only():
        wants = as_tuple(function(*(wide(backend, a) for a in arrays)))
    assert len(found) == len(wants)
    for got, want in zip(found, wants, strict=True):
        close(backend, got, want, spare)


@pytest.mark.parametrize("name", LARGE)
@pytest.mark.backends("numpy", "torch", "jax", "cupy")
@pytest.mark.backends("plain", "cupy")
def test_values_are_those_of_float64_where_half_overflows_or_vanishes(backend: Backend, name: str) -> None:
    for dtype in nonempty(dtypes(backend)):
        compare(backend, name, dtype)


@pytest.mark.parametrize("name", LARGE)
@pytest.mark.backends("numpy")
@pytest.mark.backends("plain")
def test_generic_values_are_those_of_float64_where_half_overflows_or_vanishes(backend: Backend, name: str) -> None:
    with dispatch.generic_only():
        compare(backend, name, "float16")


@pytest.mark.parametrize("dtype", [">f2", ">f4", ">f8"])
def test_gradients_of_a_bias_in_another_order_of_bytes_are_added(dtype: str) -> None:
    dy, x, W = np.full((3, 2), 0.5, dtype), np.ones((3, 1), dtype), np.ones((1, 2), dtype)
    images = np.full((2, 1, 3, 3), 0.5, dtype)
    with dispatch.generic_only():
        np.testing.assert_array_equal(affine.affine_backward(dy, x, W)[2], [1.5, 1.5])
        db = convolution.convolution_backward(images, images, np.ones((1, 1, 1, 1), dtype))[2]
    np.testing.assert_array_equal(db, [9.0])


@pytest.mark.backends("numpy", "torch", "jax", "cupy")
@pytest.mark.backends("plain", "cupy")
def test_results_that_no_half_holds_are_infinite_without_a_warning(backend: Backend) -> None:
    ones = half(backend, np.ones((MANY, 1)), "float16")
    zeros = half(backend, np.zeros((MANY, 1)), "float16")
    db = affine.affine_backward(ones, zeros, half(backend, np.ones((1, 1)), "float16"))[2]
    assert np.isinf(backend.to_numpy(db)).all()
    assert (
        dtype_name(rounded_to(dtype_by_name("float16", backend.xp), backend.asarray([1e9], "float32")).dtype)
        == "float16"
    )
