"""A run that is interrupted and resumed equals one that is not, bit for bit."""

import json
import math
import subprocess
import sys

import numpy as np
import pytest

import xpdl
from tests.selection import params_of
from xpdl import (
    EMA,
    Affine,
    BatchNormalization,
    CosineLR,
    Dropout,
    EarlyStopping,
    IdentityWithLoss,
    OneCycleLR,
    ReduceLROnPlateau,
    Relu,
    Sequential,
    Sigmoid,
    SigmoidWithLoss,
    SoftmaxWithLoss,
    StepLR,
    Trainer,
    TwoLayerNet,
    WarmupLR,
)
from xpdl.data import augment
from xpdl.io import tensors
from xpdl.training.checkpoint.rotation import CheckpointFiles

RNG = np.random.default_rng(0)
X = RNG.normal(size=(25, 4)).astype(np.float32)
T = X[:, :3].argmax(axis=1)
RULES = ["SGD", "Momentum", "Nesterov", "AdaGrad", "RMSprop", "AdaDelta", "Adam", "AdamW"]


def trainer(epochs=4, optimizer="adam", checkpoint=None, **options):
    network = Sequential(
        Affine(units=5), BatchNormalization(), Relu(), Dropout(0.3), Affine(units=3), loss=SoftmaxWithLoss, seed=0
    )
    given = {"mini_batch_size": 10, "verbose": False, "seed": 0, "checkpoint": checkpoint, **options}
    return Trainer(network, X, T, X, T, epochs, optimizer=optimizer, **given)


class Stop(Exception):
    """Ends a run in a way of its own."""


class Once:
    """Raises `error` in that step, the first time it comes."""

    def __init__(self, step, error):
        self.step, self.error = step, error

    def on_batch_end(self, trainer, step):
        if step == self.step and self.error:
            error, self.error = self.error, None
            raise error


class Seen:
    def __init__(self):
        self.steps, self.epochs, self.list = [], [], [self]

    def on_epoch_begin(self, trainer, epoch):
        self.epochs.append(epoch)

    def on_batch_end(self, trainer, step):
        self.steps.append(step)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run.checkpoint"


def assert_same_run(one, other):
    for view in ("params", "buffers"):
        for name, value in getattr(one.network, view).items():
            np.testing.assert_array_equal(getattr(other.network, view)[name], value)
    for lists in ("train_loss_list", "train_acc_list", "test_acc_list"):
        assert getattr(one, lists) == getattr(other, lists)
    assert one.history.epoch_loss_list == other.history.epoch_loss_list


@pytest.mark.parametrize("optimizer", RULES)
def test_resumed_run_is_the_same(path, optimizer):
    whole = trainer(optimizer=optimizer)
    whole.train()
    trainer(epochs=2, optimizer=optimizer, checkpoint=path).train()
    resumed = trainer(optimizer=optimizer, checkpoint=path)
    resumed.train()
    assert resumed.current_epoch == 4 and resumed.current_iter == whole.current_iter
    assert_same_run(whole, resumed)


STEPS = 12  # 4 epochs of 3


