"""Accepted callbacks, and the calls of their methods."""

import pytest

from tests.training.runs import trainer
from xpdl.training import Callback
from xpdl.training.callbacks.base import EVENTS, Callbacks


def test_only_the_methods_that_are_there_are_called_in_the_order_of_the_objects():
    calls = []

    class First:
        def on_batch_end(self, trainer, step):
            calls.append(("first", trainer, step))

    class Second(First):
        on_epoch_end = None

        def on_batch_end(self, trainer, step):
            calls.append(("second", trainer, step))

    both = Callbacks([First(), Second()])
    both.call("on_epoch_end", "trainer", 1)
    assert calls == []
    both.call("on_batch_end", "trainer", 3)
    assert calls == [("first", "trainer", 3), ("second", "trainer", 3)]


def test_the_base_class_has_every_event_and_no_state():
    idle = Callback()
    run = trainer(epochs=1, callbacks=[idle])
    assert all(callable(getattr(idle, event)) for event in EVENTS)
    assert run.train().train_loss_list == trainer(epochs=1).train().train_loss_list
    assert idle.state_dict() == {}
    idle.load_state_dict({})
    assert vars(idle) == {}


@pytest.mark.parametrize("event", EVENTS)
def test_one_event_makes_a_callback(event):
    one = type("One", (), {event: lambda self, *args: None})()
    assert Callbacks([one]).callbacks == [one]


class Late:
    on_epoch_end = "later"


@pytest.mark.parametrize("wrong", [print, Callback, object(), Late(), None, "on_epoch_end"])
def test_what_has_no_method_for_an_event_is_refused(wrong):
    with pytest.raises(
        TypeError, match=r"Trainer: a callback is an object with at least one of on_train_begin, .*, got"
    ):
        Callbacks([Callback(), wrong])


@pytest.mark.parametrize("wrong", [None, 3, Callback()])
def test_they_come_in_a_list(wrong):
    with pytest.raises(TypeError, match="Trainer: callbacks must be a list of objects, got"):
        Callbacks(wrong)


def test_any_iterable_is_taken_once():
    one = Callback()
    assert Callbacks(each for each in [one]).callbacks == [one]
