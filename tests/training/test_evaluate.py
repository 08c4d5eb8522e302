"""Measures over whole data sets equal those of one pass over all rows."""

from types import SimpleNamespace

import numpy as np
import pytest

import xpdl
from xpdl import Affine, History, IdentityWithLoss, Sequential, ShapeError, SigmoidWithLoss, SoftmaxWithLoss
from xpdl.training import evaluate
from xpdl.training.measures import Measure

RNG = np.random.default_rng(0)
LOSSES = {
    "softmax": SoftmaxWithLoss,
    "softmax with class weights": lambda: SoftmaxWithLoss(0.1, [1.0, 20.0, 3.0]),
    "softmax with a class that is ignored": lambda: SoftmaxWithLoss(0, [0.0, 1.0, 3.0]),
    "sigmoid by labels": SigmoidWithLoss,
    "sigmoid by rows": lambda: SigmoidWithLoss("row"),
    "identity": IdentityWithLoss,
}


@pytest.fixture
def case():
    network = Sequential(Affine(units=3), loss=SoftmaxWithLoss, seed=0)
    network.build((4,))
    return network, RNG.normal(size=(457, 4)).astype(np.float32), RNG.integers(0, 3, 457)


def test_accuracy_counts_all_rows(case):
    network, x, t = case
    assert evaluate.accuracy(network, x, t) == np.mean(network.predict(x).argmax(axis=1) == t)


def test_mean_loss_weighs_all_rows_alike(case):
    network, x, t = case
    assert evaluate.mean_loss(network, x, t) == pytest.approx(float(network.loss(x, t)), rel=1e-5)


@pytest.mark.parametrize("measure", [evaluate.accuracy, evaluate.mean_loss])
def test_rows_must_fit_together(case, measure):
    network, x, t = case
    for rows in (0, 3):
        with pytest.raises(ShapeError, match="as many rows"):
            measure(network, x[:0], t[:rows])


class Asked:
    """A network whose rows say whether they are right and what they cost; records the batch sizes that it is asked for."""

    def __init__(self):
        self.sizes = []

    def accuracy(self, x, t):
        self.sizes.append(len(x))
        return float(np.mean(x[:, 0] == t))

    def loss(self, x, t):
        self.sizes.append(len(x))
        return float(np.mean(x[:, 0]))


def ended(without=(), sample=None):
    """An evaluator: 8 of 10 rows to train with are right, 3 of 5 to validate, 1 of 4 to test."""

    def rows(right, n):
        return np.array([[1.0]] * right + [[0.0]] * (n - right)), np.ones(n)

    sets = {"train": rows(8, 10), "val": rows(3, 5), "test": rows(1, 4)}
    return evaluate.Evaluator(Asked(), {name: pair for name, pair in sets.items() if name not in without}, rows=sample)


def regression(evaluator):
    evaluator.classifies = False
    return evaluator


class TestMeasure:
    def test_accuracies_of_all_sets_and_losses_but_not_of_the_rows_trained_with(self):
        history = History()
        assert ended().measure(history) == (
            "train accuracy 0.8000  val accuracy 0.6000  val loss 0.6000  test accuracy 0.2500  test loss 0.2500"
        )
        assert history == History(
            train_acc_list=[0.8], val_acc_list=[0.6], test_acc_list=[0.25], val_loss_list=[0.6], test_loss_list=[0.25]
        )

    def test_of_a_regression_losses(self):
        history = History()
        assert regression(ended()).measure(history) == "val loss 0.6000  test loss 0.2500"
        assert history == History(val_loss_list=[0.6], test_loss_list=[0.25])

    @pytest.mark.parametrize(
        ("evaluator", "line"),
        [
            (ended(["val"]), "train accuracy 0.8000  test accuracy 0.2500  test loss 0.2500"),
            (ended(["val", "test"]), "train accuracy 0.8000"),
            (regression(ended(["val", "test"])), ""),
        ],
    )
    def test_without_rows_for_validation_or_to_test(self, evaluator, line):
        assert evaluator.measure(History()) == line

    def test_of_a_network_that_has_no_loss_to_be_called(self):
        evaluator = ended(["val"])
        evaluator.network.loss = 0.5
        assert evaluator.measure(History()) == "train accuracy 0.8000  test accuracy 0.2500"

    def test_of_the_first_rows_where_a_number_is_given_and_of_all_where_there_are_fewer(self):
        evaluator, history = ended(sample=5), History()
        evaluator.measure(history)
        assert evaluator.network.sizes == [5, 5, 5, 4, 4]
        assert history.train_acc_list == [1.0] and history.test_loss_list == [0.25]

    def test_adds_to_what_was_measured_before(self):
        evaluator, history = ended(), History()
        evaluator.measure(history), evaluator.measure(history)
        assert history.test_acc_list == [0.25, 0.25]

    def test_names_what_it_measures_in_the_order_of_monitors(self):
        assert list(ended().measured()) == ["val_acc", "test_acc", "train_acc", "val_loss", "test_loss"]
        assert list(regression(ended(["val"])).measured()) == ["test_loss"]


@pytest.mark.parametrize("loss", LOSSES)
def test_loss_and_accuracy_of_chunks_are_those_of_all_rows(loss):
    """By the weights that rows have in the loss, in one pass and in one for each."""
    x, labels = RNG.normal(size=(457, 4)), np.where(RNG.random(457) < 0.9, 0, RNG.integers(0, 3, 457))
    layer, t = LOSSES[loss](), labels if loss.startswith("softmax") else (RNG.random((457, 3)) < 0.2).astype(float)
    with xpdl.use("numpy", dtype="float64"):
        network = Sequential(Affine(units=3), loss=layer, seed=0)
        network.build((4,))
    want = {"loss": float(network.loss(x, t))}
    if layer.classifies:
        want["acc"] = float(np.mean(layer.correct(network.predict(x), t)))
    for function in (lambda: evaluate.evaluate(network, x, t, want), lambda: _each(network, x, t, want)):
        found = function()
        assert list(found) == list(want) and found == pytest.approx(want, rel=1e-12)


