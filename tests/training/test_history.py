"""History files: read as written, refused when they are something else."""

import json
import math

import numpy as np
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


def test_what_json_has_no_number_for_has_a_name_there_and_comes_back(tmp_path):
    values = [math.nan, math.inf, -math.inf, 1, np.float32(0.5)]
    History(values, val_loss_list=[math.nan]).save(tmp_path / "h.json")
    lists = json.loads((tmp_path / "h.json").read_text(), parse_constant=pytest.fail)
    assert lists["train_loss_list"] == ["NaN", "Infinity", "-Infinity", 1, 0.5]
    found = History.load(tmp_path / "h.json")
    np.testing.assert_array_equal(found.train_loss_list, values)
    assert math.isnan(*found.val_loss_list)


@pytest.mark.parametrize("wrong", ["nan", "inf", "1", None, True, [1.0]])
def test_no_other_text_is_a_number(tmp_path, wrong):
    (tmp_path / "h.json").write_text(json.dumps({**vars(History()), "seconds": [wrong]}))
    with pytest.raises(ValueError, match=r"h\.json: is not a history file \(.* is no number\)"):
        History.load(tmp_path / "h.json")


def test_a_byte_order_mark_and_other_line_ends_do_no_harm(tmp_path):
    history = History([0.5, math.nan])
    history.save(tmp_path / "h.json")
    (tmp_path / "h.json").write_bytes(b"\xef\xbb\xbf" + (tmp_path / "h.json").read_bytes().replace(b"\n", b"\r\n"))
    np.testing.assert_array_equal(History.load(tmp_path / "h.json").train_loss_list, [0.5, math.nan])
