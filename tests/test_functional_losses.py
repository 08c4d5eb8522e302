"""The book's losses and windows: value on every backend, one sample or many, labels or one-hot, and what they refuse."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from tests import oracles
from tests.harness import Backend
from tests.pairs import sample
from xpdl import functional
from xpdl.errors import DTypeError, LabelError, MixedArraysError, ShapeError
from xpdl.layers import SoftmaxWithLoss

# JAX compiles anew for each shape, and the ops below these functions run on it in tests/ops
quick = pytest.mark.backends("precompiled")


def values(shape: tuple[int, ...]) -> Any:
    return sample(np.random.default_rng(len(shape)), *shape)


def square_error(y: Any, t: Any) -> float:
    return 0.5 * math.fsum((a - b) ** 2 for a, b in zip(np.ravel(y), np.ravel(t), strict=True))


def cross_entropy(y: Any, t: Any) -> float:
    """The book's formula over rows of probabilities; `t` one-hot."""
    rows = np.reshape(y, (-1, np.shape(y)[-1]))
    weights = np.reshape(t, rows.shape)
    return -math.fsum(w * math.log(p + 1e-7) for w, p in zip(weights.ravel(), rows.ravel(), strict=True)) / len(rows)


@pytest.mark.parametrize("name", ["sum_squared_error", "mean_squared_error"])
class TestSquaredError:
    @quick
    @pytest.mark.parametrize("shape", [(), (4,), (3, 4), (2, 2, 3)], ids=str)
    def test_value(self, backend: Backend, name: str, shape: tuple[int, ...]) -> None:
        y, t = sample(np.random.default_rng(1), *shape), values(shape)
        got = backend.call(getattr(functional, name), backend.asarray(y), backend.asarray(t))
        backend.check(got, np.asarray(square_error(y, t)))

    def test_example_of_the_book(self, name: str) -> None:
        y = np.array([0.1, 0.05, 0.6, 0.0, 0.05, 0.1, 0.0, 0.1, 0.0, 0.0])
        assert float(getattr(functional, name)(y, np.eye(10)[2])) == pytest.approx(0.0975, rel=1e-12)

    def test_integer_targets(self, name: str) -> None:
        assert float(getattr(functional, name)(np.array([0.5, 0.5]), np.array([1, 0]))) == 0.25

    def test_shapes_that_would_broadcast_are_an_error(self, name: str) -> None:
        with pytest.raises(ShapeError, match=r"t must have shape \(3, 1\), got \(3,\)"):
            getattr(functional, name)(np.zeros((3, 1)), np.zeros(3))

    def test_mixed_libraries_are_an_error(self, name: str) -> None:
        import array_api_strict as strict

        with pytest.raises(MixedArraysError, match="array_api_strict and numpy"):
            getattr(functional, name)(np.zeros(3), strict.zeros(3))


