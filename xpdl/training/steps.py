"""Choice of the step that a trainer makes."""

from __future__ import annotations

from typing import Any

from xpdl.ops.checks import flag, positive_int
from xpdl.training.cuda_graph import GraphedStep
from xpdl.training.data_parallel import DataParallelStep
from xpdl.training.messages import warn
from xpdl.training.sharded_update import require_elementwise
from xpdl.training.step import EagerStep


def new_step(
    trainer: Any, check_ranks_every: int | None, shard_optimizer: bool, *, has_communicator: bool
) -> EagerStep:
    """Return a step of one process or of several ranks, which a CUDA graph repeats where the trainer was asked to compile.

    Steps of several ranks are eager, with a warning where they were to be compiled: the host waits for messages in each.

    Raises
    ------
    TypeError
        If the optimizer cannot update pieces of parameters, and is to.
    ValueError
        If there are options of several ranks, and the trainer was given no communicator.
    """
    parts = trainer.network, trainer.optimizer, trainer.precision, trainer.accumulate_grad_batches, trainer.state
    if check_ranks_every is not None:
        positive_int(check_ranks_every, "check_ranks_every", "Trainer")
    if flag(shard_optimizer, "shard_optimizer", "Trainer"):
        require_elementwise(trainer.optimizer)
    of_ranks = {"check_ranks_every": check_ranks_every, "shard_optimizer": shard_optimizer or None}
    alone = [f"{name}={value}" for name, value in of_ranks.items() if value is not None and not has_communicator]
    if alone:
        raise ValueError(
            f"Trainer: {' and '.join(alone)} without a communicator; pass communicator=xpdl.distributed.mpi(), or leave it "
            "out"
        )
    if trainer.communicator.size > 1:
        if trainer.compile and trainer.communicator.is_first:
            warn(
                "Trainer: compile=True with several ranks makes eager steps, as the host exchanges gradients inside each; "
                "leave it out, or train in one process"
            )
        options = {"communicator": trainer.communicator, "span": trainer.data.span, "check_every": check_ranks_every}
        return DataParallelStep(*parts, shards=shard_optimizer, **options)
    if trainer.compile:
        return GraphedStep(*parts, backend=trainer.backend, batch_size=trainer.data.batch_size)
    return EagerStep(*parts)
