"""Two runs with one checkpoint: the second gets one clear error, and the first does not notice it."""

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
import types
import warnings
from contextlib import nullcontext as does_not_raise

import numpy as np
import pytest

from tests.training import runs
from tests.training.checkpoint.test_format import assert_same_run, trainer
from xpdl import cli, training
from xpdl.training.checkpoint.rotation import CheckpointFiles


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run"


class Waits:
    """Stops a run in a step until `go_on` is set."""

    def __init__(self, step):
        self.step, self.reached, self.go_on = step, threading.Event(), threading.Event()

    def on_batch_end(self, trainer, step):
        if step == self.step:
            self.reached.set()
            assert self.go_on.wait(60)


@pytest.mark.parametrize("by", ["path", "link"])
def test_second_one_is_refused_and_the_first_ends_as_if_alone(path, by):
    other = path
    if by == "link":
        other = path.with_name("link")
        other.symlink_to(path)
    whole = trainer()
    whole.train()
    waits = Waits(5)
    first = trainer(checkpoint=path, checkpoint_every=1, callbacks=[waits])
    thread = threading.Thread(target=first.train)
    thread.start()
    assert waits.reached.wait(60)
    half = path.with_name(".run.0123456789abcdef.part")
    half.write_bytes(b"what the first is writing")
    before = path.read_bytes()
    second = trainer(checkpoint=other)
    with pytest.raises(BlockingIOError, match=rf"{other}: another run is training with this checkpoint; wait") as said:
        second.train()
    assert "\n" not in str(said.value) and second.current_iter == 0
    assert path.read_bytes() == before and half.exists()
    half.unlink()
    waits.go_on.set()
    thread.join()
    assert_same_run(whole, first)
    trainer(checkpoint=other).train()
    assert not [name for name in os.listdir(path.parent) if name.endswith((".lock", ".part"))]


def test_other_paths_are_free(path):
    with CheckpointFiles(path, 2).locked(), does_not_raise():
        trainer(checkpoint=path.with_name("other"), epochs=1).train()


@pytest.mark.parametrize("where", ["on_train_begin", "on_batch_end", "on_train_end"])
def test_a_callback_that_raises_gives_the_lock_back(path, where):
    class Raises:
        pass

    def fail(*_):
        raise RuntimeError("of the callback")

    setattr(Raises, where, fail)
    whole = trainer()
    whole.train()
    with pytest.raises(RuntimeError, match="of the callback"):
        trainer(checkpoint=path, callbacks=[Raises()]).train()
    resumed = trainer(checkpoint=path)
    resumed.train()
    assert_same_run(whole, resumed)


