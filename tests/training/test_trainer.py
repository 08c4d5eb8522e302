"""The training loop: exact epochs, one forward per step, nothing lost, nothing read too early."""

import copy
import re
import subprocess
import sys
import threading
from typing import ClassVar

import numpy as np
import pytest

import xpdl
from tests.harness import nonempty
from xpdl import (
    EMA,
    Adam,
    Affine,
    BatchNormalization,
    Convolution,
    CosineLR,
    Dropout,
    EarlyStopping,
    Flatten,
    IdentityWithLoss,
    LabelError,
    Relu,
    Sequential,
    ShapeError,
    SoftmaxWithLoss,
    Trainer,
)
from xpdl.data import Batches, Prefetch, augment

RNG = np.random.default_rng(0)
X = RNG.normal(size=(25, 4))
T = RNG.integers(0, 3, 25)


def net(seed=0):
    return Sequential(Affine(units=5), Relu(), Affine(units=3), loss=SoftmaxWithLoss, seed=seed)


def trainer(network=None, x=X, t=T, **options):
    options = {"epochs": 2, "mini_batch_size": 10, "verbose": False, "seed": 0, **options}
    return Trainer(net() if network is None else network, x, t, x, t, **options)


class BookNet:
    """A network written out by hand as in the book's chapter 4, for NumPy arrays."""

    def __init__(self):
        rng = np.random.default_rng(1)
        self.params = {"W": 0.1 * rng.normal(size=(4, 3)), "b": np.zeros(3)}
        self.forwards = 0
        self.batches = []

    def predict(self, x):
        self.forwards += 1
        scores = x @ self.params["W"] + self.params["b"]
        scores = np.exp(scores - scores.max(axis=1, keepdims=True))
        return scores / scores.sum(axis=1, keepdims=True)

    def loss(self, x, t):
        return -np.mean(np.log(self.predict(x)[np.arange(len(t)), t]))

    def accuracy(self, x, t):
        return np.mean(self.predict(x).argmax(axis=1) == t)

    def gradient(self, x, t):
        self.batches.append(x)
        d = self.predict(x)
        d[np.arange(len(t)), t] -= 1
        d /= len(t)
        return {"W": x.T @ d, "b": d.sum(axis=0)}


class TestEpochs:
    def test_see_every_row_once_and_keep_the_last_batch(self):
        network = BookNet()
        trainer(network, epochs=3).train()
        assert [len(x) for x in network.batches] == [10, 10, 5] * 3
        for epoch in range(3):
            seen = np.concatenate(network.batches[3 * epoch : 3 * epoch + 3])
            np.testing.assert_array_equal(np.sort(seen, axis=0), np.sort(X, axis=0))
        assert not np.array_equal(network.batches[0], network.batches[3])

    def test_are_exactly_as_many_as_asked_for(self):
        run = trainer(epochs=4)
        history = run.train()
        assert run.iter_per_epoch == 3 and run.current_epoch == 4 and run.current_iter == 12
        assert len(history.train_loss_list) == 12
        assert len(history.train_acc_list) == len(history.test_acc_list) == len(history.seconds) == 4

    def test_after_the_last_none_follows(self):
        run = trainer()
        before = run.train().train_loss_list[:]
        assert run.train().train_loss_list == before

    def test_batch_larger_than_the_data_is_all_of_it(self):
        network = BookNet()
        trainer(network, epochs=1, mini_batch_size=1000).train()
        assert [len(x) for x in network.batches] == [25]


