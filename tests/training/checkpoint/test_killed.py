"""kill -9 at random moments: whatever was written last, the resumed run ends bitwise identical.

All 200 of them: ``python -m pytest -m slow tests/training/checkpoint/test_killed.py``, under a minute. Processes start by
`os.fork`, as starting Python 200 times would take most of the time.
"""

import os
import random
import re
import signal
import subprocess
import sys
import time

import pytest

from tests.files import assert_same
from tests.training.checkpoint.killed_run import main
from xpdl.io import tensors

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="kill -9 is tested where there is fork")


def start(folder, every):
    """The run in a process of its own, which ends with exit code 0 if all went well."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        main(folder, every)
        code = 0
    finally:
        os._exit(code)  # the child must not go on with the tests
    return None


def seconds_of_a_run(folder, every):
    begin = time.perf_counter()
    assert os.waitpid(start(folder, every), 0)[1] == 0
    return time.perf_counter() - begin


def assert_only_whole_files(folder):
    """A file with the name of a checkpoint is whole; a partial one has another name."""
    for name in os.listdir(folder):
        if name in ("run", "run.1"):
            assert tensors.load_arrays(folder / name)[1]["kind"] == "checkpoint"
        else:
            assert re.fullmatch(r"whole|\.run\.lock|\.(run|whole)\.[0-9a-f]{16}\.part", name)


def kill_until_finished(tmp_path, kills, seed):
    """Kill runs at random moments, `kills` times altogether, each time going on until there is another to begin."""
    rng, killed, finished = random.Random(seed), 0, 0
    for every in (1, 2):
        (tmp_path / f"whole{every}").mkdir()
    seconds = {every: seconds_of_a_run(tmp_path / f"whole{every}", every) for every in (1, 2)}
    expected = tensors.load_arrays(tmp_path / "whole1" / "whole")[0]
    assert_same(tensors.load_arrays(tmp_path / "whole2" / "whole")[0], expected)
    while killed < kills:
        every = rng.choice((1, 2))
        folder = tmp_path / f"run{finished}"
        folder.mkdir()
        while True:
            child = start(folder, every)
            if killed < kills:
                time.sleep(rng.uniform(0, seconds[every] / 2))
                os.kill(child, signal.SIGKILL)
            status = os.waitpid(child, 0)[1]
            assert_only_whole_files(folder)
            if status == 0:
                break
            assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
            killed += 1
        assert_same(tensors.load_arrays(folder / "whole")[0], expected)
        finished += 1
    return finished


def in_a_process(tmp_path, kills, seed):
    """The loop in a process of its own, which has no threads when it forks; the number of runs that were finished."""
    program = (
        "from pathlib import Path; from tests.training.checkpoint.test_killed import kill_until_finished\n"
        f"print(kill_until_finished(Path({str(tmp_path)!r}), {kills}, {seed}))"
    )
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return int(done.stdout)


@pytest.mark.parametrize("kills", [1, pytest.param(5, marks=pytest.mark.exhaustive)])
def test_killed_some_times(tmp_path, kills):
    assert in_a_process(tmp_path, kills, seed=0) >= 1


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 5))
def test_killed_two_hundred_times(tmp_path, seed):
    """In four parts of 50."""
    assert in_a_process(tmp_path, 50, seed) >= 1
