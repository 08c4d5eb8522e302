"""One object in two trainings: the second is as with a new object, or refused before its first step."""

import copy
import inspect
import pickle
import threading

import numpy as np
import pytest

from tests.training.runs import T, X, net, trainer, weights
from xpdl import data, optimizers, training
from xpdl.data import augment
from xpdl.io.tensors import load_arrays
from xpdl.search import random_search, uniform
from xpdl.training import (
    EMA,
    Callback,
    CosineLR,
    CSVLogger,
    Diagnostics,
    EarlyStopping,
    ExponentialLR,
    JSONLogger,
    LearningRateSchedule,
    MixedPrecision,
    ModelCheckpoint,
    OneCycleLR,
    ReduceLROnPlateau,
    StepLR,
    Trainer,
    WarmupLR,
)

# Each makes an object that trainings may share, for the option of that name.
CALLBACKS = {
    Callback: lambda folder: Callback(),
    CosineLR: lambda folder: CosineLR(),
    CSVLogger: lambda folder: CSVLogger(folder / "log.csv"),
    Diagnostics: lambda folder: Diagnostics(X[:9]),
    EarlyStopping: lambda folder: EarlyStopping("loss", patience=1, min_delta=0.05),
    EMA: lambda folder: EMA(0.9),
    ExponentialLR: lambda folder: ExponentialLR(0.5),
    JSONLogger: lambda folder: JSONLogger(folder / "log.jsonl"),
    LearningRateSchedule: lambda folder: LearningRateSchedule(lambda position: 1 / (1 + position)),
    ModelCheckpoint: lambda folder: ModelCheckpoint(folder / "best.safetensors", "loss"),
    OneCycleLR: lambda folder: OneCycleLR(),
    ReduceLROnPlateau: lambda folder: ReduceLROnPlateau("loss", patience=1, min_delta=1.0),
    StepLR: lambda folder: StepLR(2),
    WarmupLR: lambda folder: WarmupLR(1, CosineLR()),
}
PRECISIONS = {MixedPrecision: lambda folder: MixedPrecision("float16", scale=2.0**16, growth_interval=2)}
AUGMENTS = {
    augment.Compose: lambda folder: augment.Compose(_shift, _noise),
    **{
        kind: (lambda folder, kind=kind: _Image(kind()))
        for kind in (
            *(augment.Brightness, augment.Crop, augment.Cutout, augment.Elastic, augment.Flip, augment.Noise),
            *(augment.Rotate, augment.Scale, augment.Shift),
        )
    },
}
RULES = [getattr(optimizers, name) for name in optimizers.__all__ if name != "Optimizer"]
ELSEWHERE = {
    "TensorBoard": "needs an extra: in test_loggers.py",
    "Transform": "the base class of those above",
    "Optimizer": "the base class of those above",
    "Batches": "no argument of a trainer: passes are in tests/data",
    "ChunkedBatches": "no argument of a trainer: passes are in tests/data",
    "Prefetch": "no argument of a trainer: passes are in tests/data",
    "ContiguousWindows": "batches of a text: in tests/data/text",
    "RandomWindows": "batches of a text: in tests/data/text",
    "PaddedBatches": "batches of a text: in tests/data/text",
    "UnigramSampler": "of a loss, which a model owns",
    "Vocabulary": "no argument of a trainer",
    "History": "a result, no argument",
    "Trainer": "what trains",
}


class _Image:
    """An augmentation of images on rows of two numbers."""

    def __init__(self, transform):
        self.transform = transform

    def __call__(self, x, stream):
        images = np.repeat(x[:, None, None, :], 2, axis=2).astype(np.float32)
        return self.transform(images, stream)[:, 0, 0, :]


def _shift(x):
    return x + 0.1


def _noise(x, stream):
    return x + stream.generator("noise").normal(size=x.shape).astype(x.dtype)


