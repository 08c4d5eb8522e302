"""Logs, files of weights, bars and lines never end, block or mislead a training, whatever becomes of where they go."""

import csv
import io
import json
import math
import os
import re
import subprocess
import sys
import textwrap
import warnings

import numpy as np
import pytest

from tests.harness import nonempty
from tests.training.checkpoint.test_rotation import files_of_at_most
from tests.training.runs import net, trainer, weights
from xpdl import plots
from xpdl.training import (
    CSVLogger,
    EarlyStopping,
    JSONLogger,
    ModelCheckpoint,
    ReduceLROnPlateau,
    TensorBoard,
    messages,
)
from xpdl.training.callbacks.base import EVENTS
from xpdl.training.progress import Progress

LOGGERS = {"log.csv": CSVLogger, "log.jsonl": JSONLogger}
EACH_LOGGER = pytest.mark.parametrize("name", LOGGERS)


def rows(path):
    """Files for other programs: strict JSON, without NaN and Infinity."""
    if path.suffix == ".csv":
        found = list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))
    else:
        found = [json.loads(line, parse_constant=pytest.fail) for line in path.read_text(encoding="utf-8").splitlines()]
    return [{name: float(value) for name, value in row.items()} for row in found]


class Puts:
    """Puts numbers into the history, as if they had been measured."""

    def __init__(self, values):
        self.values = values

    def on_epoch_end(self, trainer, epoch):
        trainer.history.test_acc_list[-1] = self.values[epoch - 1]


class FullDisk:
    """The disk is full from the end of an epoch on, until there is room again after another."""

    def __init__(self, size, first=2, last=99):
        self.limit, self.first, self.last = files_of_at_most(size), first, last

    def on_test_begin(self, trainer, epoch):
        if epoch == self.first:
            self.limit.__enter__()
        if epoch == self.last:
            self.limit.__exit__()

    def on_train_end(self, trainer):
        if self.last == 99:
            self.limit.__exit__()


@EACH_LOGGER
class TestLogs:
    def test_nan_and_infinity_are_read_back_as_such(self, name, tmp_path):
        values = [math.nan, math.inf, -math.inf]
        run = trainer(callbacks=[Puts(values), LOGGERS[name](tmp_path / name)])
        run.train()
        np.testing.assert_array_equal([row["test_acc"] for row in rows(tmp_path / name)], values)

    def test_a_full_disk_is_a_warning_once_and_nothing_is_half_written(self, name, tmp_path):
        path = tmp_path / name
        expected = trainer(epochs=4).train()
        run = trainer(epochs=4, callbacks=[FullDisk(150), LOGGERS[name](path)])
        with pytest.warns(UserWarning, match=rf"{LOGGERS[name].__name__}: epoch 2 is not in .* yet: .*large") as said:
            history = run.train()
        assert len(said) == 1 and history.train_loss_list == expected.train_loss_list
        assert [row["epoch"] for row in rows(path)] == [1]

    def test_what_a_full_disk_refused_is_written_when_there_is_room(self, name, tmp_path):
        path = tmp_path / name
        with pytest.warns(UserWarning, match="epoch 2 is not in"):
            trainer(epochs=5, callbacks=[FullDisk(150, 2, 4), LOGGERS[name](path)]).train()
        assert [row["epoch"] for row in rows(path)] == [1, 2, 3, 4, 5]

    @pytest.mark.skipif(not os.path.exists("/dev/full"), reason="Linux has this device")
    def test_devices_are_written_to_and_not_replaced(self, name, tmp_path):
        with pytest.warns(UserWarning, match="epoch 1 is not in /dev/full yet: .*No space left on device") as said:
            trainer(callbacks=[LOGGERS[name]("/dev/full")]).train()
        trainer(callbacks=[LOGGERS[name](os.devnull)]).train()
        assert len(said) == 1 and not any(os.path.isfile(path) for path in ("/dev/full", os.devnull))

    @pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
    def test_a_pipe_that_nobody_reads_blocks_nothing(self, name, tmp_path):
        os.mkfifo(tmp_path / name)
        with pytest.warns(UserWarning, match="epoch 1 is not in") as said:
            assert len(trainer(callbacks=[LOGGERS[name](tmp_path / name)]).train().seconds) == 3
        assert len(said) == 1
        read = os.open(tmp_path / name, os.O_RDONLY | os.O_NONBLOCK)
        trainer(callbacks=[LOGGERS[name](tmp_path / name)]).train()
        assert os.read(read, 10000).decode().count("\n") == 3 + (name == "log.csv")
        os.close(read)

    def test_a_folder_that_goes_away_is_a_warning(self, name, tmp_path):
        folder = tmp_path / "logs"
        folder.mkdir()

        class Moves:
            def on_test_begin(self, trainer, epoch):
                if epoch == 2:
                    folder.rename(tmp_path / "moved")
                if epoch == 4:
                    (tmp_path / "moved").rename(folder)

        with pytest.warns(UserWarning, match="epoch 2 is not in") as said:
            trainer(epochs=4, callbacks=[Moves(), LOGGERS[name](folder / name)]).train()
        assert len(said) == 1 and [row["epoch"] for row in rows(folder / name)] == [1, 2, 3, 4]

    def test_a_file_that_is_moved_away_begins_again_with_all_rows(self, name, tmp_path):
        class Moves:
            def on_test_begin(self, trainer, epoch):
                if epoch == 2:
                    (tmp_path / name).rename(tmp_path / "moved")

        trainer(callbacks=[Moves(), LOGGERS[name](tmp_path / name)]).train()
        assert [row["epoch"] for row in rows(tmp_path / name)] == [1, 2, 3]

    def test_columns_that_come_later_are_in_the_file(self, name, tmp_path):
        class Late:
            def on_epoch_end(self, trainer, epoch):
                if epoch > 1:
                    trainer.history.val_acc_list.append(epoch / 10)

        path = tmp_path / name
        trainer(callbacks=[Late(), LOGGERS[name](path)]).train()
        if path.suffix == ".csv":
            found = list(csv.DictReader(path.read_text().splitlines()))
            assert [row["val_acc"] for row in found] == ["", "0.2", "0.3"]
            assert all(None not in row and None not in row.values() for row in found)
        else:
            assert [row.get("val_acc") for row in rows(path)] == [None, 0.2, 0.3]


