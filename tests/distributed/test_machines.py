"""Ranks on machines of their own, whose network is slow and loses packets."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.distributed.machines import Machines, missing

pytestmark = [
    pytest.mark.needs("mpi4py"),
    pytest.mark.exhaustive,
    pytest.mark.skipif(missing() is not None, reason=missing() or ""),
]


def test_trainings_on_a_slow_network_that_loses_packets(tmp_path: Path) -> None:
    with Machines(3, tmp_path, latency=0.002, loss=0.005) as machines:
        equal = machines.run("-m", "tests.distributed.equal_to_one_process", "everything Adam")
        failed = machines.run("-m", "tests.distributed.run_that_fails", str(tmp_path), "raise")
        local_ranks = machines.run("-c", "import xpdl; print(xpdl.distributed.mpi().local_rank)")
    assert equal.returncode == 0, equal.stdout + equal.stderr
    assert equal.stdout.strip().endswith("on 3 ranks: 0 wrong")
    assert failed.returncode != 0 and "xpdl: rank 1 of 3 ended with KeyError" in failed.stderr, failed.stderr
    assert local_ranks.stdout.split() == ["0", "0", "0"], local_ranks.stderr
    assert machines.relayed > 1000 and machines.lost > 0
