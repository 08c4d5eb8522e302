"""Progress within an epoch: a bar on a terminal, lines in a pipe."""

import io
import subprocess
import sys

import pytest

from xpdl.training import progress
from xpdl.training.progress import Progress, duration


@pytest.fixture
def clock(monkeypatch):
    """A clock that goes on by its attribute `now`."""

    class Clock:
        now = 100.0

    found = Clock()
    monkeypatch.setattr(progress.time, "monotonic", lambda: found.now)
    return found


def run(clock, shown, epochs=2, steps=6, seconds=4.0, done=0):
    """Each step takes so many seconds."""
    for epoch in range(epochs):
        shown.start(f"epoch {epoch + 1}/{epochs}", steps, done, epochs - 1 - epoch)
        for step in range(done, steps or 6):
            clock.now += seconds
            shown.step(lambda step=step: step / 10)
        shown.close()
        shown.line(f"epoch {epoch + 1}/{epochs}  loss 1")


def test_in_a_pipe_there_is_a_line_every_ten_seconds_with_the_time_left(clock, capsys):
    run(clock, Progress(True))
    out, err = capsys.readouterr()
    assert err.splitlines() == [
        "epoch 1/2  step 3/6  loss 0.2000  about 0:36 left",
        "epoch 1/2  step 6/6  loss 0.5000  about 0:24 left",
        "epoch 2/2  step 3/6  loss 0.2000  about 0:12 left",
        "epoch 2/2  step 6/6  loss 0.5000  about 0:00 left",
    ]
    assert out.splitlines() == ["epoch 1/2  loss 1", "epoch 2/2  loss 1"]
    assert not {"\r", "\x1b"} & set(out + err)


def test_quick_trainings_print_none(clock, capsys):
    run(clock, Progress(True), seconds=0.5)
    assert capsys.readouterr().err == ""


def test_without_a_length_there_is_no_time_left(clock, capsys):
    run(clock, Progress(True), epochs=1, steps=None)
    assert capsys.readouterr().err.splitlines()[0] == "epoch 1/1  step 3  loss 0.2000"


def test_of_an_epoch_that_goes_on_the_rate_is_that_of_its_new_steps(clock, capsys):
    run(clock, Progress(True), epochs=1, done=2)
    assert capsys.readouterr().err.splitlines() == ["epoch 1/1  step 5/6  loss 0.4000  about 0:04 left"]


def test_quiet_ones_print_nothing(clock, capsys):
    run(clock, Progress(False))
    assert capsys.readouterr() == ("", "")


def test_losses_are_read_only_to_be_shown(clock):
    reads = []
    shown = Progress(True)
    shown.start("epoch 1/1", 9)
    for _ in range(9):
        clock.now += 4.0
        shown.step(lambda: reads.append(1) or 0.5)
    assert len(reads) == 3


def test_on_a_terminal_there_is_a_bar(clock, monkeypatch):
    terminal = io.StringIO()
    terminal.isatty = lambda: True
    monkeypatch.setattr(sys, "stderr", terminal)
    run(clock, Progress(True), epochs=1)
    assert "\r" in terminal.getvalue() and "loss 0.5000" in terminal.getvalue() and "left" not in terminal.getvalue()


@pytest.mark.parametrize(
    "seconds, text", [(0, "0:00"), (59.6, "1:00"), (61, "1:01"), (3599, "59:59"), (3600, "1:00:00"), (7325, "2:02:05")]
)
def test_duration(seconds, text):
    assert duration(seconds) == text


@pytest.mark.exhaustive
def test_tqdm_is_not_imported_where_no_bar_is_drawn():
    code = (
        "import sys, xpdl; from xpdl.training.progress import Progress\n"
        "shown = Progress(True); shown.start('epoch 1/1', 3); shown.step(lambda: 0.5); print('tqdm' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("False\n", "")