@EACH_LOGGER
class TestLogsThatGoOn:
    """The log of a run that was broken off in its fourth epoch of five, and went on."""

    def go_on(self, name, folder, harm):
        class Breaks:
            def on_batch_end(self, trainer, step):
                if step == 11:
                    raise RuntimeError("fails on purpose")

        def run(*more):
            logger = LOGGERS[name](folder / name)
            trainer(epochs=5, checkpoint=folder / "run", callbacks=[*more, logger]).train()

        with pytest.raises(RuntimeError, match="on purpose"):
            run(Breaks())
        path = folder / name
        whole = rows(path)
        path.write_bytes(harm(path.read_bytes()))
        run()
        found = rows(path)
        assert all(row in whole for row in found if row["epoch"] <= 3)
        assert b"\r" not in path.read_bytes() and path.read_text(encoding="utf-8").isascii()
        return [int(row["epoch"]) for row in found]

    @pytest.mark.parametrize("every", [17, pytest.param(3, marks=pytest.mark.exhaustive)])
    def test_a_line_cut_off_anywhere_is_dropped_with_a_warning(self, name, every, tmp_path):
        def fourth(content):
            return content.splitlines()[-1].replace(b"3", b"4", 1)

        trainer(callbacks=[LOGGERS[name](tmp_path / name)]).train()
        line = fourth((tmp_path / name).read_bytes())
        # a last number that is cut off is a number: of an epoch that is made again, which needs no warning
        for length in nonempty(range(1, line.rindex(b"," if name == "log.csv" else b"}"), every)):
            folder = tmp_path / str(length)
            folder.mkdir()
            with pytest.warns(UserWarning, match="had 1 damaged lines"):
                made = self.go_on(name, folder, lambda content, length=length: content + fourth(content)[:length])
            assert made == [1, 2, 3, 4, 5]

    def test_the_last_line_of_a_completed_epoch_cut_off_is_dropped(self, name, tmp_path):
        with pytest.warns(UserWarning, match=r"had 1 (damaged lines|lines of another run)"):
            assert self.go_on(name, tmp_path, lambda content: content[: content.rindex(b",") - 1]) == [1, 2, 4, 5]

    def test_a_last_number_without_its_last_digit_is_whole_again(self, name, tmp_path):
        if name == "log.csv":
            assert self.go_on(name, tmp_path, lambda content: content[:-2]) == [1, 2, 3, 4, 5]
        else:  # a brace follows it
            with pytest.warns(UserWarning, match="had 1 damaged lines"):
                assert self.go_on(name, tmp_path, lambda content: content[:-3]) == [1, 2, 4, 5]

    def test_zeros_in_the_place_of_what_was_not_written_are_dropped(self, name, tmp_path):
        with pytest.warns(UserWarning, match="had 1 damaged lines"):
            assert self.go_on(name, tmp_path, lambda content: content + bytes(400)) == [1, 2, 3, 4, 5]

    @pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
    def test_a_byte_order_mark_and_other_line_ends_do_no_harm(self, name, mark, tmp_path):
        assert self.go_on(name, tmp_path, lambda content: mark + content.replace(b"\n", b"\r\n")) == [1, 2, 3, 4, 5]

    def test_a_missing_last_line_end_does_no_harm(self, name, tmp_path):
        assert self.go_on(name, tmp_path, lambda content: content.rstrip()) == [1, 2, 3, 4, 5]

    def test_lines_of_another_run_are_dropped_with_a_warning(self, name, tmp_path):
        (tmp_path / "other").mkdir()
        trainer(net(9), epochs=6, callbacks=[LOGGERS[name](tmp_path / "other" / name)]).train()
        other = (tmp_path / "other" / name).read_bytes()
        with pytest.warns(UserWarning, match="had 3 lines of another run; they are removed"):
            assert self.go_on(name, tmp_path, lambda content: other) == [4, 5]

    @pytest.mark.parametrize("content", [b"", b"\n", b"\0\1\2\xff\xfe", b"a,b\n1,2\n", b"[1]\n3\n{}\nnull\n", b'"'])
    def test_a_file_of_something_else_is_replaced(self, name, content, tmp_path):
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*damaged lines", UserWarning)
            assert self.go_on(name, tmp_path, lambda _: content) == [4, 5]

    def test_a_file_that_is_gone_begins_where_the_run_goes_on(self, name, tmp_path):
        class Breaks:
            def on_epoch_begin(self, trainer, epoch):
                if epoch == 3:
                    raise RuntimeError("fails on purpose")

        logger = LOGGERS[name](tmp_path / name)
        with pytest.raises(RuntimeError, match="on purpose"):
            trainer(epochs=4, checkpoint=tmp_path / "run", callbacks=[Breaks(), logger]).train()
        (tmp_path / name).unlink()
        trainer(epochs=4, checkpoint=tmp_path / "run", callbacks=[logger]).train()
        assert [row["epoch"] for row in rows(tmp_path / name)] == [3, 4]


