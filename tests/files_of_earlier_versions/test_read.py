"""Files that earlier versions wrote are read, and runs that they began go on: one of each kind, see `write.py`."""

from __future__ import annotations

import contextlib
import csv
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import xpdl
from tests.files_of_earlier_versions import runs
from xpdl.io import tensors
from xpdl.training.checkpoint.format import load
from xpdl.training.history import History

VERSIONS = sorted(path for path in Path(__file__).parent.iterdir() if path.is_dir() and path.name[0].isdigit())
#: some units in the last place, as later versions sum in another order
FLOAT32, FLOAT16 = 2e-5, 2e-3
each_version = pytest.mark.parametrize("folder", VERSIONS, ids=lambda folder: folder.name)


@pytest.fixture
def expected(folder: Path) -> dict[str, np.ndarray]:
    """The arrays that the version itself computed."""
    with np.load(folder / "expected.npz") as arrays:
        return dict(arrays)


def under(arrays: dict[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}


def assert_close(found: dict[str, Any], expected: dict[str, np.ndarray], rtol: float = FLOAT32) -> None:
    """The values of the other version, but for the rounding of its kernels."""
    assert found.keys() == expected.keys() != set()
    for name, array in expected.items():
        np.testing.assert_allclose(xpdl.asnumpy(found[name]), array, rtol=rtol, atol=rtol / 20, err_msg=name)


def what_it_warns_of(name: str) -> contextlib.AbstractContextManager[Any]:
    """Version 0.1.0 kept no checksum of targets that are no labels, which is a warning; any other is an error."""
    if name == "float16":
        return pytest.warns(UserWarning, match="earlier version of xpdl, which did not keep checksum of the targets")
    return contextlib.nullcontext()


def test_versions_are_found() -> None:
    assert "0.1" in [folder.name for folder in VERSIONS]


@each_version
@pytest.mark.parametrize("name", runs.RUNS)
def test_checkpoint_holds_what_was_written(folder: Path, name: str, tmp_path: Path) -> None:
    path = folder / f"{name}.checkpoint"
    make, step = runs.RUNS[name]
    trainer = make(tmp_path, None)
    with what_it_warns_of(name):
        load(trainer.as_run(), trainer.state, path)
    arrays, _ = tensors.load_arrays(path)
    assert 0 < trainer.current_iter < step
    for key, owner, kept in trainer.network.named_params():
        np.testing.assert_array_equal(owner[kept], arrays[f"network.{key}"], err_msg=key)
    for kind in trainer.optimizer.state_names:
        for key, value in getattr(trainer.optimizer, kind).items():
            np.testing.assert_array_equal(value, arrays[f"optimizer.{kind}.{key}"], err_msg=f"{kind} {key}")
    for key, values in trainer.history.lists().items():
        if f"history.{key}" in arrays:
            assert values == arrays[f"history.{key}"].tolist(), key


@each_version
@pytest.mark.parametrize("name", runs.RUNS)
def test_run_goes_on_as_if_it_had_not_been_interrupted(
    folder: Path, name: str, tmp_path: Path, expected: dict[str, np.ndarray]
) -> None:
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    trainer = runs.RUNS[name][0](tmp_path, None)
    with what_it_warns_of(name):
        history = trainer.train()
    rtol = FLOAT16 if name == "float16" else FLOAT32
    assert_close(dict(trainer.network.params), under(expected, f"run {name} "), rtol)
    earlier = History.load(folder / f"{name}.history.json")
    np.testing.assert_allclose(history.train_loss_list, earlier.train_loss_list, rtol=rtol)
    assert history.test_acc_list == earlier.test_acc_list
    assert history.val_acc_list == earlier.val_acc_list
    assert len(history.epoch_loss_list) == len(history.seconds) == len(earlier.seconds) == trainer.epochs


@each_version
def test_logs_are_continued(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    before = list(csv.DictReader((folder / "log.csv").read_text().splitlines()))
    runs.RUNS["schedules"][0](tmp_path, None).train()
    rows = list(csv.DictReader((tmp_path / "log.csv").read_text().splitlines()))
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in rows] == ["1", "2", "3", "4"]
    assert [line["epoch"] for line in lines] == [1, 2, 3, 4]
    assert len(before) == 2
    for old, row, line in zip(before, rows, lines, strict=False):
        for name, value in old.items():
            assert float(row[name]) == pytest.approx(float(value), rel=1e-6) == line[name], name


@each_version
@pytest.mark.parametrize("name", runs.RUNS)
def test_history_has_the_numbers_of_its_file(folder: Path, name: str) -> None:
    lists = json.loads((folder / f"{name}.history.json").read_text())
    history = History.load(folder / f"{name}.history.json")
    assert lists["train_loss_list"]
    assert {key: values for key, values in history.lists().items() if key in lists} == lists


@each_version
@pytest.mark.parametrize("name", runs.MODELS)
def test_model_gives_the_scores_that_it_gave(folder: Path, name: str, expected: dict[str, np.ndarray]) -> None:
    make, x = runs.MODELS[name]
    model = make()
    model.load_params(folder / f"{name}.safetensors")
    arrays, _ = tensors.load_arrays(folder / f"{name}.safetensors")
    for key, value in model.state_dict().items():
        np.testing.assert_array_equal(value, arrays[key], err_msg=key)
    assert_close({"": model.predict(x)}, under(expected, f"model {name}"))


@each_version
def test_model_is_made_from_its_file(folder: Path, expected: dict[str, np.ndarray]) -> None:
    model = xpdl.load_model(folder / "SimpleConvNet.safetensors")
    assert type(model) is xpdl.SimpleConvNet
    assert_close({"": model.predict(runs.IMAGES)}, under(expected, "model SimpleConvNet"))


@each_version
@pytest.mark.parametrize("name", runs.OPTIMIZERS)
def test_optimizer_goes_on_from_its_state(folder: Path, name: str, expected: dict[str, np.ndarray]) -> None:
    with np.load(folder / f"{name}.npz") as file:
        arrays = dict(file)
    state = json.loads(str(arrays.pop("numbers")))
    params = under(arrays, "params ")
    optimizer = type(runs.OPTIMIZERS[name])()
    state.update({kind: under(arrays, f"{kind} ") for kind in optimizer.state_names})
    optimizer.load_state_dict(state)
    assert optimizer.iter == runs.WRITTEN_AFTER
    assert repr(optimizer) == repr(runs.OPTIMIZERS[name])
    for grads in runs.GRADIENTS[runs.WRITTEN_AFTER :]:
        optimizer.update(params, grads)
    assert_close(params, under(expected, f"optimizer {name} "))


@each_version
@pytest.mark.parametrize("search", ["random_search", "successive_halving"])
def test_search_takes_the_trials_of_its_log(folder: Path, search: str, tmp_path: Path) -> None:
    def build(**params: Any) -> Any:
        raise AssertionError("a trial of the log is made again")

    log = tmp_path / "search.jsonl"
    shutil.copy(folder / f"{search}.jsonl", log)
    options: dict[str, Any] = {"n_trials": 2} if search == "random_search" else {"n_trials": 3, "max_epochs": 3}
    result = getattr(xpdl, search)(build, runs.SPACE, **options, seed=6, log=log, verbose=False)
    assert [trial.score for trial in result.trials] == json.loads((folder / "expected_scores.json").read_text())[search]
    written = sorted(
        map(json.loads, log.read_text().splitlines()[1:]), key=lambda one: (one["number"], one["epochs"] or 0)
    )
    for trial, line in zip(result.trials, written, strict=True):
        assert trial.params == line["params"]
        assert trial.history.train_loss_list == line["history"]["train_loss_list"] != []