def test_every_public_class_is_in_a_table():
    public = {
        name: getattr(module, name)
        for module in (training, optimizers, data, augment)
        for name in module.__all__
        if inspect.isclass(getattr(module, name))
    }
    tables = {*CALLBACKS, *PRECISIONS, *AUGMENTS, *RULES}
    assert {kind for name, kind in public.items() if name not in ELSEWHERE} == tables
    assert set(ELSEWHERE) <= set(public) and not {public[name] for name in ELSEWHERE} & tables


def easy(options):
    """Another network on other labels, another rate, and of other length."""
    run = Trainer(net(7), X[:60], (X[:60, 0] > 0).astype(int), X[60:], T[60:], 6, 10, "adam", {"lr": 0.05},
                  verbose=False, seed=3, **options)  # fmt: skip
    return run, run.train()


def hard(options):
    run = trainer(net(1), epochs=7, optimizer="sgd", optimizer_param={"lr": 0.4}, **options)
    return run, run.train()


def outcome(run, history, folder):
    """All that a training leaves, but the time it took."""
    files = {
        f"{path.name}.{name}": array.tolist()
        for path in folder.glob("*.safetensors")
        for name, array in load_arrays(path)[0].items()
    }
    lines = {
        path.name: [line.rsplit(",", 1)[0] for line in path.read_text().splitlines()]
        for path in folder.iterdir()
        if path.suffix in (".csv", ".jsonl")
    }
    lists = {name: values for name, values in vars(history).items() if name != "seconds"}
    return weights(run.network), lists, run.optimizer.lr, files, lines


def assert_same(one, other):
    assert one[0].keys() == other[0].keys()
    for name, array in one[0].items():
        np.testing.assert_array_equal(array, other[0][name], err_msg=name, strict=True)
    assert one[1:] == other[1:]


def options_with(kind, folder):
    folder.mkdir(exist_ok=True)
    for table, option in ((CALLBACKS, "callbacks"), (PRECISIONS, "precision"), (AUGMENTS, "augment")):
        if kind in table:
            thing = table[kind](folder)
            return thing, {option: [thing] if option == "callbacks" else thing}
    raise KeyError(kind)


REUSED = [*CALLBACKS, *PRECISIONS, *AUGMENTS]


# one of each sort: what watches, what writes, what changes rates or parameters, and what passes compute with
QUICK = {"CSVLogger", "EarlyStopping", "EMA", "OneCycleLR", "MixedPrecision", "Shift"}


@pytest.mark.quick(lambda kind: kind.__name__ in QUICK)
@pytest.mark.parametrize("kind", REUSED, ids=lambda kind: kind.__name__)
class TestSecondTraining:
    def test_is_as_with_a_new_object(self, kind, tmp_path):
        new = outcome(*hard(options_with(kind, tmp_path)[1]), tmp_path)
        used, options = options_with(kind, tmp_path)
        easy(options)
        assert_same(outcome(*hard(options), tmp_path), new)
        # and what the object shows is of this training alone
        other, others = options_with(kind, tmp_path)
        hard(others)
        np.testing.assert_equal(shown(used), shown(other))

    def test_is_as_with_a_new_object_when_the_first_was_broken_off(self, kind, tmp_path):
        new = outcome(*hard(options_with(kind, tmp_path)[1]), tmp_path)
        _, options = options_with(kind, tmp_path)
        with pytest.raises(RuntimeError, match="fails on purpose"):
            easy({**options, "callbacks": [*options.get("callbacks", ()), Fails(step=10)]})
        assert_same(outcome(*hard(options), tmp_path), new)

    def test_a_trainer_goes_on_where_it_was(self, kind, tmp_path):
        """Two calls of ``train`` are one training."""
        (thing, whole), (other, parts) = (options_with(kind, tmp_path / name) for name in ("whole", "parts"))
        spans = getattr(thing, "spans_training", False)
        for one in (thing, other):
            if kind is EarlyStopping:
                # at the end of each call it restores; a call after it has stopped the training goes on
                one.restore_best_weights, one.patience = False, 9
        expected = trainer(epochs=4, **whole)
        expected.train()
        run = trainer(epochs=4 if spans else 2, **parts)
        if spans:
            run.callbacks.callbacks.append(StopsAfter(2))
        run.train()
        run.epochs = 4
        run.train()
        found = outcome(run, run.history, tmp_path / "parts")
        assert_same(found, outcome(expected, expected.history, tmp_path / "whole"))
        assert len(run.history.seconds) == len(expected.history.seconds)

    def test_goes_on_from_a_checkpoint_in_the_same_process(self, kind, tmp_path):
        new = outcome(*hard(options_with(kind, tmp_path)[1]), tmp_path)
        _, options = options_with(kind, tmp_path)
        for callbacks in ([Fails(step=7)], []):
            run = trainer(
                net(1), epochs=7, optimizer="sgd", optimizer_param={"lr": 0.4}, checkpoint=tmp_path / "run",
                **{**options, "callbacks": [*callbacks, *options.get("callbacks", ())]},
            )  # fmt: skip
            if callbacks:
                with pytest.raises(RuntimeError, match="fails on purpose"):
                    run.train()
            else:
                run.train()
        assert_same(outcome(run, run.history, tmp_path), new)