@pytest.mark.quick(lambda optimizer: optimizer in ("Adam", "SGD"))
@pytest.mark.parametrize("optimizer", RULES)
def test_resumed_in_the_middle_of_an_epoch_is_the_same(path, optimizer):
    whole = trainer(optimizer=optimizer)
    whole.train()
    for step in (1, 5, 6, 11):
        broken = trainer(optimizer=optimizer, checkpoint=path, checkpoint_every=1, callbacks=[Once(step + 1, Stop())])
        with pytest.raises(Stop):
            broken.train()
        resumed = trainer(optimizer=optimizer, checkpoint=path, callbacks=(seen := Seen()).list)
        resumed.train()
        assert seen.steps == list(range(step + 1, STEPS + 1))
        assert seen.epochs == [epoch for epoch in (1, 2, 3, 4) if epoch > -(-step // 3)]
        assert_same_run(whole, resumed)
        assert len(resumed.history.seconds) == 4
        path.unlink()
        path.with_name(path.name + ".1").unlink(missing_ok=True)


@pytest.mark.parametrize("every, written", [(1, range(1, 13)), (2, (2, 4, 6, 8, 10, 12)), (5, (5, 10, 12)), (50, [12])])
def test_is_written_when_asked_for_and_at_the_end(path, every, written, monkeypatch):
    steps = []
    write = CheckpointFiles.write
    monkeypatch.setattr(CheckpointFiles, "write", lambda *args: steps.append(args[-1].step) or write(*args))
    trainer(checkpoint=path, checkpoint_every=every).train()
    assert steps == list(written)


def test_of_rows_in_a_file_it_goes_on_in_the_middle_of_an_epoch(path, tmp_path):
    np.save(tmp_path / "x.npy", X)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")

    def on_mapped(**options):
        network = Sequential(Affine(units=5), Dropout(0.3), Affine(units=3), loss=SoftmaxWithLoss, seed=0)
        return Trainer(network, mapped, T, X, T, 4, 10, "adam", verbose=False, seed=0, **options)

    whole = on_mapped()
    whole.train()
    with pytest.raises(Stop):
        on_mapped(checkpoint=path, checkpoint_every=1, callbacks=[Once(6, Stop())]).train()
    resumed = on_mapped(checkpoint=path)
    resumed.train()
    assert_same_run(whole, resumed)


def test_before_a_smaller_batch_it_goes_on_with_its_share_of_running_statistics(path):
    """The fourth and last batch of the second epoch has 4 rows of 7, and is the first of the run that goes on."""
    whole = trainer(mini_batch_size=7)
    whole.train()
    with pytest.raises(Stop):
        stops = [Once(8, Stop())]
        trainer(mini_batch_size=7, checkpoint=path, checkpoint_every=1, callbacks=stops).train()
    assert json.loads(tensors.load_arrays(path)[1]["counters"])["BatchNormalization1.rows"] == 7
    resumed = trainer(mini_batch_size=7, checkpoint=path)
    resumed.train()
    assert_same_run(whole, resumed)


def test_time_of_an_epoch_counts_what_was_before_the_interruption(path):
    with pytest.raises(Stop):
        trainer(checkpoint=path, checkpoint_every=1, callbacks=[Once(6, Stop())]).train()
    arrays, metadata = tensors.load_arrays(path)
    position = json.loads(metadata["position"])
    assert (position["epoch"], position["step"]) == (1, 5) and position["seconds"] > 0
    metadata["position"] = json.dumps({**position, "seconds": 1000.0})
    tensors.write_tensors(path, arrays, metadata)
    before, within, *after = trainer(checkpoint=path).train().seconds
    assert before < 1000 < within and max(after) < 1000


def test_a_run_that_was_stopped_early_is_finished(path):
    class StopsEarly:
        def on_epoch_end(self, trainer, epoch):
            trainer.stop_training = epoch == 2

    trainer(checkpoint=path, checkpoint_every=50, callbacks=[StopsEarly()]).train()
    again = trainer(checkpoint=path, callbacks=[StopsEarly()])
    assert len(again.train().test_acc_list) == again.current_epoch == 2


def test_resumed_run_augments_as_it_would_have(path):
    def noisy(x, stream):
        return x + 0.1 * stream.generator("noise").standard_normal(x.shape, np.float32)

    whole = trainer(augment=[noisy, np.negative])
    whole.train()
    with pytest.raises(Stop):
        trainer(augment=[noisy, np.negative], checkpoint=path, checkpoint_every=1, callbacks=[Once(8, Stop())]).train()
    resumed = trainer(augment=[noisy, np.negative], checkpoint=path)
    resumed.train()
    assert_same_run(whole, resumed)


@pytest.mark.backends("plain")
@pytest.mark.backends("values")
def test_written_on_any_backend_and_read_on_another(backend, path):
    with backend.use("float32"):
        trainer(epochs=2, checkpoint=path).train()
    resumed = trainer(epochs=3, checkpoint=path)
    assert len(resumed.train().test_acc_list) == 3


def test_saving_changes_nothing(path):
    one, other = trainer(), trainer(checkpoint=path)
    one.train()
    other.train()
    assert_same_run(one, other)


def test_finished_run_trains_no_further(path):
    trainer(checkpoint=path).train()
    again = trainer(checkpoint=path)
    before = path.read_bytes()
    again.train()
    assert len(again.train_loss_list) == 12 and path.read_bytes() == before


@pytest.mark.parametrize(
    "other, says",
    [
        ({"seed": 1}, "seed 0 there, 1 here"),
        ({"optimizer": "sgd"}, r"optimizer Adam\(lr=0.01, .*\) there, SGD\(lr=0.01\) here"),
        ({"optimizer_param": {"lr": 0.5}}, r"optimizer Adam\(lr=0.01, .*\) there, Adam\(lr=0.5, .*\) here"),
    ],
)
def test_of_another_run_is_refused(path, other, says):
    trainer(checkpoint=path).train()
    with pytest.raises(ValueError, match=rf"belongs to another run .*{says}"):
        trainer(checkpoint=path, **other).train()


def whitened(x):
    return x


@pytest.mark.parametrize(
    "one, other, says",
    [
        ({}, {"augment": whitened}, r"augment None there, <function whitened> here"),
        ({"augment": whitened}, {}, r"augment <function whitened> there, None here"),
        (
            {"augment": [np.negative, whitened]},
            {"augment": np.negative},
            r"augment Compose\(<ufunc 'negative'>, <function whitened>\) there",
        ),
        (
            {"augment": augment.Noise(0.1)},
            {"augment": augment.Noise(0.2)},
            r"Noise\(std=0.1\) there, Noise\(std=0.2\) here",
        ),
        ({"validation_split": 0.2}, {}, "rows 20 there, 25 here"),
        ({"validation_split": 0.2}, {"validation_split": 0.4}, "rows 20 there, 15 here"),
        ({"accumulate_grad_batches": 2}, {}, "accumulate_grad_batches 2 there, 1 here"),
        ({"callbacks": [StepLR(2)]}, {"callbacks": []}, r"schedules \['StepLR'\] there, \[\] here"),
        ({}, {"callbacks": [StepLR(2)]}, r"schedules \[\] there, \['StepLR'\] here"),
        (
            {},
            {"loss": SoftmaxWithLoss(0.1)},
            r"loss SoftmaxWithLoss\(\) there, SoftmaxWithLoss\(label_smoothing=0.1\) here",
        ),
        (
            {"loss": IdentityWithLoss()},
            {"loss": SigmoidWithLoss()},
            r"loss IdentityWithLoss\(\) there, SigmoidWithLoss",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "-".join(value),
)
def test_of_a_run_begun_with_other_options_is_refused(path, one, other, says):
    def made(loss=None, **options):
        targets = T if loss is None or isinstance(loss, SoftmaxWithLoss) else np.eye(3, dtype=np.float32)[T]
        network, x = Sequential(Affine(units=3), loss=loss or SoftmaxWithLoss, seed=0), X.reshape(-1, 1, 2, 2)
        return Trainer(
            network, x, targets, x, targets, 1, 10, verbose=False, **{"seed": 0, "checkpoint": path, **options}
        )

    made(**one).train()
    with pytest.raises(ValueError, match=rf"belongs to another run .*{says}"):
        made(**other).train()


def test_of_another_dtype_is_refused(path):
    with xpdl.use("numpy", dtype="float64"):
        trainer(checkpoint=path).train()
    with pytest.raises(ValueError, match=r"belongs to another run .*dtype float64 there, float32 here"):
        trainer(checkpoint=path).train()


class LowersTheRate:
    def on_epoch_end(self, trainer, epoch):
        trainer.optimizer.lr *= 0.5


def test_a_schedule_of_the_rate_does_not_make_it_another_run(path):
    whole = trainer(callbacks=[LowersTheRate()])
    whole.train()
    trainer(epochs=2, checkpoint=path, callbacks=[LowersTheRate()]).train()
    resumed = trainer(checkpoint=path, callbacks=[LowersTheRate()])
    resumed.train()
    assert_same_run(whole, resumed)


def test_same_trainer_goes_on_from_the_last_whole_epoch(path):
    whole = trainer()
    whole.train()
    broken = trainer(checkpoint=path, callbacks=[Once(8, KeyboardInterrupt())])
    with pytest.raises(KeyboardInterrupt):
        broken.train()
    broken.train()
    assert broken.current_iter == whole.current_iter
    assert_same_run(whole, broken)


@pytest.mark.parametrize("step", [2, 8])
def test_without_a_file_a_broken_epoch_is_recorded_once(step):
    broken = trainer(callbacks=[Once(step, RuntimeError("stop"))])
    with pytest.raises(RuntimeError):
        broken.train()
    history = broken.train()
    assert len(history.train_loss_list) == broken.current_iter == 12
    assert len(history.test_acc_list) == 4


def test_failed_load_leaves_the_trainer_as_it_was(path):
    trainer(checkpoint=path, max_checkpoints=1).train()
    run, untouched = trainer(checkpoint=path, max_checkpoints=1), trainer()
    arrays, metadata = tensors.load_arrays(path)
    del arrays["optimizer.m.Affine1.W"]
    tensors.write_tensors(path, arrays, metadata)
    with pytest.raises(ValueError):
        run.train()
    for name, value in untouched.network.params.items():
        np.testing.assert_array_equal(run.network.params[name], value)
    assert run.current_epoch == 0


def test_damaged_is_refused(path):
    trainer(checkpoint=path, max_checkpoints=1).train()
    damaged = bytearray(path.read_bytes())
    damaged[-5] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(ValueError, match="damaged"):
        trainer(checkpoint=path, max_checkpoints=1).train()


def test_model_file_is_no_checkpoint(path):
    TwoLayerNet(4, 5, 3).save_params(path)
    with pytest.raises(ValueError, match="is not a checkpoint"):
        trainer(checkpoint=path).train()


class TestCallbacks:
    """States of callbacks, which a step changes and later steps depend on."""

    class Stateful:
        def __init__(self):
            self.count, self.best, self.seen, self.average = 0, math.inf, [], None

        def on_batch_end(self, trainer, step):
            self.count += 1
            weights = trainer.network.params["Affine1.W"]
            self.best = min(self.best, float(xpdl.asnumpy(weights)[0, 0]))
            self.seen.append(step)
            self.average = weights * 1.0 if self.average is None else self.average * 0.9 + weights * 0.1
            trainer.optimizer.lr = 0.01 / self.count

        def state_dict(self):
            return {"count": self.count, "best": self.best, "seen": self.seen, "deep": {"average": self.average}}

        def load_state_dict(self, state):
            self.count, self.best, self.seen = state["count"], state["best"], state["seen"]
            self.average = state["deep"]["average"]

    class AsOther(Stateful):
        pass

    @pytest.mark.parametrize("step", [3, 5, 8])
    def test_go_on_as_they_were(self, path, step):
        both = [self.Stateful(), self.AsOther(), self.Stateful()]
        whole = trainer(callbacks=both)
        whole.train()
        callbacks = [self.Stateful(), self.AsOther(), self.Stateful(), Once(step + 1, Stop())]
        with pytest.raises(Stop):
            trainer(checkpoint=path, checkpoint_every=1, callbacks=callbacks).train()
        # in whatever order, and beside others
        again = [Seen(), self.Stateful(), self.Stateful(), self.AsOther()]
        resumed = trainer(checkpoint=path, callbacks=again)
        resumed.train()
        assert_same_run(whole, resumed)
        for one, other in zip(both, (again[1], again[3], again[2]), strict=True):
            assert (one.count, one.best, one.seen) == (other.count, other.best, other.seen)
            np.testing.assert_array_equal(one.average, other.average)
            assert one.average.dtype == other.average.dtype

    @pytest.mark.backends("plain")
    @pytest.mark.backends("values")
    def test_arrays_beside_the_network_lie_there_again_on_any_backend(self, backend, path):
        with backend.use("float32"):
            trainer(epochs=2, checkpoint=path, callbacks=[self.Stateful()]).train()
            again = self.Stateful()
            run = trainer(epochs=3, checkpoint=path, callbacks=[again])
            run.train()
            assert type(again.average) is type(run.network.params["Affine1.W"])
        here = self.Stateful()
        trainer(epochs=3, checkpoint=path, callbacks=[here]).train()
        assert type(here.average) is np.ndarray and here.average.dtype == np.float32

    def test_that_are_missing_are_named(self, path):
        trainer(checkpoint=path, epochs=2, callbacks=[self.Stateful()]).train()
        with pytest.raises(ValueError, match=r"run\.checkpoint: was written .* callbacks Stateful1; give them again"):
            trainer(checkpoint=path).train()

    @pytest.mark.exhaustive
    def test_that_does_not_take_its_state_is_named_and_nothing_is_changed(self, path):
        class Stateful(self.Stateful):
            def load_state_dict(self, state):
                super().load_state_dict({**state, "average": 1.0})
                self.of_the_next_version = state["more"]

        def callbacks(last):
            return [EMA(0.9), ReduceLROnPlateau("loss", patience=1), last]

        trainer(checkpoint=path, epochs=2, optimizer="adam", callbacks=callbacks(self.Stateful())).train()
        run = trainer(checkpoint=path, epochs=3, optimizer="adam", callbacks=callbacks(Stateful()))
        untouched = trainer(optimizer="adam")
        with pytest.raises(ValueError, match=r"checkpoint: load_state_dict of Stateful .*KeyError\('more'\).*give"):
            run.train()
        for name, value in untouched.network.params.items():
            np.testing.assert_array_equal(run.network.params[name], value)
        assert run.optimizer.state_dict() == untouched.optimizer.state_dict()
        average, plateau, _ = run.callbacks.callbacks
        assert average.state_dict() == {} and plateau.lr is None and run.current_iter == 0

    @pytest.mark.exhaustive
    @pytest.mark.parametrize("key", ["run", "position", "optimizer", "callbacks", "counters", "precision"])
    @pytest.mark.parametrize("content", [None, "[]", "[1]", "{", "3", '"a"'])
    def test_file_with_other_metadata_is_one_error(self, path, key, content):
        """As of another program: the checksum is right."""
        made = {"epochs": 1, "optimizer": "adam", "callbacks": [EMA(0.9)], "checkpoint": path, "precision": "float16"}
        trainer(**made).train()
        arrays, metadata = tensors.load_arrays(path)
        metadata.pop(key) if content is None else metadata.update({key: content})
        tensors.write_tensors(path, arrays, metadata)
        run = trainer(**{**made, "callbacks": [EMA(0.9)]})
        before = [np.array(value) for value in run.network.params.values()]
        with pytest.raises(ValueError, match=r"/run\.checkpoint: "):
            run.train()
        assert len(before) > 0
        for value, old in zip(run.network.params.values(), before, strict=True):
            np.testing.assert_array_equal(value, old)

    def test_with_something_that_no_file_keeps_are_refused(self, path):
        class Odd(self.Stateful):
            def state_dict(self):
                return {"a": [1, {2, 3}]}

        with pytest.raises(TypeError, match=r"callback\.Odd1\.a\.1 of a state_dict\(\) is a set"):
            trainer(checkpoint=path, callbacks=[Odd()]).train()

    def test_host_statistics_keep_their_dtype(self, path):
        class Counts(self.Stateful):
            def on_batch_end(self, trainer, step):
                self.average = np.arange(3)

        again = Counts()
        trainer(checkpoint=path, epochs=2, callbacks=[Counts()]).train()
        trainer(checkpoint=path, epochs=2, callbacks=[again]).train()
        assert again.average.dtype == np.arange(3).dtype and again.average.tolist() == [0, 1, 2]


ALL_AT_ONCE = [
    lambda: [EarlyStopping(monitor="test_acc", patience=4), EMA(0.9), WarmupLR(1, CosineLR())],
    lambda: [OneCycleLR(), EMA(0.5), EarlyStopping(monitor="loss", patience=9)],
    lambda: [ReduceLROnPlateau(monitor="loss", patience=1), EMA(0.9)],
]


@pytest.mark.parametrize("made", ALL_AT_ONCE, ids=["warmup", "one cycle", "plateau"])
@pytest.mark.parametrize("step", [1, 5, 6, 9])
@pytest.mark.quick(lambda step: step == 5)
def test_schedules_averages_and_early_stopping_go_on_as_they_were(path, made, step):
    options = {"epochs": 8, "validation_split": 0.2}
    whole = trainer(callbacks=made(), **options)
    whole.train()
    with pytest.raises(Stop):
        trainer(checkpoint=path, checkpoint_every=1, callbacks=[*made(), Once(step + 1, Stop())], **options).train()
    resumed = trainer(checkpoint=path, callbacks=made(), **options)
    resumed.train()
    assert_same_run(whole, resumed)
    assert whole.optimizer.lr == resumed.optimizer.lr and whole.current_epoch == resumed.current_epoch
    # a finished one is, once more
    again = trainer(checkpoint=path, callbacks=made(), **options)
    again.train()
    assert_same_run(whole, again)


@pytest.mark.parametrize("every", [1, 3, 4])
def test_between_batches_that_are_added_up_nothing_is_written(path, every):
    options = {"mini_batch_size": 3, "accumulate_grad_batches": 2, "drop_last": True}  # 25 rows
    whole = trainer(**options)
    whole.train()
    steps = whole.iter_per_epoch
    with pytest.raises(Stop):
        trainer(checkpoint=path, checkpoint_every=every, callbacks=[Once(steps + 6, Stop())], **options).train()
    written = json.loads(tensors.load_arrays(path)[1]["position"])["step"]
    assert written > steps and (written - steps) % 2 == 0
    resumed = trainer(checkpoint=path, **options)
    resumed.train()
    assert_same_run(whole, resumed)


def test_says_what_it_is_of(path):
    trainer(checkpoint=path).train()
    _, metadata = tensors.load_arrays(path)
    architecture = json.loads(metadata["architecture"])
    assert architecture["model"] == "Sequential" and architecture["input_shape"] == [4]
    assert architecture["layers"]["Affine1"] == "Affine(units=5)" and architecture["loss"] == "SoftmaxWithLoss"
    assert metadata["xpdl_version"] == xpdl.__version__ and metadata["format_version"] == str(tensors.FORMAT_VERSION)


def test_other_layers_are_another_run(path):
    def of(activation):
        network = Sequential(Affine(units=3), activation(), loss=SoftmaxWithLoss, seed=0)
        return Trainer(network, X, T, X, T, 2, 10, verbose=False, seed=0, checkpoint=path)

    of(Relu).train()
    with pytest.raises(ValueError, match=r"belongs to another run \(layers .*Relu.* there, .*Sigmoid.* here\)"):
        of(Sigmoid).train()


@pytest.mark.exhaustive
@pytest.mark.parametrize("library", params_of("torch", "array_api_strict"))
def test_of_another_library_is_read_where_that_is_not_installed(path, library):
    with xpdl.use(library):
        trainer(epochs=2, checkpoint=path, callbacks=[TestCallbacks.Stateful()]).train()
    program = (
        "import sys\n"
        "class NotInstalled:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name.split('.')[0] == {library!r}: raise ModuleNotFoundError(name=name)\n"
        "sys.meta_path.insert(0, NotInstalled())\n"
        "from tests.training.checkpoint.test_format import *\n"
        "arrays, _ = tensors.load_arrays(sys.argv[1])\n"
        "assert arrays and all(type(array) is np.ndarray for array in arrays.values())\n"
        "run = trainer(epochs=3, checkpoint=sys.argv[1], callbacks=[TestCallbacks.Stateful()])\n"
        "assert len(run.train().test_acc_list) == 3\n"
    )
    done = subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_needs_a_seed(path):
    with pytest.raises(ValueError, match="needs a seed"):
        trainer(checkpoint=path, seed=None)


def test_a_seed_may_be_a_number_of_numpy(path):
    one, same = trainer(epochs=1, checkpoint=path, seed=np.int64(3)), trainer(epochs=1, seed=3)
    one.train()
    same.train()
    assert path.exists()
    assert_same_run(one, same)
    with pytest.raises(TypeError, match=r"Trainer: seed must be an int, got 1\.5"):
        trainer(seed=1.5)


class ByHand:
    """A network as the book writes them: parameters, and no layers that the library knows."""

    def __init__(self):
        self.params = {"W": np.full((4, 3), 0.1, np.float32) * X[:4, :3], "b": np.zeros(3, np.float32)}

    def gradient(self, x, t):
        d = x @ self.params["W"] + self.params["b"] - np.eye(3, dtype=np.float32)[t]
        return {"W": x.T @ d / len(x), "b": d.mean(axis=0)}

    def loss(self, x, t):
        return float(np.mean((x @ self.params["W"] + self.params["b"] - np.eye(3)[t]) ** 2))

    def accuracy(self, x, t):
        return float(np.mean((x @ self.params["W"] + self.params["b"]).argmax(axis=1) == t))


def test_of_a_network_written_by_hand_goes_on_too(path):
    def of(epochs, **options):
        return Trainer(ByHand(), X, T, X, T, epochs, 10, "adam", verbose=False, seed=0, **options)

    whole, resumed = of(4), of(4, checkpoint=path)
    whole.train()
    of(2, checkpoint=path).train()
    metadata = tensors.load_arrays(path)[1]
    assert json.loads(metadata["architecture"]) == {"model": "ByHand"} and json.loads(metadata["counters"]) == {}
    resumed.train()
    assert resumed.train_loss_list == whole.train_loss_list and resumed.test_acc_list == whole.test_acc_list
    for name, value in whole.network.params.items():
        np.testing.assert_array_equal(resumed.network.params[name], value)


def test_a_run_that_goes_on_says_from_where(path, capsys):
    with pytest.raises(Stop):
        trainer(checkpoint=path, checkpoint_every=1, verbose=True, callbacks=[Once(6, Stop())]).train()
    assert [line.split("  ")[0] for line in capsys.readouterr().out.splitlines()] == ["epoch 1/4"]
    trainer(checkpoint=path, verbose=True).train()
    first, *epochs = capsys.readouterr().out.splitlines()
    assert first == f"going on after step 5, in epoch 2 from {path}"
    assert [line.split("  ")[0] for line in epochs] == ["epoch 2/4", "epoch 3/4", "epoch 4/4"]
    trainer(checkpoint=path, verbose=True).train()
    assert capsys.readouterr().out.splitlines() == [
        f"going on after epoch 4 from {path}",
        "nothing to train: all 4 epochs are done; train(epochs=n) goes on for n more",
    ]
