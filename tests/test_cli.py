"""The command line as a user meets it: in processes of its own, in an empty folder."""

import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest

from tests.data.test_mnist import write_set
from xpdl import cli
from xpdl.backends.numba import loading
from xpdl.io.tensors import load_arrays


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Runs the command line in an empty folder: (exit code, standard output, standard error)."""
    monkeypatch.chdir(tmp_path)

    def call(*args, **env):
        environment = {**os.environ, "OMP_NUM_THREADS": "1", **env}
        done = subprocess.run(
            [sys.executable, "-m", "xpdl", *args], capture_output=True, text=True, env=environment, check=False
        )
        return done.returncode, done.stdout, done.stderr

    return call


SMALL = ("train", "--model", "TwoLayerNet", "--epochs", "2")


class TestTrain:
    def test_writes_model_and_history_and_ends_with_the_accuracy(self, run, tmp_path):
        code, out, err = run(*SMALL)
        assert (code, err) == (0, "")
        lines = out.splitlines()
        assert re.fullmatch(r"test accuracy: 0\.[89]\d{3}", lines[-1])
        assert sum(line.startswith("epoch ") for line in lines) == 2
        history = json.loads((tmp_path / "runs" / "TwoLayerNet.history.json").read_text())
        assert f"test accuracy: {history['test_acc_list'][-1]:.4f}" == lines[-1]
        assert sorted(os.listdir(tmp_path / "runs")) == ["TwoLayerNet.history.json", "TwoLayerNet.safetensors"]

        code, evaluated, _ = run("evaluate")
        assert code == 0 and evaluated.splitlines()[-1] == lines[-1]

    def test_other_data_is_read_from_its_folder(self, run, tmp_path):
        write_set(tmp_path / "fashion-mnist", rows=(20, 10), size=(28, 28))
        data = {"XPDL_DATA": str(tmp_path)}
        code, out, err = run(*SMALL, "--data", "fashion-mnist", **data)
        assert code == 2 and re.search("is not Fashion-MNIST's .* verify=False", err)
        code, out, err = run(*SMALL, "--data", "fashion-mnist", "--no-verify", **data)
        assert (code, err) == (0, "") and re.fullmatch(r"test accuracy: [01]\.\d{4}", out.splitlines()[-1])
        code, evaluated, _ = run("evaluate", "--data", "fashion-mnist", "--no-verify", **data)
        assert code == 0 and evaluated.splitlines()[-1] == out.splitlines()[-1]

    def test_measures_what_it_is_asked_for(self, run, tmp_path):
        asked = "f1,roc_auc,top_5_accuracy"
        code, out, err = run(*SMALL, "--metrics", asked, "--drop-last", "--batch-size", "64")
        assert (code, err) == (0, "") and re.search(r"test f1 0\.\d{4}  test roc_auc 0\.\d{4}  test top_5", out)
        history = json.loads((tmp_path / "runs" / "TwoLayerNet.history.json").read_text())
        assert len(history["train_loss_list"]) == 2 * (6000 // 64)
        code, out, err = run("evaluate", "--metrics", f"loss,{asked}")
        assert (code, err) == (0, "")
        names = ("acc", "loss", *asked.split(","))
        lasts = [
            f"test {'accuracy' if name == 'acc' else name}: {history[f'test_{name}_list'][-1]:.4f}" for name in names
        ]
        assert out.splitlines() == lasts
        code, out, err = run("evaluate", "--metrics", "f2")
        assert code == 2 and "error: --metrics: there is no metric 'f2'; there are accuracy, " in err

    def test_passes_in_half_precision(self, tmp_path, capsys):
        lines = {}
        for precision in ("float16", "float32"):
            assert cli.main([*SMALL, "--precision", precision, "--out", str(tmp_path / precision)]) == 0
            lines[precision] = capsys.readouterr().out.splitlines()
        assert "; numpy, float32, passes in float16; " in lines["float16"][0] and "passes" not in lines["float32"][0]
        assert re.fullmatch(r"test accuracy: 0\.[89]\d{3}", lines["float16"][-1])
        half, exact = (load_arrays(tmp_path / p / "TwoLayerNet.safetensors")[0]["W1"] for p in lines)
        assert half.dtype == np.float32 and (half != exact).any()

    def test_same_seed_same_numbers(self, run):
        first, second, other = (run(*SMALL, "--seed", seed)[1] for seed in "112")
        accuracy = [re.sub(r"\S+ s\b", "", out) for out in (first, second, other)]
        assert accuracy[0] == accuracy[1] != accuracy[2]

    def test_resumed_run_equals_the_uninterrupted_one(self, run, tmp_path):
        run(*SMALL, "--out", "whole")
        # ctrl-C in the second epoch
        program = (
            "import sys; from xpdl import cli\n"
            "def stop(trainer, epoch):\n"
            "    if epoch == 2: raise KeyboardInterrupt\n"
            "train = cli.Trainer.train\n"
            "def interrupted(self):\n"
            "    self.callbacks.callbacks.append(type('Stop', (), {'on_epoch_begin': staticmethod(stop)}))\n"
            "    return train(self)\n"
            "cli.Trainer.train = interrupted\n"
            "sys.exit(cli.main(sys.argv[1:]))\n"
        )
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-c", program, *SMALL, "--out", "parts"]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
        assert done.returncode == 130 and "--resume" in done.stderr
        assert os.listdir(tmp_path / "parts") == ["TwoLayerNet.checkpoint"]
        code, out, _ = run(*SMALL, "--out", "parts", "--resume")
        assert code == 0 and "going on after epoch 1" in out
        whole, parts = (load_arrays(tmp_path / folder / "TwoLayerNet.safetensors")[0] for folder in ("whole", "parts"))
        for name, value in whole.items():
            np.testing.assert_array_equal(value, parts[name])

    def test_interrupted_before_there_is_anything_to_resume_does_not_offer_it(self, tmp_path, monkeypatch, capsys):
        def interrupted(self):
            raise KeyboardInterrupt

        monkeypatch.setattr(cli.Trainer, "train", interrupted)
        assert cli.main([*SMALL, "--out", str(tmp_path)]) == 130
        assert capsys.readouterr().err == "interrupted\n"

    def test_resume_with_another_rate_is_refused(self, tmp_path, monkeypatch, capsys):
        def full(*_):
            raise OSError("disk full")

        monkeypatch.setattr("xpdl.training.history.History.save", full)  # leaves the checkpoint behind
        assert cli.main([*SMALL, "--out", str(tmp_path)]) == 2
        assert cli.main([*SMALL, "--out", str(tmp_path), "--resume", "--lr", "0.5"]) == 2
        err = capsys.readouterr().err.splitlines()[-1]
        assert "belongs to another run" in err and "lr=0.002" in err and "lr=0.5" in err

    def test_new_run_keeps_what_an_unfinished_one_had(self, tmp_path, monkeypatch, capsys):
        def interrupted(self):
            raise KeyboardInterrupt

        monkeypatch.setattr(cli.Trainer, "train", interrupted)
        for name in ("", ".1", ".old", ".old.1", ".old.2"):
            (tmp_path / f"TwoLayerNet.checkpoint{name}").write_text(f"content {name}")
        before = {file.name: file.read_text() for file in tmp_path.iterdir()}
        # before the new one has begun nothing is touched
        assert cli.main([*SMALL, "--out", str(tmp_path), "--batch-size", "0"]) == 2
        assert {file.name: file.read_text() for file in tmp_path.iterdir()} == before
        assert cli.main([*SMALL, "--out", str(tmp_path)]) == 130
        assert {file.name: file.read_text() for file in tmp_path.iterdir()} == {
            "TwoLayerNet.checkpoint.old": "content ",
            "TwoLayerNet.checkpoint.old.1": "content .1",
        }
        out, err = capsys.readouterr()
        says = f"an earlier run was not finished; its checkpoint is kept as {tmp_path / 'TwoLayerNet.checkpoint.old'}"
        assert out.splitlines()[-1] == says and err.splitlines()[-1] == "interrupted"

    @pytest.mark.skipif(not os.path.exists("/dev/full"), reason="the system has no device that is always full")
    @pytest.mark.parametrize("command", [["info"], [*SMALL, "--out", "runs"]], ids=lambda command: command[0])
    def test_output_that_cannot_be_written_is_one_line_and_exit_code_2(self, tmp_path, command):
        with open("/dev/full", "w") as full:
            done = subprocess.run(
                [sys.executable, "-m", "xpdl", *command],
                stdout=full, stderr=subprocess.PIPE, text=True, cwd=tmp_path,
                env={**os.environ, "OMP_NUM_THREADS": "1"}, check=False,
            )  # fmt: skip
        assert done.returncode == 2
        assert done.stderr.count("\n") == 1 and done.stderr.startswith(f"xpdl {command[0]}: error: ")

    @pytest.mark.parametrize(
        "args, says",
        [
            (["train", "--model", "Nonsense"], "invalid choice: 'Nonsense'"),
            (["train", "--optimizer", "best"], "no optimizer is called 'best'"),
            (["train", "--epochs", "0"], "epochs must be an int of at least 1"),
            (["train", "--epochs", "many"], "invalid int value: 'many'"),
            (["train", "--batch-size", "-3"], "mini_batch_size"),
            (["train", "--lr", "-1"], "lr must be"),
            (["train", "--backend", "abacus"], "cannot import abacus"),
            (["train", "--precision", "bfloat16"], "numpy has no dtype bfloat16; choose another"),
            (["train", "--precision", "float64"], "invalid choice: 'float64'"),
            (["train", "--resume"], "no interrupted run"),
            (["train", "--out", "file"], "file: is not a folder"),
            (["train", "--out", "file/below"], "file/below: is not a folder"),
            (["evaluate"], "no trained network in runs/"),
            (["evaluate", "missing"], "missing"),
            (["evaluate", "file"], "is not a readable"),
            (["predict"], "required: checkpoint, image"),
            ([], "required: COMMAND"),
        ],
        ids=lambda value: " ".join(value) if isinstance(value, list) else "",
    )
    def test_wrong_input_is_one_line_and_exit_code_2(self, tmp_path, monkeypatch, capsys, args, says):
        monkeypatch.chdir(tmp_path)
        (tmp_path / "file").write_text("something else")
        try:
            code = cli.main(args)
        except SystemExit as done:
            code = done.code
        out, err = capsys.readouterr()
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert err.startswith("xpdl") and says in err

    def test_traceback_with_debug(self):
        with pytest.raises(FileNotFoundError):
            cli.main(["evaluate", "missing", "--debug"])

    def test_diverging_run_stops_with_a_reason(self, run):
        code, _, err = run("train", "--model", "TwoLayerNet", "--optimizer", "sgd", "--lr", "1e20")
        assert code == 2 and "the loss became" in err and err.count("\n") == 1


def test_info_names_each_backend_and_why_not(run):
    code, out, err = run("info")
    assert (code, err) == (0, "")
    lines = dict(line.split(maxsplit=1) for line in out.splitlines())
    assert lines["numpy"] == f"ok  ({np.__version__})" and lines["kernels:"] == loading.state()
    assert {"cupy", "torch", "jax", "array_api_strict"} <= lines.keys()


def test_version_and_help(run):
    import xpdl

    assert run("--version")[1] == f"xpdl {xpdl.__version__}\n"
    assert "info" in run("--help")[1] and "--epochs" in run("train", "--help")[1]


def test_output_may_be_cut_off(tmp_path):
    command = f"{sys.executable} -m xpdl info | head -c 1"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, cwd=tmp_path, check=True)
    assert done.stderr == ""


def test_runs_without_a_standard_output():
    done = subprocess.run(f"{sys.executable} -m xpdl info >&-", shell=True, capture_output=True, text=True, check=True)
    assert done.stderr == ""


def test_predict_recognises_pictures(run, tmp_path):
    from PIL import Image as image

    from xpdl import load_mini_mnist

    _, (x, t) = load_mini_mnist(normalize=False, flatten=False)
    assert run("train", "--model", "TwoLayerNet", "--epochs", "4")[0] == 0
    names = []
    for k in range(20):
        picture = image.fromarray(np.asarray(x[k, 0], dtype=np.uint8))
        if k % 2:  # as a photograph: large, dark on light, off the middle
            large = picture.resize((140, 140))
            picture = image.new("RGB", (300, 220), "white")
            picture.paste(image.eval(large, lambda v: 255 - v).convert("RGB"), (100, 40))
        names.append(f"{k}.png")
        picture.save(tmp_path / names[-1])
    code, out, err = run("predict", "runs/TwoLayerNet.safetensors", *names)
    assert (code, err) == (0, "")
    found = [int(re.fullmatch(r"\d+\.png: (\d) \(probability [01]\.\d{3}\)", line)[1]) for line in out.splitlines()]
    assert np.mean(np.array(found) == np.asarray(t[:20])) >= 0.8