# of each callback that writes: what makes it in a folder
WRITERS = {
    "CSVLogger": lambda folder: CSVLogger(folder / "log"),
    "JSONLogger": lambda folder: JSONLogger(folder / "log"),
    "ModelCheckpoint": lambda folder: ModelCheckpoint(folder / "net-{epoch}", save_best_only=False),
}


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("place", ["missing", "file", "folder"])
def test_a_place_where_nothing_can_be_written_is_an_error_before_the_first_step(writer, place, tmp_path):
    if place == "file":
        (tmp_path / place).write_text("of the user\n")
    if place == "folder":
        (tmp_path / place / "log").mkdir(parents=True)
        (tmp_path / place / "net-1").mkdir()
    run = trainer(callbacks=[WRITERS[writer](tmp_path / place)])
    with pytest.raises(OSError, match=r"no such folder|is a folder|Is a directory") as said:
        run.train()
    assert run.current_iter == 0 and "\n" not in str(said.value)


class TestModelCheckpoint:
    def test_a_full_disk_is_a_warning_once_and_the_file_before_stays(self, tmp_path):
        path = tmp_path / "best.safetensors"
        values = [0.5, 0.6, 0.7, 0.6, 0.65]

        found = []

        class Notes:
            def on_test_begin(self, trainer, epoch):
                found.append(weights(trainer.network))

        notes = Notes()
        callbacks = [Puts(values), notes, FullDisk(100, 2, 4), ModelCheckpoint(path, "test_acc")]
        with pytest.warns(
            UserWarning, match="ModelCheckpoint: the weights after epoch 2 are in no file: .*large"
        ) as said:
            trainer(epochs=5, callbacks=callbacks).train()
        assert len(said) == 1
        # 0.7 is in no file, so 0.6 is better than what is; 0.65 is the best of the files
        read = net(3)
        read.build((2,))
        read.load_params(path)
        np.testing.assert_equal(weights(read), found[4])
        assert callbacks[-1].best == 0.65

    def test_no_number_that_is_nan_or_infinitely_bad_is_the_best(self, tmp_path):
        keep = ModelCheckpoint(tmp_path / "best", "test_acc")
        trainer(callbacks=[Puts([math.nan, -math.inf, math.nan]), keep]).train()
        assert keep.best is None and not (tmp_path / "best").exists()

    def test_names_are_format_strings(self, tmp_path):
        path = tmp_path / "{{run}}-{epoch:03d}-{test_acc:.2f}-{loss:.3f}.safetensors"
        history = trainer(callbacks=[Puts([0.5, math.nan, 1.0]), ModelCheckpoint(path, save_best_only=False)]).train()
        assert sorted(file.name for file in tmp_path.iterdir()) == [
            f"{{run}}-{epoch:03d}-{accuracy}-{loss:.3f}.safetensors"
            for epoch, accuracy, loss in zip((1, 2, 3), ("0.50", "nan", "1.00"), history.epoch_loss_list, strict=True)
        ]

    @pytest.mark.parametrize(
        "path",
        ["{", "}", "{epoch", "{epochs}", "{}", "{0}", "{epoch:.2d}", "{loss:d}", "{epoch.real}", "{epoch[0]}", "{epoch!z}",
         "{accuracy:.2f}"],
    )  # fmt: skip
    def test_what_is_no_format_string_of_what_is_known_is_refused_at_once(self, path):
        with pytest.raises(ValueError, match=rf"ModelCheckpoint: {re.escape(repr(path))} is no format string of epoch"):
            ModelCheckpoint(path)

    @pytest.mark.parametrize("name", ["val_acc", "val_loss", "test_f1"])
    def test_a_name_of_what_is_not_measured_is_refused_before_the_first_step(self, name, tmp_path):
        run = trainer(callbacks=[ModelCheckpoint(tmp_path / f"net-{{{name}:.3f}}")])
        with pytest.raises(
            ValueError, match=rf"ModelCheckpoint: .* names {name}, which is not measured by this trainer"
        ):
            run.train()
        assert run.current_iter == 0

    def test_every_name_of_what_is_measured_is_taken(self, tmp_path):
        path = tmp_path / "net-{val_acc:.1f}{test_acc:.1f}{train_acc:.1f}"
        trainer(epochs=1, validation_split=0.2, callbacks=[ModelCheckpoint(path)]).train()
        assert [re.fullmatch(r"net-(\d\.\d){3}", file.name) is not None for file in tmp_path.iterdir()] == [True]


