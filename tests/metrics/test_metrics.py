"""Measures of predictions against scikit-learn, over random cases and their corners."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
import pytest

from tests.harness import Backend
from xpdl import metrics
from xpdl.errors import LabelError, ShapeError

sk: Any = pytest.importorskip("sklearn.metrics")
ZEROS = [0.0, 1.0, math.nan]


@pytest.fixture(autouse=True)
def _quiet() -> Any:
    """scikit-learn warns of what is not defined."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def labelled(seed: int, classes: int, rows: int) -> tuple[Any, Any]:
    """Labels of which some classes are rare, or in one of both arrays alone."""
    rng = np.random.default_rng(seed)
    p = rng.dirichlet(np.full(classes, 0.4))
    return rng.choice(classes, rows, p=p), rng.choice(classes, rows, p=rng.permutation(p))


CASES = [labelled(seed, classes, rows) for seed in range(12) for classes, rows in ((2, 9), (3, 1), (4, 30), (7, 12))]
ONE_CLASS = [(np.full(5, k), np.full(5, j)) for k in range(2) for j in range(2)]


@pytest.mark.parametrize("name", ["precision", "recall", "f1"])
@pytest.mark.parametrize("zero", ZEROS)
class TestAverages:
    @staticmethod
    def both(name: str, y: Any, t: Any, average: str, zero: float) -> tuple[float, float]:
        ours = getattr(metrics, name)(y, t, average=average, zero_division=zero)
        theirs = getattr(sk, f"{name}_score")(t, y, average=average, zero_division=zero)
        assert type(ours) is float
        return ours, theirs

    @pytest.mark.parametrize("average", ["macro", "micro", "weighted"])
    def test_of_classes(self, name: str, zero: float, average: str) -> None:
        for y, t in CASES + ONE_CLASS:
            ours, theirs = self.both(name, y, t, average, zero)
            np.testing.assert_allclose(ours, theirs, rtol=1e-12, equal_nan=True)

    def test_of_two_classes(self, name: str, zero: float) -> None:
        for y, t in [labelled(seed, 2, rows) for seed in range(30) for rows in (1, 2, 3, 20)] + ONE_CLASS:
            ours, theirs = self.both(name, y, t, "binary", zero)
            np.testing.assert_allclose(ours, theirs, rtol=1e-12, equal_nan=True)

    @pytest.mark.parametrize("average", ["macro", "micro", "weighted"])
    def test_of_multilabel_rows(self, name: str, zero: float, average: str) -> None:
        for seed in range(20):
            rng = np.random.default_rng(seed)
            y, t = (rng.random((9, 4)) < rng.choice([0.0, 0.3, 1.0], 4) for _ in range(2))
            for kind in (bool, int):
                ours, theirs = self.both(name, y.astype(kind), t.astype(kind), average, zero)
                np.testing.assert_allclose(ours, theirs, rtol=1e-12, equal_nan=True)

    @pytest.mark.parametrize("average", ["macro", "micro", "weighted"])
    @pytest.mark.parametrize("kind", ["scores", "one score"])
    def test_of_rows_with_nan_that_are_predicted_to_be_of_no_class(
        self, name: str, zero: float, average: str, kind: str
    ) -> None:
        for seed in range(20):
            rng = np.random.default_rng(seed)
            y, is_nan = rng.random((12, 3) if kind == "scores" else 12), rng.random(12) < 0.3
            t = rng.integers(0, 3 if kind == "scores" else 2, 12)
            decided = y.argmax(axis=-1) if kind == "scores" else (y > 0.5).astype(int)
            y[is_nan] = np.nan
            ours = getattr(metrics, name)(y, t, average=average, zero_division=zero)
            no_class = np.where(is_nan, 9, decided)
            classes = np.union1d(decided[~is_nan], t)
            options = {"average": average, "zero_division": zero, "labels": classes}
            np.testing.assert_allclose(ours, getattr(sk, f"{name}_score")(t, no_class, **options), rtol=1e-12)


