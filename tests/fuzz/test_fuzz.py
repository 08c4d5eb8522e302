"""A few hundred cases of each target of scripts/fuzz.py: read or refused, and nothing else."""

import itertools
import os
import random
import subprocess
import sys

import pytest

from tests.harness import nonempty

pytest.importorskip("resource", reason="limits and alarms are those of Unix")
hypothesis = pytest.importorskip("hypothesis", reason="hypothesis is not installed")

from hypothesis import given  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from scripts import fuzz  # noqa: E402
from xpdl.data.idx import read_idx  # noqa: E402
from xpdl.io import tensors  # noqa: E402

CASES = 40


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.exhaustive) if name == "checkpoint" else name
        for name in fuzz.NAMES
        if name != "arguments"
    ],
)
def test_altered_files_are_read_or_refused(name, tmp_path):
    cases = getattr(fuzz.Targets(random.Random(3), tmp_path), name)()
    undocumented = []
    for data, read in nonempty(itertools.islice(cases, CASES)):
        try:
            read()
        except fuzz.DOCUMENTED:
            continue
        except Exception as error:
            undocumented.append(f"{type(error).__name__} from {data!r}")
    assert not undocumented


@pytest.mark.exhaustive
def test_the_script_runs_commands(tmp_path):
    words = ("--seconds", "0.1", "--target", "arguments", "history", "--record", "table")
    script = [sys.executable, fuzz.__file__, *words]
    (tmp_path / "table").touch()
    subprocess.run(script, cwd=tmp_path, env={**os.environ, "PYTHONPATH": os.getcwd()}, check=True)
    assert len((tmp_path / "table").read_text().splitlines()) == 2


def error_names_the_file(read, path):
    """Return whether a file is read, or refused with a ValueError that says which file it is."""
    try:
        read(path)
    except ValueError as error:
        return str(path) in str(error)
    return True


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzz") / "file"


@pytest.mark.exhaustive
@given(
    st.binary(max_size=200), st.sampled_from([b"", b"\x80\x04", b"\x80\x02}", b"(", b"\0\0\x08\x01", b"\x1f\x8b\x08"])
)
def test_any_bytes_are_read_or_refused(path, data, start):
    path.write_bytes(start + data)
    for read in (tensors.load_arrays, read_idx):
        assert error_names_the_file(read, path)


@given(st.binary(max_size=120))
def test_any_header_of_safetensors_is_read_or_refused(path, header):
    path.write_bytes(len(header).to_bytes(8, "little") + header)
    assert error_names_the_file(tensors.load_arrays, path)