class TestBegin:
    def test_by_default_as_in_the_book(self, tmp_path):
        run = Trainer(net(), X, T, X, T)
        assert (run.epochs, run.batch_size, run.accumulate_grad_batches, run.verbose) == (20, 100, 1, True)
        assert repr(run.optimizer) == "SGD(lr=0.01)" and run.evaluate_sample_num_per_epoch is None
        assert run.x_val is None and run.seed is None and run.augment is None
        assert Trainer(net(), X, T, X, T, seed=0, checkpoint=tmp_path / "run").checkpointer.files.max_checkpoints == 2

    def test_nothing_is_done_yet(self):
        run = trainer()
        assert (run.current_epoch, run.current_iter, run.state.seconds, run.stop_training) == (0, 0, 0.0, False)
        assert run.history == xpdl.History()

    def test_order_of_the_rows_is_the_same_in_every_version_of_this_library(self):
        """Or a run that goes on would see some rows twice."""
        network = BookNet()
        trainer(network, epochs=1).train()
        order = [int(np.flatnonzero((row == X).all(axis=1))[0]) for row in network.batches[0]]
        assert order == [24, 0, 5, 11, 10, 8, 3, 4, 12, 23]

    def test_only_rows_on_the_disk_are_read_ahead(self, tmp_path):
        np.save(tmp_path / "x.npy", X)
        mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
        assert isinstance(trainer(x=mapped).batches, Prefetch) and isinstance(trainer().batches, Batches)


class TestProgress:
    @pytest.fixture
    def calls(self, monkeypatch):
        found = []

        class Progress:
            def __init__(self, verbose, words):
                found.append(("verbose", verbose))

            def __getattr__(self, name):
                return lambda *args: found.append((name, *args))

        monkeypatch.setattr("xpdl.training.loop.Progress", Progress)
        return found

    def test_a_bar_for_each_epoch_is_taken_away_before_its_line(self, calls):
        trainer(epochs=2, verbose=True).train()
        assert [name for name, *_ in calls] == ["verbose", *(["start", *["step"] * 3, "close", "line"] * 2)]
        assert calls[0] == ("verbose", True)
        assert [call for call in calls if call[0] == "start"] == [
            ("start", "epoch 1/2", 3, 0, 1),
            ("start", "epoch 2/2", 3, 0, 0),
        ]

    def test_also_when_the_epoch_breaks_off(self, calls):
        class Break:
            def on_batch_end(self, trainer, step):
                raise RuntimeError

        with pytest.raises(RuntimeError):
            trainer(callbacks=[Break()]).train()
        assert [name for name, *_ in calls] == ["verbose", "start", "step", "close"]

    def test_a_line_has_the_mean_loss_and_the_measures_of_its_epoch(self, calls):
        """Steps count by their rows."""
        history = trainer(epochs=2).train()
        lines = [call[1] for call in calls if call[0] == "line"]
        for epoch, line in enumerate(nonempty(lines), 1):
            mean = np.average(history.train_loss_list[3 * epoch - 3 : 3 * epoch], weights=[10, 10, 5])
            assert line == (
                f"epoch {epoch}/2  loss {mean:.4f}  train accuracy {history.train_acc_list[epoch - 1]:.4f}  "
                f"test accuracy {history.test_acc_list[epoch - 1]:.4f}  test loss {history.test_loss_list[epoch - 1]:.4f}  "
                f"{history.seconds[epoch - 1]:.1f} s"
            )

    def test_a_step_shows_its_own_loss(self, calls):
        history = trainer(epochs=1).train()
        assert [call[1]() for call in calls if call[0] == "step"] == history.train_loss_list


