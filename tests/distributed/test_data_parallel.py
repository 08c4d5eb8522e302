"""Data parallel training by ranks under ``mpiexec``: equal to one process, and the same on all ranks."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.distributed import sharded
from tests.distributed.launch import environment, on_ranks
from tests.distributed.together import CHECKS

pytestmark = pytest.mark.needs("mpi4py")


SHARDED = [check.__name__ for check in sharded.CHECKS]


@pytest.mark.parametrize(
    "names",
    [
        pytest.param([name for name in CHECKS if name not in SHARDED], id="training"),
        pytest.param(SHARDED, id="sharded", marks=pytest.mark.exhaustive),
    ],
)
def test_claims_about_several_ranks(tmp_path: Path, names: list[str]) -> None:
    done = on_ranks(3, "-m", "tests.distributed.together", str(tmp_path), *names)
    assert done.returncode == 0, done.stdout + done.stderr
    said = [line for line in done.stdout.splitlines() if line.endswith(": ok")]
    assert said == [f"{name}: ok" for name in names] and len(names) >= 8


@pytest.mark.parametrize(
    "ranks, cases",
    [
        (3, ["everything Adam", "fewer rows than ranks", "validation", "pieces", "sharded function"]),
        pytest.param(3, ["via=messages"], marks=pytest.mark.exhaustive),
        pytest.param(2, [], marks=pytest.mark.exhaustive),
        pytest.param(3, [], marks=pytest.mark.exhaustive),
        pytest.param(4, [], marks=pytest.mark.exhaustive),
    ],
)
def test_equals_one_process(ranks: int, cases: list[str]) -> None:
    done = on_ranks(ranks, "-m", "tests.distributed.equal_to_one_process", *cases)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.strip().endswith(f"on {ranks} ranks: 0 wrong")


def test_without_a_launcher_it_is_one_process_and_says_so() -> None:
    script = "import xpdl; print(xpdl.distributed.mpi(), xpdl.distributed.mpi() is xpdl.distributed.mpi())"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env=environment(), timeout=60, check=True
    )
    assert done.stdout == "Communicator(rank=0, size=1) True\n"
    assert done.stderr == "xpdl: one process; mpiexec -n 4 before the command starts four ranks of a training\n"


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    "library",
    [
        pytest.param("torch", marks=pytest.mark.needs("torch")),
        pytest.param("jax", marks=pytest.mark.needs("jax")),
        pytest.param("cupy", marks=pytest.mark.gpu),
    ],
)
def test_equals_one_process_with_arrays_of_other_libraries(library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOSTCUDA_ASYNC", "1")  # where a GPU is emulated, copies are made as late as they may be
    cases = ["everything Adam", "sharded Adam", "residual", "fewer rows than ranks"]
    done = on_ranks(2, "-m", "tests.distributed.equal_to_one_process", f"on={library}", *cases)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.strip().endswith("4 cases on 2 ranks: 0 wrong")