class StopsAfter:
    def __init__(self, epoch):
        self.epoch = epoch

    def on_epoch_end(self, trainer, epoch):
        trainer.stop_training = epoch == self.epoch


class Fails:
    def __init__(self, step):
        self.step = step

    def on_batch_end(self, trainer, step):
        if step == self.step:
            raise RuntimeError("fails on purpose")


def shown(thing):
    """Public attributes that hold plain values."""
    return {
        name: value
        for name, value in vars(thing).items()
        if not name.startswith("_") and isinstance(value, (int, float, str, list, dict, type(None)))
    }


@pytest.mark.quick(lambda kind: kind.__name__ in QUICK)
@pytest.mark.parametrize("kind", CALLBACKS, ids=lambda kind: kind.__name__)
def test_copies_of_an_object_are_independent_of_it(kind, tmp_path):
    """As they are where a fold is given a deep copy, or another process a pickled one."""
    new = outcome(*hard(options_with(kind, tmp_path)[1]), tmp_path)
    used, options = options_with(kind, tmp_path)
    before = copy.deepcopy(used)
    easy(options)
    after = copy.deepcopy(used)
    for one in (before, after):
        assert_same(outcome(*hard({"callbacks": [one]}), tmp_path), new)
    if kind is not LearningRateSchedule:  # of a lambda
        assert_same(outcome(*hard({"callbacks": [pickle.loads(pickle.dumps(used))]}), tmp_path), new)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
