"""Several calls of ``train``: more epochs, a call with nothing to do, and going on after an interruption."""

import pickle
import signal

import numpy as np
import pytest

from tests.training.runs import X, trainer, weights
from xpdl.data import Batches, Prefetch
from xpdl.training import EMA, CosineLR, CSVLogger, Diagnostics, OneCycleLR, StepLR, WarmupLR

STEPS = 12  # of four epochs


def noisy(x, stream):
    return x + stream.generator("noise").normal(size=x.shape)


OPTIONS = {
    "plain": lambda path: {},
    "momentum": lambda path: {"optimizer": "momentum", "optimizer_param": {"lr": 0.1}},
    "accumulated": lambda path: {"accumulate_grad_batches": 2},
    "drop_last": lambda path: {"drop_last": True, "mini_batch_size": 17},
    "augmented": lambda path: {"augment": noisy},
    "validation_split": lambda path: {"validation_split": 0.2},
    "sample_weight": lambda path: {"sample_weight": np.arange(60.0)},
    "metrics": lambda path: {"metrics": ["f1"]},
    "float16": lambda path: {"precision": "float16"},
    "schedule and averages": lambda path: {"callbacks": [StepLR(1, 0.5), EMA(0.9)]},
    "logs": lambda path: {"callbacks": [CSVLogger(path / "log.csv"), Diagnostics(X[:8])]},
    "checkpoint": lambda path: {"checkpoint": path / "run.checkpoint"},
}


@pytest.fixture(params=OPTIONS)
def made(request, tmp_path):
    """A function that makes a trainer of four epochs, with some option, and callbacks of the test."""

    def make(*callbacks, epochs=4, **more):
        options = {"mini_batch_size": 20, **OPTIONS[request.param](tmp_path)}
        own = options.pop("callbacks", [])
        return trainer(epochs=epochs, callbacks=[*own, *callbacks], **options, **more)

    return make


@pytest.mark.exhaustive
def test_a_pickle_of_a_trainer_trains_as_it_does(made):
    run = made()
    other = pickle.loads(pickle.dumps(run))
    for trainer_ in (run, other):
        trainer_.train()
    same(run, other)


def same(one, other):
    a, b = weights(one.network), weights(other.network)
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_array_equal(a[name], b[name], err_msg=name)
    lists = one.history.lists()
    seconds = lists.pop("seconds")
    assert len(seconds) == 4
    assert lists == {name: values for name, values in other.history.lists().items() if name != "seconds"}


def whole(made, tmp_path):
    """A run in one call, whose files do not stay for the next."""
    run = made()
    run.train()
    for path in tmp_path.iterdir():
        path.unlink()
    return run


class TestMoreEpochs:
    @pytest.mark.parametrize("calls", [(1, 3), (2, 1, 1), (3, None)])
    def test_are_those_of_one_long_run(self, made, tmp_path, calls):
        expected, run = whole(made, tmp_path), made()
        for epochs in calls:
            run.train(epochs)
        same(expected, run)

    def test_beyond_those_of_the_trainer_too(self, made, tmp_path):
        expected, run = whole(made, tmp_path), made(epochs=1)
        run.train()
        assert run.epochs == 1
        run.train(epochs=3)
        assert run.epochs == 4
        same(expected, run)

    def test_of_a_checkpoint_count_from_it(self, tmp_path):
        path = tmp_path / "run"
        trainer(checkpoint=path, epochs=2).train()
        run = trainer(checkpoint=path, epochs=2)
        run.train(epochs=2)
        expected = trainer(epochs=4)
        expected.train()
        same(expected, run)
        again = trainer(checkpoint=path, epochs=4)
        again.train()
        same(expected, again)

    @pytest.mark.parametrize("schedule", [CosineLR, OneCycleLR, lambda: WarmupLR(1, CosineLR())])
    def test_let_schedules_over_all_of_them_grow_and_say_so(self, schedule):
        run, long = trainer(epochs=3, callbacks=[schedule()]), trainer(epochs=5, callbacks=[schedule()])
        run.train()
        long.train(3)
        with pytest.warns(UserWarning, match=r"LR spans the whole training, which now has 5 epochs, not 3"):
            run.train(2)
        long.train()
        assert run.optimizer.lr == long.optimizer.lr

    @pytest.mark.parametrize("schedule", [CosineLR(3), StepLR(2), WarmupLR(1)])
    def test_leave_other_schedules_alone(self, schedule):
        run = trainer(epochs=3, callbacks=[schedule])
        run.train()
        run.train(1)
        assert run.current_epoch == 4

    @pytest.mark.parametrize("wrong", [0, -1, 1.5, "3", True])
    def test_are_a_positive_int(self, wrong):
        with pytest.raises((ValueError, TypeError), match=r"Trainer\.train: epochs"):
            trainer().train(epochs=wrong)


class TestNothingToDo:
    @pytest.mark.parametrize("verbose, lines", [(True, 1), (False, 0)])
    def test_is_said(self, capsys, verbose, lines):
        run = trainer(epochs=2, verbose=verbose)
        run.train()
        before = weights(run.network)
        capsys.readouterr()
        run.train()
        said = capsys.readouterr().out.splitlines()
        assert said == ["nothing to train: all 2 epochs are done; train(epochs=n) goes on for n more"] * lines
        assert all((before[name] == value).all() for name, value in weights(run.network).items())

    def test_is_said_of_a_run_that_a_callback_stopped(self, tmp_path, capsys):
        class Stops:
            def on_epoch_end(self, trainer, epoch):
                trainer.stop_training = True

        path = tmp_path / "run"
        trainer(checkpoint=path, callbacks=[Stops()]).train()
        run = trainer(checkpoint=path, verbose=True)
        run.train()
        assert capsys.readouterr().out.splitlines()[-1].startswith("nothing to train: stopped after epoch 1;")
        run = trainer(checkpoint=path)
        run.train(epochs=1)
        assert run.current_epoch == 2

    def test_is_not_said_where_there_is_something(self, capsys):
        trainer(epochs=1, verbose=True).train()
        assert "nothing" not in capsys.readouterr().out


