"""Two runs with one checkpoint: the second gets one clear error, and the first does not notice it."""

import os
import signal
import subprocess
import sys
import threading

import pytest

from tests.training.test_checkpoint import assert_same_run, trainer
from xpdl import cli
from xpdl.training.checkpoint_files import CheckpointFiles


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
    with CheckpointFiles(path, 2).locked():
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


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_killed_run_locks_nobody_out(path):
    program = (
        "import sys, time; from tests.training.test_checkpoint import trainer\n"
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
