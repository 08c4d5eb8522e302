"""Measurements of ``xpdl bench --distributed``: their parts, and the table of predictions."""

import dataclasses
import json
import re
import subprocess
import sys

import pytest

import xpdl
from tests.distributed.launch import ROOT, environment, on_ranks
from xpdl.bench.distributed import GIGABITS, MICROSECONDS, RANKS, case, distributed, efficiencies, step_here
from xpdl.bench.distributed_model import Gradient, Step
from xpdl.bench.tables import distributed_table
from xpdl.distributed import Communicator
from xpdl.distributed.measuring import SumSpeed, sum_speed


@pytest.mark.exhaustive
def test_parts_of_a_step_come_in_their_order():
    figure = distributed("TwoLayerNet", Communicator(), backend="numpy", batch_size=4, rounds=1)
    step = figure.alone
    assert sum(bucket.size for bucket in step.buckets) == 4 * (784 * 50 + 50 + 50 * 10 + 10)
    assert 0 < step.buckets[-1].ready <= step.backward_ends < step.seconds
    assert figure.predicted == figure.together.seconds and min(figure.sums.small_seconds, figure.sums.bandwidth) > 0
    lines = distributed_table(figure).splitlines()
    assert len(lines) == 4 + len(RANKS) * len(GIGABITS) and "here" not in "".join(lines)


def test_efficiencies_are_of_all_networks():
    # 10 Gb/s carry 8 MB, 7 / 8 of them twice, in 11.2 ms, and 14 or 6 messages take 2 us each
    step = Step(0.09, 0.1, [Gradient(0.09, 8_000_000)])
    found = efficiencies(step)
    assert [*found] == [case(*key) for key in ((r, g, m) for r in RANKS for g in GIGABITS for m in MICROSECONDS)]
    small = 3 * 2e-6
    expected = [0.1 / (0.1 + small + 0.0112 + messages * 2e-6) for messages in (14, 6)]
    assert found["8 ranks, 10 Gb/s, 2 us"] == pytest.approx(tuple(expected))


def test_a_step_here_pays_for_copies_and_messages():
    together = Step(0.08, 0.1, [Gradient(0.05, 4_000_000), Gradient(0.08, 4_000_000)])
    sums = SumSpeed(small_seconds=0.001, bandwidth=2e9, copy_bandwidth=2e9)
    # copies of 8 MB at 1 GB/s, a message of losses, and two of the last bucket
    assert step_here(together, 2, sums) == pytest.approx(0.1 + 0.008 + 0.001 + 0.002)
    # those of GPUs, 8 MB at 2 GB/s with a latency of 0.5 ms either way, begin with the gradients, at 0.05 and 0.08 s
    gpus = SumSpeed(small_seconds=0.001, bandwidth=2e9, copy_bandwidth=2e9)
    assert step_here(together, 2, gpus, overlaps=True) == pytest.approx(0.1 + 0.0005 + 0.002 + 0.001)
    # in shared memory, sums of 8 MB at 2 GB/s after the backward pass, and three messages of which two make a small sum
    assert step_here(together, 2, sums, shares_memory=True) == pytest.approx(0.1 + 0.004 + 0.0015)


@pytest.mark.parametrize(
    "library", ["numpy", *(pytest.param(name, marks=pytest.mark.needs(name)) for name in ("torch", "jax"))]
)
def test_sums_are_measured_by_the_way_of_the_arrays(library):
    class Watched(Communicator):
        def transport_of(self, backend):
            ways.append(backend.name)
            return super().transport_of(backend)

    ways = []
    with xpdl.use(library) as backend:
        speed = sum_speed(Watched(), backend)
    assert ways == [library] and min(dataclasses.astuple(speed)) > 0


@pytest.mark.exhaustive
@pytest.mark.needs("mpi4py")
def test_command_on_two_ranks(tmp_path):
    options = "--model", "TwoLayerNet", "--batch-size", "8", "--rounds", "1", "--json", str(tmp_path / "figures.json")
    done = on_ranks(2, "-m", "xpdl", "bench", "--distributed", *options)
    assert done.returncode == 0, done.stderr
    assert len(re.findall(r"^TwoLayerNet, batch 8 a rank", done.stdout, re.M)) == 1
    assert re.findall(r"^sums of 2 ranks here: \d+ us and [\d.]+ GB/s; gradients are .+$", done.stdout, re.M)
    assert re.findall(r"^a step of 2 ranks here: .* predicted [\d.]+ ms \([\d.]+\)$", done.stdout, re.M)
    (figure,) = json.loads((tmp_path / "figures.json").read_text(), parse_constant=pytest.fail)["figures"]
    assert figure["ranks"] == 2 and figure["seconds"] > 0 and len(figure["efficiencies"]) == 36


@pytest.mark.exhaustive
@pytest.mark.needs("mpi4py")
def test_ranks_are_measured_against_threads():
    command = [sys.executable, str(ROOT / "scripts/measure_ranks.py"), "--net", "TwoLayerNet", "--batch", "8"]
    done = subprocess.run(
        [*command, "--rounds", "2"], capture_output=True, text=True, env=environment(), timeout=240, check=False
    )
    assert done.returncode == 0, done.stderr
    cells = [cell.strip() for cell in done.stdout.splitlines()[-1].strip("|").split("|")]
    by_ranks, by_threads = (float(cell.split()[0]) for cell in cells[2:4])
    assert cells[:2] == ["TwoLayerNet", "8"] and min(by_ranks, by_threads, float(cells[4])) > 0
