"""Options of the command line beside those given there: a run that goes on, a file of TOML, the model's own file."""

import errno
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import xpdl
from xpdl import Affine, Sequential, SigmoidWithLoss, SoftmaxWithLoss, cli, load_model, training
from xpdl.distributed import Communicator
from xpdl.io import atomic
from xpdl.io.tensors import load_arrays
from xpdl.layers import IdentityWithLoss
from xpdl.training import History, Trainer
from xpdl.training.checkpoint.rotation import CheckpointFiles

SMALL = ("train", "--model", "TwoLayerNet", "--epochs", "2")


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Runs the command line in an empty folder: (exit code, standard output, standard error)."""
    monkeypatch.chdir(tmp_path)

    def call(*args):
        monkeypatch.setattr(xpdl.backends, "_current", None)
        try:
            code = cli.main(list(args))
        except SystemExit as done:
            code = done.code
        return code, *capsys.readouterr()

    return call


@pytest.fixture
def interrupted(run, monkeypatch):
    """Stops a training in its second epoch, after it wrote a checkpoint."""

    def call(*args):
        def stop(trainer, epoch):
            if epoch == 2:
                raise KeyboardInterrupt

        train = training.Trainer.train

        def interrupted_train(self):
            self.callbacks.callbacks.append(type("Stop", (), {"on_epoch_begin": staticmethod(stop)}))
            return train(self)

        with monkeypatch.context() as patch:
            patch.setattr(training.Trainer, "train", interrupted_train)
            code, _, err = run(*args)
        assert code == 130 and "--resume" in err

    return call


class TestResume:
    OPTIONS = (
        *SMALL,
        "--lr",
        "0.01",
        "--batch-size",
        "100",
        "--optimizer",
        "momentum",
        "--seed",
        "3",
        "--metrics",
        "f1",
    )

    def test_takes_the_options_of_the_run(self, run, interrupted, tmp_path):
        run(*self.OPTIONS, "--out", "whole")
        interrupted(*self.OPTIONS)
        code, out, err = run("train", "--resume")
        assert (code, err) == (0, "") and "going on after epoch 1" in out
        assert "TwoLayerNet on mini: " in out and "Momentum(lr=0.01" in out and "batch 100, seed 3" in out
        whole, parts = (load_arrays(tmp_path / folder / "TwoLayerNet.safetensors")[0] for folder in ("whole", "runs"))
        for name, value in whole.items():
            np.testing.assert_array_equal(value, parts[name])

    @pytest.mark.parametrize(
        ("args", "says"),
        [
            (("--lr", "0.5"), "(lr 0.01 there, 0.5 here); leave out --lr to go on with it"),
            (
                ("--seed", "4", "--batch-size", "7"),
                "(batch size 100 there, 7 here; seed 3 there, 4 here); leave out --batch-",
            ),
            (("--epochs", "3"), "epochs 2 there, 3 here"),
            (("--metrics", "r2"), "metrics ['f1'] there, ['r2'] here"),
            (("--model", "DeepConvNet"), "DeepConvNet.checkpoint: there is no interrupted run"),
        ],
    )
    def test_refuses_options_that_contradict_it(self, run, interrupted, args, says):
        interrupted(*self.OPTIONS)
        before = Path("runs/TwoLayerNet.checkpoint").read_bytes()
        code, out, err = run("train", "--resume", *args)
        assert (code, out, err.count("\n")) == (2, "", 1) and says in err
        assert Path("runs/TwoLayerNet.checkpoint").read_bytes() == before

    def test_takes_what_agrees_and_what_does_not_change_it(self, run, interrupted):
        interrupted(*self.OPTIONS)
        code, out, _ = run("train", "--resume", "--lr", "0.01", "--model", "TwoLayerNet", "--checkpoint-every", "9")
        assert code == 0 and out.splitlines()[-1].startswith("test accuracy: 0.")

    def test_more_epochs_where_no_schedule_spans_them(self, run, interrupted):
        interrupted(*SMALL, "--schedule", "none")
        code, out, _ = run("train", "--resume", "--epochs", "3")
        assert code == 0 and "epoch 3/3" in out

    def test_several_runs_need_a_name(self, run, interrupted):
        interrupted(*SMALL)
        interrupted(*SMALL[:2], "MultiLayerNet", *SMALL[3:])
        code, _, err = run("train", "--resume")
        assert code == 2 and "runs: has interrupted runs of " in err and "name one with --model" in err
        assert run("train", "--resume", "--model", "MultiLayerNet")[0] == 0

    def test_checkpoint_without_options_goes_on_with_those_of_its_version(self, run, tmp_path, monkeypatch):
        """The former defaults: 20 epochs of 32 rows, all rows measured, no schedule."""
        (x, t), test = xpdl.load_mini_mnist()
        net = xpdl.TwoLayerNet(784, 50, 10, seed=0)

        def stop(trainer, epoch):
            if epoch == 2:
                raise KeyboardInterrupt

        os.mkdir("runs")
        trainer = training.Trainer(
            net, x, t, *test, epochs=20, mini_batch_size=32, optimizer=xpdl.Adam(lr=0.002), seed=0, verbose=False,
            checkpoint="runs/TwoLayerNet.checkpoint",
            callbacks=[type("Stop", (), {"on_epoch_begin": staticmethod(stop)})()],
        )  # fmt: skip
        with pytest.raises(KeyboardInterrupt):
            trainer.train()
        monkeypatch.setattr(training.Trainer, "train", lambda self: self.checkpointer.begin(self.as_run(), self.state))
        code, _, err = run("train", "--resume", "--lr", "0.5")
        assert code == 2 and "lr=0.002" in err and "lr=0.5" in err and "batch" not in err and "evaluate" not in err


def test_checkpoints_keep_notes(tmp_path, monkeypatch):
    files = CheckpointFiles(tmp_path / "a", 2)
    assert files.read_notes() == {}
    x, t = xpdl.moons(40, seed=0)
    net = Sequential(Affine(units=2), loss=SoftmaxWithLoss, seed=0)
    files.notes = {"lr": 0.1, "names": ["a"]}
    training.Trainer(net, x, t, epochs=2, verbose=False, seed=0, checkpoint=files).train()
    assert CheckpointFiles(tmp_path / "a", 2).read_notes() == files.notes
    (tmp_path / "a").write_bytes(b"damaged")
    assert CheckpointFiles(tmp_path / "a", 2).read_notes() == files.notes  # of the one before


class TestConfig:
    def test_gives_options_and_the_command_line_wins(self, run, tmp_path):
        Path("run.toml").write_text(
            'model = "TwoLayerNet"\nepochs = 1\nbatch-size = 200\nlr = 0.02\ndrop_last = true\nmetrics = ["f1", "roc_auc"]\n'
        )
        code, out, err = run("train", "--config", "run.toml", "--lr", "0.03", "--no-drop-last")
        assert (code, err) == (0, "") and "Adam(lr=0.03" in out and "batch 200" in out and "epoch 1/1" in out
        history = History.load("runs/TwoLayerNet.history.json")
        assert len(history.train_loss_list) == 30 and set(history.metrics) >= {"test_f1", "test_roc_auc"}

    @pytest.mark.parametrize(
        ("text", "says"),
        [
            ("epoch = 3", "--config run.toml: there is no option 'epoch'; the nearest is 'epochs'"),
            ("batchsize = 3", "there is no option 'batchsize'; the nearest is 'batch-size'"),
            ('config = "other.toml"', "there is no option 'config'; the nearest is "),
            (
                "[train]\nlr = 1",
                "--config run.toml: [train] is a table, and options stand without one, such as epochs = 5",
            ),
            ("\ufeffepoch = 3", "--config run.toml: there is no option 'epoch'; the nearest is 'epochs'"),
            pytest.param("epochs = " + "[" * 20_000, "--config run.toml: is not a TOML file (", id="too deep"),
            ("epochs = ", "--config run.toml: is not a TOML file (Invalid value"),
            ("epochs = true", "run.toml: epochs must be a string or a number, got True"),
            ("augment = 1", "run.toml: augment must be true or false, got 1"),
            ("lr = [1.0]", "run.toml: lr must be a string or a number, got [1.0]"),
            (
                'epochs = "many"',
                "xpdl train: error: --config run.toml: argument --epochs: invalid int value: 'many'; xpdl train --",
            ),
            ('model = "Best"', "--config run.toml: argument --model: invalid choice: 'Best'"),
            (None, "No such file or directory: run.toml"),
        ],
    )
    def test_wrong_files_are_one_line(self, run, text, says):
        if text is not None:
            Path("run.toml").write_text(text)
        code, out, err = run("train", "--config", "run.toml")
        assert (code, out, err.count("\n")) == (2, "", 1) and says in err

    @pytest.mark.parametrize("option", [("--shard-optimizer",), ("--compress", "float16"), ("--transport", "staged")])
    def test_options_of_several_ranks_need_them(self, run, option):
        code, out, err = run("train", *option)
        says = f"xpdl train: error: {option[0]} is for several ranks; add --distributed, or leave it out\n"
        assert (code, out, err) == (2, "", says)

    def test_options_of_several_ranks_arrive(self, run, monkeypatch):
        asked = {}

        def ranks(**options):
            asked.update(options)
            return Communicator()

        class Recorded(Trainer):
            def __init__(self, *args, **options):
                asked["shard_optimizer"] = options["shard_optimizer"]
                super().__init__(*args, **options)

        monkeypatch.setattr("xpdl.cli.train.mpi", ranks)
        monkeypatch.setattr("xpdl.cli.train.Trainer", Recorded)
        small = ("train", "--distributed", "--model", "TwoLayerNet", "--epochs", "1")
        assert run(*small, "--shard-optimizer", "--compress", "float16", "--transport", "staged")[0] == 0
        assert asked == {"compression": "float16", "transport": "staged", "shard_optimizer": True}
        defaults = {"compression": None, "transport": "auto", "shard_optimizer": False}
        assert run(*small)[0] == 0 and asked == defaults

    def test_processes_that_share_no_work_are_refused(self, run, monkeypatch):
        monkeypatch.setenv("PMI_SIZE", "2")
        code, out, err = run("train")
        says = "2 processes would train the same network; --distributed shares it among them"
        assert (code, out, err) == (2, "", f"xpdl train: error: {says}\n")

    @pytest.mark.parametrize(
        ("command", "cure"),
        [
            *(
                (command, "")
                for command in (("evaluate",), ("predict", "a.png"), ("export", "a", "b"), ("generate", "a"), ("demo",))
            ),
            (("bench",), ", or add --distributed"),
        ],
    )
    def test_processes_that_all_do_the_same_are_refused(self, run, monkeypatch, command, cure):
        monkeypatch.setenv("PMI_SIZE", "2")
        code, out, err = run(*command)
        says = f"2 processes would all do the same; start one, without mpiexec{cure}"
        assert (code, out, err) == (2, "", f"xpdl {command[0]}: error: {says}\n")

    def test_options_of_a_file_contradict_a_run_too(self, run, interrupted):
        interrupted(*SMALL)
        Path("run.toml").write_text("lr = 0.25\n")
        code, _, err = run("train", "--resume", "--config", "run.toml")
        assert code == 2 and "lr 0.008 there, 0.25 here" in err


class TestFullDisk:
    @pytest.fixture
    def full(self, monkeypatch, tmp_path):
        """Writing under these folders fails, as on a full disk, for the files of a name."""

        def fill(name, *folders):
            write = os.fsync

            def fsync(handle):
                path = Path(os.readlink(f"/proc/self/fd/{handle}"))
                if name in path.name and any(path.is_relative_to(folder) for folder in folders):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                write(handle)

            monkeypatch.setattr(atomic.os, "fsync", fsync)

        return fill

    @pytest.mark.skipif(not os.path.exists("/proc/self/fd"), reason="the system does not tell the path of an open file")
    @pytest.mark.parametrize("name", ["safetensors", "history"])
    def test_net_is_written_to_another_folder(self, run, tmp_path, monkeypatch, full, name):
        monkeypatch.setenv("HOME", str(tmp_path / "home"))
        os.mkdir("home")
        os.mkdir("runs")
        full(name, tmp_path / "runs")
        code, out, err = run(*SMALL)
        assert code == 1
        suffix = "safetensors" if name == "safetensors" else "history.json"
        file = tmp_path / "runs" / f"TwoLayerNet.{suffix}"
        assert err.startswith(f"xpdl train: warning: No space left on device: {file}; free some space there, or")
        assert "; the network is in " in err
        assert err.count("\n") == 1 and "Errno" not in err
        model, history = re.search(r"wrote (\S+) and (\S+) after", out).groups()
        assert Path(model).parent.parent == tmp_path and Path(model).parent.name.startswith("xpdl-")
        assert f"test accuracy: {History.load(history).test_acc_list[-1]:.4f}" == out.splitlines()[-1]
        assert load_model(model).origin == {"data": "mini"}
        assert "TwoLayerNet.checkpoint" in os.listdir("runs")  # the run is not done where it was asked for

    @pytest.mark.skipif(not os.path.exists("/proc/self/fd"), reason="the system does not tell the path of an open file")
    def test_full_everywhere_keeps_the_checkpoint(self, run, tmp_path, monkeypatch, full):
        full("safetensors", "/")
        code, _, err = run(*SMALL)
        assert code == 2 and "it could be written nowhere else either: --resume does" in err
        assert "Errno" not in err and "TwoLayerNet.checkpoint" in os.listdir("runs")
        assert not [one for one in os.listdir() if one.startswith("xpdl-")]
        monkeypatch.undo()
        monkeypatch.chdir(tmp_path)
        code, out, _ = run("train", "--resume")
        assert code == 0 and "going on after epoch 2" in out and "epoch 1/2" not in out
        assert sorted(os.listdir("runs")) == ["TwoLayerNet.history.json", "TwoLayerNet.safetensors"]


def test_no_message_has_a_number_of_the_system(run, tmp_path):
    os.mkdir("folder.safetensors")
    for args in (("evaluate", "folder.safetensors"), ("evaluate", "missing"), ("predict", "missing", "x.png")):
        code, _, err = run(*args)
        assert code == 2 and "Errno" not in err and err.count("\n") == 1 and args[1] in err


def test_names_file_and_data(run):
    assert run(*SMALL)[0] == 0
    code, out, _ = run("evaluate")
    assert code == 0 and out.startswith("runs/TwoLayerNet.safetensors on mini: 1000 test images\n")


@pytest.mark.parametrize(
    ("loss", "scores", "says"),
    [
        (SoftmaxWithLoss, [0.0, np.log(3.0)], "b (b 0.750, a 0.250)"),
        (SigmoidWithLoss, [0.0, np.log(3.0)], "b (b 0.750, a 0.500)"),
        (SigmoidWithLoss, [-np.log(3.0)], "a (a 0.750, b 0.250)"),
        (IdentityWithLoss, [1.5, -2.0], "1.5, -2"),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else "",
)
@pytest.mark.needs("PIL")
def test_outputs_fit_the_loss(run, loss, scores, says):
    from PIL import Image

    net = Sequential(Affine(np.zeros((48, len(scores)), "f"), np.asarray(scores, "f")), loss=loss)
    net.build((48,))
    net.class_names, net.preparation = ["a", "b"], {"size": [4, 4], "channels": 3, "fit": "crop"}
    net.save("net.safetensors")
    Image.new("RGB", (9, 9)).save("x.png")
    code, out, err = run("predict", "net.safetensors", "x.png")
    assert (code, err, out) == (0, "", f"x.png: {says}\n")


@pytest.mark.needs("PIL")
class TestSplitOfTheTraining:
    @pytest.fixture
    def pets(self, tmp_path):
        """Pictures of which each is of another grey."""
        from PIL import Image

        for name in ("cats", "dogs"):
            (tmp_path / "pets" / name).mkdir(parents=True)
            for k in range(10):
                Image.new("L", (8, 8), 20 * k + (name == "dogs")).save(tmp_path / "pets" / name / f"{k}.png")
        return tmp_path / "pets"

    TRAIN = ("train", "--data", "pets", "--model", "TwoLayerNet", "--size", "8", "--epochs", "1")

    @pytest.mark.filterwarnings("default")  # as a user has them
    def test_broken_files_are_named_in_one_line(self, run, pets):
        (pets / "cats" / "broken.jpg").write_bytes(b"\xff\xd8\xff")
        (pets / "dogs" / "empty.png").touch()
        code, out, err = run(*self.TRAIN)
        assert code == 0 and out.startswith("TwoLayerNet on pets: 16 training and 4 test images")
        assert err.startswith(
            "xpdl train: warning: load_folder: skipped 2 files: pets/cats/broken.jpg: is not a readable"
        )
        assert "pets/dogs/empty.png: is not a readable picture (of no format that is read)" in err
        assert err.count("\n") == 1 and "object at" not in err

    def test_evaluate_takes_it_from_the_file(self, run, pets, monkeypatch):
        code, trained, _ = run(*self.TRAIN, "--seed", "5", "--test-share", "0.4")
        assert code == 0 and load_model("runs/TwoLayerNet.safetensors").origin == {
            "data": "pets", "test_share": 0.4, "seed": 5,
        }  # fmt: skip
        seen = []
        split = xpdl.data.folder.Pictures.split
        monkeypatch.setattr(
            xpdl.data.folder.Pictures, "split", lambda *args, **kw: seen.append((args[1:], kw)) or split(*args, **kw)
        )
        for data in ((), ("--data", "pets")):
            code, out, err = run("evaluate", *data)
            assert (code, err) == (0, "") and out.splitlines()[-1] == trained.splitlines()[-1]
            assert out.startswith("runs/TwoLayerNet.safetensors on pets: 8 test images\n")
        assert seen == [((0.4,), {"seed": 5})] * 2

    @pytest.mark.filterwarnings("default")  # as a user has them
    def test_another_split_is_a_warning(self, run, pets):
        assert run(*self.TRAIN)[0] == 0
        code, _, err = run("evaluate", "--seed", "1", "--test-share", "0.2")
        assert code == 0 and err.count("\n") == 1 and err.startswith("xpdl evaluate: warning: ")
        assert "the network was trained with --seed 0; with 1, pictures that it has seen are among" in err


def test_first_command_is_quick_and_says_what_it_does(tmp_path):
    """The defaults: few epochs of a schedule, every row to test with."""
    help_text = subprocess.run(
        [sys.executable, "-m", "xpdl", "train", "--help"], capture_output=True, text=True, check=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1]), "COLUMNS": "200"},
    ).stdout  # fmt: skip
    assert "(default: 10, of pictures" in help_text and "one-cycle" in help_text and "==SUPPRESS==" not in help_text
    assert "Default object" not in help_text