class TestOptimizers:
    def test_one_that_another_training_used_is_refused_before_the_first_step(self, rule):
        optimizer = rule()
        trainer(net(0), optimizer=optimizer).train()
        iterations, network = optimizer.iter, net(1)
        run = trainer(network, optimizer=optimizer)
        before = weights(network)
        with pytest.raises(ValueError, match=rf"Trainer: {rule.__name__}\(.*has been used by another training; make"):
            run.train()
        np.testing.assert_equal(weights(network), before)
        assert optimizer.iter == iterations and run.history.train_loss_list == []

    def test_its_state_goes_on_in_a_new_one(self, rule):
        first = trainer(net(0), optimizer=rule(), epochs=4)
        first.train()
        optimizer = rule()
        part = trainer(net(0), optimizer=optimizer, epochs=2)
        part.train()
        later = rule()
        later.load_state_dict(optimizer.state_dict())
        run = trainer(part.network, optimizer=later, epochs=4)
        run.current_epoch, run.history = 2, part.history
        run.train()
        np.testing.assert_equal(weights(run.network), weights(first.network))

    def test_one_whose_training_did_not_begin_is_taken(self, rule, tmp_path):
        optimizer = rule()
        with pytest.raises(FileNotFoundError):
            trainer(optimizer=optimizer, callbacks=[CSVLogger(tmp_path / "nowhere" / "log")]).train()
        fresh, again = trainer(net(0), optimizer=rule()), trainer(net(0), optimizer=optimizer)
        assert fresh.train().train_loss_list == again.train().train_loss_list

    def test_a_schedule_s_rate_is_not_taken_for_the_optimizers(self, rule):
        """Even where the training ended before its first update."""

        class Breaks:
            def on_batch_begin(self, trainer, step):
                raise OSError

        optimizer = rule()
        with pytest.raises(OSError):
            trainer(optimizer=optimizer, callbacks=[WarmupLR(1), Breaks()]).train()
        assert optimizer.lr == 0.0 and optimizer.iter == 0
        with pytest.raises(ValueError, match="has been used by another training"):
            trainer(optimizer=optimizer).train()

    def test_a_state_of_other_parameters_is_refused_by_name(self, rule):
        optimizer = rule()
        params = {"other": np.ones(3)}
        optimizer.update(params, {"other": np.ones(3)})
        run = trainer(net(0), optimizer=optimizer)
        if rule.state_names:
            with pytest.raises(ValueError, match=r"has a state of 'other', no parameter of this network; make a new"):
                run.train()
        else:
            assert run.train().train_loss_list == trainer(net(0), optimizer=rule()).train().train_loss_list

    def test_one_that_updated_another_network_by_hand_is_refused(self, rule):
        optimizer, network = rule(), net(0)
        network.build((2,))
        optimizer.update(network.params, network.gradient(X, T))
        if rule.state_names:
            says = rf"Trainer: {rule.__name__}\(.* has updated other parameters; make a new one for each Trainer"
            with pytest.raises(ValueError, match=says):
                trainer(net(1), optimizer=optimizer).train()
        # of this one, it goes on, as a copy of it does with a copy of the network
        other, copied = copy.deepcopy((network, optimizer))
        found = [trainer(one, optimizer=own).train() for one, own in ((network, optimizer), (other, copied))]
        assert found[0].train_loss_list == found[1].train_loss_list

    def test_a_state_of_another_shape_is_refused_by_hand_and_in_a_trainer(self, rule):
        optimizer = rule()
        optimizer.update({"Affine1.W": np.ones(3, np.float32)}, {"Affine1.W": np.ones(3, np.float32)})
        run, params = trainer(net(0), optimizer=optimizer), {"Affine1.W": np.ones((2, 2), np.float32)}
        grads = {"Affine1.W": np.ones((2, 2), np.float32)}
        if rule.state_names:
            with pytest.raises(ValueError, match=r"shape \(3,\) for 'Affine1.W', which has shape \(2, 12\)"):
                run.train()
            with pytest.raises(ValueError, match=r"has shape \(2, 2\), but had \(3,\) in earlier updates; make a new"):
                optimizer.update(params, grads)
            assert (params["Affine1.W"] == 1).all() and optimizer.iter == 1
        else:
            optimizer.update(params, grads)
            assert len(run.train().seconds) == 3


@pytest.mark.parametrize("kind", [EarlyStopping, StepLR, EMA, Diagnostics], ids=lambda kind: kind.__name__)
class TestTwoTrainers:
    def test_the_first_does_not_go_on_with_the_state_of_the_second(self, kind, tmp_path):
        options = options_with(kind, tmp_path)[1]
        first, _ = easy(options)
        easy(options)
        first.epochs += 1
        with pytest.raises(ValueError, match=rf"Trainer: {kind.__name__}.* has been used by another training since"):
            first.train()
        assert len(first.history.seconds) == first.epochs - 1 or kind is EarlyStopping

    def test_none_takes_it_from_one_that_is_under_way(self, kind, tmp_path):
        used, options = options_with(kind, tmp_path)
        message = []

        class Nested:
            def on_epoch_begin(self, trainer, epoch):
                with pytest.raises(ValueError, match="is in use by a training that has not ended") as error:
                    easy(options)
                message.append(str(error.value))

        new = outcome(*hard(options_with(kind, tmp_path)[1]), tmp_path)
        assert_same(outcome(*hard({"callbacks": [used, Nested()]}), tmp_path), new)
        assert message and all(kind.__name__ in text for text in message)


def test_one_callback_stands_in_a_list_once():
    schedule = StepLR(1)
    with pytest.raises(ValueError, match=r"Trainer: callbacks has one object twice, StepLR\(step_size=1, gamma=0.1\)"):
        trainer(callbacks=[schedule, EMA(), schedule])