@pytest.mark.parametrize("bad", [math.nan, -math.inf])
@pytest.mark.parametrize("kind", [EarlyStopping, ReduceLROnPlateau])
def test_what_monitors_an_accuracy_takes_none_that_is_not_finite_for_the_best(kind, bad):
    monitor = kind("test_acc", patience=9)
    trainer(epochs=4, callbacks=[Puts([bad, 0.5, bad, 0.4]), monitor]).train()
    assert monitor.best == 0.5


class TestTensorBoard:
    class Writer:
        """A writer whose disk is full after some calls."""

        def __init__(self, calls, log_dir, purge_step):
            self.calls = calls

        def add_scalar(self, *args):
            self.calls.append(args)

        def flush(self):
            if len(self.calls) > 6:
                raise OSError(28, "No space left on device")

        def close(self):
            raise OSError(28, "No space left on device")

    def test_a_full_disk_is_a_warning_once(self, monkeypatch, tmp_path):
        calls = []
        module = type(sys)("tensorboardX")
        module.SummaryWriter = lambda *args, **options: self.Writer(calls, *args, **options)
        monkeypatch.setitem(sys.modules, "tensorboardX", module)
        board = TensorBoard(tmp_path)
        with pytest.warns(UserWarning, match=r"no events are written to .* from epoch 2 on: .*No space") as said:
            assert len(trainer(epochs=5, callbacks=[board]).train().seconds) == 5
        assert len(said) == 1 and {epoch for *_, epoch in calls} == {1, 2}
        calls.clear()
        with pytest.warns(UserWarning, match="the last events may be missing"):
            trainer(epochs=1, callbacks=[board]).train()

    @pytest.mark.needs("tensorboardX")
    def test_a_disk_that_is_full_blocks_nothing(self, tmp_path):
        """The writer's thread ends, and nobody takes events from its queue of ten any more."""
        program = f"""
            import resource, signal, sys, threading
            from tests.training.runs import trainer
            from xpdl.training import TensorBoard
            threading.excepthook = lambda args: None
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

            class Full:
                def on_train_begin(self, trainer):
                    resource.setrlimit(resource.RLIMIT_FSIZE, (1, resource.RLIM_INFINITY))

            history = trainer(epochs=20, callbacks=[TensorBoard({str(tmp_path)!r}), Full()]).train()
            print(len(history.seconds))
        """
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, timeout=120, check=False
        )
        assert done.stdout == "20\n" and done.stderr.count("no events are written") == 1, done.stderr


