"""``xpdl train --distributed`` and ``xpdl info`` under ``mpiexec``."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.distributed.launch import on_ranks

pytestmark = pytest.mark.needs("mpi4py")
SMALL = ("-m", "xpdl", "train", "--distributed", "--model", "TwoLayerNet", "--epochs", "1")

WAY = "(?:added up in memory that all ranks share|sent in messages)"


def test_train_prints_and_writes_once(tmp_path: Path) -> None:
    done = on_ranks(2, *SMALL, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    assert len(re.findall(f"^2 ranks by .*, with their processes: .*; gradients are {WAY}$", done.stdout, re.M)) == 1
    assert re.findall(r"^test accuracy: (0\.\d+)$", done.stdout, re.M)
    assert {path.suffix for path in (tmp_path / "runs").iterdir()} == {".safetensors", ".json"}
    history = json.loads((tmp_path / "runs" / "TwoLayerNet.history.json").read_text())
    assert len(history["test_acc_list"]) == 1


@pytest.mark.exhaustive
def test_trains_with_a_share_of_the_state_and_short_messages(tmp_path: Path) -> None:
    done = on_ranks(2, *SMALL, "--shard-optimizer", "--compress", "float16", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    assert float(re.findall(r"^test accuracy: (0\.\d+)$", done.stdout, re.M)[0]) > 0.85
    assert (
        len(re.findall("^2 ranks by .*; gradients are sent in messages, rounded to float16$", done.stdout, re.M)) == 1
    )


@pytest.mark.exhaustive
def test_wrong_options_are_one_line_of_one_rank(tmp_path: Path) -> None:
    done = on_ranks(2, *SMALL, "--optimizer", "nonsense", cwd=tmp_path)
    assert done.returncode == 2
    assert re.findall("xpdl train: error: .*nonsense.*", done.stderr) and done.stderr.count("error:") == 1
    done = on_ranks(2, *SMALL, "--transport", "staged", cwd=tmp_path)
    says = "xpdl train: error: mpi: transport='staged' is a way of CuPy's arrays, got arrays of numpy; leave it out\n"
    assert (done.returncode, done.stderr) == (2, says)
    done = on_ranks(2, *SMALL, "--resume", cwd=tmp_path)
    assert done.returncode != 0 and "rank 0 of 2 ended with FileNotFoundError" in done.stderr


@pytest.mark.exhaustive
def test_info_names_the_library_and_each_rank(tmp_path: Path) -> None:
    done = on_ranks(2, "-m", "xpdl", "info", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert len(re.findall(r"^mpi +ok  \(.+\)$", done.stdout, re.M)) == 1
    assert re.findall(rf"^  rank (\d): numpy on cpu, process \d+ on .*; gradients are {WAY}$", done.stdout, re.M) == [
        "0",
        "1",
    ]