class Once:
    """Calls a function at one moment, the first time."""

    def __init__(self, event, number, action):
        self.number, self.action, self.count = number, action, 0
        setattr(self, event, self._act)

    def _act(self, trainer, number):
        if number == self.number and not self.count:
            self.count += 1
            self.action()


def ctrl_c():
    signal.raise_signal(signal.SIGINT)


def interrupt():
    raise KeyboardInterrupt


class TestInterrupted:
    @pytest.mark.quick(lambda action, step: action is interrupt and step == 3)
    @pytest.mark.parametrize("step", [1, 2, 3, 8, STEPS])
    @pytest.mark.parametrize("action", [ctrl_c, interrupt])
    def test_goes_on_from_the_last_step(self, made, tmp_path, action, step):
        expected = whole(made, tmp_path)
        step = min(step, expected.current_iter)
        run = made(Once("on_batch_end", step, action))
        with pytest.raises(KeyboardInterrupt):
            run.train()
        # between batches whose gradients are added up, it waits for the update
        assert step <= run.current_iter <= step + run.accumulate_grad_batches - 1
        run.train()
        same(expected, run)

    def test_in_a_notebook_it_says_where_and_how(self, capsys):
        run = trainer(verbose=True, callbacks=[Once("on_batch_end", 2, ctrl_c)])
        with pytest.raises(
            KeyboardInterrupt, match=r"stopped after step 2, in epoch 1; train\(\) of this Trainer goes on"
        ):
            run.train()
        run.train()
        assert capsys.readouterr().out.splitlines()[0] == "going on after step 2, in epoch 1"

    @pytest.mark.parametrize("event", ["on_batch_begin", "on_test_begin", "on_epoch_end"])
    def test_at_any_moment_between_two_steps(self, made, tmp_path, event):
        expected = whole(made, tmp_path)
        run = made(Once(event, 2, interrupt))
        with pytest.raises(KeyboardInterrupt):
            run.train()
        run.train()
        same(expected, run)

    def test_while_it_measures_it_measures_again(self, made, tmp_path):
        expected = whole(made, tmp_path)
        run = made()
        measure, calls = run.evaluator._kinds, []

        def fails(which):
            calls.append(which)
            if len(calls) == 4:
                raise ZeroDivisionError
            return measure(which)

        run.evaluator._kinds = fails
        with pytest.raises(ZeroDivisionError):
            run.train()
        run.train()
        same(expected, run)

    def test_more_epochs_count_the_broken_one(self):
        run = trainer(callbacks=[Once("on_batch_end", 5, interrupt)])
        with pytest.raises(KeyboardInterrupt):
            run.train()
        run.train(epochs=1)
        assert (run.current_epoch, run.current_iter) == (2, 6)

    def test_rows_on_the_disk_too(self, tmp_path):
        np.save(tmp_path / "x.npy", X[:60])
        x = np.load(tmp_path / "x.npy", mmap_mode="r")

        def made(*callbacks):
            run = trainer(callbacks=callbacks, epochs=4)
            run.batches = Prefetch(Batches(x, run.t_train, 20, seed=run.batches.seed, backend=run.backend))
            return run

        expected, run = made(), made(Once("on_batch_end", 4, interrupt))
        expected.train()
        with pytest.raises(KeyboardInterrupt):
            run.train()
        run.train()
        same(expected, run)

    def test_error_in_the_middle_of_a_step_makes_the_epoch_again(self):
        run = trainer(epochs=2)
        update, calls = run.optimizer.update, []

        def fails(params, grads):
            calls.append(1)
            if len(calls) == 5:
                raise KeyboardInterrupt
            update(params, grads)

        run.optimizer.update = fails
        with pytest.raises(KeyboardInterrupt):
            run.train()
        run.train()
        assert len(calls) == 5 + 3 and run.current_iter == len(run.train_loss_list) == 6

    def test_handlers_are_as_before(self):
        before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
        seen = []

        class Looks:
            def on_batch_end(self, trainer, step):
                seen.append(signal.getsignal(signal.SIGTERM))

        trainer(epochs=1, callbacks=[Looks()]).train()
        assert set(seen) == {before[1]}  # nothing could be written for it to wait for
        assert before == (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM))

    @pytest.mark.backends("torch", "array_api_strict")
    @pytest.mark.backends("values")
    def test_losses_that_a_device_has_not_given_yet_are_not_lost(self, backend):
        """After the last step of an epoch, whose losses are read together."""

        def made(*callbacks):
            with backend.use():
                return trainer(epochs=4, callbacks=callbacks)

        expected, run = made(), made(Once("on_batch_end", 3, interrupt))
        expected.train()
        with pytest.raises(KeyboardInterrupt):
            run.train()
        run.train()
        assert run.train_loss_list == expected.train_loss_list and len(run.train_loss_list) == STEPS
        assert run.history.epoch_loss_list == expected.history.epoch_loss_list