_PROGRAM = """
import sys
{setup}
from tests.training.runs import trainer
history = trainer(verbose=True, checkpoint=sys.argv[1] + "/run").train()
history.save(sys.argv[1] + "/history")
"""


class TestStreams:
    """A training that tells how it goes, to streams that are not there, or not to be written to."""

    def losses(self, folder, setup="", **options):
        program = _PROGRAM.format(setup=setup)
        options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
        done = subprocess.run([sys.executable, "-c", program, str(folder)], timeout=120, check=False, **options)
        assert done.returncode == 0, done.stderr
        return json.loads((folder / "history").read_text())["train_loss_list"], done

    @pytest.fixture
    def expected(self):
        return trainer().train().train_loss_list

    @pytest.mark.exhaustive
    @pytest.mark.parametrize(
        "setup",
        [
            "sys.stdout.close()",
            "sys.stderr.close()",
            "sys.stdout.close(); sys.stderr.close()",
            "sys.stdout = sys.stderr = None",
            "import os; os.close(1)",
            "import os; os.close(2)",
            "sys.stderr.isatty = lambda: True",
            "import os; sys.stderr.isatty = lambda: True; os.close(2)",
            "import tqdm; sys.stderr.isatty = lambda: True; sys.stderr.reconfigure(encoding='ascii', errors='strict')",
            "sys.stdout.reconfigure(encoding='ascii')",
        ],
    )
    @pytest.mark.quick(lambda setup: setup in ("sys.stdout = sys.stderr = None", "import os; os.close(2)"))
    def test_whatever_they_are_the_training_is_the_same(self, setup, expected, tmp_path):
        assert self.losses(tmp_path, setup)[0] == expected

    @pytest.mark.exhaustive
    def test_a_pipe_whose_reader_has_gone(self, expected, tmp_path):
        read, write = os.pipe()
        os.close(read)
        found, _ = self.losses(tmp_path, stdout=write, stderr=write)
        os.close(write)
        assert found == expected

    @pytest.mark.skipif(not os.path.exists("/dev/full"), reason="Linux has this device")
    def test_a_full_disk(self, expected, tmp_path):
        with open("/dev/full", "w") as full:
            assert self.losses(tmp_path, stdout=full, stderr=full)[0] == expected

    @pytest.mark.exhaustive
    def test_a_locale_without_the_letters_of_a_path(self, expected, tmp_path):
        env = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "ascii"}
        folder = tmp_path / "\N{SNOWMAN}"
        folder.mkdir()
        first, _ = self.losses(folder, env=env)
        again, done = self.losses(folder, env=env)
        assert first == again == expected
        assert b"going on after epoch 3 from " in done.stdout and rb"/\udce2\udc98\udc83/run" in done.stdout


class Broken(io.StringIO):
    encoding = "utf-8"

    def __init__(self, error):
        super().__init__()
        self.error, self.calls = error, 0

    def write(self, text):
        self.calls += 1
        raise self.error

    def isatty(self):
        return True


ERRORS = [
    OSError(5, "Input/output error"),
    OSError(28, "full"),
    BrokenPipeError(32, "gone"),
    ValueError("I/O on closed file"),
]