def _each(network, x, t, kinds):
    functions = {"loss": evaluate.mean_loss, "acc": evaluate.accuracy}
    return {kind: functions[kind](network, x, t) for kind in kinds}


def test_a_loss_of_ones_own_is_asked_for():
    class Decayed(Sequential):
        def loss(self, x, t, train_flg=False):
            return super().loss(x, t, train_flg) + 10.0

    network = Decayed(Affine(units=3), loss=SoftmaxWithLoss, seed=0)
    x, t = RNG.normal(size=(300, 4)).astype("float32"), RNG.integers(0, 3, 300)
    network.build((4,))
    found = evaluate.evaluate(network, x, t, ["acc", "loss"])
    assert found["loss"] == pytest.approx(float(network.loss(x, t)), rel=1e-6) and found["loss"] > 10


def test_an_accuracy_that_counts_labels_is_not_rounded_to_rows():
    class Labels(Asked):
        def accuracy(self, x, t):
            return 1 / 3 if len(x) == 1 else 0.5

    assert evaluate.accuracy(Labels(), np.ones((201, 1)), np.ones(201)) == pytest.approx((100 + 1 / 3) / 201)


def test_two_hundred_rows_are_looked_at_together():
    for function in (evaluate.accuracy, evaluate.mean_loss):
        network = Asked()
        function(network, np.ones((457, 1)), np.ones(457))
        assert network.sizes == [200, 200, 57]


def test_an_accuracy_that_cuts_its_rows_into_batches_gets_one_batch():
    """The book's drops what does not fill a batch of 100."""

    class Cutting(Asked):
        def accuracy(self, x, t, batch_size=100):
            self.sizes.append(batch_size)
            whole = len(x) // batch_size * batch_size
            return float(np.sum(x[:whole, 0] == t[:whole])) / len(x)

    network = Cutting()
    assert evaluate.accuracy(network, np.ones((457, 1)), np.ones(457)) == 1.0
    assert network.sizes == [200, 200, 57]


class TestOnADevice:
    """Not on the host: here, array_api_strict stands for all devices."""

    @pytest.fixture
    def case(self):
        import array_api_strict as xp

        network = Sequential(Affine(units=3), loss=SoftmaxWithLoss, seed=0)
        x, t = RNG.normal(size=(4100, 4)), RNG.integers(0, 3, 4100)
        with xpdl.use("array_api_strict", dtype="float64"):
            network.build((4,))
        return network, xp.asarray(x), xp.asarray(t)

    def test_accuracy_reads_one_number(self, case, monkeypatch):
        network, x, t = case
        reads = []
        cls = type(x)
        original = cls.__float__
        monkeypatch.setattr(cls, "__float__", lambda self: reads.append(1) or original(self))
        found = evaluate.accuracy(network, x, t)
        assert len(reads) == 1
        assert found == np.mean(np.asarray(network.predict(x)).argmax(axis=1) == np.asarray(t))

    def test_two_thousand_rows_are_looked_at_together(self, case, monkeypatch):
        network, x, t = case
        sizes = []
        forward = Sequential.forward
        monkeypatch.setattr(
            Sequential, "forward", lambda self, x, *flag: sizes.append(x.shape[0]) or forward(self, x, *flag)
        )
        evaluate.accuracy(network, x, t)
        evaluate.mean_loss(network, x, t)
        assert sizes == [2000, 2000, 100] * 2

    @pytest.mark.parametrize("measure", [evaluate.accuracy, evaluate.mean_loss])
    def test_rows_that_stay_on_the_host_are_moved_batch_by_batch(self, case, measure):
        network, x, t = case
        assert measure(network, np.asarray(x), t) == measure(network, x, t)

    @pytest.mark.parametrize("measure", [evaluate.accuracy, evaluate.mean_loss])
    def test_two_hundred_where_two_thousand_do_not_fit(self, case, measure, monkeypatch):
        network, x, t = case
        expected = measure(network, x, t)
        forward = Sequential.forward

        def small(self, x, *flag):
            if x.shape[0] > 200:
                raise MemoryError
            return forward(self, x, *flag)

        monkeypatch.setattr(Sequential, "forward", small)
        assert measure(network, x, t) == pytest.approx(expected, rel=1e-12)


def test_one_row_is_enough():
    assert evaluate.accuracy(Asked(), np.ones((1, 1)), np.ones(1)) == 1.0
    assert evaluate.mean_loss(Asked(), np.ones((1, 1)), np.ones(1)) == 1.0


def test_one_pass_over_the_rows_gives_accuracy_and_loss(case):
    network, x, t = case
    affine, rows = network.layers["Affine1"], []
    forward = affine.forward
    affine.forward = lambda x: rows.append(len(x)) or forward(x)
    evaluate.evaluate(network, x, t, ["acc", "loss"])
    assert sum(rows) == len(x)


def test_ranks_predict_each_their_own_rows_for_a_metric(case):
    network, x, t = case
    sent = []
    for rank in range(2):
        peers = SimpleNamespace(rank=rank, size=2, allgather=lambda parts: sent.append(parts) or [parts])
        evaluate.evaluate(network, x, t, (), [Measure("none", lambda outputs: 0.0, None)], peers)
    scores = [np.concatenate(parts) for parts in sent[1::2]]  # after the sums of accuracy and loss
    assert [len(part) for part in scores] == [229, 228]
    np.testing.assert_allclose(np.concatenate(scores), network.predict(x), rtol=1e-6)