class TestStep:
    def test_one_forward_pass_gives_loss_and_gradient(self, monkeypatch):
        network = net()
        run = trainer(network, epochs=1, evaluate_sample_num_per_epoch=1)
        calls = []
        forward = SoftmaxWithLoss.forward
        monkeypatch.setattr(SoftmaxWithLoss, "forward", lambda self, x, t: calls.append(len(x)) or forward(self, x, t))
        run.train()
        assert calls == [10, 10, 5, 1]  # the last one to test with

    def test_equals_the_same_steps_by_hand(self):
        run = trainer(optimizer="adam", optimizer_param={"lr": 0.02}, epochs=2)
        run.train()
        network, adam = net(), Adam(0.02)
        network.build((4,))
        losses = []
        for epoch in range(2):
            run.batches.epoch = epoch
            for x, t in run.batches:
                adam.update(network.params, network.gradient(x, t))
                losses.append(float(network.last_loss))
        for name, value in network.params.items():
            np.testing.assert_array_equal(run.network.params[name], value)
        assert run.train_loss_list == losses

    def test_same_seed_same_run(self):
        one, two, other = trainer().train(), trainer().train(), trainer(seed=1).train()
        assert one.train_loss_list == two.train_loss_list != other.train_loss_list

    def test_without_a_seed_follows_xpdl_seed(self):
        losses = []
        for n in (5, 5, 6):
            xpdl.seed(n)
            losses.append(trainer(net(seed=None), seed=None).train().train_loss_list)
        assert losses[0] == losses[1] != losses[2]

    def test_augments_training_rows_only(self):
        seen = []

        def transform(x, *_):
            seen.append(len(x))
            return x

        trainer(epochs=1, augment=transform).train()
        assert seen == [10, 10, 5]

    def test_mapped_file_stays_on_the_disk_and_gives_the_same_run(self, tmp_path):
        path = tmp_path / "x.npy"
        np.save(path, X)
        mapped = np.load(path, mmap_mode="r")
        run = trainer(x=mapped)
        assert run.x_train is mapped
        found, expected = run.train(), trainer().train()
        assert found.train_loss_list == expected.train_loss_list and found.test_acc_list == expected.test_acc_list


