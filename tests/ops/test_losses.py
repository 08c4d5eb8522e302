"""Losses that do not saturate, targets of every kind, and the errors for those that do not fit."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from tests import oracles
from tests.harness import Backend, nonempty
from tests.pairs import sample
from xpdl.errors import DTypeError, LabelError, MixedArraysError, ShapeError
from xpdl.ops.losses import (
    identity_with_loss,
    identity_with_loss_backward,
    sigmoid_with_loss,
    sigmoid_with_loss_backward,
    softmax_with_loss,
    softmax_with_loss_backward,
)

# JAX runs through the table; here each small case would be compiled anew
pytestmark = pytest.mark.backends("precompiled")

WITH_LOSS = [softmax_with_loss, sigmoid_with_loss, identity_with_loss]


class TestSoftmaxWithLoss:
    @pytest.mark.backends("values")
    def test_does_not_saturate_where_the_book_stops_at_16(self, backend: Backend) -> None:
        x = backend.asarray([[1e4, 0.0, -1e4], [1e4, -1e4, 0.0]])
        loss, y = backend.call(softmax_with_loss, x, backend.asarray([2, 0]))
        backend.check(loss, np.asarray(1e4))
        backend.check(y, np.array([[1.0, 0, 0], [1.0, 0, 0]]))
        dx = backend.call(softmax_with_loss_backward, y, backend.asarray([2, 0]))
        backend.check(dx, np.array([[0.5, 0, -0.5], [0, 0, 0]]))

    @pytest.mark.backends("values")
    def test_ignores_a_class_of_logit_minus_infinity(self, backend: Backend) -> None:
        x = backend.asarray([[-np.inf, 0.0, 0.0]])
        for t in ([1], [[0.0, 1.0, 0.0]]):
            loss, y = backend.call(softmax_with_loss, x, backend.asarray(t))
            backend.check(loss, np.asarray(math.log(2)))
            backend.check(y, np.array([[0.0, 0.5, 0.5]]))

    def test_is_infinite_when_the_right_class_is_impossible(self) -> None:
        loss, _ = softmax_with_loss(np.array([[-np.inf, 0.0]]), np.array([0]))
        assert loss == math.inf

    @pytest.mark.parametrize("dtype", ["uint8", "int8", "int16", "int32", "int64"])
    @pytest.mark.backends("values")
    def test_labels_may_have_a_dtype_that_does_not_hold_every_class(self, backend: Backend, dtype: str) -> None:
        rng = np.random.default_rng(0)
        x, t = sample(rng, 3, 300), np.array([0, 100, 127], dtype)
        loss, y = backend.call(softmax_with_loss, backend.asarray(x), backend.asarray(t))
        want, _ = oracles.softmax_with_loss(x[:, :], t)
        backend.check(loss, want)
        dx = backend.call(softmax_with_loss_backward, y, backend.asarray(t))
        backend.check(dx, (np.exp(x) / np.exp(x).sum(axis=1, keepdims=True) - np.eye(300)[t]) / 3)

    @pytest.mark.backends("values")
    def test_labels_and_one_hot_rows_agree(self, backend: Backend) -> None:
        x = backend.asarray(sample(np.random.default_rng(1), 4, 3))
        t = np.array([0, 2, 1, 2])
        for other in (np.eye(3)[t], np.eye(3, dtype=np.uint8)[t], np.eye(3, dtype=bool)[t]):
            for got, want in nonempty(
                zip(
                    backend.call(softmax_with_loss, x, backend.asarray(other)),
                    backend.call(softmax_with_loss, x, backend.asarray(t)),
                    strict=True,
                )
            ):
                np.testing.assert_array_equal(backend.to_numpy(got), backend.to_numpy(want))

    def test_one_output_is_not_taken_for_one_hot(self) -> None:
        """The book compares sizes: with one class, labels (N,) look like one-hot rows (N, 1) to it."""
        loss, y = softmax_with_loss(np.array([[3.0], [4.0]]), np.array([0, 0]))
        assert loss == 0.0
        assert y.shape == (2, 1)

    @pytest.mark.parametrize(
        ("t", "error", "message"),
        [
            ([0, 3], LabelError, "label 3 of row 1 is not one of the 3 classes 0 to 2"),
            ([-1, 0], LabelError, "label -1 of row 0 is not one of the 3 classes"),
            ([0.0, 1.0], DTypeError, "labels must be integers, got float64"),
            ([True, False], DTypeError, "labels must be integers, got bool"),
            ([0, 1, 2], ShapeError, r"must have shape \(2,\), got \(3,\)"),
            (np.zeros((2, 4)), ShapeError, r"one-hot t must have shape \(2, 3\), got \(2, 4\)"),
            (np.zeros((2, 3, 1)), ShapeError, r"must have shape \(2,\), got \(2, 3, 1\)"),
        ],
    )
    def test_names_targets_that_do_not_fit(self, t: Any, error: type[Exception], message: str) -> None:
        with pytest.raises(error, match=f"SoftmaxWithLoss: .*{message}"):
            softmax_with_loss(np.zeros((2, 3)), np.asarray(t))

    @pytest.mark.parametrize("shape", [(1,), (2,), (3, 1), (1, 3), ()])
    def test_class_weights_never_broadcast(self, shape: tuple[int, ...]) -> None:
        for t in (np.array([0, 2]), np.eye(3)[:2]):
            with pytest.raises(ShapeError, match=r"class_weights, one for each class, must have shape \(3,\), got"):
                softmax_with_loss(np.zeros((2, 3)), t, np.ones(shape))


class TestSigmoidWithLoss:
    @pytest.mark.backends("values")
    def test_does_not_saturate(self, backend: Backend) -> None:
        x, t = backend.asarray([[1e4, -1e4], [1e4, -1e4]]), backend.asarray([[0.0, 1.0], [1.0, 0.0]])
        loss, y = backend.call(sigmoid_with_loss, x, t)
        backend.check(loss, np.asarray(1e4))
        backend.check(backend.call(sigmoid_with_loss_backward, y, t), np.array([[0.5, -0.5], [0.0, 0.0]]))

    @pytest.mark.backends("values")
    def test_of_infinite_logits_is_zero_where_they_are_right(self, backend: Backend) -> None:
        t = backend.asarray([[1.0, 0.0]])
        loss, _ = backend.call(sigmoid_with_loss, backend.asarray([[np.inf, -np.inf]]), t)
        backend.check(loss, np.asarray(0.0))
        loss, _ = backend.call(sigmoid_with_loss, backend.asarray([[-np.inf, 0.0]]), t)
        backend.check(loss, np.asarray(np.inf))

    @pytest.mark.parametrize("value", [0.0, 1e-8, -1e-8, 3.0, -3.0, 40.0, -40.0])
    def test_keeps_its_digits(self, value: float) -> None:
        for t in (0.0, 1.0):
            loss, _ = sigmoid_with_loss(np.array([[value]]), np.array([[t]]))
            np.testing.assert_allclose(loss, math.log1p(math.exp(value if t == 0 else -value)), rtol=1e-14)


@pytest.mark.parametrize("f", [sigmoid_with_loss, identity_with_loss])
@pytest.mark.parametrize("shapes", [((3, 1), (3,)), ((3,), (3, 1)), ((2, 3), (1, 3)), ((2, 3), (2, 1))])
def test_targets_never_broadcast(f: Any, shapes: Any) -> None:
    with pytest.raises(ShapeError, match="WithLoss: t must have shape") as caught:
        f(np.zeros(shapes[0]), np.zeros(shapes[1]))
    assert str(shapes[0]) in str(caught.value)
    assert str(shapes[1]) in str(caught.value)


@pytest.mark.parametrize("f", WITH_LOSS)
@pytest.mark.parametrize("shape", [(0, 3), ()])
def test_an_empty_batch_is_an_error(f: Any, shape: Any) -> None:
    with pytest.raises(ShapeError, match=r"WithLoss: the mean over an empty batch is undefined, got shape \("):
        f(np.zeros(shape), np.zeros(shape))


@pytest.mark.parametrize("f", WITH_LOSS)
@pytest.mark.backends("array_api_strict", "torch", "cupy")
def test_mixing_libraries_is_an_error_that_names_the_layer(backend: Backend, f: Any) -> None:
    with pytest.raises(MixedArraysError, match=r"WithLoss: arrays of .* are mixed"):
        f(backend.asarray(np.zeros((2, 3))), np.zeros((2, 3)))


@pytest.mark.parametrize("f", WITH_LOSS)
@pytest.mark.parametrize("shape", [(2,), (3, 1), (1,), ()])
def test_weights_of_rows_never_broadcast(f: Any, shape: Any) -> None:
    with pytest.raises(ShapeError, match=r"WithLoss: sample_weight, one for each row, must have shape \(3,\)"):
        f(np.zeros((3, 2)), np.zeros((3, 2)), sample_weight=np.ones(shape))


@pytest.mark.parametrize("f", WITH_LOSS)
@pytest.mark.backends("array_api_strict", "torch", "cupy")
def test_weights_of_rows_of_another_library_are_an_error(backend: Backend, f: Any) -> None:
    x = backend.asarray(np.zeros((2, 3)))
    with pytest.raises(MixedArraysError, match=r"WithLoss: arrays of .* are mixed"):
        f(x, x, sample_weight=np.ones(2))


@pytest.mark.parametrize("dout", [0.0, 2.5, -3])
@pytest.mark.backends("values")
def test_backward_scales_by_dout(backend: Backend, dout: float) -> None:
    """The book's SoftmaxWithLoss.backward ignores it."""
    rng = np.random.default_rng(5)
    x, t = backend.asarray(sample(rng, 3, 2)), backend.asarray([[0.0, 1.0], [1.0, 0.0], [1.0, 0.0]])
    for backward in (softmax_with_loss_backward, sigmoid_with_loss_backward, identity_with_loss_backward):
        once = backend.to_numpy(backend.call(backward, x, t))
        backend.check(backend.call(backward, x, t, dout=dout), dout * once)


@pytest.mark.backends("array_api_strict", "torch:cuda", "cupy", "jit")
def test_labels_of_a_device_array_are_not_read(backend: Backend) -> None:
    """A range check would make the device wait; such labels are checked on the host, where data enters."""
    t = backend.asarray([0, 7])
    loss, _ = backend.call(softmax_with_loss, backend.asarray(np.zeros((2, 3))), t)
    assert tuple(loss.shape) == ()