class TestAccuracy:
    def test_of_classes(self) -> None:
        for y, t in CASES + ONE_CLASS:
            assert metrics.accuracy(y, t) == pytest.approx(sk.accuracy_score(t, y), rel=1e-14)

    def test_of_multilabel_rows_is_by_label_or_by_row(self) -> None:
        for seed in range(10):
            y, t = (np.random.default_rng(seed + 100 * k).random((6, 3)) < 0.5 for k in range(2))
            assert metrics.accuracy(y, t) == pytest.approx(1 - sk.hamming_loss(t, y), rel=1e-14)
            assert metrics.accuracy(y, t, whole_rows=True) == pytest.approx(sk.accuracy_score(t, y), rel=1e-14)

    def test_of_scores_is_that_of_the_largest(self) -> None:
        rng = np.random.default_rng(0)
        scores, t = rng.normal(size=(20, 4)), rng.integers(0, 4, 20)
        want = sk.accuracy_score(t, scores.argmax(axis=1))
        for targets in (t, t[:, None], t.astype(float), np.eye(4)[t], t.astype(np.uint8)):
            assert metrics.accuracy(scores, targets) == pytest.approx(want, rel=1e-14)

    def test_of_one_probability_is_that_of_the_threshold(self) -> None:
        y, t = np.array([0.2, 0.5, 0.51, 0.9]), np.array([0, 1, 1, 0])
        for shape in ((4,), (4, 1)):
            for targets in (t, t.astype(float), t.astype(bool)):
                assert metrics.accuracy(y.reshape(shape), targets) == 0.5
                assert metrics.accuracy(y.reshape(shape), targets.reshape(shape)) == 0.5


class TestTopK:
    @pytest.mark.parametrize("k", [1, 2, 3, 5])
    def test_with_and_without_ties(self, k: int) -> None:
        for seed in range(20):
            rng = np.random.default_rng(seed)
            scores, t = rng.normal(size=(15, 5)), rng.integers(0, 5, 15)
            for y in (scores, scores.round(), np.zeros_like(scores)):
                want = 1.0 if k == 5 else sk.top_k_accuracy_score(t, y, k=k, labels=np.arange(5))
                assert metrics.top_k_accuracy(y, t, k) == pytest.approx(want, rel=1e-14)
                assert metrics.top_k_accuracy(y, np.eye(5)[t], k) == pytest.approx(want, rel=1e-14)

    def test_of_more_than_there_are_is_1(self) -> None:
        assert metrics.top_k_accuracy(np.zeros((3, 2)), np.array([0, 1, 1]), 5) == 1.0

    def test_scores_that_are_nan_are_not_right(self) -> None:
        """A net that has diverged is not the best."""
        y = np.array([[np.nan] * 3, [3.0, 2.0, np.nan], [0.0, 1.0, np.nan], [np.nan, np.nan, 1.0], [3.0, 2.0, 1.0]])
        t = np.array([0, 0, 2, 2, 0])
        assert [metrics.top_k_accuracy(y, t, k) for k in (1, 2, 3)] == [0.2, 0.4, 1.0]
        assert metrics.accuracy(y, t) == metrics.accuracy(y, np.eye(3)[t]) == 0.2
        assert metrics.accuracy(np.array([np.nan, 0.1]), np.array([0, 0])) == 0.5


NAN = math.nan
#: scores that hold NaN decide for no class: scores, targets, the decisions as labels with -1 for none, average
UNDECIDED = [
    ([[NAN, NAN], [0.1, 0.9]], [0, 1], [-1, 1], "macro"),
    ([[NAN, 0.2, 0.1], [0.1, NAN, 0.5], [0.1, 0.2, 0.7], [0.9, 0.1, 0.0]], [0, 2, 2, 1], [-1, -1, 2, 0], "micro"),
    ([[NAN, 0.2, 0.1], [0.1, NAN, 0.5], [0.1, 0.2, 0.7], [0.9, 0.1, 0.0]], [1, 1, 2, 0], [-1, -1, 2, 0], "weighted"),
    ([NAN, 0.9, 0.2, NAN], [1, 1, 0, 0], [-1, 1, 0, -1], "binary"),
    ([[NAN], [0.9], [0.8], [NAN]], [1, 1, 0, 0], [-1, 1, 1, -1], "binary"),
    ([NAN, NAN], [0, 1], [-1, -1], "macro"),
]


@pytest.mark.parametrize("name", ["precision", "recall", "f1", "accuracy"])
@pytest.mark.parametrize(("y", "t", "decided", "average"), UNDECIDED)
def test_scores_that_are_nan_are_no_decision(name: str, y: Any, t: Any, decided: Any, average: str) -> None:
    """A net that has diverged predicts no class at all, not the first one."""
    classes = [1] if average == "binary" else sorted({*t, *decided} - {-1})
    options = {} if name == "accuracy" else {"average": "macro" if average == "binary" else average, "labels": classes}
    want = getattr(sk, f"{name}_score")(t, decided, **options)
    given = {} if name == "accuracy" else {"average": average}
    assert getattr(metrics, name)(np.array(y), np.array(t), **given) == pytest.approx(want, rel=1e-12)


