"""Metrics of a trainer against scikit-learn, in its history, its files and its callbacks."""

from __future__ import annotations

import functools
import importlib
import json
import warnings
from types import SimpleNamespace

import numpy as np
import pytest

import xpdl
from tests.harness import nonempty
from tests.selection import installed
from xpdl import (
    SGD,
    Affine,
    CSVLogger,
    EarlyStopping,
    History,
    IdentityWithLoss,
    ModelCheckpoint,
    ReduceLROnPlateau,
    Sequential,
    SigmoidWithLoss,
    SoftmaxWithLoss,
    Trainer,
    metrics,
)
from xpdl.training import measures

sk = importlib.import_module("sklearn.metrics") if installed("sklearn") else None
RNG = np.random.default_rng(12)
X = RNG.normal(size=(70, 4)).astype("float32")
CLASSES = RNG.integers(0, 3, 70)
PAIR = RNG.integers(0, 2, 70)
LABELS = (RNG.random((70, 3)) < 0.4).astype("float32")
NUMBERS = RNG.normal(size=(70, 2)).astype("float32")


def _softmax(scores):
    e = np.exp(scores - scores.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def _averages(t, guess, binary):
    found = {}
    for name, theirs in {"precision": sk.precision_score, "recall": sk.recall_score, "f1": sk.f1_score}.items():
        score = functools.partial(theirs, t, guess, zero_division=0)
        found[name] = score(average="binary" if binary else "macro")
        found |= {f"{name}_{average}": score(average=average) for average in ("macro", "micro", "weighted")}
        if binary:
            found[f"{name}_binary"] = found[name]
    return found


def test_a_score_that_is_nan_is_of_no_class():
    network = Sequential(Affine(units=1), loss=SigmoidWithLoss)
    scores, t = np.array([[np.nan], [-1.0], [1.0], [2.0]]), np.array([0, 0, 1, 1])
    outputs = measures.Outputs("labels", scores, scores, t)
    found = [one.function(outputs) for one in measures.resolve(["precision_macro", "recall_macro"], network)]
    assert found == [1.0, 0.75]


def of_classes(scores, t):
    y = _softmax(scores.astype(float))
    each = np.eye(3)[t]  # against the others, one that is absent too
    areas = {average: sk.roc_auc_score(each, y, average=average) for average in ("macro", "micro", "weighted")}
    top = {f"top_{k}_accuracy": sk.top_k_accuracy_score(t, scores, k=k, labels=range(3)) for k in (1, 2)}
    return {
        **_averages(t, scores.argmax(axis=1), False),
        **{f"roc_auc_{average}": area for average, area in areas.items()},
        "roc_auc": areas["macro"],
        **top,
        "top_5_accuracy": 1.0,
    }


def of_two_classes(scores, t):
    difference = scores[:, 1].astype(float) - scores[:, 0]
    found = _averages(t, scores.argmax(axis=1), True)
    return {**found, "roc_auc": sk.roc_auc_score(t, difference), "top_1_accuracy": np.mean(scores.argmax(axis=1) == t)}


def of_one_label(scores, t):
    return {**_averages(t, scores.ravel() > 0, True), "roc_auc": sk.roc_auc_score(t.ravel(), scores.ravel())}


def of_labels(scores, t):
    areas = {average: sk.roc_auc_score(t, scores, average=average) for average in ("macro", "micro", "weighted")}
    found = {f"roc_auc_{average}": area for average, area in areas.items()}
    return {**_averages(t, scores > 0, False), **found, "roc_auc": areas["macro"]}


def of_numbers(y, t):
    y, t = y.astype(float).reshape(len(y), -1), t.astype(float).reshape(len(t), -1)
    return {"mse": sk.mean_squared_error(t, y), "mae": sk.mean_absolute_error(t, y), "r2": sk.r2_score(t, y)}


CASES = {
    "classes": (SoftmaxWithLoss, 3, CLASSES, of_classes),
    "one-hot classes": (
        SoftmaxWithLoss,
        3,
        np.eye(3, dtype="float32")[CLASSES],
        lambda s, t: of_classes(s, t.argmax(1)),
    ),
    "a column of classes": (SoftmaxWithLoss, 3, CLASSES[:, None], lambda s, t: of_classes(s, t[:, 0])),
    "two classes": (SoftmaxWithLoss, 2, PAIR, of_two_classes),
    "two one-hot classes": (SoftmaxWithLoss, 2, np.eye(2)[PAIR], lambda s, t: of_two_classes(s, t.argmax(1))),
    "one label": (SigmoidWithLoss, 1, PAIR.astype("float32"), of_one_label),
    "one label of integers": (SigmoidWithLoss, 1, PAIR[:, None], lambda s, t: of_one_label(s, t[:, 0])),
    "labels": (SigmoidWithLoss, 3, LABELS, of_labels),
    "labels by rows": (lambda: SigmoidWithLoss("row"), 3, LABELS, of_labels),
    "numbers": (IdentityWithLoss, 2, NUMBERS, of_numbers),
    "one number": (IdentityWithLoss, 1, NUMBERS[:, 0], of_numbers),
}


# functions of the scores of a net and the targets, by the name of a metric
FUNCTIONS = {
    "classes": {
        "f1": lambda s, t: metrics.f1(s, t, average="macro"),
        "recall_weighted": lambda s, t: metrics.recall(s, t, average="weighted"),
        "roc_auc": lambda s, t: metrics.roc_auc(_softmax(s), t),
        "top_2_accuracy": lambda s, t: metrics.top_k_accuracy(s, t, 2),
    },
    "one-hot classes": {
        "precision": lambda s, t: metrics.precision(s, t.argmax(1), average="macro"),
        "roc_auc": lambda s, t: metrics.roc_auc(_softmax(s), t.argmax(1)),
    },
    "two classes": {
        "f1": lambda s, t: metrics.f1(s.argmax(1), t),
        "roc_auc": lambda s, t: metrics.roc_auc(s[:, 1] - s[:, 0], t),
    },
    "one label": {
        "f1": lambda s, t: metrics.f1(s[:, 0] > 0, t > 0),
        "roc_auc": lambda s, t: metrics.roc_auc(s[:, 0], t > 0),
    },
    "labels": {
        "f1": lambda s, t: metrics.f1(s > 0, t > 0, average="macro"),
        "roc_auc_micro": lambda s, t: metrics.roc_auc(s, t > 0, average="micro"),
    },
    "numbers": {"mse": metrics.mse, "r2": metrics.r2},
}


def trained(name, asked, epochs=2, **options):
    loss, units, t, _ = CASES[name]
    network = Sequential(Affine(units=units), loss=loss() if callable(loss) else loss, seed=0)
    options = {"validation_data": (X[45:50], t[45:50]), "seed": 0, "verbose": False, **options}
    run = Trainer(network, X[:45], t[:45], X[50:], t[50:], epochs, 7, SGD(0.1), metrics=asked, **options)
    return run, run.train()


@pytest.mark.parametrize(("name", "metric"), [(name, metric) for name, row in FUNCTIONS.items() for metric in row])
def test_names_mean_the_functions(name, metric):
    run, history = trained(name, [metric], epochs=1)
    scores = run.network.predict(X[50:]).astype(float)
    want = FUNCTIONS[name][metric](scores, CASES[name][2][50:])
    assert history.metrics[f"test_{metric}"] == [pytest.approx(want, rel=1e-6)]


@pytest.mark.parametrize("name", CASES)
class TestValues:
    @pytest.mark.needs("sklearn")
    def test_are_those_of_scikit_learn_over_the_whole_set(self, name):
        *_, t, oracle = CASES[name]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            names = list(oracle(np.eye(max(CASES[name][1], 3))[:3, : CASES[name][1]], _three_of(t)))
            run, history = trained(name, names)
            for which, rows in {"train": slice(0, 45), "val": slice(45, 50), "test": slice(50, 70)}.items():
                want = oracle(run.network.predict(X[rows]), t[rows])
                for metric, value in nonempty(want.items()):
                    found = history.metrics[f"{which}_{metric}"]
                    assert len(found) == 2 and type(found[-1]) is float
                    np.testing.assert_allclose(found[-1], value, rtol=2e-5, atol=1e-7, equal_nan=True, err_msg=metric)

    def test_of_other_kinds_are_refused_before_the_training(self, name):
        regression, several = name in ("numbers", "one number"), "label" not in name
        wrong = ("accuracy", "f1", "roc_auc", "top_2_accuracy") if regression else ("mse", "mae", "r2")
        for metric in (*wrong, *(() if several else ("top_2_accuracy",))):
            with pytest.raises(ValueError, match=f"Trainer: the metric '{metric}' is for a network that predicts"):
                trained(name, [metric])

    def test_there_is_a_loss_of_held_out_rows_and_an_accuracy_between_0_and_1(self, name):
        run, history = trained(name, [])
        regression = name in ("numbers", "one number")
        for which, (x, t) in {"val": (run.x_val, run.t_val), "test": (run.x_test, run.t_test)}.items():
            found = getattr(history, f"{which}_loss_list")
            assert len(found) == 2 and found[-1] == pytest.approx(float(run.network.loss(x, t)), rel=1e-5)
        for which in ("train", "val", "test"):
            shares = getattr(history, f"{which}_acc_list")
            assert len(shares) == (0 if regression else 2) and all(0 <= share <= 1 for share in shares)


def _three_of(t):
    """Three rows in which all there is to tell apart occurs."""
    if t.ndim == 2 and t.shape[1] > 1 and not np.all(t.sum(axis=1) == 1):
        return np.array([[1, 0, 1], [0, 1, 1], [1, 1, 0]])[:, : t.shape[1]]
    labels = t.argmax(axis=1) if t.ndim == 2 and t.shape[1] > 1 else t.ravel()
    rows = [int(np.flatnonzero(labels == k)[0]) for k in np.unique(labels)[:3]]
    return t[[*rows, *rows][:3]]


class TestAsked:
    def test_functions_get_all_outputs_and_targets(self):
        seen = []

        def mine(y, t):
            seen.append((y, t))
            return np.float32(0.5)

        run, history = trained("classes", ["f1", mine, _half], epochs=1)
        assert history.metrics["test_mine"] == [0.5] and history.metrics["val_half"] == [2.5]
        (y, t) = seen[-1]
        assert y.shape == (20, 3) and type(y) is np.ndarray and y.dtype == np.float64
        np.testing.assert_allclose(y, _softmax(run.network.predict(X[50:])), rtol=1e-5)
        np.testing.assert_array_equal(t, CLASSES[50:])

    @pytest.mark.parametrize("value", [None, "high", [0.5, 0.5], np.zeros(3), 1j])
    def test_functions_that_return_no_number_are_named(self, value):
        with pytest.raises(TypeError, match="Trainer: the metric 'mine' must return one number, got "):
            trained("classes", {"mine": lambda y, t: value}, epochs=1)

    def test_names_may_come_with_functions(self):
        weighted = functools.partial(metrics.f1, average="weighted")
        _, history = trained("classes", {"own_f1": weighted})
        _, named = trained("classes", ["f1_weighted", metrics.recall])
        assert history.metrics["test_own_f1"] == named.metrics["test_f1_weighted"]
        assert "test_recall" in named.metrics

    def test_an_accuracy_is_there_anyway(self):
        _, history = trained("classes", ["accuracy"])
        assert not history.metrics and len(history.test_acc_list) == 2

    @pytest.mark.parametrize(
        ("asked", "error", "message"),
        [
            ("f1", TypeError, "metrics must be a list of names and functions, got 'f1'"),
            (None, TypeError, "metrics must be a list"),
            ([3], TypeError, "a metric is a name or a function"),
            (["F1"], ValueError, "there is no metric 'F1'; there are accuracy, top_5_accuracy"),
            (["top_0_accuracy"], ValueError, "there is no metric"),
            (["roc_auc_binary"], ValueError, "there is no metric"),
            (["f1", "f1"], ValueError, "names of their own .*, got 'f1'"),
            ([lambda y, t: 0.0], ValueError, "has no name to record it by"),
            ([functools.partial(metrics.f1, average="macro")], ValueError, "has no name to record it by"),
            ({"loss": metrics.f1}, ValueError, "names of their own"),
            ({"f1": "f1"}, TypeError, "the metric 'f1' must be a function"),
            ({3: metrics.f1}, TypeError, "the name of a metric must be a string"),
        ],
    )
    def test_what_cannot_be_had_is_refused_before_the_training(self, asked, error, message):
        with pytest.raises(error, match=f"Trainer: .*{message}"):
            trained("classes", asked)


def _half(y, t):
    return len(y) / 2


_half.__name__ = "half"


class TestHistory:
    def test_metrics_are_attributes_too(self):
        _, history = trained("two classes", ["f1", "roc_auc"])
        assert history.test_f1_list is history.metrics["test_f1"] and len(history.val_roc_auc_list) == 2
        with pytest.raises(
            AttributeError, match=r"a history has no test_f2_list; it has train_loss_list.*test_f1_list"
        ):
            _ = history.test_f2_list
        assert not hasattr(history, "test_f1")

    def test_is_written_and_read_with_them(self, tmp_path):
        _, history = trained("two classes", ["f1", "top_1_accuracy"])
        history.save(tmp_path / "history.json")
        assert History.load(tmp_path / "history.json") == history
        lists = json.loads((tmp_path / "history.json").read_text())
        assert lists["test_f1_list"] == history.metrics["test_f1"]

    def test_of_an_earlier_version_is_read(self, tmp_path):
        old = {
            name: [] for name in ("train_acc_list", "test_acc_list", "test_loss_list", "val_acc_list", "val_loss_list")
        }
        (tmp_path / "old.json").write_text(json.dumps({**old, "train_loss_list": [1.5], "seconds": [0.5]}))
        assert History.load(tmp_path / "old.json") == History(train_loss_list=[1.5], seconds=[0.5])
        (tmp_path / "old.json").write_text(json.dumps({**old, "train_loss_list": [], "seconds": [], "other": []}))
        with pytest.raises(ValueError, match=r"old\.json: is not a history file .*no other"):
            History.load(tmp_path / "old.json")

    def test_goes_on_from_a_checkpoint(self, tmp_path):
        options = {"checkpoint": tmp_path / "run", "callbacks": [EarlyStopping("val_f1")]}
        trained("two classes", ["f1"], **options)
        whole, resumed = trained("two classes", ["f1"], epochs=4), trained("two classes", ["f1"], epochs=4, **options)
        assert len(resumed[1].metrics["val_f1"]) == 4 and resumed[1].lists().keys() == whole[1].lists().keys()
        for name in ("train_loss_list", "epoch_loss_list", "test_f1_list", "val_loss_list"):
            assert getattr(resumed[1], name) == getattr(whole[1], name)
        with pytest.raises(ValueError, match=r"metrics \['f1'\] there, \[\] here"):
            trained("two classes", [], epochs=5, **{**options, "callbacks": [EarlyStopping("val_loss")]})

    def test_is_printed_and_logged(self, tmp_path, capsys):
        trained("two classes", ["roc_auc"], epochs=1, verbose=True, callbacks=[CSVLogger(tmp_path / "log.csv")])
        line = capsys.readouterr().out
        assert all(f"{which} roc_auc 0." in line for which in ("train", "val", "test"))
        assert "val_roc_auc" in (tmp_path / "log.csv").read_text().splitlines()[0].split(",")


def _up(y, t):
    return float(np.mean(y[:, 1]))


class TestMonitored:
    @pytest.mark.parametrize("make", [EarlyStopping, ReduceLROnPlateau, functools.partial(ModelCheckpoint, "net")])
    @pytest.mark.parametrize("name", ["val_f2", "val_f1", "train_r2", "test_mse", "train_error"])
    def test_what_will_not_be_measured_is_refused_before_the_first_step(self, make, name, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        monitor = make(monitor=name)
        with pytest.raises(
            ValueError,
            match=f": {name} is not measured by this trainer; monitor loss, val_acc, .*, test_loss, .*val_roc_auc",
        ):
            trained("two classes", ["roc_auc"], callbacks=[Steps(steps := []), monitor])
        assert steps == []

    @pytest.mark.parametrize("name", ["val_acc", "val_loss"])
    def test_of_rows_that_there_are_none_of(self, name):
        with pytest.raises(
            ValueError, match=f"EarlyStopping: {name} is not measured .*; monitor loss, test_acc, train_acc"
        ):
            trained("two classes", [], callbacks=[EarlyStopping(name)], validation_data=None)

    @pytest.mark.parametrize(
        ("case", "metric", "greater"),
        [
            ("two classes", "f1", True),
            ("two classes", "roc_auc", True),
            ("numbers", "r2", True),
            ("numbers", "mse", False),
        ],
    )
    def test_the_best_is_the_largest_or_the_smallest(self, case, metric, greater):
        stopping = EarlyStopping(f"test_{metric}", patience=100)
        _, history = trained(case, [metric], epochs=5, callbacks=[stopping])
        values = history.metrics[f"test_{metric}"]
        assert stopping.best == (max if greater else min)(values) and len(set(values)) > 1

    @pytest.mark.parametrize("greater", [True, False])
    def test_a_function_says_whether_more_is_better(self, greater):
        def one(y, t):
            return _up(y, t)

        with pytest.raises(ValueError, match="nothing says whether more of val_one is better; set greater_is_better"):
            trained("two classes", [one], callbacks=[EarlyStopping("val_one")])
        one.greater_is_better = greater
        stopping = EarlyStopping("val_one", patience=100)
        _, history = trained("two classes", [one], epochs=4, callbacks=[stopping])
        assert stopping.best == (max if greater else min)(history.metrics["val_one"])

    def test_accuracy_may_be_written_out(self):
        stopping = EarlyStopping("val_accuracy")
        _, history = trained("two classes", [], callbacks=[stopping])
        assert stopping.best == max(history.val_acc_list)

    def test_without_any_held_out_rows_the_loss_is(self):
        loss, units, t, _ = CASES["numbers"]
        network = Sequential(Affine(units=units), loss=loss, seed=0)
        stopping = EarlyStopping()
        history = Trainer(network, X, t, epochs=3, callbacks=[stopping], verbose=False, seed=0).train()
        assert stopping.best == min(history.epoch_loss_list) and not history.test_loss_list


class Steps:
    def __init__(self, steps):
        self.steps = steps

    def on_batch_begin(self, run, step):
        self.steps.append(step)


class TestHeldOut:
    def test_rows_to_test_are_optional(self, capsys):
        network = Sequential(Affine(units=3), loss=SoftmaxWithLoss, seed=0)
        history = Trainer(network, X, CLASSES, epochs=2, seed=0).train()
        assert len(history.train_acc_list) == 2 and history.test_acc_list == [] == history.test_loss_list
        assert "train accuracy" in capsys.readouterr().out

    def test_rows_for_validation_may_be_a_data_set_of_their_own(self):
        run, history = trained("classes", [])
        assert len(run.x_train) == 45
        np.testing.assert_array_equal(run.x_val, X[45:50])
        assert history.val_acc_list[-1] == run.network.accuracy(X[45:50], CLASSES[45:50])

    def test_they_are_checked_as_others_are(self):
        with pytest.raises(xpdl.ShapeError, match="x_val and t_val must have the same number of rows"):
            trained("classes", [], validation_data=(X[:3], CLASSES[:4]))
        with pytest.raises(xpdl.LabelError, match="t_val"):
            trained("classes", [], validation_data=(X[:3], CLASSES[:3] + 9))
        for odd in (X, (X,), "xt", 3):
            with pytest.raises(
                TypeError, match=r"Trainer: validation_data must be a pair of arrays \(x, t\), or batches of them, got"
            ):
                trained("classes", [], validation_data=odd)
        with pytest.raises(ValueError, match="take validation_data or validation_split, not both"):
            trained("classes", [], validation_split=0.2)
        with pytest.raises(TypeError, match="x_test must be an array"):
            Trainer(Sequential(Affine(units=3), loss=SoftmaxWithLoss), X, CLASSES, t_test=CLASSES)


def test_kinds_of_networks_of_others():
    class Other:
        def accuracy(self, x, t):
            return 0.0

    assert measures.kind_of(Other()) == "classes"
    assert measures.kind_of(object()) == "values"


def test_scores_of_a_network_without_a_loss_layer_are_taken_as_they_are() -> None:
    scores = np.array([[1.0, 3.0]])
    assert measures.activation_of(SimpleNamespace())(scores) is scores
    assert measures.activation_of(SimpleNamespace(last_layer=None))(scores) is scores
    assert measures.activation_of(xpdl.Sequential(xpdl.Relu(), loss=xpdl.SigmoidWithLoss))(scores)[0, 1] == 1 / (
        1 + np.exp(-3.0)
    )


OF_CLASSES = ["accuracy", "top_5_accuracy", "precision", "recall", "f1_macro", "roc_auc", "perplexity"]
OF_LABELS = ["accuracy", "precision", "recall", "f1_macro", "roc_auc"]
OF_NUMBERS = ["mse", "mae", "r2"]
POSITIONS = ["accuracy", "perplexity"]
WORDS = {
    "classes": "accuracy, top_5_accuracy, precision, recall, f1, roc_auc and perplexity",
    "labels": "accuracy, precision, recall, f1 and roc_auc",
    "numbers": "mse, mae and r2",
    "positions": "accuracy and perplexity",
}


def _of_loss(loss):
    network = Sequential(Affine(units=3), loss=loss, seed=0)
    network.build((4,))
    return network


#: network -> its loss, the metrics that fit, and how they are named
FITTING = {
    "softmax": (lambda: _of_loss(SoftmaxWithLoss), "SoftmaxWithLoss", OF_CLASSES, "classes"),
    "hinge": (lambda: _of_loss(xpdl.Hinge), "Hinge", OF_CLASSES, "classes"),
    "sigmoid": (lambda: _of_loss(SigmoidWithLoss), "SigmoidWithLoss", OF_LABELS, "labels"),
    **{
        kind.__name__: (lambda kind=kind: _of_loss(kind), kind.__name__, OF_NUMBERS, "numbers")
        for kind in (IdentityWithLoss, xpdl.MeanSquaredError, xpdl.MeanAbsoluteError, xpdl.Huber, xpdl.GaussianKL)
    },
    "gpt": (lambda: xpdl.GPT(5, 4, 4, 2, 1), "SoftmaxWithLoss", POSITIONS, "positions"),
    "rnn": (lambda: xpdl.RnnLm(5, 4, 4), "SoftmaxWithLoss", POSITIONS, "positions"),
    **{
        kind.__name__: (lambda kind=kind: kind(5, 4, 4), "AnswerLoss", POSITIONS, "positions")
        for kind in (xpdl.Seq2seq, xpdl.PeekySeq2seq, xpdl.AttentionSeq2seq)
    },
}


@pytest.mark.parametrize("case", FITTING)
def test_each_loss_says_which_metrics_fit(case):
    make, loss, fitting, words = FITTING[case]
    network = make()
    assert measures.resolve(fitting, network) is not None
    for name in nonempty({*OF_CLASSES, *OF_LABELS, *OF_NUMBERS} - {*fitting}):
        with pytest.raises(ValueError) as caught:
            measures.resolve([name], network)
        assert str(caught.value).endswith(f"; {loss} goes with {WORDS[words]}"), str(caught.value)
        assert f"the metric {name!r} is for " in str(caught.value)


@pytest.mark.parametrize("kind", [xpdl.Seq2seq, xpdl.PeekySeq2seq, xpdl.AttentionSeq2seq])
def test_perplexity_of_answers_is_that_of_the_ids_after_the_first(kind):
    network = kind(7, 4, 4, seed=0)
    x, t = RNG.integers(0, 7, (450, 5)), RNG.integers(0, 7, (450, 4))
    options = {"epochs": 1, "metrics": ["perplexity"], "verbose": False, "seed": 0}
    history = Trainer(network, x, t, x[:9], t[:9], **options).train()
    for which, rows in (("train", slice(None)), ("test", slice(9))):
        expected = np.exp(float(network.loss(x[rows], t[rows])))
        np.testing.assert_allclose(history.metrics[f"{which}_perplexity"], [expected], rtol=1e-5)
