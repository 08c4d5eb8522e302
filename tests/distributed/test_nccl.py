"""CuPy's arrays by NCCL and by CUDA-aware MPI, on the GPUs that hostcuda emulates, under ``mpiexec``."""

from __future__ import annotations

import inspect
import os
import re
import subprocess
import time

import pytest

from tests.distributed import nccl_stand_in
from tests.distributed.cuda_aware_faults import FAULTS as AWARE_FAULTS
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


@pytest.mark.parametrize("ranks", [pytest.param(2, marks=pytest.mark.slow), 3])
def test_calls_and_results_are_those_of_the_claims(ranks: int) -> None:
    done = on_gpus(ranks, "-m", "tests.distributed.nccl_claims")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count(": ok\n") == 10 and ": failed" not in done.stdout


def test_claims_fail_where_something_is_done_wrong() -> None:
    done = on_gpus(3, "-m", "tests.distributed.nccl_claims", "faults")
    assert done.returncode == 0, done.stdout + done.stderr
    assert [line for line in done.stdout.splitlines() if line.endswith(": ok")] == [f"{fault}: ok" for fault in FAULTS]


def test_another_order_of_buckets_on_a_rank_ends_all_of_them() -> None:
    done = on_gpus(2, "-m", "tests.distributed.nccl_claims", "other order")
    assert done.returncode != 0
    assert "stand-in: rank " in done.stdout and "('allReduce', " in done.stdout, done.stdout + done.stderr


def test_sums_by_cuda_aware_mpi_are_those_of_the_terms() -> None:
    done = on_gpus(3, "-m", "tests.distributed.cuda_aware_claims", HOSTCUDA_PROTECT="none")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines() == ["added up by CUDA-aware MPI", "0 wrong"]


@pytest.mark.parametrize(
    "fault", [AWARE_FAULTS[0], *(pytest.param(fault, marks=pytest.mark.slow) for fault in AWARE_FAULTS[1:])]
)
def test_sums_by_cuda_aware_mpi_are_wrong_in_another_order(fault: str) -> None:
    done = on_gpus(2, "-m", "tests.distributed.cuda_aware_claims", fault, HOSTCUDA_PROTECT="none")
    assert done.returncode == 1 and re.search(r"^rank \d: ", done.stdout, re.M), done.stdout + done.stderr


