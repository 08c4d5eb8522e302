"""A training of ranks that fails as it is told: ``python -m tests.distributed.run_that_fails FOLDER HOW [EPOCHS]``.

``HOW`` is ``no``, ``slow``, ``raise``, ``all raise``, ``exit``, ``all stop`` for longer than ranks wait for each other, or a
signal's name, all at step 7 of rank 1, or
``write COUNT RANK``: rank 0 kills that rank in the midst of writing a checkpoint, at so many calls that change files.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
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
        if self.how == "exit":
            sys.exit(3)
        if self.how == "all stop":
            stop_all_for(6, [process for process, _ in self.ranks.processes])
        if self.how in ("SIGTERM", "SIGINT", "SIGKILL", "SIGSTOP"):
            os.kill(os.getpid(), signal.Signals[self.how])


def stop_all_for(seconds: float, processes: list[int]) -> None:
    """Stop all ranks while the others wait for this one, and let them go on, this one last."""
    everyone = " ".join(map(str, processes))
    others = " ".join(str(process) for process in processes if process != os.getpid())
    commands = "sleep 0.5", f"kill -STOP {everyone}", f"sleep {seconds}"
    commands += f"kill -CONT {others}", "sleep 0.5", f"kill -CONT {os.getpid()}"
    with subprocess.Popen(["sh", "-c", "; ".join(commands)]) as shell:
        assert shell.wait() == 0


def kill_in_a_write(ranks: Any, count: int, rank: int) -> None:
    """Kill a rank before or after the call number `count` of those by which a checkpoint is written."""
    calls = itertools.count()

    def counted(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any) -> Any:
            for done in (False, True):
                if next(calls) == count:
                    print("killed in a write", flush=True)
                    os.kill(ranks.processes[rank][0], signal.SIGKILL)
                if not done:
                    result = function(*args)
            return result

        return call

    os.fsync, os.replace = counted(os.fsync), counted(os.replace)


def main(folder: Path, how: str, epochs: int = 8) -> None:
    xpdl.use("numpy", dtype="float64")
    ranks = xpdl.distributed.mpi(timeout={"SIGSTOP": 2, "all stop": 5}.get(how, 60))
    options = {**everything("Adam"), "checkpoint": folder / "run.checkpoint", "checkpoint_every": 3, "seed": 3}
    options["callbacks"] = [Failure(ranks, how)]
    if how.startswith("write") and ranks.is_first:
        kill_in_a_write(ranks, *map(int, how.split()[1:]))
    with without("numba"):
        trainer = Trainer(options.pop("network"), X, T, X, T, epochs, communicator=ranks, **options)
        trainer.train()
    if ranks.is_first:
        digest = hashlib.sha256(b"".join(p.tobytes() for p in trainer.network.params.values()))
        history = {name: values for name, values in trainer.history.lists().items() if name != "seconds"}
        digest.update(repr(history).encode())
        print("parameters", digest.hexdigest(), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], *map(int, sys.argv[3:]))
