"""The monitored number of a history, and the better of two."""

import math
from types import SimpleNamespace

import pytest

from xpdl import History
from xpdl.training.callbacks.monitor import LISTS, Monitor, mean_of_epoch, names_in


def ended(iter_per_epoch=2, **lists):
    return SimpleNamespace(history=History(**lists), iter_per_epoch=iter_per_epoch)


class TestRead:
    @pytest.mark.parametrize("name", LISTS)
    def test_is_the_last_number_of_its_list(self, name):
        found = Monitor(name, "Owner").read(ended(**{LISTS[name]: [0.25, 0.5]}))
        assert found == 0.5 and type(found) is float

    def test_of_the_loss_is_the_mean_of_the_last_epoch(self):
        trainer = ended(train_loss_list=[9.0, 9.0, 1.0, 2.0], epoch_loss_list=[9.0, 1.25])
        assert Monitor("loss", "Owner").read(trainer) == mean_of_epoch(trainer) == 1.25

    def test_without_a_name_takes_the_first_that_is_measured_and_stays_with_it(self):
        monitor = Monitor(None, "Owner")
        assert monitor.read(ended(train_acc_list=[0.5], test_loss_list=[2.0])) == 0.5 and monitor.name == "train_acc"
        assert monitor.read(ended(train_acc_list=[0.6], test_acc_list=[0.7])) == 0.6
        order = ["val_acc", "test_acc", "train_acc", "val_loss", "test_loss"]
        for place, name in enumerate(order):
            first = Monitor(None, "Owner")
            first.read(ended(**{LISTS[later]: [1.0] for later in reversed(order[place:])}))
            assert first.name == name

    def test_what_is_not_measured_is_an_error_that_names_what_is(self):
        trainer = ended(train_acc_list=[0.5], test_acc_list=[0.5])
        with pytest.raises(
            ValueError,
            match=r"^Owner: val_loss is not measured by this trainer; monitor loss, test_acc, train_acc$",
        ):
            Monitor("val_loss", "Owner").read(trainer)

    @pytest.mark.parametrize("name", ["accuracy", "", "train_loss"])
    def test_an_unknown_name_is_refused_at_once(self, name):
        with pytest.raises(ValueError, match=f"^Owner: monitor must be one of loss, val_acc, .*, got {name!r}$"):
            Monitor(name, "Owner")


class TestBetter:
    @pytest.mark.parametrize("name", ["val_acc", "test_acc", "train_acc"])
    def test_accuracies_are_better_upwards(self, name):
        monitor = Monitor(name, "Owner")
        assert monitor.better(0.6, 0.5) and not monitor.better(0.5, 0.6)
        assert monitor.better(0.0, monitor.worst)

    @pytest.mark.parametrize("name", ["loss", "val_loss", "test_loss"])
    def test_losses_are_better_downwards(self, name):
        monitor = Monitor(name, "Owner")
        assert monitor.better(0.5, 0.6) and not monitor.better(0.6, 0.5)
        assert monitor.better(1e300, monitor.worst)

    @pytest.mark.parametrize("name, sign", [("val_acc", 1.0), ("val_loss", -1.0)])
    def test_only_by_more_than_was_asked_for(self, name, sign):
        monitor = Monitor(name, "Owner")
        assert not monitor.better(0.5, 0.5)
        assert not monitor.better(0.5 + sign * 0.25, 0.5, 0.25)
        assert monitor.better(0.5 + sign * 0.3125, 0.5, 0.25)

    @pytest.mark.parametrize("name", ["val_acc", "val_loss"])
    def test_nan_never_is(self, name):
        monitor = Monitor(name, "Owner")
        assert not monitor.better(math.nan, 0.5) and not monitor.better(math.nan, monitor.worst)


def test_names_in_a_path() -> None:
    assert names_in("net-{epoch}-{val_f1:.3f}-{test_acc}-{loss}", "ModelCheckpoint") == {
        "epoch",
        "val_f1",
        "test_acc",
        "loss",
    }
    with pytest.raises(
        ValueError, match=r"ModelCheckpoint: 'net-\{best\}' is no format string of .*there is no 'best'"
    ):
        names_in("net-{best}", "ModelCheckpoint")