@pytest.mark.exhaustive
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_killed_run_locks_nobody_out(path):
    program = (
        "import sys, time; from tests.training.checkpoint.test_format import trainer\n"
        "class Waits:\n"
        "    def on_batch_end(self, trainer, step):\n"
        "        if step == 7: print('there', flush=True); time.sleep(600)\n"
        "trainer(checkpoint=sys.argv[1], callbacks=[Waits()]).train()"
    )
    with subprocess.Popen([sys.executable, "-c", program, str(path)], stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"there\n"
        with pytest.raises(BlockingIOError):
            trainer(checkpoint=path).train()
        process.send_signal(signal.SIGKILL)
    whole, resumed = trainer(), trainer(checkpoint=path)
    whole.train()
    resumed.train()
    assert_same_run(whole, resumed)
    assert not path.with_name(".run.lock").exists()


class Forks:
    """Has a child process during a step, as one that reads data."""

    def __init__(self, target, step=4):
        self.step, self.child = step, multiprocessing.get_context("fork").Process(target=target)

    def on_batch_end(self, trainer, step):
        if step == self.step:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # Python and JAX warn of forks beside threads
                self.child.start()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
class TestForks:
    @pytest.mark.exhaustive
    def test_a_child_has_no_lock_when_the_run_is_killed(self, path):
        program = (
            "import os, sys, time; from tests.training.checkpoint.test_format import trainer\n"
            "class Forks:\n"
            "    def on_batch_end(self, trainer, step):\n"
            "        if step == 7:\n"
            "            child = os.fork()\n"
            "            if not child: time.sleep(600)\n"
            "            print(child, flush=True); os.kill(os.getpid(), 9)\n"
            "trainer(checkpoint=sys.argv[1], callbacks=[Forks()]).train()"
        )
        with subprocess.Popen([sys.executable, "-c", program, str(path)], stdout=subprocess.PIPE) as process:
            child = int(process.stdout.readline())
            assert process.wait(60) == -9
        whole, resumed = trainer(), trainer(checkpoint=path)
        whole.train()
        try:
            os.kill(child, 0)  # it is still there
            resumed.train()
        finally:
            os.kill(child, signal.SIGKILL)
        assert_same_run(whole, resumed)

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    def test_a_child_ends_by_a_signal_that_the_run_itself_would_note(self, path, number):
        forks = Forks(lambda: time.sleep(600))
        trainer(checkpoint=path, callbacks=[forks, self.Signals(forks, number)]).train()
        forks.child.join(60)
        assert forks.child.exitcode == (-number if number is signal.SIGTERM else 1)

    class Signals:
        def __init__(self, forks, number):
            self.forks, self.number = forks, number

        def on_epoch_end(self, trainer, epoch):
            if epoch == 2:
                time.sleep(0.5)  # until the child is in its own code
                os.kill(self.forks.child.pid, self.number)

    def test_a_child_does_not_write_in_the_place_of_the_run(self, path):
        files, codes = CheckpointFiles(path, 2), []
        run = trainer()

        def child():
            with pytest.raises(RuntimeError, match="a forked process cannot go on with its parent's training"):
                files.write(run.as_run(), run.state)
            with pytest.raises(BlockingIOError), files.locked():
                pass

        with files.locked():
            forks = Forks(child)
            forks.on_batch_end(run, 4)
            forks.child.join(60)
            codes.append(forks.child.exitcode)
            assert files.write(run.as_run(), run.state)
        assert codes == [0]

    def test_a_child_of_a_run_that_reads_ahead_ends_and_can_compute(self, tmp_path):
        np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(size=(90, 2)).astype(np.float32))
        x, t = np.load(tmp_path / "x.npy", mmap_mode="r"), np.arange(90) % 2
        outcomes = multiprocessing.get_context("fork").SimpleQueue()

        def child():
            network = runs.net(3)
            training.Trainer(network, x, t, x, t, 2, 20, verbose=False, seed=0).train()
            outcomes.put(float(network.last_loss))

        forks = Forks(child)
        options = {"epochs": 2, "mini_batch_size": 20, "verbose": False, "seed": 0}
        training.Trainer(runs.net(3), x, t, x, t, callbacks=[forks], **options).train()
        forks.child.join(60)
        try:
            assert forks.child.exitcode == 0
        finally:
            forks.child.kill()
        here = runs.net(3)
        training.Trainer(here, x, t, x, t, 2, 20, verbose=False, seed=0).train()
        assert outcomes.get() == float(here.last_loss)


def test_command_line_sets_nothing_aside_that_is_in_use(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    files = CheckpointFiles(tmp_path / "runs" / "TwoLayerNet.checkpoint", 2)
    files.path.write_bytes(b"of the first")
    for more in ([], ["--resume"]):
        with files.locked():
            assert cli.main(["train", "--model", "TwoLayerNet", *more]) == 2
        said = capsys.readouterr().err
        assert said.count("\n") == 1 and "TwoLayerNet.checkpoint: another run is training with this checkpoint" in said
        assert os.listdir(tmp_path / "runs") == ["TwoLayerNet.checkpoint"]


EVENTS = ("on_train_begin", "on_epoch_begin", "on_batch_begin", "on_batch_end", "on_test_begin", "on_epoch_end")


@pytest.mark.parametrize("event", EVENTS)
def test_callback_does_not_begin_its_own_training_again(event):
    refused = []

    def again(trainer, *number):
        with pytest.raises(RuntimeError, match=r"Trainer\.train: this training is under way") as error:
            trainer.train()
        refused.append(error)

    of_event = (lambda trainer: again(trainer)) if event == "on_train_begin" else lambda trainer, number: again(trainer)
    expected, found = trainer(), trainer(callbacks=[types.SimpleNamespace(**{event: of_event})])
    expected.train()
    found.train()
    assert refused
    assert_same_run(found, expected)


def test_second_thread_does_not_train_beside_the_first():
    waits = Waits(3)
    first = trainer(callbacks=[waits])
    thread = threading.Thread(target=first.train)
    thread.start()
    assert waits.reached.wait(60)
    with pytest.raises(RuntimeError, match="under way, in another thread"):
        first.train()
    waits.go_on.set()
    thread.join()
    expected = trainer()
    expected.train()
    assert_same_run(first, expected)
