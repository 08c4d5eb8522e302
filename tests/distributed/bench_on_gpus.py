"""``xpdl bench --distributed`` on emulated GPUs: ``mpiexec -n 2 python -m tests.distributed.bench_on_gpus TRANSPORT``."""

from __future__ import annotations

import sys

from tests.distributed import emulated_gpus, nccl_stand_in
from xpdl.bench.distributed import distributed
from xpdl.bench.tables import distributed_table
from xpdl.distributed.measuring import LARGE_BYTES


def main(transport: str) -> None:
    ranks = emulated_gpus.ranks(transport)
    figure = distributed("TwoLayerNet", ranks, backend="cupy", batch_size=4, rounds=1)
    sums = [call.count for call in nccl_stand_in.calls if call.name == "allReduce"]
    measured = sums.count(LARGE_BYTES // 4) > 0
    if ranks.is_first:
        print(distributed_table(figure), f"large sums by NCCL: {measured}", sep="\n")


if __name__ == "__main__":
    main(sys.argv[1])
