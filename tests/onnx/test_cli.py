"""The command ``xpdl export``, and xpdl where the package onnx is missing."""

from __future__ import annotations

import importlib
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

import xpdl
from xpdl import cli
from xpdl import layers as L


@pytest.fixture
def run(tmp_path: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Runs the command line in a folder with files of two networks: (exit code, standard output, standard error)."""
    monkeypatch.chdir(tmp_path)
    for name, loss in (("classes", L.SoftmaxWithLoss), ("labels", L.SigmoidWithLoss)):
        net = xpdl.Sequential(L.Affine(units=3), loss=loss, seed=0)
        net.build((4,))
        net.save(f"{name}.safetensors")

    def call(*args: str) -> tuple[int, str, str]:
        try:
            code = cli.main(["export", *args])
        except SystemExit as done:
            code = done.code
        return code, *capsys.readouterr()

    return call


X = np.random.default_rng(0).standard_normal((7, 4)).astype(np.float32)
ACTIVATIONS = [
    ("classes", [], lambda scores: scores),
    ("classes", ["--softmax"], xpdl.softmax),
    ("labels", ["--sigmoid"], xpdl.sigmoid),
]


@pytest.mark.needs("onnx", "onnxruntime")
@pytest.mark.parametrize(("name", "options", "activation"), ACTIVATIONS)
def test_the_file_computes_what_the_network_predicts(run: Any, name: str, options: list[str], activation: Any) -> None:
    assert run(f"{name}.safetensors", "net.onnx", *options) == (0, "wrote net.onnx: opset 17\n", "")
    session = importlib.import_module("onnxruntime").InferenceSession("net.onnx", providers=["CPUExecutionProvider"])
    expected = activation(xpdl.load_model(f"{name}.safetensors").predict(X))
    np.testing.assert_allclose(session.run(None, {"x": X})[0], expected, atol=1e-5 * np.abs(expected).max(), rtol=0)


WRONG = [
    (["missing.safetensors", "net.onnx"], "missing.safetensors"),
    (["classes.safetensors", "missing/net.onnx"], "no such folder; make it first"),
    (["classes.safetensors", "classes.safetensors"], "is the file of the network itself; name another"),
    (["damaged.safetensors", "net.onnx"], "damaged.safetensors"),
    (["labels.safetensors", "net.onnx", "--softmax"], "trained by SigmoidWithLoss with sigmoid, got 'softmax'"),
    (["labels.safetensors", "net.onnx", "--softmax", "--sigmoid"], "not allowed with argument"),
]


@pytest.mark.needs("onnx")
@pytest.mark.parametrize(("args", "message"), WRONG)
def test_what_is_wrong_is_one_line(run: Any, args: list[str], message: str, tmp_path: Any) -> None:
    whole = (tmp_path / "classes.safetensors").read_bytes()
    (tmp_path / "damaged.safetensors").write_bytes(whole[:-7])
    code, out, err = run(*args)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("xpdl export: error: ") and message in err
    assert not (tmp_path / "net.onnx").exists() and (tmp_path / "classes.safetensors").read_bytes() == whole


WITHOUT = """
import sys
sys.modules["onnx"] = None
sys.stderr = sys.stdout
import xpdl, xpdl.cli
print("onnx" in dir(xpdl))
from xpdl import *
for statement in ("xpdl.onnx", "from xpdl import onnx", "import xpdl.onnx"):
    try:
        exec(statement)
    except ImportError as error:
        print(error)
print(xpdl.cli.main(["export", "classes.safetensors", "net.onnx"]))
"""


def printed(program: str) -> str:
    command = [sys.executable, "-W", "error", "-c", program]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.mark.exhaustive
def test_says_what_to_install_where_onnx_is_missing(run: Any) -> None:
    message = 'xpdl.onnx needs the package onnx: pip install "xpdl[onnx]"'
    assert printed(WITHOUT).splitlines() == ["False", *[message] * 3, f"xpdl export: error: {message}", "2"]


@pytest.mark.needs("onnx")
def test_onnx_is_loaded_at_its_first_use_and_torch_never() -> None:
    program = "import sys, xpdl; print('onnx' in dir(xpdl), 'onnx' in sys.modules); "
    program += "print(xpdl.onnx.__name__, 'onnx' in sys.modules, 'torch' in sys.modules)"
    assert printed(program).split() == ["True", "False", "xpdl.onnx", "True", "False"]
