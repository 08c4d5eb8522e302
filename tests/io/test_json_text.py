"""JSON that lies too deep, and numbers that are too large, in every file that has some."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

import xpdl
from tests.harness import nonempty
from xpdl import JSONLogger, Sequential, SoftmaxWithLoss, Trainer, TwoLayerNet, Vocabulary, load_model
from xpdl.io import json_text, tensors
from xpdl.search.result import TrialLog
from xpdl.training import History
from xpdl.training.checkpoint.rotation import CheckpointFiles

DEEP = "[" * 100_000
X, T = np.ones((6, 4), np.float32), np.arange(6) % 3


def trainer(**options):
    return Trainer(TwoLayerNet(4, 2, 3, seed=0), X, T, epochs=2, seed=0, verbose=False, **options)


def history(folder, content):
    (folder / "f").write_text(content)
    History.load(folder / "f")


def list_of_a_history(folder, content):
    History([0.5]).save(folder / "f")
    whole = (folder / "f").read_text()
    (folder / "f").write_text(whole.replace("0.5", content))
    History.load(folder / "f")


def vocabulary(folder, content):
    (folder / "f").write_text(content)
    Vocabulary.load(folder / "f")


def first_line_of_a_search(folder, content):
    (folder / "f").write_text(f"{content}\n")
    TrialLog(folder / "f", {"seed": 0})


def trial_of_a_search(folder, content):
    TrialLog(folder / "f", {"seed": 0})
    with (folder / "f").open("a") as file:
        file.write(f"{content}\n")
    TrialLog(folder / "f", {"seed": 0})


READERS = (history, list_of_a_history, vocabulary, first_line_of_a_search, trial_of_a_search)


def with_metadata(path, **changed):
    arrays, metadata = tensors.load_arrays(path)
    tensors.write_tensors(path, arrays, {**metadata, **changed})


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize("content", [DEEP, DEEP + "]" * len(DEEP), '{"a":' * 100_000])
def test_lists_too_deep_are_refused_by_the_name_of_the_file(read, content, tmp_path):
    with pytest.raises(ValueError, match=re.escape(str(tmp_path / "f"))):
        read(tmp_path, content)


@pytest.mark.parametrize("key", ["architecture", "input_shape", "class_names", "vocabulary", "loss"])
def test_lists_too_deep_in_the_file_of_a_model(key, tmp_path):
    net = Sequential(xpdl.Affine(units=3), loss=SoftmaxWithLoss, seed=0)
    net.build((4,))
    net.save(tmp_path / "f")
    with_metadata(tmp_path / "f", **{key: DEEP})
    with pytest.raises(ValueError, match=re.escape(str(tmp_path / "f"))):
        load_model(tmp_path / "f")


@pytest.mark.parametrize("key", ["run", "position", "optimizer", "callbacks", "counters", "precision"])
def test_lists_too_deep_in_a_checkpoint(key, tmp_path):
    path = tmp_path / "f"
    trainer(checkpoint=path, max_checkpoints=1).train()
    with_metadata(path, **{key: DEEP})
    with pytest.raises(ValueError, match=rf"{re.escape(str(path))}: is not a whole checkpoint"):
        trainer(checkpoint=path, max_checkpoints=1).train()


def test_notes_too_deep_are_none(tmp_path):
    trainer(checkpoint=tmp_path / "f").train()
    with_metadata(tmp_path / "f", notes=DEEP)
    assert CheckpointFiles(tmp_path / "f", 1).read_notes() == {}


def test_line_too_deep_of_a_log_is_removed(tmp_path):
    trainer(checkpoint=tmp_path / "f", callbacks=[JSONLogger(tmp_path / "log")]).train()
    whole = (tmp_path / "log").read_text()
    (tmp_path / "log").write_text(f"{DEEP}\n{whole}")
    with pytest.warns(UserWarning, match="had 1 damaged lines"):
        trainer(checkpoint=tmp_path / "f", callbacks=[JSONLogger(tmp_path / "log")]).train()
    assert [json.loads(line)["epoch"] for line in (tmp_path / "log").read_text().splitlines()] == [1, 2]


@pytest.mark.parametrize("number", ["1" + "0" * 400, "-1" + "0" * 400, "true", "null", '"1"', "[1]"])
def test_what_is_no_number_of_a_float_is_refused_in_a_history(number, tmp_path):
    with pytest.raises(ValueError, match="f: is not a history file"):
        list_of_a_history(tmp_path, number)


WRONG = {
    "number": ("[1]", "null", '"1"', "1.5", "true"),
    "params": ("3", "[]", "null"),
    "seconds": ('"a"', "null", "true", "[]"),
    "epochs": ('"1"', "1.5", "[]", "true"),
    "error": ("3", "null", "[]"),
    "score": ('"a"', "true", "[]", "{}", "1" + "0" * 400),
    "history": ("3", "[]", '{"a": []}'),
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in WRONG.items() for value in values])
def test_value_of_another_type_in_a_trial_is_refused(name, value, tmp_path):
    whole = {"number": 0, "params": {}, "score": 0.5, "history": None, "seconds": 1.0, "epochs": None, "error": ""}
    trial_of_a_search(tmp_path, json.dumps(whole))
    (tmp_path / "f").unlink()
    with pytest.raises(ValueError, match=rf"{re.escape(str(tmp_path / 'f'))}: has a line that is no trial"):
        trial_of_a_search(tmp_path, json.dumps({**whole, name: json.loads(value)}))


#: modules that parse what this program has just written itself
OWN = {"io/json_text.py", "search/result.py", "training/checkpoint/fingerprint.py"}


def test_files_are_parsed_by_json_text_alone():
    package = Path(xpdl.__file__).parent
    files = {path.relative_to(package).as_posix(): path.read_text() for path in package.rglob("*.py")}
    found = {name for name, text in nonempty(files.items()) if "json.loads(" in text and not name.startswith("bench/")}
    assert found == OWN


def test_the_end_of_the_recursion_is_an_error_of_json():
    with pytest.raises(json.JSONDecodeError, match="lists within lists"):
        json_text.loads(DEEP)
    assert json_text.loads('{"a": [1, null]}') == {"a": [1, None]}
