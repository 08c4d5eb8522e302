"""Stopping when nothing improves, and files of the best epoch."""

import math
from types import SimpleNamespace

import numpy as np
import pytest

from tests.training.callbacks.test_schedules import Measured
from tests.training.runs import net, trainer, weights
from xpdl.training import EarlyStopping, History, ModelCheckpoint


class Weights:
    """Those of each epoch."""

    def __init__(self):
        self.seen = []

    def on_epoch_end(self, trainer, epoch):
        self.seen.append(weights(trainer.network))


def same(a, b):
    return all(np.array_equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("restore", [True, False])
def test_stops_and_goes_back_to_the_best_epoch(restore):
    record, stopping = Weights(), EarlyStopping("test_acc", patience=2, restore_best_weights=restore)
    run = trainer(epochs=9, callbacks=[Measured([0.5, 0.7, 0.7, 0.6, 0.9, 1, 1, 1, 1]), record, stopping])
    held = run.network.layers["Affine1"].W
    history = run.train()
    assert len(history.test_acc_list) == 4 and stopping.best == 0.7 and stopping.best_epoch == 2
    assert same(weights(run.network), record.seen[1 if restore else 3])
    # in place: references to an array stay references to the network's
    assert held is None or held is run.network.layers["Affine1"].W


def test_small_improvements_do_not_count():
    stopping = EarlyStopping("test_acc", patience=2, min_delta=0.05)
    run = trainer(epochs=9, callbacks=[Measured([0.5, 0.52, 0.54, 0.9, 0, 0, 0, 0, 0]), stopping])
    assert len(run.train().test_acc_list) == 3 and stopping.best_epoch == 1


def test_losses_get_better_downwards_and_nan_never():
    stopping = EarlyStopping("loss", patience=1)

    run = SimpleNamespace(iter_per_epoch=1, stop_training=False, history=History(), network=net())
    for epoch, loss in enumerate([2.0, 1.0, math.nan], 1):
        run.history.epoch_loss_list.append(loss)
        stopping.on_epoch_end(run, epoch)
    assert stopping.best == 1.0 and run.stop_training


def ended(stopping, losses):
    """After epochs with these losses: the number of those that were made."""
    run = SimpleNamespace(iter_per_epoch=1, stop_training=False, history=History(), network=net())
    run.network.build((2,))
    for epoch, loss in enumerate(losses, 1):
        run.history.epoch_loss_list.append(loss)
        stopping.on_epoch_end(run, epoch)
        if run.stop_training:
            return epoch
    return len(losses)


def test_by_default_five_epochs_without_any_improvement_are_enough():
    stopping = EarlyStopping("loss")
    assert ended(stopping, [1.0] * 9) == 6 and stopping.best_epoch == 1 and stopping._weights
    assert ended(EarlyStopping("loss"), [1.0 - epoch * 1e-9 for epoch in range(9)]) == 9


def test_a_run_that_never_measures_a_number_is_stopped_too():
    stopping = EarlyStopping("loss", patience=2)
    assert (stopping.best, stopping.best_epoch) == (None, 0)
    assert ended(stopping, [math.nan] * 5) == 2 and (stopping.best, stopping.best_epoch) == (None, 0)


def test_looks_at_the_validation_set_first():
    stopping = EarlyStopping()
    trainer(epochs=1, validation_split=0.2, callbacks=[stopping]).train()
    assert stopping.monitor.name == "val_acc"
    stopping = EarlyStopping()
    trainer(epochs=1, callbacks=[stopping]).train()
    assert stopping.monitor.name == "test_acc"


def test_what_is_not_measured_is_named():
    with pytest.raises(
        ValueError, match="EarlyStopping: val_acc is not measured by this trainer; monitor loss, test_acc"
    ):
        trainer(callbacks=[EarlyStopping("val_acc")]).train()


def test_state_goes_on_elsewhere():
    first = EarlyStopping("test_acc", patience=3)
    run = trainer(epochs=2, callbacks=[Measured([0.9, 0.1]), first])
    run.train()
    best = weights(run.network)
    run.network.params["Affine1.W"] += 1.0
    second = EarlyStopping("test_acc", patience=3)
    second.load_state_dict(first.state_dict())
    assert (second.best, second.best_epoch) == (0.9, 1)
    second.on_train_end(run)
    assert same(weights(run.network), best)


def test_files_of_the_best_and_of_each_epoch(tmp_path):
    record = Weights()
    best = ModelCheckpoint(tmp_path / "best.safetensors", "test_acc")
    each = ModelCheckpoint(tmp_path / "net-{epoch}.safetensors", save_best_only=False)
    trainer(epochs=4, callbacks=[Measured([0.5, 0.7, 0.6, 0.65]), record, best, each]).train()
    for name, epoch in [("best", 2), ("net-1", 1), ("net-2", 2), ("net-3", 3), ("net-4", 4)]:
        network = net(seed=9)
        network.build((2,))
        network.load_params(tmp_path / f"{name}.safetensors")
        assert same(weights(network), record.seen[epoch - 1])


def test_a_network_that_cannot_be_saved_is_refused_before_training(tmp_path):
    def no_step(x, t):
        raise AssertionError("no step is made")

    book = SimpleNamespace(params={"W": np.zeros(2)}, gradient=no_step, loss=no_step, accuracy=no_step)
    with pytest.raises(TypeError, match="ModelCheckpoint: the network must have save_params"):
        trainer(book, callbacks=[ModelCheckpoint(tmp_path / "x")]).train()