@pytest.mark.parametrize("error", ERRORS, ids=repr)
def test_a_bar_on_a_terminal_that_is_gone_is_not_drawn(error, monkeypatch):
    terminal = Broken(error)
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr(sys, "stdout", Broken(error))
    progress = Progress(True)
    progress._next_loss = 0.0
    progress.start("epoch 1/1", 3)
    for _ in range(3):
        progress.step(lambda: 0.5)
    progress.close()
    progress.line("epoch 1/1")
    assert terminal.calls > 0


def test_an_error_of_what_the_bar_shows_is_not_lost(monkeypatch):
    terminal = io.StringIO()
    terminal.isatty = lambda: True
    monkeypatch.setattr(sys, "stderr", terminal)
    progress = Progress(True)
    progress.start("epoch 1/1", 3)
    progress._next_loss = 0.0

    def fails():
        raise OSError("the device is gone")

    with pytest.raises(OSError, match="the device is gone"):
        progress.step(fails)
    progress.close()


class TestLines:
    def test_one_is_on_the_stream_that_was_asked_for(self, capsys):
        messages.say("a")
        messages.say("b", "stderr")
        assert tuple(capsys.readouterr()) == ("a\n", "b\n")

    def test_one_for_a_stream_that_is_not_there_is_on_no_other(self, capsys, monkeypatch):
        monkeypatch.setattr(sys, "stderr", None)
        messages.say("a", "stderr")
        assert capsys.readouterr().out == ""

    def test_a_stream_that_nobody_reads_can_be_closed(self, monkeypatch):
        reader, writer = os.pipe()
        os.close(reader)
        file = os.fdopen(writer, "w")
        monkeypatch.setattr(sys, "stdout", file)
        messages.say("a")
        messages.say("b")
        monkeypatch.undo()
        file.close()  # a broken pipe otherwise: what was not written is written at last
        assert file.closed


class TestWarnings:
    def test_none_is_lost_where_it_can_be_seen(self):
        with pytest.warns(UserWarning, match="^seen$") as said:
            messages.warn("seen", stacklevel=1)
        assert said[0].filename == __file__

    @pytest.mark.exhaustive
    def test_a_closed_standard_error_is_no_error(self):
        # pytest shows warnings itself
        program = (
            "import sys; from xpdl.training import messages; sys.stderr.close(); messages.warn('unseen'); print('on')"
        )
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout) == (0, "on\n")

    def test_one_that_is_to_be_an_error_is_one(self):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with pytest.raises(UserWarning, match="seen"):
                messages.warn("seen")


@pytest.mark.parametrize("event", EVENTS)
@pytest.mark.parametrize("error", [ValueError, OSError, KeyboardInterrupt, SystemExit])
def test_an_error_of_a_callback_ends_the_training_and_leaves_the_checkpoint_whole(event, error, tmp_path):
    class Fails:
        calls = 0

        def fail(self, *_):
            Fails.calls += 1
            if Fails.calls == (1 if event.startswith("on_train") else 3):
                raise error("of the user")

    setattr(Fails, event, Fails.fail)
    whole = trainer(epochs=4)
    whole.train()
    for callbacks in ([Fails()], []):
        run = trainer(epochs=4, checkpoint=tmp_path / "run", callbacks=callbacks)
        if callbacks:
            with pytest.raises(error, match="of the user"):
                run.train()
        else:
            run.train()
    assert run.history.train_loss_list == whole.history.train_loss_list
    np.testing.assert_equal(weights(run.network), weights(whole.network))
    assert [name for name in os.listdir(tmp_path) if name.endswith((".part", ".lock"))] == []


@pytest.mark.needs("matplotlib")
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_plots_of_histories_leave_gaps_where_there_is_no_number(bad, tmp_path):
    history = trainer(callbacks=[Puts([0.5, bad, 0.75])]).train()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plots.learning_curves(history).savefig(tmp_path / "history.png")
        plots.curves({"one": [1.0, bad, 2.0]}).savefig(tmp_path / "curves.png")
        plots.curves({"one": [bad] * 3}, log=True).savefig(tmp_path / "nothing.png")
    assert all((tmp_path / f"{name}.png").stat().st_size > 1000 for name in ("history", "curves", "nothing"))
