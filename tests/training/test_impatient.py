"""Interrupted and mistaken runs: one line names the fault, and the last good checkpoint is unchanged."""

import json
import os
import shutil
import signal
import warnings

import numpy as np
import pytest

from tests.selection import params_of
from tests.training.checkpoint.test_format import assert_same_run, trainer
from tests.training.checkpoint.test_signals import Signals
from xpdl import cli, data, training
from xpdl.cli import sources
from xpdl.io import tensors
from xpdl.training import evaluate

TRAIN = ["train", "--model", "TwoLayerNet", "--epochs", "3", "--batch-size", "1000"]
NAME = "TwoLayerNet.checkpoint"


def other_labels(verify=True, **options):
    (x, t), test = data.load_mini_mnist(**options)
    return (x, np.roll(t, 1)), test


class Interrupted:
    """``xpdl train`` with signals in the middle of a step."""

    def __init__(self, monkeypatch, *steps):
        train = training.Trainer.train

        def with_signals(run):
            run.callbacks.callbacks.append(Signals(signal.SIGINT, *steps))
            return train(run)

        monkeypatch.setattr(training.Trainer, "train", with_signals)


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory):
    """A folder with a run that was stopped in its second epoch, of which and of the first there are checkpoints."""
    folder = tmp_path_factory.mktemp("interrupted")
    with pytest.MonkeyPatch.context() as monkeypatch:
        Interrupted(monkeypatch, 8)
        assert cli.main([*TRAIN, "--out", str(folder)]) == 130
    assert sorted(os.listdir(folder)) == [NAME, f"{NAME}.1"]
    return folder


@pytest.fixture
def runs(interrupted, tmp_path, capsys):
    shutil.copytree(interrupted, tmp_path / "runs")
    capsys.readouterr()
    return tmp_path / "runs"


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


@pytest.mark.parametrize(
    "more, says",
    [
        (["--lr", "0.5"], "lr 0.008 there, 0.5 here"),
        (["--seed", "1"], "seed 0 there, 1 here"),
        (["--batch-size", "500"], "batch size 1000 there, 500 here"),
        (["--optimizer", "sgd"], "optimizer adam there, sgd here"),
        (["--data", "mnist"], "data mini there, mnist here"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_resume_with_something_else(runs, capsys, monkeypatch, more, says):
    monkeypatch.setitem(sources.SETS, "mnist", other_labels)
    before = contents(runs)
    assert cli.main([*TRAIN, "--out", str(runs), "--resume", *more]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and f"{NAME}: belongs to another run (" in said and says in said
    assert contents(runs) == before


def test_resume_with_the_checkpoint_of_another_model(runs, capsys):
    (runs / NAME).rename(runs / "MultiLayerNet.checkpoint")
    before = contents(runs)
    other = [word.replace("TwoLayerNet", "MultiLayerNet") for word in TRAIN]
    assert cli.main([*other, "--out", str(runs), "--resume"]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "model TwoLayerNet there, MultiLayerNet here" in said
    assert contents(runs) == before


@pytest.mark.parametrize("harm", ["empty", "text", "folder"])
def test_resume_from_something_that_is_no_checkpoint(runs, capsys, harm):
    (runs / NAME).unlink()
    (runs / f"{NAME}.1").unlink()
    if harm == "folder":
        (runs / NAME).mkdir()
    else:
        (runs / NAME).write_text("" if harm == "empty" else "not a checkpoint")
    before = contents(runs)
    assert cli.main([*TRAIN, "--out", str(runs), "--resume"]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and NAME in said and ("is a folder" if harm == "folder" else "not a readable") in said
    assert contents(runs) == before and os.listdir(runs) == [NAME]


@pytest.mark.parametrize("library", params_of("numpy", "array_api_strict", "torch"))
def test_resume_on_another_backend(runs, capsys, library):
    assert cli.main([*TRAIN, "--out", str(runs), "--resume", "--backend", library]) == 0
    assert "going on after step 8, in epoch 2" in capsys.readouterr().out
    assert sorted(os.listdir(runs)) == ["TwoLayerNet.history.json", "TwoLayerNet.safetensors"]


@pytest.mark.parametrize("command", [["evaluate"], ["predict"]])
def test_use_the_checkpoint_as_a_model(runs, capsys, command):
    assert cli.main([*command, str(runs / NAME), *["digit.png"] * (command == ["predict"])]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "is a checkpoint of a training run and no model; go on with it" in said


def test_ctrl_c_twice(runs, capsys, monkeypatch):
    before = contents(runs)
    Interrupted(monkeypatch, 10, 10)
    assert cli.main([*TRAIN, "--out", str(runs), "--resume"]) == 130
    said = capsys.readouterr().err
    assert said.splitlines()[-1] == "interrupted; --resume goes on from there"
    assert contents(runs) == before


@pytest.mark.needs("resource")
def test_full_disk(runs, capsys):
    import resource

    before = contents(runs)
    limits, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("default")
            code = cli.main([*TRAIN, "--out", str(runs), "--resume"])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    *warned, last = capsys.readouterr().err.splitlines()
    assert code == 2 and last.startswith("xpdl train: error: ") and "File too large" in last
    assert [line.split(":")[2] for line in warned] == [f" no checkpoint was written after step {n}" for n in (12, 18)]
    assert contents(runs) == before
    assert cli.main([*TRAIN, "--out", str(runs), "--resume"]) == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("every", [None, 1, 50])
def test_signal_while_accuracy_is_measured(tmp_path, capsys, monkeypatch, number, every):
    measure = evaluate.Evaluator.measure

    def signalled(evaluator, history):
        if len(history.train_loss_list) == 6:
            signal.raise_signal(number)
        return measure(evaluator, history)

    whole, path = trainer(), tmp_path / "run"
    whole.train()
    monkeypatch.setattr(evaluate.Evaluator, "measure", signalled)
    broken = trainer(checkpoint=path, checkpoint_every=every)
    with pytest.raises(SystemExit if number == signal.SIGTERM else KeyboardInterrupt) as ended:
        broken.train()
    said = capsys.readouterr().err if number == signal.SIGTERM else str(ended.value)
    assert "stopped after epoch 2;" in said and len(broken.test_acc_list) == 2
    assert json.loads(tensors.load_arrays(path)[1]["position"])["epoch"] == 2
    monkeypatch.setattr(evaluate.Evaluator, "measure", measure)
    resumed = trainer(checkpoint=path)
    resumed.train()
    assert_same_run(whole, resumed)


def test_callback_that_raises_at_the_end_of_an_epoch(tmp_path):
    class Raises:
        def on_epoch_end(self, trainer, epoch):
            if epoch == 3:
                raise RuntimeError("of the callback")

    whole, path = trainer(), tmp_path / "run"
    whole.train()
    with pytest.raises(RuntimeError, match="of the callback"):
        trainer(checkpoint=path, callbacks=[Raises()]).train()
    assert json.loads(tensors.load_arrays(path)[1]["position"])["epoch"] == 2
    resumed = trainer(checkpoint=path)
    resumed.train()
    assert_same_run(whole, resumed)
