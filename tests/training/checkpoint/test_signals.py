"""Ctrl-C and SIGTERM: the step is finished, the run written, and the program ends as the signal asks for."""

import os
import signal
import subprocess
import sys
import threading

import pytest

from tests.training.checkpoint.test_format import STEPS, assert_same_run, trainer
from xpdl.training.checkpoint.signals import Interrupts

DEFAULTS = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}


@pytest.fixture(autouse=True)
def handlers_are_as_before():
    yield
    assert {number: signal.getsignal(number) for number in DEFAULTS} == DEFAULTS


class Signals:
    """Raises a signal in the middle of some steps, as `method` does it."""

    def __init__(self, number, *steps):
        self.number, self.steps = number, steps

    def on_batch_end(self, trainer, step):
        for _ in range(self.steps.count(step)):
            signal.raise_signal(self.number)


def test_the_first_one_is_noted_and_raised_on_the_way_out():
    after = []
    with pytest.raises(KeyboardInterrupt), Interrupts() as interrupts:
        assert interrupts.noted is None
        signal.raise_signal(signal.SIGINT)
        after.append(interrupts.noted)
    assert after == [signal.SIGINT]


def test_an_error_is_not_replaced_by_it():
    with pytest.raises(ZeroDivisionError), Interrupts():
        signal.raise_signal(signal.SIGINT)
        raise ZeroDivisionError


def test_entered_again_it_leaves_a_handler_that_the_program_has_since_then():
    interrupts = Interrupts()
    with interrupts:
        pass
    own = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        with interrupts:
            pass
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGTERM, own)


def run_to_the_end(path):
    resumed = trainer(checkpoint=path)
    resumed.train()
    return resumed


@pytest.mark.parametrize("step", [1, 5, 6, STEPS])
def test_ctrl_c_finishes_the_step_and_says_how_to_go_on(tmp_path, step):
    path = tmp_path / "run"
    run = trainer(checkpoint=path, checkpoint_every=50, callbacks=[Signals(signal.SIGINT, step)])
    with pytest.raises(KeyboardInterrupt, match=rf"started again with the same arguments .* from {path}$"):
        run.train()
    assert run.current_iter == step
    whole = trainer()
    whole.train()
    assert_same_run(whole, run_to_the_end(path))


def test_termination_ends_with_the_code_of_the_signal(tmp_path, capsys):
    path = tmp_path / "run"
    run = trainer(checkpoint=path, callbacks=[Signals(signal.SIGTERM, 5)])
    with pytest.raises(SystemExit) as ended:
        run.train()
    assert ended.value.code == 143
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and said.startswith("terminated: stopped after step 5, in epoch 2;")
    whole = trainer()
    whole.train()
    assert_same_run(whole, run_to_the_end(path))


def test_the_same_trainer_goes_on_too(tmp_path):
    run = trainer(checkpoint=tmp_path / "run", callbacks=[Signals(signal.SIGINT, 5)])
    with pytest.raises(KeyboardInterrupt):
        run.train()
    run.callbacks.callbacks.clear()
    run.train()
    whole = trainer()
    whole.train()
    assert_same_run(whole, run)


def test_second_ctrl_c_stops_at_once(tmp_path):
    path = tmp_path / "run"
    run = trainer(checkpoint=path, callbacks=[Signals(signal.SIGINT, 5, 5)])
    with pytest.raises(KeyboardInterrupt) as ended:
        run.train()
    assert not str(ended.value)
    assert run_to_the_end(path).current_epoch == 4


def test_one_that_comes_after_the_last_step_is_not_lost(tmp_path, monkeypatch):
    run = trainer(checkpoint=tmp_path / "run")
    write = run.checkpointer.files.write

    def write_and_signal(settings, state):
        done = write(settings, state)
        if state.epoch == 4:
            run.checkpointer.files.write = write
            signal.raise_signal(signal.SIGINT)
        return done

    run.checkpointer.files.write = write_and_signal
    with pytest.raises(KeyboardInterrupt):
        run.train()
    assert run.current_epoch == 4


def test_without_a_checkpoint_nothing_is_changed():
    run = trainer(callbacks=[Signals(signal.SIGINT, 5)])
    with pytest.raises(KeyboardInterrupt):
        run.train()
    assert run.current_iter == 5


def test_a_handler_of_the_program_is_left_in_its_place(tmp_path):
    seen = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: seen.append(number))
    try:
        run = trainer(checkpoint=tmp_path / "run", callbacks=[Signals(signal.SIGTERM, 5)])
        run.train()
    finally:
        signal.signal(signal.SIGTERM, before)
    assert seen == [signal.SIGTERM] and run.current_epoch == 4


def test_in_another_thread_no_handler_is_installed(tmp_path):
    seen, run = [], trainer(checkpoint=tmp_path / "run")

    class Looks:
        def on_batch_end(self, trainer, step):
            seen.append({number: signal.getsignal(number) for number in DEFAULTS} == DEFAULTS)

    run.callbacks.callbacks.append(Looks())
    thread = threading.Thread(target=run.train)
    thread.start()
    thread.join()
    assert seen == [True] * STEPS


def test_a_run_whose_last_write_fails_says_so(tmp_path, monkeypatch):
    run = trainer(checkpoint=tmp_path / "run", callbacks=[Signals(signal.SIGINT, 5)])

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with (
        pytest.warns(UserWarning, match="no checkpoint was written after step"),
        pytest.raises(KeyboardInterrupt, match="step 5, in epoch 2, of which no checkpoint could be written"),
    ):
        run.train()


@pytest.mark.exhaustive
@pytest.mark.parametrize("number, code", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.quick(lambda number: number == signal.SIGTERM)
def test_command_line_ends_with_the_code_of_the_signal_and_resumes(tmp_path, number, code):
    program = (
        "import os, signal, sys; from xpdl import cli, training\n"
        "class Kill:\n"
        "    def on_batch_end(self, trainer, step):\n"
        "        if step == 250: os.kill(os.getpid(), int(sys.argv.pop()))\n"
        "train = training.Trainer.train\n"
        "def killed(self):\n"
        "    self.callbacks.callbacks.append(Kill())\n"
        "    return train(self)\n"
        "training.Trainer.train = killed\n"
        "sys.exit(cli.main(sys.argv[1:-1]))\n"
    )
    command = [sys.executable, "-c", program, "train", "--model", "TwoLayerNet", "--epochs", "2", "--batch-size", "32"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, str(int(number))], capture_output=True, text=True, env=environment, cwd=tmp_path, check=False
    )
    assert done.returncode == code and done.stderr.count("\n") == 1 and "--resume" in done.stderr
    resumed = subprocess.run(
        [sys.executable, "-m", "xpdl", *command[3:], "--resume"],
        capture_output=True,
        text=True,
        env=environment,
        cwd=tmp_path,
        check=False,
    )
    assert resumed.returncode == 0 and "going on after step 250, in epoch 2" in resumed.stdout
    assert sorted(os.listdir(tmp_path / "runs")) == ["TwoLayerNet.history.json", "TwoLayerNet.safetensors"]