class TestRocAuc:
    def test_of_one_score_with_and_without_ties(self) -> None:
        for seed in range(30):
            rng = np.random.default_rng(seed)
            y, t = rng.normal(size=25), rng.integers(0, 2, 25)
            for scores in (y, y.round(), np.zeros(25), (3 * y).astype(int)):
                np.testing.assert_allclose(metrics.roc_auc(scores, t), sk.roc_auc_score(t, scores), rtol=1e-12)
            np.testing.assert_allclose(metrics.roc_auc(y[:, None], t[:, None]), sk.roc_auc_score(t, y), rtol=1e-12)

    def test_of_one_class_alone_is_not_defined(self) -> None:
        for k in range(2):
            assert math.isnan(metrics.roc_auc(np.arange(3.0), np.full(3, k)))
            assert math.isnan(sk.roc_auc_score(np.full(3, k), np.arange(3.0)))

    @pytest.mark.parametrize("average", ["macro", "weighted", "micro"])
    def test_of_classes_is_of_each_against_the_others(self, average: str) -> None:
        for seed in range(20):
            rng = np.random.default_rng(seed)
            y, t = rng.dirichlet(np.ones(4), 30).round(1), np.append(np.arange(4), rng.integers(0, 4, 26))
            y /= y.sum(axis=1, keepdims=True)
            want = sk.roc_auc_score(t, y, multi_class="ovr", average=average)
            np.testing.assert_allclose(metrics.roc_auc(y, t, average=average), want, rtol=1e-12)
            np.testing.assert_allclose(metrics.roc_auc(y, np.eye(4)[t], average=average), want, rtol=1e-12)

    def test_of_a_class_without_rows_is_not_defined(self) -> None:
        y = np.random.default_rng(0).dirichlet(np.ones(3), 8)
        t = np.arange(8) % 2
        assert math.isnan(metrics.roc_auc(y, t))
        assert math.isnan(sk.roc_auc_score(t, y, multi_class="ovr", labels=[0, 1, 2]))

    def test_of_two_classes_is_that_of_the_second(self) -> None:
        rng = np.random.default_rng(1)
        y, t = rng.dirichlet(np.ones(2), 30), rng.integers(0, 2, 30)
        np.testing.assert_allclose(metrics.roc_auc(y, t), sk.roc_auc_score(t, y[:, 1]), rtol=1e-12)

    @pytest.mark.parametrize("average", ["macro", "weighted", "micro"])
    def test_of_multilabel_rows(self, average: str) -> None:
        for seed in range(10):
            rng = np.random.default_rng(seed)
            y, t = rng.random((20, 3)).round(1), rng.random((20, 3)) < 0.4
            want = sk.roc_auc_score(t, y, average=average)
            for kind in (bool, int, float):
                np.testing.assert_allclose(metrics.roc_auc(y, t.astype(kind), average=average), want, rtol=1e-12)

    def test_of_scores_that_are_nan_is_not_defined(self) -> None:
        assert math.isnan(metrics.roc_auc(np.array([0.1, math.nan, 0.3]), np.array([0, 1, 1])))


PAIRS = [(metrics.mse, "mean_squared_error"), (metrics.mae, "mean_absolute_error"), (metrics.r2, "r2_score")]


@pytest.mark.parametrize(("ours", "theirs"), PAIRS, ids=lambda f: getattr(f, "__name__", f))
class TestRegression:
    @pytest.mark.parametrize("shape", [(1,), (2,), (9,), (9, 1), (7, 3)])
    def test_is_the_mean_over_all_outputs(self, ours: Any, theirs: str, shape: tuple[int, ...]) -> None:
        for seed in range(5):
            y, t = np.random.default_rng(seed).normal(size=(2, *shape)) + 5
            want = getattr(sk, theirs)(t, y)
            np.testing.assert_allclose(ours(y, t), want, rtol=1e-10, equal_nan=True)
            np.testing.assert_allclose(ours(y.astype(np.float32), t), want, rtol=1e-4, atol=1e-5, equal_nan=True)

    def test_of_constant_targets(self, ours: Any, theirs: str) -> None:
        t = np.array([[2.0, 3.0], [2.0, 4.0], [2.0, 1.0]])
        for y in (t, t + 1, t * [1.0, 0.5]):
            np.testing.assert_allclose(ours(y, t), getattr(sk, theirs)(t, y), rtol=1e-12, atol=1e-15)

    @pytest.mark.parametrize("value", [0.1, 0.7, 1 / 3, 1e6 + 0.1, -1e-300])
    @pytest.mark.parametrize("rows", [2, 3, 7, 100])
    def test_of_constant_targets_whose_mean_is_rounded(self, ours: Any, theirs: str, value: float, rows: int) -> None:
        """Equal numbers vary by nothing, whatever their computed mean is."""
        t = np.full(rows, value)
        wrong = t + np.linspace(-1.0, 1.0, rows)
        exact, missed = (1.0, 0.0) if ours is metrics.r2 else (0.0, getattr(sk, theirs)(t, wrong))
        assert ours(t, t) == exact
        assert ours(wrong, t) == pytest.approx(missed, rel=1e-12)

    def test_a_column_goes_with_a_row_and_never_broadcasts(self, ours: Any, theirs: str) -> None:
        y, t = np.random.default_rng(0).normal(size=(2, 6))
        assert ours(y[:, None], t) == ours(y, t[:, None]) == ours(y, t)
        with pytest.raises(ShapeError, match="y has shape"):
            ours(np.zeros((6, 2)), t)


