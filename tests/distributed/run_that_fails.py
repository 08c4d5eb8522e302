"""A training of ranks that fails as it is told: ``mpiexec -n 3 python -m tests.distributed.run_that_fails FOLDER HOW``."""

from __future__ import annotations

import hashlib
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import xpdl
from tests.distributed.equal_to_one_process import T, X, everything
from xpdl.backends.registry import without
from xpdl.training import Callback, Trainer


class Failure(Callback):
    """Failure of rank 1, or of all ranks, at step 7."""

    def __init__(self, ranks: Any, how: str) -> None:
        self.ranks, self.how = ranks, how

    def on_batch_begin(self, trainer: Any, step: int) -> None:
        if self.how == "slow":
            time.sleep(0.02)
        if step != 7 or (self.ranks.rank != 1 and self.how != "all raise"):
            return
        if self.how in ("raise", "all raise"):
            raise KeyError(f"of rank {self.ranks.rank}")
        if self.how == "hang":
            time.sleep(600)
        if self.how in ("SIGTERM", "SIGINT", "SIGKILL"):
            os.kill(os.getpid(), signal.Signals[self.how])


def main(folder: Path, how: str) -> None:
    xpdl.use("numpy", dtype="float64")
    ranks = xpdl.distributed.mpi(timeout=2 if how == "hang" else 60)
    options = {**everything("Adam"), "checkpoint": folder / "run.checkpoint", "checkpoint_every": 3, "seed": 3}
    options["callbacks"] = [Failure(ranks, how)]
    with without("numba"):
        trainer = Trainer(options.pop("network"), X, T, X, T, 8, communicator=ranks, **options)
        trainer.train()
    if ranks.is_first:
        digest = hashlib.sha256(b"".join(p.tobytes() for p in trainer.network.params.values()))
        print("parameters", digest.hexdigest(), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