class Counts:
    """A callback of a user, with the two methods of a state."""

    def __init__(self):
        self.count, self.all = 0, 0

    def on_batch_end(self, trainer, step):
        self.count += 1
        self.all += 1

    def state_dict(self):
        return {"count": self.count}

    def load_state_dict(self, state):
        self.count = state["count"]


def test_a_callback_of_ones_own_with_a_state_begins_anew_with_that():
    counts = Counts()
    for _ in range(2):
        trainer(epochs=1, callbacks=[counts]).train()
    assert (counts.count, counts.all) == (3, 6)


def test_one_that_cannot_take_back_its_first_state_is_refused():
    class Odd(Counts):
        def load_state_dict(self, state):
            raise KeyError("later")

    odd, network = Odd(), net(1)
    trainer(epochs=1, callbacks=[odd]).train()
    with pytest.raises(ValueError, match=r"Odd.*cannot be put back to its state before its first training \(KeyError"):
        trainer(network, callbacks=[odd]).train()


def test_trainings_in_two_threads_share_nothing_unless_refused():
    stopping, inside, leave, outcomes = EarlyStopping("loss"), threading.Event(), threading.Event(), []

    class Waits:
        def on_epoch_begin(self, trainer, epoch):
            inside.set()
            assert leave.wait(30)

    thread = threading.Thread(target=lambda: outcomes.append(trainer(callbacks=[stopping, Waits()]).train()))
    thread.start()
    assert inside.wait(30)
    try:
        with pytest.raises(ValueError, match="in use by a training that has not ended"):
            trainer(callbacks=[stopping]).train()
    finally:
        leave.set()
        thread.join(30)
    assert len(outcomes) == 1


class TestWrappers:
    def test_trials_of_a_search_share_callbacks_as_if_they_were_new(self):
        shared = [EarlyStopping("loss", patience=1, min_delta=0.05), StepLR(1, 0.5), EMA(0.9)]

        def build(lr, callbacks=shared):
            return trainer(net(0), epochs=4, optimizer_param={"lr": lr}, callbacks=callbacks)

        def anew(lr):
            return build(lr, copy.deepcopy(shared))

        search = {"space": {"lr": uniform(0.001, 0.5)}, "n_trials": 4, "seed": 0, "verbose": False}
        used, new = random_search(build, **search), random_search(anew, **search)
        assert [trial.history.train_loss_list for trial in used.trials] == [
            trial.history.train_loss_list for trial in new.trials
        ]

    def test_a_trial_gets_no_network_or_optimizer_of_an_earlier_one(self):
        network, optimizer = net(0), optimizers.Adam()
        search = {"space": {"lr": uniform(0.001, 0.5)}, "n_trials": 2, "seed": 0, "verbose": False}
        with pytest.raises(
            ValueError, match="search: build returned the network of an earlier training; make a new one"
        ):
            random_search(lambda lr: trainer(network, optimizer_param={"lr": lr}), **search)
        with pytest.raises(ValueError, match=r"Trainer: Adam\(.*has been used by another training"):
            random_search(lambda lr: trainer(net(0), optimizer=optimizer), **search)

    @pytest.mark.needs("sklearn")
    def test_a_classifier_of_scikit_learn_is_fitted_twice_alike(self):
        from xpdl.integrations.scikit_learn import XpdlClassifier

        made = []

        def build(features, classes):
            made.append(net(0))
            return made[-1]

        classifier = XpdlClassifier(build, epochs=2, optimizer=optimizers.Adam(0.01), random_state=0)
        first = classifier.fit(X, T).predict_proba(X)
        np.testing.assert_array_equal(classifier.fit(X, T).predict_proba(X), first)
        assert classifier.optimizer.iter == 0 and len(made) == 2
        one = net(0)
        shared = XpdlClassifier(lambda features, classes: one, epochs=2, random_state=0).fit(X, T)
        with pytest.raises(ValueError, match="XpdlClassifier: build returned the network of an earlier training"):
            shared.fit(X, T)