EVERY = [getattr(metrics, name) for name in metrics.__all__]
FLOATS = np.array([[0.2, 0.5, 0.3], [0.1, 0.1, 0.8], [0.6, 0.2, 0.2], [0.3, 0.3, 0.4], [0.1, 0.2, 0.7]])
TRUE = np.array([1, 2, 0, 0, 2])


@pytest.mark.parametrize("measure", EVERY, ids=lambda f: f.__name__)
class TestEvery:
    def arrays(self, measure: Any) -> tuple[Any, Any, dict[str, Any]]:
        regression = measure in (metrics.mse, metrics.mae, metrics.r2)
        options = {"average": "macro"} if measure in (metrics.precision, metrics.recall, metrics.f1) else {}
        return FLOATS, np.eye(3)[TRUE] if regression else TRUE, options

    @pytest.mark.backends("precompiled")
    @pytest.mark.backends("values")
    def test_takes_arrays_of_any_library(self, backend: Backend, measure: Any) -> None:
        y, t, options = self.arrays(measure)
        found = measure(backend.asarray(y), backend.asarray(t), **options)
        assert type(found) is float and found == pytest.approx(measure(y, t, **options), rel=1e-6)

    def test_leaves_its_arguments_alone(self, measure: Any) -> None:
        y, t, options = self.arrays(measure)
        y, t = y.copy(), t.copy()
        y.flags.writeable = t.flags.writeable = False
        measure(y, t, **options)
        np.testing.assert_array_equal(y, FLOATS)

    def test_refuses_rows_that_do_not_fit(self, measure: Any) -> None:
        y, t, options = self.arrays(measure)
        for odd in ((y[:4], t), (y[:0], t[:0]), (np.asarray(1.0), t)):
            with pytest.raises(ShapeError, match=f"{measure.__name__}: y and t must have the same number of rows"):
                measure(*odd, **options)
        with pytest.raises(TypeError, match=f"{measure.__name__}: y must be an array, got list"):
            measure(y.tolist(), t, **options)

    def test_refuses_shapes_that_do_not_fit(self, measure: Any) -> None:
        y, _, options = self.arrays(measure)
        with pytest.raises(ShapeError, match=f"{measure.__name__}: "):
            measure(y, np.zeros((5, 2)), **options)


@pytest.mark.parametrize("measure", [metrics.accuracy, metrics.top_k_accuracy, metrics.roc_auc, metrics.f1])
@pytest.mark.parametrize("label", [3, -1])
def test_labels_are_classes_of_the_scores(measure: Any, label: int) -> None:
    with pytest.raises(LabelError, match=rf"{measure.__name__}: label {label} of row \d is not one of the 3 classes"):
        measure(FLOATS, np.array([0, 1, 2, label, 0]))


def test_what_does_not_fit_says_the_cure() -> None:
    with pytest.raises(ValueError, match="f1: average='binary' takes labels 0 and 1; take macro, micro or weighted"):
        metrics.f1(FLOATS, TRUE)
    with pytest.raises(ValueError, match="recall: multilabel rows have no average='binary'"):
        metrics.recall(FLOATS > 0.4, FLOATS > 0.3)
    with pytest.raises(ValueError, match="precision: average must be one of binary, macro, micro, weighted, got None"):
        metrics.precision(TRUE, TRUE, average=None)  # type: ignore[arg-type]
    for odd in (2, "warn", True, None):
        with pytest.raises(ValueError, match="precision: zero_division must be 0, 1 or nan, got"):
            metrics.precision(TRUE, TRUE, zero_division=odd)  # type: ignore[arg-type]
    with pytest.raises(LabelError, match="roc_auc: with one score for each row the labels are 0 and 1"):
        metrics.roc_auc(np.arange(3.0), np.array([0, 1, 2]))
    with pytest.raises(LabelError, match="accuracy: labels must be whole numbers"):
        metrics.accuracy(np.array([0, 1]), np.array([0.5, 1.0]))
    with pytest.raises(ShapeError, match="top_k_accuracy: k must be an int of at least 1, got 0"):
        metrics.top_k_accuracy(FLOATS, TRUE, 0)
