"""Scripts of the book: run unchanged by ``python -m xpdl.book``, and with ``from xpdl import`` in their imports."""

from __future__ import annotations

import importlib
import os
import pickle
import re
import subprocess
import sys
from contextlib import nullcontext as does_not_raise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import xpdl
from tests.book_scripts import STAND_INS
from xpdl import book

ROOT = Path(__file__).parents[1]
ORIGINALS = os.environ.get("XPDL_BOOK")

#: the imports of the book's modules in a script
IMPORTS = re.compile(rf"^from ({'|'.join(map(re.escape, book.MODULES))}) import", re.MULTILINE)


def quick_scripts() -> list[Any]:
    """One name for each stand-in that several scripts share: the table has the rest."""
    names = {text: name for name, text in reversed(STAND_INS.items())}
    one_row = pytest.mark.filterwarnings("ignore:BatchNorm1. training needs more than one value")
    return [
        pytest.param(
            name,
            id=name,
            marks=[one_row, *(pytest.mark.needs(one) for one in ("matplotlib", "PIL") if f" {one}" in text)],
        )
        for text, name in names.items()
    ]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a chapter, with the file of weights that comes with the book, and no display."""
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "MPLBACKEND"):
        monkeypatch.delenv(name, raising=False)
    np.random.seed(0)  # what the scripts draw from; some weights put a kink of relu where a gradient is checked
    xpdl.seed(0)
    rng = np.random.default_rng(0)
    sizes = {"W1": (784, 5), "b1": (5,), "W2": (5, 10), "b2": (10,)}
    weights = {name: rng.standard_normal(size).astype("float32") for name, size in sizes.items()}
    (tmp_path / "chapter").mkdir()
    (tmp_path / "chapter" / "sample_weight.pkl").write_bytes(pickle.dumps(weights))
    return tmp_path / "chapter"


@pytest.mark.parametrize("name", quick_scripts())
@pytest.mark.quick(lambda name: name.startswith(("ch03", "ch04", "ch07")))
def test_unchanged_script_runs(folder: Path, name: str) -> None:
    script = folder / "script.py"
    script.write_text(STAND_INS[name])
    before = dict(sys.modules), list(sys.path), sys.argv, Path.cwd(), set(vars(np))
    assert book.main(["--mini", str(script)]) == 0
    left = {
        one
        for one in set(sys.modules) - set(before[0])
        if one.partition(".")[0] in ("common", "dataset", *book.MODULES)
    }
    assert (left, list(sys.path), sys.argv, Path.cwd()) == (set(), *before[1:4])
    assert {"int", "float"} & set(vars(np)) == {"int", "float"} & before[4]


@pytest.mark.parametrize("name", quick_scripts())
@pytest.mark.quick(lambda name: name in ("ch04/two_layer_net", "ch05/two_layer_net", "ch07/apply_filter"))
def test_script_with_imports_from_xpdl_runs(folder: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    text = IMPORTS.sub("from xpdl import", STAND_INS[name]).replace("load_mnist", "load_mini_mnist")
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv("MPLBACKEND", "Agg")
    if "matplotlib" in text:
        text = text.replace("np.int)", "int)").replace("plt.show()", "plt.close()")
    with does_not_raise():
        exec(compile(text, name, "exec"), {"__name__": "__main__"})


@pytest.mark.skipif(ORIGINALS is None, reason="XPDL_BOOK does not name a checkout of the book's scripts")
@pytest.mark.slow
@pytest.mark.needs("matplotlib")
@pytest.mark.parametrize("name", STAND_INS)
def test_original_runs_unchanged(tmp_path: Path, name: str) -> None:
    """The scripts that read weights need those that write them, which come before them in the table's order."""
    command = [sys.executable, "-m", "xpdl.book", "--mini", "--figures", str(tmp_path), f"{ORIGINALS}/{name}.py"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


class TestRunner:
    def test_runs_in_the_folder_of_the_script_and_hands_over_arguments(
        self, folder: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (folder / "neighbour.py").write_text("number = 7\n")
        (folder / "two_layer_net.py").write_text("raise RuntimeError('the file beside the script was imported')\n")
        script = folder / "script.py"
        script.write_text(
            "import os, sys\nfrom neighbour import number\nfrom two_layer_net import TwoLayerNet\n"
            "print(os.path.basename(os.getcwd()), sys.argv[1:], number, __name__, TwoLayerNet.__module__)\n"
        )
        assert book.main([str(script), "a", "--b"]) == 0
        assert capsys.readouterr().out == "chapter ['a', '--b'] 7 __main__ xpdl.models.two_layer_net\n"

    @pytest.mark.parametrize(("options", "dtype"), [([], "float64"), (["--float32"], "float32")])
    def test_computes_in_the_precision_of_the_book(self, folder: Path, options: list[str], dtype: str) -> None:
        (folder / "script.py").write_text(
            "from two_layer_net import TwoLayerNet\nfrom common.functions import *\n"
            f"assert TwoLayerNet(4, 3, 2).params['W1'].dtype == np.dtype('{dtype}')\n"
        )
        assert book.main([*options, str(folder / "script.py")]) == 0

    @pytest.mark.parametrize(
        ("text", "says"),
        [
            (None, "script.py: there is no such script"),
            ("from common.util import no_such_name", "cannot import name 'no_such_name' from 'common.util'"),
            ("from common.util import no_such_name", "xpdl has smooth_curve, shuffle_dataset, "),
            ("from common.unknown import x", "No module named 'common.unknown'; xpdl has common.functions, "),
            ("import matplotlib.no_such_module", "the script needs matplotlib"),
            ("import matplotlib.no_such_module", ": pip install 'xpdl[plot]'"),
            ("open('params.pkl')", "'params.pkl'; run train_convnet.py or train_deepnet.py first"),
            (
                "open('../sample_weight.pkl')",
                "it is part of the book's own code, in its folder ch03: copy it beside the script",
            ),
            (
                "raise OSError('MNIST: not here')",
                "MNIST: not here; --mini takes the 6,000 digits in the package instead",
            ),
            ("open('other.txt')", "No such file or directory: 'other.txt'\n"),
        ],
    )
    def test_missing_things_are_one_line(
        self,
        folder: Path,
        capsys: pytest.CaptureFixture[str],
        monkeypatch: pytest.MonkeyPatch,
        text: str | None,
        says: str,
    ) -> None:
        if text is not None:
            (folder / "script.py").write_text(text)
        monkeypatch.setenv("MPLBACKEND", "Agg")
        assert book.main([str(folder / "script.py")]) == 2
        err = capsys.readouterr().err
        assert err.startswith("python -m xpdl.book: error: ") and says in err and err.count("\n") == 1

    def test_mistake_in_the_script_keeps_its_traceback(self, folder: Path) -> None:
        (folder / "script.py").write_text("import no_module_of_the_book")
        with pytest.raises(ModuleNotFoundError, match="no_module_of_the_book"):
            book.main([str(folder / "script.py")])

    @pytest.mark.needs("matplotlib")
    def test_figures_without_a_display(
        self, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        script = folder / "draws.py"
        script.write_text(
            "import matplotlib.pyplot as plt\n"
            "for _ in range(2):\n    plt.plot([0, 1])\n    plt.show()\nassert not plt.get_fignums()\n"
        )
        plt = importlib.import_module("matplotlib.pyplot")
        monkeypatch.setattr(plt, "show", plt.show)
        monkeypatch.chdir(tmp_path)
        assert book.main(["--figures", "figures", str(script)]) == 0
        assert sorted(os.listdir(tmp_path / "figures")) == ["draws-1.png", "draws-2.png"]
        assert capsys.readouterr().err.count("wrote ") == 2
        assert book.main([str(script)]) == 0
        assert capsys.readouterr().err.count("a figure is not shown, as there is no display") == 2
        assert sorted(os.listdir(folder)) == ["draws.py", "sample_weight.pkl"]

    @pytest.mark.exhaustive
    def test_in_a_process_of_its_own(self, folder: Path) -> None:
        (folder / "script.py").write_text("from common.layers import *\nprint(Relu().forward(np.array([-1.0, 2.0])))\n")
        command = [sys.executable, "-m", "xpdl.book", "script.py"]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout, done.stderr) == (0, "[0. 2.]\n", "")


def test_table_of_the_page_lists_each_script() -> None:
    page = (ROOT / "docs" / "chapters.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| `(ch0\d/\w+)\.py` \|", page, re.MULTILINE)
    assert listed == list(STAND_INS) and len(listed) == 37
