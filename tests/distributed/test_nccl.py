"""CuPy's arrays by NCCL and by CUDA-aware MPI, on the GPUs that hostcuda emulates, under ``mpiexec``."""

from __future__ import annotations

import os
import subprocess

import pytest

from tests.distributed.launch import environment, on_ranks
from tests.distributed.nccl_faults import FAULTS

pytestmark = [
    pytest.mark.needs("mpi4py"),
    pytest.mark.exhaustive,
    pytest.mark.gpu,
    pytest.mark.skipif(
        "CUPY_ON_HOST" not in os.environ, reason="the stand-in for NCCL computes on hostcuda: CUPY_ON_HOST=1"
    ),
]


def on_gpus(ranks: int, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run ranks with a GPU each, whose work is done as late as it may be."""
    gpus = {"HOSTCUDA_DEVICES": str(ranks), "HOSTCUDA_ASYNC": "1", "HOSTCUDA_MEMORY": str(1 << 30)}
    return on_ranks(ranks, *arguments, env={**environment(), **gpus, **settings})


@pytest.mark.parametrize("ranks", [2, 3])
def test_calls_and_results_are_those_of_the_claims(ranks: int) -> None:
    done = on_gpus(ranks, "-m", "tests.distributed.nccl_claims")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count(": ok\n") == 9 and ": failed" not in done.stdout


def test_claims_fail_where_something_is_done_wrong() -> None:
    done = on_gpus(3, "-m", "tests.distributed.nccl_claims", "faults")
    assert done.returncode == 0, done.stdout + done.stderr
    assert [line for line in done.stdout.splitlines() if line.endswith(": ok")] == [f"{fault}: ok" for fault in FAULTS]


def test_another_order_of_buckets_on_a_rank_ends_all_of_them() -> None:
    done = on_gpus(2, "-m", "tests.distributed.nccl_claims", "other order")
    assert done.returncode != 0
    assert "stand-in: rank " in done.stdout and "('allReduce', " in done.stdout, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("transport", "ranks", "cases"),
    [
        ("nccl", 3, ["everything Adam", "sharded Adam", "fewer rows than ranks"]),
        ("cuda-aware", 2, ["everything Adam", "sharded Adam"]),
        pytest.param("nccl", 2, ["residual", "float32 passes", "sharded images"], marks=pytest.mark.slow),
        pytest.param("cuda-aware", 3, ["residual", "float32 passes", "sharded images"], marks=pytest.mark.slow),
        pytest.param("staged", 3, ["everything Adam", "sharded Adam", "float32 passes"], marks=pytest.mark.slow),
    ],
)
def test_equals_one_process(transport: str, ranks: int, cases: list[str]) -> None:
    # MPI itself reads the memory of the GPU
    settings = {"HOSTCUDA_PROTECT": "none"} if transport == "cuda-aware" else {}
    program = "-m", "tests.distributed.equal_to_one_process", "on=cupy", f"via={transport}"
    done = on_gpus(ranks, *program, *cases, **settings)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.strip().endswith(f"{len(cases)} cases on {ranks} ranks: 0 wrong")