class TestBookNetworks:
    def test_learn_and_report_the_loss_before_each_update(self):
        network, twin = BookNet(), BookNet()
        run = trainer(network, epochs=30, optimizer_param={"lr": 0.5})
        history = run.train()
        assert history.train_loss_list[0] == pytest.approx(
            float(twin.loss(network.batches[0], _labels(network.batches[0])))
        )
        assert history.train_loss_list[-1] < history.train_loss_list[0]
        assert history.test_acc_list[-1] == np.mean(network.predict(X).argmax(axis=1) == T)

    def test_loss_kept_by_their_last_layer_is_taken(self):
        network = BookNet()
        network.last_layer = type("Loss", (), {"loss": 3.25})()
        assert trainer(network, epochs=1).train().train_loss_list == [3.25] * 3

    def test_partial_batches_count_in_accuracy(self):
        """ERRATA 7: with the book's accuracy, which loops over whole batches, every row counts all the same."""

        class Dropping(BookNet):
            def accuracy(self, x, t, batch_size=100):
                right = 0.0
                for i in range(len(x) // batch_size):
                    part = slice(i * batch_size, (i + 1) * batch_size)
                    right += np.sum(self.predict(x[part]).argmax(axis=1) == t[part])
                return right / len(x)

        network = Dropping()
        x = RNG.normal(size=(450, 4))
        t = network.predict(x).argmax(axis=1)
        run = trainer(network, x, t, epochs=1, optimizer_param={"lr": 0.0})
        assert run.train().test_acc_list == [1.0]


def _labels(rows):
    return np.array([T[np.flatnonzero((row == X).all(axis=1))[0]] for row in rows])


@pytest.mark.backends("values")
@pytest.mark.skip_backend("jit", reason="a training loop is not traced")
class TestBackends:
    def test_host_arrays_are_moved_once_to_the_network(self, backend):
        with backend.use():
            network = net()
            run = trainer(network)
        run.train()
        value = network.params["Affine1.W"]
        backend.check(value, backend.to_numpy(value), dtype=backend.float)
        assert xpdl.asnumpy(run.x_train).shape == X.shape and run.t_train.shape == T.shape

    def test_loss_on_a_device_is_read_after_the_steps_only(self, backend):
        reads = []

        class Watch:
            def on_batch_end(self, trainer, step):
                reads.append(len(trainer.train_loss_list))

        with backend.use():
            trainer(epochs=1, callbacks=[Watch()]).train()
        assert reads == ([1, 2, 3] if backend.spec.library == "numpy" else [0, 0, 0])

    @pytest.mark.skip_backend("numpy", reason="on the host, each loss is looked at at once")
    def test_losses_are_read_every_hundred_steps(self, backend):
        reads = []

        class Watch:
            def on_batch_end(self, trainer, step):
                reads.append(len(trainer.train_loss_list))

        with backend.use():
            network = Sequential(Affine(units=3), loss=SoftmaxWithLoss, seed=0)
            x, t = np.tile(X, (5, 1))[:102], np.tile(T, 5)[:102]
            trainer(network, x, t, epochs=1, mini_batch_size=1, callbacks=[Watch()]).train()
        assert reads == [0] * 99 + [100] * 3

    def test_all_backends_make_the_same_run(self, backend):
        reference = trainer(net(), X, T, epochs=3, optimizer="adam")
        with backend.use("float64" if backend.spec.float64 else "float32"):
            run = trainer(net(), X, T, epochs=3, optimizer="adam")
        with xpdl.use("numpy", dtype=backend.float):
            reference = trainer(net(), X, T, epochs=3, optimizer="adam")
        np.testing.assert_allclose(
            run.train().train_loss_list, reference.train().train_loss_list, rtol=1e-10 if backend.spec.float64 else 1e-5
        )


class TestOptions:
    def test_regression_reports_losses_and_no_accuracy(self, capsys):
        network = Sequential(Affine(units=1), loss=IdentityWithLoss, seed=0)
        t = X[:, :1] * 2
        run = trainer(network, X, t, epochs=50, optimizer_param={"lr": 0.1}, verbose=True)
        history = run.train()
        assert history.test_acc_list == [] and len(history.test_loss_list) == 50
        assert history.test_loss_list[-1] < 0.1 * history.test_loss_list[0]
        assert "test loss" in capsys.readouterr().out

    def test_accuracy_of_a_sample_only(self):
        network = BookNet()
        seen = []
        network.accuracy = lambda x, t: seen.append(len(x)) or 0.5
        trainer(network, epochs=1, evaluate_sample_num_per_epoch=7).train()
        assert seen == [7, 7]

    def test_sample_larger_than_the_data_is_all_of_it(self):
        """array_api_strict refuses slices that end beyond the last row."""
        with xpdl.use("array_api_strict"):
            history = trainer(epochs=1, evaluate_sample_num_per_epoch=1000).train()
        assert history.test_acc_list == trainer(epochs=1).train().test_acc_list

    @pytest.mark.parametrize("outputs", [1, 3])
    @pytest.mark.parametrize("loss", [xpdl.IdentityWithLoss, xpdl.SigmoidWithLoss, xpdl.SoftmaxWithLoss])
    def test_a_loss_that_is_summed_over_outputs_is_shown_as_a_mean_too(self, loss, outputs, capsys, monkeypatch):
        monkeypatch.setattr(xpdl.training.progress, "_SECONDS_BETWEEN_LINES", 0.0)
        rng = np.random.default_rng(0)
        x, t = rng.standard_normal((40, 4)), (rng.random((40, outputs)) > 0.5).astype("float64")
        t = t / t.sum(axis=1, keepdims=True).clip(1) if loss is xpdl.SoftmaxWithLoss else t
        net = xpdl.Sequential(xpdl.Affine(units=outputs), loss=loss, seed=0)
        history = Trainer(net, x, t, x, t, epochs=1, seed=0).train()
        y = np.asarray(net.predict(x), "float64")
        p = 1 / (1 + np.exp(-y))
        mean, name = {
            xpdl.IdentityWithLoss: (np.mean((y - t) ** 2), "mse"),
            xpdl.SigmoidWithLoss: (-np.mean(t * np.log(p) + (1 - t) * np.log1p(-p)), "mean over 3 outputs"),
            xpdl.SoftmaxWithLoss: (0.0, ""),
        }[loss]
        line, within = capsys.readouterr()
        shown = re.search(r"test loss ([\d.]+)(?: \((.*?) ([\d.]+)\))?", line)
        assert shown[1] == f"{history.test_loss_list[-1]:.4f}"
        sums = bool(name) and outputs > 1
        assert shown[2] == (name if sums else None)
        assert float(shown[3] or 0) == pytest.approx(mean if sums else 0, abs=6e-5)
        assert line.count("(") == 2 * sums and within.count(f"({name} ") == sums  # of the training rows, too

    def test_verbose_prints_one_line_per_epoch_and_quiet_none(self, capsys):
        trainer(verbose=True).train()
        out = capsys.readouterr().out.splitlines()
        assert len(out) == 2 and out[0].startswith("epoch 1/2  loss ") and "test accuracy 0." in out[0]
        trainer().train()
        assert capsys.readouterr() == ("", "")

    def test_callbacks_are_called_in_order(self):
        calls = []

        class Record:
            def __getattr__(self, event):
                if not event.startswith("on_"):
                    raise AttributeError(event)
                return lambda trainer, *args: calls.append((event, *args))

        trainer(epochs=1, callbacks=[Record()]).train()
        assert calls == [
            ("on_train_begin",),
            ("on_epoch_begin", 1),
            ("on_batch_begin", 1),
            ("on_batch_end", 1),
            ("on_batch_begin", 2),
            ("on_batch_end", 2),
            ("on_batch_begin", 3),
            ("on_batch_end", 3),
            ("on_test_begin", 1),
            ("on_epoch_end", 1),
            ("on_train_end",),
        ]

    def test_what_is_measured_is_what_on_test_begin_left(self):
        class Forget:
            def on_test_begin(self, trainer, epoch):
                for value in trainer.network.params.values():
                    value[...] = 0

        run = trainer(epochs=1, callbacks=[Forget()])
        zeros = float(np.mean(run.t_test == 0))
        assert run.train().test_acc_list == [zeros]

    def test_callback_can_stop_the_training(self):
        class Stop:
            def on_epoch_end(self, trainer, epoch):
                trainer.stop_training = epoch == 2

        run = trainer(epochs=5, callbacks=[Stop()])
        assert len(run.train().test_acc_list) == 2
        assert len(run.train().test_acc_list) == 5

    def test_what_is_no_callback_is_refused(self):
        with pytest.raises(TypeError, match="on_epoch_end"):
            trainer(callbacks=[print])

    def test_optimizer_instance_is_used_as_it_is(self):
        adam = Adam(0.5)
        run = trainer(optimizer=adam)
        run.train()
        assert run.optimizer is adam and adam.iter == 6


class TestWrongInput:
    def test_labels_are_checked_when_they_enter(self):
        with pytest.raises(LabelError, match="t_train"):
            trainer(t=T + 1)

    @pytest.mark.parametrize("x, t", [(X, T[:-1]), (X[:0], T[:0]), (X[0, 0], T)])
    def test_rows_that_do_not_fit_together(self, x, t):
        with pytest.raises(ShapeError, match="x_train"):
            trainer(x=x, t=t)

    def test_rows_that_do_not_fit_the_network(self):
        network = net()
        network.build((7,))
        with pytest.raises(ShapeError, match="Affine1"):
            trainer(network)

    @pytest.mark.parametrize("option", ["epochs", "mini_batch_size", "evaluate_sample_num_per_epoch"])
    @pytest.mark.parametrize("value", [0, -1, 2.5, True])
    def test_counts_are_positive_ints(self, option, value):
        with pytest.raises(ValueError, match=option):
            trainer(**{option: value})

    def test_integer_images_are_refused(self):
        with pytest.raises(xpdl.DTypeError, match="divide by 255"):
            trainer(x=X.astype(np.uint8)).train()


class TestNonFinite:
    def test_stops_and_names_the_layer(self):
        network = net()
        network.build((4,))
        network.params["Affine2.b"] = np.full(3, np.nan, np.float32)
        with pytest.raises(FloatingPointError, match="nan at step 1: the parameter b of layer Affine2"):
            trainer(network).train()

    def test_names_the_input_of_a_mapped_file(self, tmp_path):
        x = np.memmap(tmp_path / "x", X.dtype, "w+", shape=X.shape)
        x[:] = X
        x[3] = np.inf
        with pytest.raises(FloatingPointError, match="the input itself"), np.errstate(invalid="ignore"):
            trainer(x=x, epochs=1, mini_batch_size=25).train()

    def test_history_keeps_what_was_finite(self):
        run = trainer(epochs=1)

        class Break:
            def on_batch_end(self, trainer, step):
                if step == 2:
                    trainer.network.params["Affine1.b"] = np.full(5, np.nan, np.float32)

        run.callbacks.callbacks.append(Break())
        with pytest.raises(FloatingPointError, match="step 3"):
            run.train()
        assert len(run.train_loss_list) == 2 and all(np.isfinite(run.train_loss_list))


@pytest.mark.exhaustive
def test_progress_bar_only_on_a_terminal():
    code = (
        "import numpy as np, xpdl\n"
        "x, t = xpdl.xor_points(40, seed=0)\n"
        "net = xpdl.Sequential(xpdl.Affine(units=2), loss=xpdl.SoftmaxWithLoss, seed=0)\n"
        "xpdl.Trainer(net, x, t, x, t, epochs=1, seed=0).train()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == "" and done.stdout.startswith("epoch 1/1")


@pytest.mark.needs("jax")
def test_trains_on_jax_without_64_bit_types():
    import jax

    x, t = xpdl.data.moons(20, seed=0)
    with jax.enable_x64(False), xpdl.use("jax"):
        net = Sequential(Affine(units=2), loss=SoftmaxWithLoss, seed=0)
        history = Trainer(net, x, t, x, t, epochs=1, verbose=False).train()
        steps = xpdl.step_function(xpdl.asarray([-1.0, 2.0]))
    assert 0 <= history.test_acc_list[0] <= 1
    assert xpdl.asnumpy(steps).tolist() == [0, 1]


def test_two_trainers_in_two_threads_do_what_each_does_alone():
    rng = np.random.default_rng(0)
    x, t = rng.normal(size=(60, 1, 6, 6)).astype(np.float32), rng.integers(0, 3, 60)

    def made(seed):
        network = Sequential(
            Convolution(filters=4, size=3, pad=1),
            BatchNormalization(),
            Relu(),
            Flatten(),
            Dropout(0.3),
            Affine(units=3),
            loss=SoftmaxWithLoss,
            seed=seed,
        )
        return Trainer(network, x, t, x, t, 6, 10, "adam", verbose=False, seed=seed, augment=[augment.Shift(1)])

    alone, together = [made(seed) for seed in (0, 1)], [made(seed) for seed in (0, 1)]
    for trainer in alone:
        trainer.train()
    meet = threading.Barrier(2)
    threads = [threading.Thread(target=lambda run=run: (meet.wait(), run.train())) for run in together]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for one, other in zip(nonempty(alone), together, strict=True):
        assert len(other.train_loss_list) == 36 and one.train_loss_list == other.train_loss_list
        assert one.test_acc_list == other.test_acc_list
        for name, value in one.network.state_dict().items():
            np.testing.assert_array_equal(other.network.state_dict()[name], value)


class TestCopies:
    """`copy.deepcopy` gives a trainer that goes on by itself."""

    OPTIONS: ClassVar = {
        "plain": dict,
        "callbacks with a state": lambda: {"callbacks": [EMA(0.9), CosineLR(), EarlyStopping()], "optimizer": "adam"},
        "mixed precision": lambda: {"precision": "float16"},
        "accumulated": lambda: {"accumulate_grad_batches": 2},
        "augmented": lambda: {"augment": _noise},
    }

    @pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
    @pytest.mark.parametrize("begun", [0, 2])
    def test_goes_on_alike_and_apart(self, options, begun):
        run = trainer(epochs=begun or 4, **options())
        if begun:
            run.train()
        before, copied = run.network.state_dict(), copy.deepcopy(run)
        run.epochs = copied.epochs = 4
        copied.train()
        for name, value in run.network.state_dict().items():
            np.testing.assert_array_equal(value, before[name], err_msg=name)
        assert run.current_epoch == begun and copied.current_epoch == 4
        run.train()
        assert run.history.train_loss_list == copied.history.train_loss_list
        for name, value in run.network.state_dict().items():
            np.testing.assert_array_equal(value, copied.network.state_dict()[name], err_msg=name)


def _noise(x, stream):
    return x + stream.generator("noise").normal(size=x.shape).astype(x.dtype)