class TestCrossEntropy:
    @pytest.fixture
    def y(self) -> Any:
        return oracles.softmax(values((4, 3)))

    LABELS = np.array([2, 0, 1, 2])

    @pytest.mark.parametrize("kind", ["labels", "one-hot"])
    @pytest.mark.parametrize("name", ["cross_entropy_error", "softmax_cross_entropy"])
    @pytest.mark.parametrize("single", [False, True], ids=["batch", "single"])
    @quick
    def test_value(self, backend: Backend, y: Any, name: str, single: bool, kind: str) -> None:
        x, one_hot = (np.log(y) + 3.0 if name == "softmax_cross_entropy" else y), np.eye(3)[self.LABELS]
        t = self.LABELS if kind == "labels" else one_hot
        if name == "softmax_cross_entropy":
            want = oracles.softmax_with_loss(x[:1] if single else x, one_hot[:1] if single else one_hot)[0]
        else:
            want = np.asarray(cross_entropy(y[:1] if single else y, one_hot[:1] if single else one_hot))
        given = (x[0], t[0]) if single else (x, t)
        got = backend.call(getattr(functional, name), *(backend.asarray(np.asarray(a)) for a in given))
        backend.check(got, want)

    def test_examples_of_the_book(self) -> None:
        y = np.array([0.1, 0.05, 0.6, 0.0, 0.05, 0.1, 0.0, 0.1, 0.0, 0.0])
        assert float(functional.cross_entropy_error(y, np.eye(10)[2])) == pytest.approx(0.510825457099338, rel=1e-12)
        assert float(functional.cross_entropy_error(y, 2)) == pytest.approx(0.510825457099338, rel=1e-12)

    def test_a_probability_of_zero_saturates_and_scores_do_not(self) -> None:
        assert float(functional.cross_entropy_error(np.array([1.0, 0.0]), 1)) == pytest.approx(16.11809565)
        assert float(functional.softmax_cross_entropy(np.array([1e4, 0.0]), 1)) == 1e4

    def test_one_class_and_two_rows_are_labels_by_rank(self) -> None:
        """The book compares sizes, and takes one output per row for one-hot."""
        y = np.array([[0.5], [0.25]])
        want = -(math.log(0.5 + 1e-7) + math.log(0.25 + 1e-7)) / 2
        assert float(functional.cross_entropy_error(y, np.array([0, 0]))) == pytest.approx(want)

    @pytest.mark.parametrize("dtype", ["uint8", "int8", "int32", "int64"])
    def test_any_integer_labels(self, y: Any, dtype: str) -> None:
        want = functional.cross_entropy_error(y, self.LABELS)
        assert functional.cross_entropy_error(y, self.LABELS.astype(dtype)) == want

    @quick
    @pytest.mark.parametrize("kind", ["labels", "one-hot"])
    @pytest.mark.parametrize("single", [False, True], ids=["batch", "single"])
    def test_smoothing_and_weights(self, backend: Backend, y: Any, single: bool, kind: str) -> None:
        x, w, smoothing = np.log(y) + 3.0, np.array([0.5, 2.0, 1.5]), 0.2
        t = self.LABELS if kind == "labels" else np.eye(3)[self.LABELS]
        rows = slice(0, 1) if single else slice(None)
        want = oracles.softmax_with_loss(x[rows], t[rows], w, label_smoothing=smoothing)[0]
        given = [backend.asarray(np.asarray(a[0] if single else a)) for a in (x, t)]

        def loss(x: Any, t: Any, weights: Any = tuple(w)) -> Any:
            return functional.softmax_cross_entropy(x, t, label_smoothing=smoothing, class_weights=weights)

        backend.check(backend.call(loss, *given), want)
        backend.check(backend.call(loss, *given, backend.asarray(w)), want)

    @pytest.mark.parametrize("smoothing", [0.0, 0.3])
    @pytest.mark.parametrize("weights", [None, [0.5, 0.0, 3.0]], ids=str)
    def test_slope_is_what_the_layer_gives_back(self, y: Any, smoothing: float, weights: Any) -> None:
        options = {"label_smoothing": smoothing, "class_weights": weights}
        x, layer = np.log(y), SoftmaxWithLoss(smoothing, weights)
        layer.forward(x, self.LABELS)
        found = functional.numerical_gradient(lambda x: functional.softmax_cross_entropy(x, self.LABELS, **options), x)
        np.testing.assert_allclose(found, layer.backward(), rtol=1e-6, atol=1e-9)

    def test_weights_of_another_library_or_of_other_classes(self, y: Any) -> None:
        with pytest.raises(ShapeError, match=r"class_weights, one for each class, must have shape \(3,\), got \(2,\)"):
            functional.softmax_cross_entropy(y, self.LABELS, class_weights=[1.0, 2.0])
        import array_api_strict as strict

        with pytest.raises(MixedArraysError, match="array_api_strict and numpy"):
            functional.softmax_cross_entropy(y, self.LABELS, class_weights=strict.ones(3))

    def test_float32_is_kept(self, y: Any) -> None:
        for name in ("cross_entropy_error", "softmax_cross_entropy"):
            assert getattr(functional, name)(y.astype(np.float32), self.LABELS).dtype == np.float32

    @pytest.mark.parametrize("name", ["cross_entropy_error", "softmax_cross_entropy"])
    def test_wrong_targets(self, y: Any, name: str) -> None:
        f = getattr(functional, name)
        owner = "cross_entropy_error" if name == "cross_entropy_error" else "SoftmaxWithLoss"
        with pytest.raises(LabelError, match=f"^{owner}: label 3 of row \\d is not one of the 3 classes 0 to 2"):
            f(y, np.array([0, 1, 2, 3]))
        with pytest.raises(LabelError, match="label -1"):
            f(y[0], -1)
        with pytest.raises(DTypeError, match="labels must be integers, got float64"):
            f(y, np.zeros(4))
        with pytest.raises(ShapeError, match=r"one-hot t must have shape \(4, 3\), got \(4, 2\)"):
            f(y, np.zeros((4, 2)))
        with pytest.raises(ShapeError, match=r"must have shape \(4,\), got \(3,\)"):
            f(y, np.zeros(3, int))
        with pytest.raises(ShapeError, match=f"^{name}: expected .*got shape"):
            f(np.zeros((2, 2, 2)), np.zeros((2, 2), int))
        with pytest.raises(ShapeError, match="empty batch"):
            f(y[:0], self.LABELS[:0])


class TestWindows:
    @pytest.mark.parametrize("args", [(2, 2), (3, 2, 2), (2, 3, (1, 2), 1), (1, 1, 3, (0, 2))], ids=str)
    @pytest.mark.backends("numpy", "strict:nosync", "torch")
    def test_im2col_and_col2im_agree_with_loops(self, backend: Backend, args: Any) -> None:
        static = dict(zip(("filter_h", "filter_w", "stride", "pad"), args, strict=False))
        x = values((2, 2, 5, 4))
        want = oracles.im2col(x, **static)
        backend.check(backend.call(functional.im2col, backend.asarray(x), **static), want)
        image = oracles.col2im(want, input_shape=x.shape, **static)
        got = backend.call(functional.col2im, backend.asarray(want), input_shape=x.shape, **static)
        backend.check(got, image)

    def test_float32_is_kept(self) -> None:
        x = values((1, 1, 3, 3)).astype(np.float32)
        col = functional.im2col(x, 2, 2, pad=1)
        assert col.dtype == np.float32
        assert functional.col2im(col, x.shape, 2, 2, pad=1).dtype == np.float32

    @pytest.mark.parametrize(
        ("args", "want"), [((28, 5), 24), ((28, 5, 2), 12), ((7, 3, 2, 1), 4), ((4, 4), 1), ((1, 3, 1, 1), 1)]
    )
    def test_conv_output_size_is_an_int(self, args: tuple[int, ...], want: int) -> None:
        got = functional.conv_output_size(*args)
        assert (got, type(got)) == (want, int)

    @pytest.mark.parametrize(
        ("args", "message"),
        [
            ((4, 5), "the filter covers 5 but the padded input has only 4"),
            ((4, 2, 0), "stride must be an int of at least 1, got 0"),
            ((4, 2, 1, -1), "pad must be an int of at least 0, got -1"),
            ((4.0, 2), "input_size must be an int of at least 1, got 4.0"),
            ((4, 0), "filter_size must be an int of at least 1, got 0"),
        ],
        ids=str,
    )
    def test_what_does_not_fit_is_an_error(self, args: Any, message: str) -> None:
        with pytest.raises(ShapeError, match=f"conv_output_size: {message}"):
            functional.conv_output_size(*args)
