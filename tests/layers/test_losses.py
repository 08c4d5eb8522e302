"""Targets and upstream gradients that loss layers accept and refuse."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest

from tests.harness import Backend
from xpdl.errors import DTypeError, LabelError, MixedArraysError, ShapeError
from xpdl.layers import Hinge, IdentityWithLoss, NegativeSampling, SigmoidWithLoss, SoftmaxWithLoss

LAYERS = [SoftmaxWithLoss, SigmoidWithLoss, IdentityWithLoss]
_rng = np.random.default_rng(3)
X, T = _rng.standard_normal((4, 3)), np.array([2, 0, 1, 1])


class TestColumnsOfLabels:
    @pytest.mark.parametrize("dtype", ["int64", "uint8"])
    @pytest.mark.backends("precompiled")
    @pytest.mark.backends("values")
    def test_are_labels_where_there_are_several_classes(self, backend: Backend, dtype: str) -> None:
        layer, same = SoftmaxWithLoss(), SoftmaxWithLoss()
        x, column, labels = backend.asarray(X), backend.asarray(T[:, None], dtype), backend.asarray(T, dtype)
        backend.check(layer.forward(x, column), backend.to_numpy(same.forward(x, labels)))
        backend.check(layer.backward(), backend.to_numpy(same.backward()))
        np.testing.assert_array_equal(
            backend.to_numpy(layer.correct(x, column)), backend.to_numpy(same.correct(x, labels))
        )

    def test_are_one_hot_where_there_is_one_class(self) -> None:
        layer = SoftmaxWithLoss()
        # weights of 0 and 1: no loss from the first row, and none from the second, as one class is certain
        assert float(layer.forward(np.array([[3.0], [4.0]]), np.array([[0], [1]]))) == 0.0
        assert layer.t.shape == (2, 1)

    def test_of_floats_are_refused(self) -> None:
        with pytest.raises(ShapeError, match=r"one-hot t must have shape \(4, 3\), got \(4, 1\)"):
            SoftmaxWithLoss().forward(X, np.zeros((4, 1)))

    def test_must_be_in_range(self) -> None:
        with pytest.raises(LabelError, match=r"label 3 of row \d is not one of the 3 classes"):
            SoftmaxWithLoss().forward(X, np.array([[0], [1], [3], [0]]))


class TestWeightsAndSmoothing:
    @pytest.mark.needs("torch")
    @pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.9])
    @pytest.mark.parametrize("weights", [None, [0.5, 0.0, 3.0]], ids=str)
    @pytest.mark.parametrize("rows", [False, True], ids=["labels", "probabilities"])
    @pytest.mark.parametrize("dtype", ["float64", "float32"])
    def test_are_those_of_pytorch(self, smoothing: float, weights: Any, rows: bool, dtype: str) -> None:
        import torch

        shares = _rng.random((4, 3))
        t = (shares / shares.sum(axis=1, keepdims=True)).astype(dtype) if rows else T
        scores = torch.tensor(X.astype(dtype), requires_grad=True)
        theirs = torch.nn.CrossEntropyLoss(
            weight=None if weights is None else torch.tensor(weights, dtype=scores.dtype), label_smoothing=smoothing
        )(scores, torch.tensor(t))
        (-0.7 * theirs).backward()
        layer = SoftmaxWithLoss(smoothing, weights)
        loss, dx = layer.forward(X.astype(dtype), t), layer.backward(-0.7)
        assert loss.dtype == dx.dtype == dtype
        tolerance = {"float64": 1e-13, "float32": 2e-6}[dtype]
        np.testing.assert_allclose(loss, theirs.detach().numpy(), rtol=tolerance)
        np.testing.assert_allclose(dx, scores.grad.numpy(), rtol=tolerance, atol=tolerance)

    @pytest.mark.backends("precompiled")
    @pytest.mark.backends("values")
    def test_weights_may_be_an_array_of_any_library(self, backend: Backend) -> None:
        here, there = SoftmaxWithLoss(class_weights=backend.asarray([1.0, 2.0, 0.5])), SoftmaxWithLoss(0, (1, 2, 0.5))
        assert here.class_weights == there.class_weights == [1.0, 2.0, 0.5]
        backend.check(here.forward(backend.asarray(X), backend.asarray(T)), np.asarray(there.forward(X, T)))

    @pytest.mark.parametrize("odd", ["012", {0: 1.0, 1: 2.0, 2: 0.5}, 3, 0.5], ids=repr)
    def test_weights_that_are_no_sequence_are_refused(self, odd: Any) -> None:
        with pytest.raises(TypeError, match=r"SoftmaxWithLoss: class_weights must be a sequence of numbers, .*got"):
            SoftmaxWithLoss(class_weights=odd)

    @pytest.mark.parametrize("odd", [[1.0, -0.1], [np.inf, 1.0], ["1", "2"], [None, 1.0]], ids=repr)
    def test_weights_that_are_no_finite_numbers_are_refused(self, odd: Any) -> None:
        with pytest.raises(
            ValueError, match="SoftmaxWithLoss: each of class_weights must be a finite number at least 0"
        ):
            SoftmaxWithLoss(class_weights=odd)

    def test_weights_of_nothing_are_refused(self) -> None:
        for none in ([], [0.0, 0.0]):
            with pytest.raises(ValueError, match="class_weights must have a number above 0, got"):
                SoftmaxWithLoss(class_weights=none)

    def test_are_for_each_class(self) -> None:
        with pytest.raises(ShapeError, match=r"SoftmaxWithLoss: class_weights, .*must have shape \(3,\), got \(2,\)"):
            SoftmaxWithLoss(class_weights=[1.0, 2.0]).forward(X, T)

    def test_count_rows_as_often_as_their_weights_say(self) -> None:
        often = np.repeat(np.arange(4), np.array([1, 3, 2])[T])
        weighted = SoftmaxWithLoss(class_weights=[1, 3, 2]).forward(X, T)
        np.testing.assert_allclose(weighted, SoftmaxWithLoss().forward(X[often], T[often]), rtol=1e-13)

    @pytest.mark.parametrize("smoothing", [0.0, 0.25])
    def test_labels_without_weight_cost_nothing(self, smoothing: float) -> None:
        layer = SoftmaxWithLoss(smoothing, [1.0, 0.0, 0.0])
        assert layer.forward(X[2:], T[2:]) == 0.0 and layer.weight == 0.0
        np.testing.assert_array_equal(layer.backward(), np.zeros_like(X[2:]))

    def test_stand_in_the_description(self) -> None:
        assert repr(SoftmaxWithLoss()) == "SoftmaxWithLoss()"
        assert repr(SoftmaxWithLoss(0.1)) == "SoftmaxWithLoss(label_smoothing=0.1)"
        both = SoftmaxWithLoss(0.1, np.ones(2))
        assert repr(both) == "SoftmaxWithLoss(label_smoothing=0.1, class_weights=[1.0, 1.0])"
        assert repr(copy.deepcopy(both)) == repr(both)


@pytest.mark.parametrize("cls", LAYERS)
class TestDout:
    @pytest.mark.parametrize("dout", [2, np.float64(2), np.array(2.0), np.array(2)], ids=repr)
    def test_keeps_float32(self, cls: Any, dout: Any) -> None:
        layer = cls()
        layer.forward(X.astype(np.float32), np.eye(3, dtype=np.float32)[T])
        once, scaled = layer.backward(), layer.backward(dout)
        assert scaled.dtype == np.float32
        np.testing.assert_array_equal(scaled, 2 * once)

    @pytest.mark.backends("precompiled")
    @pytest.mark.backends("values")
    def test_may_be_an_array_without_axes(self, backend: Backend, cls: Any) -> None:
        layer = cls()
        layer.forward(backend.asarray(X), backend.asarray(np.eye(3)[T]))
        once = backend.to_numpy(layer.backward())
        backend.check(layer.backward(backend.asarray(-0.5)), -0.5 * once)

    def test_of_another_shape_would_broadcast_and_is_refused(self, cls: Any) -> None:
        layer = cls()
        layer.forward(X, np.eye(3)[T])
        for dout in (np.ones((4, 3)), np.ones(3), np.ones(1)):
            with pytest.raises(ShapeError, match=rf"{cls.__name__}\.backward: dout must have shape \(\), got"):
                layer.backward(dout)

    def test_that_is_no_number_is_refused(self, cls: Any) -> None:
        layer = cls()
        layer.forward(X, np.eye(3)[T])
        for dout in ("2", None, [1.0]):
            with pytest.raises(TypeError, match=rf"{cls.__name__}\.backward: expected arrays, got"):
                layer.backward(dout)

    @pytest.mark.backends("array_api_strict", "torch")
    def test_of_another_library_is_refused(self, backend: Backend, cls: Any) -> None:
        layer = cls()
        layer.forward(backend.asarray(X), backend.asarray(np.eye(3)[T]))
        with pytest.raises(MixedArraysError, match=rf"{cls.__name__}\.backward: .*numpy"):
            layer.backward(np.array(1.0))


@pytest.mark.parametrize("cls", LAYERS)
@pytest.mark.backends("numpy", "strict:device1", "torch")
def test_complex_targets_are_refused(backend: Backend, cls: Any) -> None:
    with pytest.raises(DTypeError, match=f"{cls.__name__}: t must be real, got complex128"):
        cls().forward(backend.asarray(X), backend.asarray(np.eye(3, dtype=np.complex128)[T], "complex128"))


@pytest.mark.parametrize("cls", LAYERS)
@pytest.mark.parametrize("t", [None, [0, 1, 2, 0], 1], ids=repr)
def test_targets_that_are_no_array_are_refused(cls: Any, t: Any) -> None:
    with pytest.raises(TypeError, match=f"{cls.__name__}: "):
        cls().forward(X, t)


@pytest.mark.backends("numpy", "array_api_strict", "torch")
def test_scores_of_no_class_are_refused(backend: Backend) -> None:
    with pytest.raises(ShapeError, match="SoftmaxWithLoss: expected at least one score"):
        SoftmaxWithLoss().forward(backend.asarray(np.ones((2, 0))), backend.asarray(np.ones((2, 0))))


def test_scores_without_axes_are_refused() -> None:
    with pytest.raises(
        ShapeError, match=r"SoftmaxWithLoss: expected scores \(N, K\), \(N, T, K\) or \(K,\), got shape \("
    ):
        SoftmaxWithLoss().forward(np.ones(()), np.ones(()))


@pytest.mark.parametrize("shape", [(2, 3, 1), (2, 4), (3,)])
def test_labels_of_other_positions_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(
        ShapeError, match=r"SoftmaxWithLoss: t, .* for scores of shape \(2, 3, 4\), must have shape \(2, 3"
    ):
        SoftmaxWithLoss().forward(np.ones((2, 3, 4)), np.zeros(shape))


class TestCorrect:
    SCORES = np.array([[0.1, 2.0, 0.3], [4.0, -1.0, 0.0], [-3.0, -2.0, -1.0]])
    WANT = (True, False, True)

    def test_classes_are_those_of_the_largest_score(self) -> None:
        labels = np.array([1, 2, 2])
        for t in (labels, labels[:, None], np.eye(3)[labels], np.eye(3, dtype=bool)[labels]):
            got = SoftmaxWithLoss().correct(self.SCORES, t)
            assert got.dtype == bool and tuple(got) == self.WANT

    def test_outputs_are_decided_at_a_probability_of_a_half(self) -> None:
        x = np.array([0.1, -0.1, 0.0, 0.9])
        for t in (np.array([1, 1, 0, 1]), np.array([0.6, 0.6, 0.4, 0.6])):
            assert tuple(SigmoidWithLoss().correct(x, t)) == (True, False, True, True)
            np.testing.assert_array_equal(SigmoidWithLoss().correct(x[:, None], t).ravel(), [True, False, True, True])

    def test_targets_that_do_not_fit_are_refused(self) -> None:
        for t, message in (
            (np.array([0, 1]), r"t must have shape \(3,\), got \(2,\)"),
            (np.ones((3, 2)), r"one-hot t must have shape \(3, 3\), got \(3, 2\)"),
        ):
            with pytest.raises(ShapeError, match=f"SoftmaxWithLoss: {message}"):
                SoftmaxWithLoss().correct(self.SCORES, t)
        with pytest.raises(LabelError, match=r"label 3 of row \d is not one of the 3 classes"):
            SoftmaxWithLoss().correct(self.SCORES, np.array([0, 1, 3]))

    def test_a_regression_has_none(self) -> None:
        with pytest.raises(TypeError, match="IdentityWithLoss: accuracy is for classification"):
            IdentityWithLoss().correct(X, X)
        assert SoftmaxWithLoss.classifies and SigmoidWithLoss.classifies and not IdentityWithLoss.classifies


@pytest.mark.parametrize("cls", [SigmoidWithLoss, IdentityWithLoss])
def test_targets_go_with_one_column_with_and_without_its_axis(cls: Any) -> None:
    x, t = X[:, :1], np.array([0.0, 1.0, 1.0, 0.0])
    with_axis, without = cls(), cls()
    assert with_axis.forward(x, t[:, None]) == without.forward(x, t)
    np.testing.assert_array_equal(with_axis.backward(), without.backward())
    with pytest.raises(ShapeError, match=r"t must have shape \(4, 3\), got \(4,\)"):
        cls().forward(X, t)


TARGETS = {SoftmaxWithLoss: T, SigmoidWithLoss: np.eye(3)[T], IdentityWithLoss: X + 1.0}
WEIGHTS = np.array([3.0, 0.0, 1.0, 2.0])


@pytest.mark.parametrize("cls", LAYERS)
class TestSampleWeight:
    def test_counts_rows_as_often_as_their_weights_say(self, cls: Any) -> None:
        """As scikit-learn has it: a weight of 3 is a row that is there three times, one of 0 a row that is not."""
        t, often = TARGETS[cls], np.repeat(np.arange(4), WEIGHTS.astype(int))
        weighted, repeated = cls(), cls()
        loss = repeated.forward(X[often], t[often])
        np.testing.assert_allclose(weighted.forward(X, t, WEIGHTS), loss, rtol=1e-13)
        assert weighted.weight == repeated.weight == 6
        dx = np.zeros_like(X)
        np.add.at(dx, often, repeated.backward(0.7))
        np.testing.assert_allclose(weighted.backward(0.7), dx, rtol=1e-12, atol=1e-15)

    def test_rows_that_all_have_no_weight_cost_nothing(self, cls: Any) -> None:
        layer = cls()
        assert layer.forward(X, TARGETS[cls], WEIGHTS * 0) == 0.0 and layer.weight == 0.0
        np.testing.assert_array_equal(layer.backward(), np.zeros_like(X))

    def test_is_forgotten_by_the_next_forward(self, cls: Any) -> None:
        layer, other = cls(), cls()
        layer.forward(X, TARGETS[cls], WEIGHTS)
        assert layer.forward(X, TARGETS[cls]) == other.forward(X, TARGETS[cls]) and layer.weight == 4
        np.testing.assert_array_equal(layer.backward(), other.backward())

    def test_is_an_array_with_one_number_for_each_row(self, cls: Any) -> None:
        with pytest.raises(
            ShapeError, match=rf"{cls.__name__}: sample_weight, one for each row, must have shape \(4,\)"
        ):
            cls().forward(X, TARGETS[cls], WEIGHTS[:3])
        with pytest.raises(TypeError, match=rf"{cls.__name__}: sample_weight must be an array \(N,\), got list"):
            cls().forward(X, TARGETS[cls], WEIGHTS.tolist())


class TestDecisions:
    """Accuracy of several yes / no outputs."""

    SCORES = np.array([[1.0, -2.0, 3.0], [-1.0, -1.0, 0.5]])
    TRUE = np.array([[1.0, 0.0, 1.0], [1, 0, 1]])

    def test_is_each_label_or_each_row(self) -> None:
        by_label, by_row = SigmoidWithLoss(), SigmoidWithLoss("row")
        assert by_label.correct(self.SCORES, self.TRUE).tolist() == [[True, True, True], [False, True, True]]
        assert by_row.correct(self.SCORES, self.TRUE).tolist() == [True, False]
        assert repr(by_label) == "SigmoidWithLoss()" and repr(by_row) == "SigmoidWithLoss('row')"

    @pytest.mark.parametrize("accuracy", ["label", "row"])
    @pytest.mark.parametrize("shape", [(3,), (3, 1)])
    def test_of_one_output_is_the_same(self, accuracy: str, shape: tuple[int, ...]) -> None:
        x, t = np.array([1.0, -1.0, 2.0]).reshape(shape), np.array([1, 1, 0])
        assert SigmoidWithLoss(accuracy).correct(x, t).ravel().tolist() == [True, False, False]

    @pytest.mark.parametrize("odd", ["rows", "", None, True])
    def test_is_one_of_both(self, odd: Any) -> None:
        with pytest.raises(ValueError, match="SigmoidWithLoss: accuracy must be 'label' or 'row', got"):
            SigmoidWithLoss(odd)


def test_activation_gives_the_outputs_of_the_last_forward() -> None:
    for cls in LAYERS:
        layer = cls()
        layer.forward(X, TARGETS[cls])
        np.testing.assert_allclose(layer.activation(X), layer.y, rtol=1e-14)


class TestIgnoredLabelsOfSmallIntegers:
    """A library that compares uint8 with -1 takes it for 255, and int8 with 255 for -1."""

    CASES = (("uint8", [255, 0, 3], -1), ("uint8", [254, 0, 255], -2), ("uint8", [44, 0, 255], 300))
    CASES += (("int8", [0, 127, 4], 128), ("uint16", [255, 0, 3], -65281), ("uint8", [255, 255, 1], 255))

    @pytest.mark.parametrize(("dtype", "labels", "ignored"), CASES)
    @pytest.mark.parametrize("shape", [(3,), (3, 1)])
    @pytest.mark.backends("precompiled")
    @pytest.mark.backends("values")
    def test_are_those_that_equal_it(
        self, backend: Backend, dtype: str, labels: list[int], ignored: int, shape: tuple[int, ...]
    ) -> None:
        self.check(backend, dtype, labels, ignored, shape)

    @pytest.mark.exhaustive
    @pytest.mark.backends("jax")
    @pytest.mark.backends("eager")
    @pytest.mark.parametrize(("dtype", "labels", "ignored"), CASES)
    def test_in_jax_too(self, backend: Backend, dtype: str, labels: list[int], ignored: int) -> None:
        self.check(backend, dtype, labels, ignored, (3,))

    @staticmethod
    def check(backend: Backend, dtype: str, labels: list[int], ignored: int, shape: tuple[int, ...]) -> None:
        scores = np.random.default_rng(0).standard_normal((*shape, 256)).astype("float32")
        layer, same = SoftmaxWithLoss(ignore_label=ignored), SoftmaxWithLoss(ignore_label=ignored)
        x, t = backend.asarray(scores), backend.asarray(np.reshape(labels, shape), dtype)
        wide = np.reshape(np.array(labels, "int64"), shape)
        backend.check(layer.forward(x, t), same.forward(scores, wide))
        backend.check(layer.backward(), same.backward())
        np.testing.assert_array_equal(backend.to_numpy(layer.counted(x, t)), wide != ignored)
        np.testing.assert_array_equal(backend.to_numpy(layer.correct(x, t)), same.correct(scores, wide))


INF = np.inf
#: scores of 3 classes of which the second is right, and the loss and its gradient of each layer
INFINITE = [
    (Hinge, [0.5, 1.0, -INF], 0.5, [1.0, -1.0, 0.0]),
    (Hinge, [-INF, 1.0, -INF], 0.0, [0.0, 0.0, 0.0]),
    (Hinge, [0.5, INF, 0.0], 0.0, [0.0, 0.0, 0.0]),
    (Hinge, [0.5, -INF, 0.0], INF, [1.0, -2.0, 1.0]),
    (SoftmaxWithLoss, [1.0, 1.0, -INF], np.log(2.0), [0.5, -0.5, 0.0]),
    (SoftmaxWithLoss, [1.0, -INF, 1.0], INF, [0.5, -1.0, 0.5]),
    (SigmoidWithLoss, [-INF, INF, 0.0], np.log(2.0), [0.0, 0.0, 0.5]),
    (SigmoidWithLoss, [-INF, -INF, -INF], INF, [0.0, -1.0, 0.0]),
    (NegativeSampling, [-INF, INF, 0.0], np.log(2.0), [0.0, 0.0, 0.5]),
    (NegativeSampling, [INF, INF, -INF], INF, [1.0, 0.0, 0.0]),
]


@pytest.mark.filterwarnings("ignore:(invalid|divide):RuntimeWarning")
@pytest.mark.parametrize(("cls", "scores", "loss", "dx"), INFINITE)
@pytest.mark.parametrize("rows", [False, True])
@pytest.mark.backends("precompiled")
@pytest.mark.backends("values")
def test_infinite_scores_count_as_their_limits(
    backend: Backend, cls: Any, scores: list[float], loss: float, dx: list[float], rows: bool
) -> None:
    """As of classes that are masked: 0 times infinity is no NaN."""
    layer, right = cls(), np.array([[0.0, 1.0, 0.0]], "float32")
    t = right if rows or cls is SigmoidWithLoss else np.array([1])
    got = layer.forward(backend.asarray([scores], "float32"), backend.asarray(t))
    backend.check(got, np.float32(loss))
    backend.check(layer.backward(), np.array([dx], "float32"))
