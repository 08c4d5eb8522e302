"""Runs of a user who may not do everything: ``main(FOLDER)`` prints what came of each, as JSON.

What is needed is imported, late imports too, before the superuser becomes nobody, who may not read where it lies.
"""

import contextlib
import io
import json
import os
import warnings
from pathlib import Path

from tests.training.checkpoint.test_format import trainer
from xpdl import cli
from xpdl.io import tensors

NOBODY = 65534


def main(folder: Path) -> None:
    folder.mkdir()
    with contextlib.redirect_stdout(io.StringIO()):
        trainer(epochs=1, checkpoint=folder / "imports", verbose=True).train()
        cli.main(["train", "--model", "TwoLayerNet", "--epochs", "1", "--out", str(folder / "imports of the command")])
    if os.geteuid() == 0:
        os.chown(folder, NOBODY, NOBODY)
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
    cases = (read_only, unreadable_newest, unreadable, turns_read_only, command_line, command_line_cannot_make_it)
    print(json.dumps({case.__name__: case(_made(folder / case.__name__)) for case in cases}))


def read_only(folder):
    trainer(checkpoint=folder / "run", epochs=2).train()
    folder.chmod(0o500)
    run = trainer(checkpoint=folder / "run")
    return [*_outcome(run.train), run.current_iter, _epochs(folder)]


def unreadable_newest(folder):
    trainer(checkpoint=folder / "run", epochs=2).train()
    (folder / "run").chmod(0)
    run = trainer(checkpoint=folder / "run")
    return [*_outcome(run.train), run.current_epoch, _epochs(folder)]


def unreadable(folder):
    trainer(checkpoint=folder / "run", epochs=2, max_checkpoints=1).train()
    (folder / "run").chmod(0)
    run = trainer(checkpoint=folder / "run")
    found = [*_outcome(run.train), run.current_iter]
    (folder / "run").chmod(0o600)
    return [*found, _epochs(folder)]


def turns_read_only(folder):
    class Turns:
        def on_epoch_end(self, trainer, epoch):
            folder.chmod(0o500 if epoch == 2 else 0o700)

    run = trainer(checkpoint=folder / "run", epochs=2, callbacks=[Turns()])
    return [*_outcome(run.train), run.current_epoch, _epochs(folder)]


def command_line(folder):
    folder.chmod(0o500)
    return _command(folder)


def command_line_cannot_make_it(folder):
    folder.chmod(0o500)
    return _command(folder / "runs")


def _command(out):
    with contextlib.redirect_stderr(io.StringIO()) as said, contextlib.redirect_stdout(io.StringIO()):
        code = cli.main(["train", "--model", "TwoLayerNet", "--epochs", "1", "--out", str(out)])
    return [code, said.getvalue()]


def _made(folder):
    folder.mkdir()
    return folder


def _outcome(train):
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        try:
            train()
            error = None
        except OSError as raised:
            error = f"{type(raised).__name__}: {raised}"
    return [error, [str(one.message) for one in warned]]


def _epochs(folder):
    """Of the checkpoints that are there and whole."""
    folder.chmod(0o700)
    return {
        path.name: json.loads(tensors.load_arrays(path)[1]["position"])["epoch"]
        for path in sorted(folder.iterdir())
        if path.name.startswith("run") and os.access(path, os.R_OK)
    }