@pytest.mark.parametrize(
    ("transport", "ranks", "cases"),
    [
        ("nccl", 3, ["everything Adam", "sharded Adam"]),
        ("cuda-aware", 2, ["everything Adam", "sharded Adam"]),
        pytest.param(
            "nccl", 2, ["fewer rows than ranks", "residual", "float32 passes", "sharded images"], marks=pytest.mark.slow
        ),
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


@pytest.mark.parametrize(
    ("how", "line"),
    [
        (
            "stop",
            r"xpdl: rank 0 waited 3 s for sum \d+ of NCCL; rank 1 \(process \d+ on .+\) did not send it; all .+ ended",
        ),
        (
            "error",
            r"xpdl: rank 1 of 3 ended with .*RankError: NCCL: sum \d+ of NCCL failed on rank 1, NCCL_ERROR_SYSTEM_ERROR: "
            r".+; NCCL_DEBUG=INFO makes NCCL say why; all ranks are ended",
        ),
        pytest.param(
            "asynchronous",
            r"xpdl: rank 1 of 3 ended with NCCL_ERROR_SYSTEM_ERROR: .+; all ranks are ended",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            "init",
            r"xpdl: rank 1 of 3 ended with .*RankError: NCCL: does not start on rank 1, NCCL_ERROR.+ are ended",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_failure_of_nccl_ends_all_ranks_with_a_line_that_names_the_one(how: str, line: str) -> None:
    begin = time.monotonic()
    done = on_gpus(3, "-m", "tests.distributed.nccl_failures", how)
    assert done.returncode != 0 and time.monotonic() - begin < 60
    said = [text for text in done.stderr.splitlines() if text.startswith("xpdl:")]
    assert len(said) == 1 and re.fullmatch(line, said[0]), done.stdout + done.stderr


@pytest.mark.parametrize(
    ("how", "way"),
    [
        pytest.param("no", r"added up by NCCL 2\.25\.1 \(each rank has a GPU of its own\)", marks=pytest.mark.slow),
        (
            "init of all",
            r"staged through pinned memory of the host \(NCCL does not start, rank 0: NCCL_ERROR_SYSTEM_ERROR: .+; "
            r"rank 0: the MPI library takes no device memory \(MPIX_Query_cuda_support\)\)",
        ),
    ],
)
def test_first_line_says_which_way_gradients_take_and_why(how: str, way: str) -> None:
    done = on_gpus(2, "-m", "tests.distributed.nccl_failures", how)
    assert done.returncode == 0, done.stdout + done.stderr
    said = [line for line in done.stdout.splitlines() if "; gradients are " in line]
    assert len(said) == 1 and re.fullmatch(f"2 ranks by .+; gradients are {way}", said[0]), done.stdout


def test_ranks_that_share_a_gpu_are_staged_and_told_so() -> None:
    done = on_gpus(2, "-m", "tests.distributed.nccl_failures", "no", HOSTCUDA_DEVICES="1")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "NCCL needs a GPU for each rank, and ranks 0 and 1 share one, 0000:01:00 of " in done.stdout, done.stdout


@pytest.mark.parametrize(
    ("transport", "way", "by_nccl"),
    [
        ("nccl", r"added up by NCCL 2\.25\.1 \(each rank has a GPU of its own\)", True),
        pytest.param("cuda-aware", "added up by CUDA-aware MPI", False, marks=pytest.mark.slow),
        pytest.param(
            "staged", r"staged through pinned memory of the host \(as asked for\)", False, marks=pytest.mark.slow
        ),
    ],
)
def test_bench_measures_the_way_that_training_takes(transport: str, way: str, by_nccl: bool) -> None:
    settings = {"HOSTCUDA_PROTECT": "none"} if transport == "cuda-aware" else {}
    done = on_gpus(2, "-m", "tests.distributed.bench_on_gpus", transport, **settings)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(rf"^sums of 2 ranks here: \d+ us and [\d.]+ GB/s; gradients are {way}$", done.stdout, re.M), (
        done.stdout
    )
    assert f"large sums by NCCL: {by_nccl}" in done.stdout, done.stdout


def test_info_says_which_gpu_each_rank_has_and_how_they_are_connected() -> None:
    done = on_gpus(2, "-m", "xpdl", "info", XPDL_BACKEND="cupy")
    assert done.returncode == 0, done.stderr
    said = re.findall(
        r"^  rank (\d): cupy on .*Device (\d)>, process \d+ on .*; gradients are (.+)$", done.stdout, re.M
    )
    assert [(rank, gpu) for rank, gpu, _ in said] == [("0", "0"), ("1", "1")], done.stdout
    assert all(way.startswith("staged through pinned memory of the host (no NCCL on rank 0: ") for *_, way in said)
    assert re.findall(r"^  NCCL: not available \(CuPy finds no libnccl; .+\)$", done.stdout, re.M), done.stdout


#: of CuPy 14.2 with NCCL, whose docstrings begin with them
SIGNATURES = {
    "allReduce": "sendbuf recvbuf count datatype op stream",
    "reduceScatter": "sendbuf recvbuf recvcount datatype op stream",
    "allGather": "sendbuf recvbuf count datatype stream",
    "broadcast": "sendbuff recvbuff count datatype root stream",
    "send": "sendbuf count datatype peer stream",
    "recv": "recvbuf count datatype peer stream",
    "check_async_error": "",
    "__init__": "ndev commId rank",
}


def test_stand_in_has_the_signatures_and_constants_of_cupy() -> None:
    for name, words in SIGNATURES.items():
        found = inspect.signature(getattr(nccl_stand_in.NcclCommunicator, name))
        assert [*found.parameters][1:] == words.split(), name
    names = ["INT8", "UINT8", "INT32", "UINT32", "INT64", "UINT64", "FLOAT16", "FLOAT32", "FLOAT64", "BFLOAT16"]
    assert [getattr(nccl_stand_in, f"NCCL_{name}") for name in names] == list(range(10))
    assert nccl_stand_in.NCCL_SUM == 0 and len(nccl_stand_in.get_unique_id()) == 128
