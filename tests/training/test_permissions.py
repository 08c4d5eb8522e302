"""Folders and files that may not be written or read, as a user meets them: the superuser becomes nobody for it."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(not hasattr(os, "setuid"), reason="users are those of Unix")


@pytest.fixture(scope="module")
def outcomes():
    """Of all cases, from one process."""
    # not in tmp_path, whose parents are closed to others
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        program = "import sys, pathlib; from tests.training import unprivileged as u; u.main(pathlib.Path(sys.argv[1]))"
        # Numba is loaded late, when nobody may not read the superuser's Python any more
        env = {**os.environ, "XPDL_COMPILED": "0"}
        command = [sys.executable, "-c", program, str(Path(folder) / "all")]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=env)
        assert (done.returncode, done.stderr) == (0, "")
        return json.loads(done.stdout)


@pytest.mark.exhaustive
def test_read_only_folder_is_an_error_before_the_training_begins(outcomes):
    error, warned, steps, left = outcomes["read_only"]
    assert error.startswith("PermissionError: [Errno 13] Permission denied: ") and "run" in error and "\n" not in error
    assert not warned and steps == 0 and left == {"run": 2, "run.1": 1}


def test_newest_that_may_not_be_read_is_passed_over_with_a_warning(outcomes):
    error, (warned,), epochs, left = outcomes["unreadable_newest"]
    assert error is None and "Permission denied" in warned and warned.endswith("run.1") and "going on from" in warned
    assert epochs == 4 and left == {"run": 4, "run.1": 3}


def test_only_one_that_may_not_be_read_is_an_error(outcomes):
    error, warned, steps, left = outcomes["unreadable"]
    assert error.startswith("PermissionError: [Errno 13] Permission denied: ") and error.endswith("run'")
    assert not warned and steps == 0 and left == {"run": 2}


def test_folder_that_turns_read_only_is_a_warning_and_the_last_one_stays(outcomes):
    error, (warned,), epochs, left = outcomes["turns_read_only"]
    assert error is None and warned.startswith("no checkpoint was written after step 6: Permission denied: ")
    assert epochs == 2 and left == {"run": 1}


@pytest.mark.parametrize("case", ["command_line", "command_line_cannot_make_it"])
def test_command_line_says_it_in_one_line(outcomes, case):
    code, said = outcomes[case]
    assert code == 2 and said.startswith("xpdl train: error: ") and said.count("\n") == 1
    assert "ermission" in said and case in said
