"""Failures of one rank end all of them, with a line that names it, and the next run goes on from a whole checkpoint."""

from __future__ import annotations

import random
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.distributed import kill_ranks
from tests.distributed.launch import on_ranks

pytestmark = pytest.mark.needs("mpi4py")


def run(folder: Path, how: str, ranks: int = 3) -> subprocess.CompletedProcess[str]:
    return on_ranks(ranks, "-m", "tests.distributed.run_that_fails", str(folder), how)


def parameters(folder: Path, how: str = "no") -> str:
    """Return the digest of the parameters that a run ends with."""
    done = run(folder, how)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.splitlines()[-1]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> str:
    return parameters(tmp_path_factory.mktemp("undisturbed"))


@pytest.mark.parametrize(
    ("how", "line"),
    [
        ("raise", r"xpdl: rank 1 of 3 ended with KeyError: 'of rank 1'; all ranks are ended"),
        pytest.param(
            "exit",
            r"xpdl: rank 0 waits for message \d+; rank 1 \(process \d+ on .+\) has ended without it; all ranks are ended",
            marks=pytest.mark.exhaustive,
        ),
        pytest.param(
            "SIGSTOP",
            r"xpdl: rank 0 waited 2 s for message \d+; rank 1 \(process \d+ on .+\) did not send it; all .+ ended",
            marks=pytest.mark.exhaustive,
        ),
    ],
)
def test_failure_of_a_rank_ends_all_with_a_line_and_the_next_run_goes_on(
    tmp_path: Path, how: str, line: str, undisturbed: str
) -> None:
    begin = time.monotonic()
    done = run(tmp_path, how)
    assert done.returncode != 0 and time.monotonic() - begin < 60
    said = [text for text in done.stderr.splitlines() if text.startswith("xpdl:")]
    assert len(said) == 1 and re.fullmatch(line, said[0]), done.stderr
    assert parameters(tmp_path) == undisturbed


@pytest.mark.exhaustive
def test_failure_of_all_ranks_is_told_by_rank_0_alone(tmp_path: Path) -> None:
    done = run(tmp_path, "all raise")
    assert done.returncode != 0
    assert re.findall("KeyError: .*", done.stderr) == ["KeyError: 'of rank 0'"]


@pytest.mark.parametrize(
    "how", ["SIGTERM", *(pytest.param(how, marks=pytest.mark.exhaustive) for how in ("SIGINT", "SIGKILL"))]
)
def test_signal_to_one_rank_reaches_all_of_them(tmp_path: Path, how: str, undisturbed: str) -> None:
    done = run(tmp_path, how)
    assert done.returncode != 0
    stopped = re.findall("stopped after .*; started again", done.stderr)
    # nobody is asked before a kill
    assert len(stopped) == (how != "SIGKILL"), done.stderr
    assert parameters(tmp_path) == undisturbed


@pytest.mark.exhaustive
def test_ranks_that_are_all_stopped_for_longer_than_the_timeout_go_on(tmp_path: Path, undisturbed: str) -> None:
    assert parameters(tmp_path, "all stop") == undisturbed


def test_driver_of_kills_tells_a_run_that_ends_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        ended.wait()
    said = f"3 ranks by MPI, with their processes: vm (0: {ended.pid}, 1: {ended.pid}, 2: {ended.pid})"
    script = f"import sys; print({said!r}); sys.exit('the reason')"
    monkeypatch.setattr(kill_ranks, "command", lambda *_: [sys.executable, "-c", script])
    with pytest.raises(AssertionError, match=r"(?s)the ranks ended before one was killed:.*the reason"):
        kill_ranks.round_of(tmp_path, 1, random.Random(0), writing=False)


@pytest.mark.exhaustive
def test_another_number_of_ranks_goes_on_and_says_so(tmp_path: Path, undisturbed: str) -> None:
    assert run(tmp_path, "SIGTERM").returncode != 0
    done = run(tmp_path, "no", ranks=2)
    assert done.returncode == 0, done.stderr
    assert "which 3 ranks wrote and 2 read: sums differ in the last bits" in done.stdout


@pytest.mark.parametrize(
    "kills", [pytest.param(4, marks=pytest.mark.exhaustive), pytest.param(50, marks=pytest.mark.slow)]
)
def test_kills_at_random_change_nothing(tmp_path: Path, kills: int) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    whole.mkdir()
    killed.mkdir()
    assert kill_ranks.killed(killed, kills)[0] == kill_ranks.digest(whole, kills)
