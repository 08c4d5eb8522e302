"""The command line as a user meets it, in an empty folder."""

import io
import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest

import xpdl
from tests.data.test_mnist import write_set
from xpdl import MultiLayerNet, cli, load_model, training
from xpdl.backends.numba import loading
from xpdl.cli import sources
from xpdl.io.tensors import load_arrays


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Runs the command line in an empty folder: (exit code, standard output, standard error)."""
    monkeypatch.chdir(tmp_path)

    def call(*args, **env):
        for name, value in env.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(xpdl.backends, "_current", None)
        try:
            code = cli.main(list(args))
        except SystemExit as done:
            code = done.code
        return code, *capsys.readouterr()

    return call


def in_a_process(*args, **options):
    """The command line as a shell starts it."""
    return subprocess.run([sys.executable, "-m", "xpdl", *args], capture_output=True, text=True, check=False, **options)


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

    @pytest.mark.exhaustive
    def test_a_loss_that_ends_above_its_start_is_no_success(self, tmp_path):
        done = in_a_process(*SMALL, "--optimizer", "adam", "--lr", "30", "--schedule", "none", cwd=tmp_path)
        assert done.returncode == 1 and "warning: Trainer: the loss ended above its start" in done.stderr
        assert (tmp_path / "runs" / "TwoLayerNet.safetensors").exists()

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
        assert out.splitlines() == ["runs/TwoLayerNet.safetensors on mini: 1000 test images", *lasts]
        code, out, err = run("evaluate", "--metrics", "f2")
        assert code == 2 and "error: --metrics: there is no metric 'f2'; there are accuracy, " in err

    @pytest.mark.exhaustive
    def test_passes_in_half_precision(self, tmp_path, capsys):
        lines = {}
        for precision in ("float16", "float32"):
            assert cli.main([*SMALL, "--precision", precision, "--out", str(tmp_path / precision)]) == 0
            lines[precision] = capsys.readouterr().out.splitlines()
        assert "; numpy, float32, passes in float16; " in lines["float16"][0] and "passes" not in lines["float32"][0]
        assert re.fullmatch(r"test accuracy: 0\.[89]\d{3}", lines["float16"][-1])
        half, exact = (load_arrays(tmp_path / p / "TwoLayerNet.safetensors")[0]["W1"] for p in lines)
        assert half.dtype == np.float32 and (half != exact).any()

    @pytest.mark.exhaustive
    def test_same_seed_same_numbers(self, run):
        first, second, other = (run(*SMALL, "--seed", seed)[1] for seed in "112")
        accuracy = [re.sub(r"\S+ s\b", "", out) for out in (first, second, other)]
        assert accuracy[0] == accuracy[1] != accuracy[2]

    def test_resumed_run_equals_the_uninterrupted_one(self, run, tmp_path):
        run(*SMALL, "--out", "whole")
        # ctrl-C in the second epoch
        program = (
            "import sys; from xpdl import cli, training\n"
            "def stop(trainer, epoch):\n"
            "    if epoch == 2: raise KeyboardInterrupt\n"
            "train = training.Trainer.train\n"
            "def interrupted(self):\n"
            "    self.callbacks.callbacks.append(type('Stop', (), {'on_epoch_begin': staticmethod(stop)}))\n"
            "    return train(self)\n"
            "training.Trainer.train = interrupted\n"
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

        monkeypatch.setattr(training.Trainer, "train", interrupted)
        assert cli.main([*SMALL, "--out", str(tmp_path)]) == 130
        assert capsys.readouterr().err == "interrupted\n"

    def test_resume_with_another_rate_is_refused(self, tmp_path, monkeypatch, capsys):
        def full(*_):
            raise OSError("disk full")

        monkeypatch.setattr("xpdl.training.history.History.save", full)  # leaves the checkpoint behind
        assert cli.main([*SMALL, "--out", str(tmp_path)]) == 2
        assert cli.main([*SMALL, "--out", str(tmp_path), "--resume", "--lr", "0.5"]) == 2
        err = capsys.readouterr().err.splitlines()[-1]
        assert "belongs to another run (lr 0.008 there, 0.5 here); leave out --lr to go on" in err

    def test_new_run_keeps_what_an_unfinished_one_had(self, tmp_path, monkeypatch, capsys):
        def interrupted(self):
            raise KeyboardInterrupt

        monkeypatch.setattr(training.Trainer, "train", interrupted)
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

    @pytest.mark.exhaustive
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
            (["train", "--optimizer", "best"], "there is none called 'best'; there are SGD"),
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
            (["predict"], "required: [MODEL] IMAGE"),
            (["predict", "file"], "there is no picture; xpdl predict file PICTURE recognises one"),
            (["predict", "new.png"], "no trained network in runs/; name its file, or train one"),
            (["train", "--labels"], "xpdl train: error: there is no --labels; xpdl train --help says what there is"),
            (["evaluate", "file", "--out", "x"], "xpdl evaluate: error: there is no --out; xpdl evaluate --help"),
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


@pytest.mark.exhaustive
def test_in_a_process_of_its_own(tmp_path):
    done = in_a_process("evaluate", "missing", cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1) and "missing" in done.stderr
    done = in_a_process("--version", cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"xpdl {xpdl.__version__}\n", "")


def test_version_and_help(run):
    assert run("--version")[1] == f"xpdl {xpdl.__version__}\n"
    assert "info" in run("--help")[1] and "--epochs" in run("train", "--help")[1]


@pytest.mark.exhaustive
def test_output_may_be_cut_off(tmp_path):
    command = f"{sys.executable} -m xpdl info | head -c 1"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, cwd=tmp_path, check=True)
    assert done.stderr == ""


@pytest.mark.exhaustive
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


@pytest.fixture
def pets(tmp_path):
    """Reddish cats and bluish dogs, of several sizes."""
    image = pytest.importorskip("PIL.Image")
    rng = np.random.default_rng(0)
    for name, channel in (("cats", 0), ("dogs", 2)):
        (tmp_path / "pets" / name).mkdir(parents=True)
        for k in range(20):
            pixels = rng.integers(0, 120, (24 + k, 40 - k, 3), dtype=np.uint8)
            pixels[:, :, channel] += 100
            image.fromarray(pixels).save(tmp_path / "pets" / name / f"{k}.png")
    return tmp_path / "pets"


PETS = ("train", "--data", "pets", "--size", "12", "--epochs", "8", "--batch-size", "8")


class TestOwnPictures:
    @pytest.mark.needs("matplotlib")
    def test_train_evaluate_and_predict(self, run, tmp_path, pets):
        code, out, err = run(*PETS, "--augment")
        assert (code, err) == (0, "")
        assert out.startswith("SimpleConvNet on pets: 32 training and 8 test images; ")
        assert out.splitlines()[-1] == "test accuracy: 1.0000"
        code, evaluated, err = run("evaluate", "--data", "pets")
        assert (code, err) == (0, "")
        assert evaluated.splitlines() == [
            "runs/SimpleConvNet.safetensors on pets: 8 test images",
            "test accuracy: 1.0000",
        ]
        names = ["pets/cats/3.png", "pets/dogs/4.png"]
        code, out, err = run("predict", "runs/SimpleConvNet.safetensors", *names, "--show", "seen.png")
        assert (code, err) == (0, "")
        cat, dog, wrote = out.splitlines()
        assert re.fullmatch(r"pets/cats/3\.png: cats \(cats [01]\.\d{3}, dogs [01]\.\d{3}\)", cat)
        assert re.fullmatch(r"pets/dogs/4\.png: dogs \(dogs [01]\.\d{3}, cats [01]\.\d{3}\)", dog)
        assert wrote == "wrote seen.png" and (tmp_path / "seen.png").read_bytes().startswith(b"\x89PNG")

    def test_predict_takes_the_newest_network_and_folders(self, run, tmp_path, pets):
        assert run(*PETS[:-4], "--epochs", "1")[0] == 0
        code, out, err = run("predict", "pets/cats/1.png", "pets/dogs")
        names = [line.partition(":")[0] for line in out.splitlines()]
        assert (code, err, names[:2], len(names)) == (0, "", ["pets/cats/1.png", "pets/dogs/0.png"], 21)
        code, _, err = run("predict", "pets/cats/1.png", "--show", "pets/cats/../cats/1.png")
        assert (
            code == 2 and "--show pets/cats/../cats/1.png: is one of the files to read; name another to draw to" in err
        )
        (tmp_path / "pets").rename(tmp_path / "animals")
        code, _, err = run("evaluate")
        assert (code, err) == (
            2,
            "xpdl evaluate: error: runs/SimpleConvNet.safetensors: was trained on the folder pets, which is not here; name "
            "it with --data\n",
        )

    def test_one_class_is_refused(self, run, tmp_path, pets):
        (tmp_path / "one").mkdir()
        (pets / "cats").rename(tmp_path / "one" / "cats")
        code, _, err = run("train", "--data", "one")
        assert (
            code == 2
            and "load_folder: one has one class, cats, which leaves nothing to tell apart; put pictures" in err
        )

    def test_bad_file_does_not_end_the_others(self, run, tmp_path, pets):
        assert run(*PETS[:-4], "--epochs", "1")[0] == 0
        (tmp_path / "bad.png").write_text("no picture")
        files = ["bad.png", "pets/cats/1.png", "missing.png"]
        code, out, err = run("predict", "runs/SimpleConvNet.safetensors", *files, "--sure", "1")
        assert code == 1
        assert re.fullmatch(r"pets/cats/1\.png: unsure \((cats|dogs) .*\)\n", out)
        lines = err.splitlines()
        assert len(lines) == 2 and all(line.startswith("xpdl predict: error: ") for line in lines)
        assert "bad.png: is not a readable picture" in lines[0] and "missing.png" in lines[1]

    def test_grey_pictures_in_full(self, run, pets):
        code, out, err = run(*PETS, "--grey", "--fit", "letterbox", "--model", "TwoLayerNet", "--test-share", "0.5")
        assert (code, err) == (0, "") and out.startswith("TwoLayerNet on pets: 20 training and 20 test images; ")
        model = load_model("runs/TwoLayerNet.safetensors")
        assert (model.input_shape, model.class_names) == ((144,), ["cats", "dogs"])
        assert model.preparation == {"size": [12, 12], "channels": 1, "fit": "letterbox"}

    @pytest.mark.parametrize(
        ("args", "says"),
        [
            (["train", "--data", "nowhere"], "--data nowhere: is no folder, and none of mini, mnist"),
            (["train", "--data", "pets/cats"], "has no folders; put the pictures of each class"),
            (["train", "--data", "pets", "--no-verify"], "--no-verify is for files of a data set"),
            (["train", "--data", "pets", "--test-share", "0"], "test must be a finite number in (0, 1)"),
            (["train", "--data", "pets", "--size", "0"], "size must be at least 1"),
            (["predict", "net", "pets/cats/1.png", "--sure", "2"], "--sure must be a probability"),
        ],
        ids=lambda value: " ".join(value) if isinstance(value, list) else "",
    )
    def test_wrong_options_are_one_line(self, args, says, pets, tmp_path, monkeypatch, capsys):
        monkeypatch.chdir(tmp_path)
        assert cli.main(args) == 2
        err = capsys.readouterr().err
        assert says in err and err.count("\n") == 1

    def test_model_for_other_classes_is_refused(self, pets, tmp_path, monkeypatch, capsys):
        monkeypatch.chdir(tmp_path)
        net = MultiLayerNet(784, [4], 10, seed=0)
        net.save("digits")
        assert cli.main(["evaluate", "digits", "--data", "pets"]) == 2
        assert "digits: tells digits apart, --data pets has cats, dogs" in capsys.readouterr().err


def test_data_sets_in_colour_have_names(run, tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    x, t = rng.random((40, 3, 32, 32)).astype("f"), np.arange(40) % 10
    monkeypatch.setitem(sources.SETS, "cifar-10", lambda **_: ((x, t), (x[:20], t[:20])))
    assert cli.main(["train", "--data", "cifar-10", "--epochs", "1"]) == 0
    model = load_model("runs/SimpleConvNet.safetensors")
    assert model.input_shape == (3, 32, 32) and model.class_names[0] == "airplane" and model.preparation is None


@pytest.mark.needs("PIL")
@pytest.mark.parametrize(
    ("encoding", "answer"),
    [
        ("ascii", b"\\u732b"),
        ("latin-1", b"\\u732b"),
        ("cp1252", b"\\u732b"),
        ("utf-8", "猫".encode()),
        ("cp932", b"\x94\x4c"),
    ],
)
def test_name_of_a_class_is_printed_in_any_encoding(encoding, answer, tmp_path, monkeypatch):
    from PIL import Image

    net = xpdl.Sequential(xpdl.Affine(units=2), loss=xpdl.SoftmaxWithLoss, seed=0)
    net.build((1, 4, 4))
    net.class_names, net.preparation = ["猫", "猫 2"], {"size": [4, 4], "channels": 1, "fit": "crop"}
    net.save(tmp_path / "net")
    Image.new("L", (4, 4)).save(tmp_path / "a.png")
    printed = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(printed, encoding))
    assert cli.main(["predict", str(tmp_path / "net"), str(tmp_path / "a.png"), "--sure", "0"]) == 0
    assert printed.getvalue().startswith(f"{tmp_path / 'a.png'}: ".encode() + answer)


@pytest.mark.parametrize("words", [["--help"], ["--version"], ["train", "--help"], ["predict", "--help"]])
def test_help_that_nobody_reads_is_no_error_at_the_end(words, monkeypatch):
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "w") as pipe:
        monkeypatch.setattr(sys, "stdout", pipe)
        with pytest.raises(SystemExit) as done:
            cli.main(words)
        assert done.value.code == 0
        pipe.flush()  # as the interpreter does at its end, and at `close`
