"""Optimizers of one's own: any object with ``update(params, grads)``."""

import numpy as np
import pytest

import xpdl
from tests.harness import nonempty
from tests.training.runs import T, X, net, trainer, weights
from xpdl.training import CSVLogger, StepLR, Trainer


class BookSGD:
    def __init__(self, lr=0.01):
        self.lr = lr

    def update(self, params, grads):
        for key in params.keys():  # noqa: SIM118 - as it is written in the book
            params[key] -= self.lr * grads[key]


class BookMomentum:
    def __init__(self, lr=0.01, momentum=0.9):
        self.lr, self.momentum, self.v = lr, momentum, None

    def update(self, params, grads):
        if self.v is None:
            self.v = {key: np.zeros_like(value) for key, value in params.items()}
        for key in params:
            self.v[key] = self.momentum * self.v[key] - self.lr * grads[key]
            params[key] += self.v[key]


class Counting:
    """With a state of its own making, and a rate under another name."""

    def __init__(self):
        self.count, self._odd = 0, object()

    def update(self, params, grads):
        self.count += 1
        for key in params:
            params[key] = params[key] - 0.1 / self.count * grads[key]

    def state_dict(self):
        return {"count": self.count}

    def load_state_dict(self, state):
        self.count = state["count"]


OWN = {"SGD": lambda: BookSGD(0.1), "momentum": lambda: BookMomentum(0.05), "state_dict": Counting}


def same(one, other):
    for name, value in nonempty(weights(one.network).items()):
        np.testing.assert_array_equal(value, weights(other.network)[name])
    assert one.train_loss_list == other.train_loss_list


@pytest.mark.parametrize("kind", OWN)
class TestObjects:
    def test_make_the_steps_that_they_make_by_hand(self, kind):
        run, network, rule = trainer(optimizer=OWN[kind](), epochs=1), net(), OWN[kind]()
        network.build((2,))
        for x, t in run.batches:
            rule.update(network.params, network.gradient(x, t))
        run.batches.epoch = 0
        run.train()
        for name, value in nonempty(weights(network).items()):
            np.testing.assert_array_equal(weights(run.network)[name], value)

    def test_go_on_from_a_checkpoint(self, kind, tmp_path):
        whole = trainer(optimizer=OWN[kind](), epochs=4)
        whole.train()
        trainer(optimizer=OWN[kind](), epochs=2, checkpoint=tmp_path / "run").train()
        resumed = trainer(optimizer=OWN[kind](), epochs=4, checkpoint=tmp_path / "run", checkpoint_every=2)
        resumed.train()
        same(whole, resumed)

    def test_go_on_in_several_calls(self, kind):
        whole, run = trainer(optimizer=OWN[kind](), epochs=3), trainer(optimizer=OWN[kind](), epochs=1)
        whole.train()
        run.train()
        run.train(2)
        same(whole, run)

    def test_serve_one_training(self, kind):
        rule = OWN[kind]()
        first = trainer(optimizer=rule)
        first.train()
        with pytest.raises(ValueError, match="has been used by another training"):
            trainer(optimizer=rule).train()

    def test_go_with_accumulated_gradients_and_logs(self, kind, tmp_path):
        run = trainer(optimizer=OWN[kind](), accumulate_grad_batches=2, callbacks=[CSVLogger(tmp_path / "log.csv")])
        run.train()
        assert len((tmp_path / "log.csv").read_text().splitlines()) == 4

    def test_are_refused_where_updates_may_be_skipped(self, kind):
        with pytest.raises(TypeError, match="precision= needs an optimizer of xpdl"):
            trainer(optimizer=OWN[kind](), precision="float16")

    def test_leave_the_network_learning(self, kind):
        run = trainer(optimizer=OWN[kind](), epochs=20)
        run.train()
        assert run.history.epoch_loss_list[-1] < run.history.epoch_loss_list[0]


def test_classes_take_their_arguments():
    run = trainer(optimizer=BookSGD, optimizer_param={"lr": 0.25})
    assert type(run.optimizer) is BookSGD and run.optimizer.lr == 0.25
    with pytest.raises(TypeError, match="would not change"):
        trainer(optimizer=BookSGD(), optimizer_param={"lr": 0.25})


def test_equal_those_of_xpdl():
    own, ours = trainer(optimizer=BookSGD(0.1)), trainer(optimizer=xpdl.SGD(0.1))
    own.train()
    ours.train()
    for name, value in nonempty(weights(ours.network).items()):
        np.testing.assert_allclose(weights(own.network)[name], value, rtol=1e-5, atol=1e-7)


def test_schedules_change_their_rate():
    run = trainer(optimizer=BookSGD(0.1), callbacks=[StepLR(1, 0.5)], epochs=3)
    run.train()
    assert run.optimizer.lr == 0.025
    with pytest.raises(TypeError, match="StepLR: Counting has no lr"):
        trainer(optimizer=Counting(), callbacks=[StepLR(1)]).train()


def test_other_numbers_are_another_run(tmp_path):
    trainer(optimizer=BookSGD(0.1), epochs=1, checkpoint=tmp_path / "run").train()
    with pytest.raises(ValueError, match=r"optimizer BookSGD\(lr=0.1\) there, BookSGD\(lr=0.2\) here"):
        trainer(optimizer=BookSGD(0.2), checkpoint=tmp_path / "run").train()


def test_a_state_that_no_file_keeps_is_named(tmp_path):
    class Odd(BookSGD):
        def __init__(self):
            super().__init__()
            self.generator = np.random.default_rng(0)

    with pytest.raises(TypeError, match=r"a checkpoint cannot keep the state of Odd \(.*generator.*give it state_dict"):
        trainer(optimizer=Odd(), checkpoint=tmp_path / "run")


@pytest.mark.backends("cupy")
def test_captured_steps_need_a_rule(backend):
    with backend.use(), pytest.raises(TypeError, match="BookSGD has a step of its own"):
        trainer(optimizer=BookSGD(), compile=True)


@pytest.mark.parametrize("wrong", [{"lr": 0.1}, object(), 3, print])
def test_what_has_no_update_is_refused(wrong):
    with pytest.raises(TypeError, match=r"expected its name or class.*or an object with update\(params, grads\)"):
        trainer(optimizer=wrong)


class GradsKept:
    """A network in the manner of the book's second volume: `gradient` fills `grads` and returns nothing."""

    def __init__(self):
        self.W = np.zeros((2, 2))
        self.params, self.grads = {"W": self.W}, {}

    def _layers(self, x, t):
        layer, last = xpdl.Affine(self.params["W"], np.zeros(2)), xpdl.SoftmaxWithLoss()
        self.last_loss = last.forward(layer.forward(x), t)
        return layer, last

    def loss(self, x, t):
        self._layers(x, t)
        return self.last_loss

    def gradient(self, x, t):
        layer, last = self._layers(x, t)
        layer.backward(last.backward())
        self.grads["W"] = layer.dW


def test_gradients_that_a_network_keeps_are_taken():
    run = Trainer(GradsKept(), X, T, optimizer=BookSGD(0.5), epochs=2, verbose=False, seed=0)
    run.train()
    assert run.history.epoch_loss_list[1] < run.history.epoch_loss_list[0]


def test_a_network_without_gradients_is_named():
    class Silent(GradsKept):
        def gradient(self, x, t):
            self.grads = None

    with pytest.raises(TypeError, match=r"Silent: gradient\(x, t\) must return a dict of gradients, got NoneType"):
        Trainer(Silent(), X, T, epochs=1, verbose=False, seed=0).train()
