"""Choice of the step that a trainer makes."""

from __future__ import annotations

from typing import Any

from xpdl.ops.checks import positive_int
from xpdl.training.cuda_graph import GraphedStep
from xpdl.training.data_parallel import DataParallelStep
from xpdl.training.step import EagerStep


def new_step(trainer: Any, check_ranks_every: int | None) -> EagerStep:
    """Return a step of one process or of several ranks, which a CUDA graph repeats where the trainer was asked to compile.

    Raises
    ------
    ValueError
        If several ranks are to compile: what they exchange goes through the host.
    """
    parts = trainer.network, trainer.optimizer, trainer.precision, trainer.accumulate_grad_batches, trainer.state
    if check_ranks_every is not None:
        positive_int(check_ranks_every, "check_ranks_every", "Trainer")
    if trainer.communicator.size > 1:
        if trainer.compile:
            raise ValueError(
                "Trainer: compile=True with a communicator of several ranks, whose gradients go through the host in each "
                "step; leave out one of them"
            )
        sizes = trainer.batch_size, trainer.data.last_batch_size
        return DataParallelStep(*parts, communicator=trainer.communicator, sizes=sizes, check_every=check_ranks_every)
    if trainer.compile:
        return GraphedStep(*parts, backend=trainer.backend, batch_size=trainer.batch_size)
    return EagerStep(*parts)
