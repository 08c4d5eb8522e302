"""A training on emulated GPUs in which NCCL fails as it is told: ``python -m tests.distributed.nccl_failures HOW``.

``HOW`` is ``no``, or on rank 1 ``stop`` or ``error`` in a call, ``asynchronous`` error or ``init``; ``init of all``.
"""

from __future__ import annotations

import importlib
import sys
from typing import Any

import pytest

import xpdl
from tests.distributed import emulated_gpus, nccl_stand_in
from tests.distributed.equal_to_one_process import T, X, rows_net
from xpdl.backends.registry import without
from xpdl.training import Callback, Trainer


class AsynchronousError(Callback):
    """An error that NCCL finds on rank 1 after a call has returned."""

    def on_batch_begin(self, trainer: Any, step: int) -> None:
        if step == 5 and trainer.communicator.rank == 1:
            nccl_stand_in.asynchronous_error.append(2)


def main(how: str) -> None:
    emulated_gpus.install_nccl(pytest.MonkeyPatch())
    ranks = xpdl.distributed.mpi(timeout=3 if how == "stop" else 60)
    failing = {"error": {"call 20": 1}, "init": {"init": 1}, "init of all": {"init": -1}}
    nccl_stand_in.failures.update(failing.get(how, {}))
    nccl_stand_in.stops.update({"call 20": 1} if how == "stop" else {})
    device = ranks.local_rank % importlib.import_module("cupy").cuda.runtime.getDeviceCount()
    xpdl.use("cupy", device=device, dtype="float64")
    callbacks = [AsynchronousError()] if how == "asynchronous" else []
    # the watchdog looks every 0.1 s: long enough for that on any machine
    epochs = 100_000 if how == "asynchronous" else 4
    options: dict[str, Any] = {"mini_batch_size": 10, "epochs": epochs, "seed": 3, "callbacks": callbacks}
    with without("numba"):
        Trainer(rows_net(), X, T, X[:7], T[:7], communicator=ranks, **options).train()


if __name__ == "__main__":
    main(sys.argv[1])
