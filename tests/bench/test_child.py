"""Children give their lines as they come, and are ended with all that they started when their time is over."""

import os
import sys
import time

import pytest

from xpdl.bench.child import run_child

pytestmark = pytest.mark.exhaustive

FOREVER = "import time; time.sleep(600)"


def python(code):
    return [sys.executable, "-c", code]


def test_lines_exit_code_and_errors_are_given():
    lines = []
    ended = run_child(
        python("import sys; print('a'); print('b'); print('oh', file=sys.stderr); sys.exit(3)"), 60, lines.append
    )
    assert lines == ["a", "b"] and ended.code == 3 and ended.errors == "oh" and ended.reason == "exit code 3: oh"


def test_a_good_end_has_no_reason():
    assert run_child(python("pass"), 60, print).reason == ""


def test_lines_before_the_time_is_over_are_kept():
    lines = []
    ended = run_child(
        python(f"print('first', flush=True); print('half', end='', flush=True); {FOREVER}"), 2, lines.append
    )
    assert lines == ["first", "half"] and ended.code is None and "when its time was over" in ended.reason


@pytest.mark.skipif(not hasattr(os, "killpg"), reason="this system has no groups of processes")
def test_what_a_child_has_started_ends_with_it():
    lines = []
    inner = f"import subprocess, sys; p = subprocess.Popen([sys.executable, '-c', {FOREVER!r}])"
    assert run_child(python(f"{inner}; print(p.pid, flush=True); {FOREVER}"), 2, lines.append).code is None
    assert is_gone(int(lines[0]))


def test_an_error_in_taking_a_line_ends_it():
    pids = []

    def broken(line):
        pids.append(int(line))
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        run_child(python(f"import os; print(os.getpid(), flush=True); {FOREVER}"), 60, broken)
    assert is_gone(pids[0])


def test_folder_and_variables_are_its_own(tmp_path):
    lines = []
    code = "import os; print(os.getcwd(), os.environ['XPDL_A'], 'PATH' in os.environ)"
    run_child(python(code), 60, lines.append, folder=tmp_path, environment={"XPDL_A": "1"})
    assert lines == [f"{tmp_path.resolve()} 1 True"]


def is_gone(pid):
    """True once the process has ended, which may be a little after it is killed."""
    for _ in range(100):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        if _is_zombie(pid):
            return True
        time.sleep(0.1)
    return False


def _is_zombie(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] == "Z"
    except FileNotFoundError:
        return not os.path.exists("/proc/self/stat")
