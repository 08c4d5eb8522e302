"""The notebooks run from top to bottom, and are stored without what they print."""

import importlib
import json
import os
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "examples" / "notebooks"
NOTEBOOKS = sorted(path.name for path in FOLDER.glob("*.ipynb"))
# libraries that one imports beside xpdl
NEEDS = {"first_net.ipynb": ["matplotlib"], "own_pictures.ipynb": ["PIL"], "table.ipynb": ["pandas"]}


def test_all_are_listed():
    assert sorted(NEEDS) == NOTEBOOKS


def notebook_links(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER.parents[1] / "docs"))
    return importlib.import_module("notebook_links")


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_buttons_open_it_once_there_is_a_repository(name, monkeypatch):
    links = notebook_links(monkeypatch)
    stem = name.removesuffix(".ipynb")
    found = links.links(stem, "https://github.com/owner/repo.git")
    assert found == {
        "read": f"https://nbviewer.org/github/owner/repo/blob/HEAD/examples/notebooks/{name}",
        "run": f"https://mybinder.org/v2/gh/owner/repo/HEAD?labpath=examples%2Fnotebooks%2F{name}",
    }
    page = (FOLDER.parents[1] / "docs" / "gallery.md").read_text()
    assert f"<../examples/notebooks/{name}>`{{notebook}}`{stem}`" in page


def test_buttons_need_a_notebook_and_a_repository(monkeypatch):
    links = notebook_links(monkeypatch)
    for address in ("", "https://example.org/owner/repo", "https://github.com/owner"):
        assert links.links("table", address) == {}
    with pytest.raises(FileNotFoundError, match=r"no notebook examples/notebooks/other\.ipynb"):
        links.links("other", "https://github.com/owner/repo")
    assert links.repository() == "" or len(links.links("table", links.repository())) == 2


def marked(name):
    return pytest.param(name, marks=[pytest.mark.needs(library) for library in NEEDS[name]])


def executed(notebook, folder):
    """The notebook with the outputs of a run in an empty folder."""
    from nbclient import NotebookClient

    client = NotebookClient(notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(folder)}})
    client.execute()
    return notebook


@pytest.fixture
def jupyter(tmp_path, monkeypatch):
    """Nothing of the user's own settings, and this tree first."""
    for name in ("JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "IPYTHONDIR", "MPLCONFIGDIR"):
        monkeypatch.setenv(name, str(tmp_path / name.lower()))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(FOLDER.parents[1]), os.environ.get("PYTHONPATH", "")]))
    return tmp_path


@pytest.mark.exhaustive
@pytest.mark.needs("nbclient")
@pytest.mark.needs("ipykernel")
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("name", [marked(name) for name in NOTEBOOKS])
def test_runs(name, jupyter):
    import nbformat

    ran = executed(nbformat.read(FOLDER / name, as_version=4), jupyter)
    errors = [output for cell in ran.cells for output in cell.get("outputs", []) if output.output_type == "error"]
    assert errors == [] and any(cell.get("outputs") for cell in ran.cells)


@pytest.mark.exhaustive
@pytest.mark.needs("nbclient")
@pytest.mark.needs("ipykernel")
@pytest.mark.needs("matplotlib")
@pytest.mark.filterwarnings("default")
def test_curves_are_drawn_and_an_interrupted_cell_goes_on(jupyter):
    import nbformat

    setting = (
        "import signal, numpy as np, xpdl\n"
        "from xpdl.plots import LiveCurves\n"
        "class Stop:\n"
        "    def on_batch_end(self, trainer, step):\n"
        "        if step == 5: signal.raise_signal(signal.SIGINT)\n"
        "def made(*callbacks):\n"
        "    x, t = xpdl.data.moons(60, seed=0)\n"
        "    net = xpdl.Sequential(xpdl.Affine(units=4), xpdl.Relu(), xpdl.Affine(units=2),\n"
        "                          loss=xpdl.SoftmaxWithLoss, seed=0)\n"
        "    return xpdl.Trainer(net, x, t, x, t, 3, 20, callbacks=callbacks, seed=0, verbose=False)\n"
        "stop, whole = Stop(), made()\n"
        "whole.train()\n"
        "run = made(LiveCurves(), stop)\n"
    )
    interrupted = "try: run.train()\nexcept KeyboardInterrupt as error: print(error)"
    goes_on = (
        "run.train()\n"
        "same = all((run.network.params[k] == v).all() for k, v in whole.network.params.items())\n"
        "print(same, run.current_epoch)"
    )
    figure = "xpdl.plots.learning_curves(run.history)"  # without pyplot
    cells = [nbformat.v4.new_code_cell(text) for text in (setting, interrupted, goes_on, figure)]
    ran = executed(nbformat.v4.new_notebook(cells=cells), jupyter)
    *_, first, second, third = ([o for o in cell.outputs] for cell in ran.cells)
    texts = ["".join(o.get("text", "") for o in outputs) for outputs in (first, second)]
    assert (
        texts[0].startswith("stopped after step 5, in epoch 2; train() of this Trainer goes on")
        and texts[1] == "True 3\n"
    )
    assert [sum("image/png" in o.get("data", {}) for o in outputs) for outputs in (first, second, third)] == [1, 1, 1]


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_is_stored_without_outputs_in_a_form_that_does_not_change(name):
    text = (FOLDER / name).read_text()
    cells = json.loads(text)["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert code and all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)
    assert cells[0]["cell_type"] == "markdown" and len(text) < 10_000
