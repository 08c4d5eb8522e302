"""Lines and events of each epoch, read back by the readers people use."""

import csv
import json
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from tests.training.runs import trainer
from xpdl.training import CosineLR, CSVLogger, JSONLogger, TensorBoard

NAMES = ["epoch", "loss", "val_acc", "test_acc", "train_acc", "val_loss", "test_loss", "lr", "seconds"]


def run_with(callback, **options):
    run = trainer(validation_split=0.2, callbacks=[CosineLR(), callback], **options)
    return run, run.train()


def rows_of(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file)) if path.suffix == ".csv" else [json.loads(line) for line in file]


@pytest.mark.parametrize(("logger", "name"), [(CSVLogger, "log.csv"), (JSONLogger, "log.jsonl")])
class TestFiles:
    def test_one_line_per_epoch(self, logger, name, tmp_path):
        path = tmp_path / name
        path.write_text("of another run\n")
        run, history = run_with(logger(path))
        rows = rows_of(path)
        assert [list(row) for row in rows] == [NAMES] * 3
        for column, values in [("test_acc", history.test_acc_list), ("val_acc", history.val_acc_list)]:
            assert [float(row[column]) for row in rows] == values
        assert float(rows[1]["loss"]) == pytest.approx(np.average(history.train_loss_list[3:6], weights=[20, 20, 8]))
        assert float(rows[2]["lr"]) == run.optimizer.lr and [int(row["epoch"]) for row in rows] == [1, 2, 3]

    def test_a_run_that_goes_on_keeps_the_lines_before(self, logger, name, tmp_path):
        path = tmp_path / name
        run_with(logger(path), epochs=4)
        expected = [row["test_acc"] for row in rows_of(path)]
        run = trainer(validation_split=0.2, epochs=2, callbacks=[CosineLR(4), logger(path)])
        run.train()
        # as if it had been killed after its third epoch was written here, and before it was in the checkpoint
        path.write_text(path.read_text() + path.read_text().splitlines()[-1].replace("2", "3", 1) + "\n")
        run.epochs = 4
        run.train()
        rows = rows_of(path)
        assert [int(row["epoch"]) for row in rows] == [1, 2, 3, 4] and [row["test_acc"] for row in rows] == expected

    def test_a_folder_that_is_not_there_is_an_error_before_training(self, logger, name, tmp_path):
        with pytest.raises(OSError):
            run_with(logger(tmp_path / "nowhere" / name))


@pytest.mark.needs("tensorboardX", "tensorboard")
def test_tensorboard_reads_the_events(tmp_path):
    from tensorboard.backend.event_processing import event_accumulator as accumulator

    _, history = run_with(TensorBoard(tmp_path))
    events = accumulator.EventAccumulator(str(tmp_path))
    events.Reload()
    assert sorted(events.Tags()["scalars"]) == sorted(set(NAMES) - {"epoch"})
    found = events.Scalars("test_acc")
    assert [event.step for event in found] == [1, 2, 3]
    assert [event.value for event in found] == pytest.approx(history.test_acc_list, rel=1e-6)


def test_tensorboard_says_what_brings_the_writer(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(ImportError, match=r'pip install "xpdl\[tensorboard\]"'):
        run_with(TensorBoard(tmp_path))


def test_tensorboard_has_an_epoch_when_it_ends_and_leaves_out_what_is_made_again(monkeypatch, tmp_path):
    calls = []

    class Writer:
        def __init__(self, log_dir, purge_step):
            calls.append((log_dir, purge_step))

        def __getattr__(self, name):
            return lambda *args: calls.append((name, *args))

    monkeypatch.setitem(sys.modules, "tensorboardX", SimpleNamespace(SummaryWriter=Writer))
    run, history = run_with(TensorBoard(tmp_path), epochs=1)
    written = [call for call in calls if call[0] == "add_scalar"]
    assert calls == [(str(tmp_path), 1), *written, ("flush",), ("close",)]
    assert [name for _, name, _, _ in written] == NAMES[1:] and {epoch for *_, epoch in written} == {1}
    assert ("add_scalar", "test_acc", history.test_acc_list[0], 1) in written
    calls.clear()
    run.epochs = 2
    run.train()
    # readers drop what an interrupted run has of the second epoch and later ones
    assert calls[0] == (str(tmp_path), 2)
