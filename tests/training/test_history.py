"""History files: read as written, refused when they are something else."""

import json
import math

import pytest

from xpdl import History


def test_comes_back_as_saved(tmp_path):
    history = History([0.5, 0.25], [0.9], [0.8], [], [1.5])
    history.save(tmp_path / "h.json")
    assert History.load(tmp_path / "h.json") == history


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{",
        "3",
        json.dumps({"train_loss_list": []}),
        json.dumps({key: ["x"] for key in vars(History())}),
        "\udcff",
    ],
)
def test_other_files_are_refused_by_name(tmp_path, content):
    (tmp_path / "h.json").write_text(content, errors="surrogateescape")
    with pytest.raises(ValueError, match=r"h\.json"):
        History.load(tmp_path / "h.json")


def test_instances_share_no_lists():
    History().train_loss_list.append(1.0)
    assert History().train_loss_list == []


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_json_has_no_number_for_is_refused_and_nothing_written(tmp_path, value):
    with pytest.raises(ValueError, match="not JSON compliant"):
        History([value]).save(tmp_path / "h.json")
    assert list(tmp_path.iterdir()) == []
