"""The suite on a GPU goes on where it was ended, keeps what it said, and names what failed."""

import sys

import pytest

from xpdl.bench import gpu_tests
from xpdl.bench.gpu_tests import SuiteRun, run_tests

pytestmark = pytest.mark.exhaustive


@pytest.fixture(autouse=True)
def no_workers(monkeypatch):
    monkeypatch.setattr(gpu_tests, "workers", list)


def said(*lines, then="pass"):
    """A command that prints `lines`; what run_tests adds to it becomes its arguments."""
    return [sys.executable, "-c", f"for line in {lines!r}: print(line, flush=True)\n{then}"]


def test_outcomes_are_read_with_and_without_workers(tmp_path):
    lines = (
        "tests/a.py::test_x[a b - c] PASSED                  [ 10%]",
        "[gw1] [ 20%] SKIPPED tests/a.py::test_y[1] ",
        "tests/a.py::test_z FAILED                           [ 30%]",
        "FAILED tests/a.py::test_z - assert 0",
        "some words :: of a test",
    )
    found = run_tests(60, tmp_path / "log", command=said(*lines, then="raise SystemExit(1)"))
    assert found.outcomes == {
        "tests/a.py::test_x[a b - c]": "PASSED",
        "tests/a.py::test_y[1]": "SKIPPED",
        "tests/a.py::test_z": "FAILED",
    }
    assert found.finished and found.bad == ["FAILED tests/a.py::test_z"]
    assert found.summary == "1 failed, 1 passed, 1 skipped" and not found.note
    assert (tmp_path / "log").read_text().splitlines()[:5] == list(lines)


def test_output_before_the_time_is_over_is_kept_and_the_rest_runs_next_time(tmp_path):
    sleep = "import time; time.sleep(600)"
    first = run_tests(3, tmp_path / "log", command=said("tests/a.py::b PASSED [ 50%]", "tests/a.py::c ", then=sleep))
    assert first.outcomes == {"tests/a.py::b": "PASSED"} and not first.finished
    assert "when its time was over" in first.summary and "tests/a.py::b PASSED" in (tmp_path / "log").read_text()
    show = "import sys; print(*sys.argv[1:]); print('tests/a.py::c PASSED [100%]')"
    second = run_tests(60, tmp_path / "log", first, ("tests/a.py",), [sys.executable, "-c", show])
    assert second.outcomes == {"tests/a.py::b": "PASSED", "tests/a.py::c": "PASSED"} and second.finished
    assert "--deselect=tests/a.py::b tests/a.py" in (tmp_path / "log").read_text().splitlines()
    assert second.seconds > first.seconds


def test_a_test_that_ends_the_process_is_named(tmp_path):
    crash = "print('tests/a.py::c ', end='', flush=True)\nimport os; os.abort()"
    found = run_tests(60, tmp_path / "log", command=said("tests/a.py::b PASSED [ 50%]", then=crash))
    assert found.bad == ["CRASHED tests/a.py::c"] and not found.finished and "exit code -6" in found.note


def test_none_left_to_run_is_an_end_but_none_at_all_is_not(tmp_path):
    command = said(then="raise SystemExit(5)")
    assert run_tests(60, tmp_path / "log", SuiteRun({"tests/a.py::b": "PASSED"}), command=command).finished
    assert not run_tests(60, tmp_path / "log", command=command).finished


def test_they_run_on_the_gpu_and_nowhere_else(tmp_path):
    show = "import os; print(os.environ['XPDL_BACKENDS'], os.environ['XPDL_REQUIRE_GPU'], os.path.exists('pyproject.toml'))"
    run_tests(60, tmp_path / "log", command=[sys.executable, "-c", show])
    assert (tmp_path / "log").read_text().splitlines()[0] == "cupy 1 True"


def test_outside_a_checkout_there_are_none(tmp_path, monkeypatch):
    monkeypatch.setattr(gpu_tests, "__file__", str(tmp_path / "a" / "b" / "c.py"))
    found = run_tests(60, tmp_path / "log")
    assert found.finished and found.summary == "none ran; not run: they are in the repository, not in the package"


def test_pytest_itself_is_understood(tmp_path):
    """Outcomes are those of a real run, with this project's options for pytest."""
    file = tmp_path / "test_it.py"
    file.write_text(
        "import pytest\n@pytest.mark.gpu\n@pytest.mark.parametrize('a', ['x y', 'b'])\ndef test_a(a): assert a == 'b'\n"
    )
    found = run_tests(120, tmp_path / "log", paths=(str(file),))
    outcomes = {name.rpartition("::")[2]: outcome for name, outcome in found.outcomes.items()}
    assert outcomes == {"test_a[x y]": "FAILED", "test_a[b]": "PASSED"} and found.finished
    again = run_tests(120, tmp_path / "log", found, (str(file),))
    assert again.outcomes == found.outcomes and again.finished
