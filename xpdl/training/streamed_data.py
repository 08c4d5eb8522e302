"""Data of a training that come as batches."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from xpdl.backends.random import next_stream
from xpdl.data.batches import Transforms
from xpdl.distributed import Communicator
from xpdl.layers.recurrent_state import stateful_layers
from xpdl.training.batch_source import BatchSource
from xpdl.training.rank_source import RankSource
from xpdl.training.stable_repr import words


class StreamedData:
    """The data of a training whose rows come as batches; see `TrainingData` for the attributes."""

    last_batch_size = 0
    #: None for as many as the first batch has
    batch_size: int | None = None

    def __init__(
        self, batches: BatchSource, held_out: Mapping[str, tuple[Any, Any]], network: Any, enter: Callable[..., Any]
    ) -> None:
        self.batches, self.augment, backend = batches, batches.transform, batches.backend
        self.sets: dict[str, tuple[Any, Any]] = {
            which: enter(*pair, network, backend, which) for which, pair in held_out.items()
        }

    def span(self, last: bool) -> tuple[int, int, int]:
        """Return the first row of this rank in the present global batch, the one after its last, and the rows of all."""
        return self.batches.span

    @property
    def steps_per_epoch(self) -> int | None:
        """The number of batches of an epoch, where the source has a length."""
        return self.batches.steps

    def of(self, which: str) -> tuple[Any, Any]:
        """Return x and t of a set, None where it is missing; the source of batches in the place of training rows."""
        nothing = self.batches.source if which == "train" else None, None
        return self.sets.get(which, nothing)

    def settings(self) -> dict[str, Any]:
        """Return the part of a run's fingerprint that the data make."""
        return {"augment": words(self.augment), "rows": None, "batches": self.steps_per_epoch}


def streamed(
    source: Any,
    network: Any,
    seed: int | None,
    augment: Transforms | None,
    refused: Mapping[str, Any],
    communicator: Communicator,
) -> BatchSource:
    """Return the batches of a training that were given in the place of rows; of several ranks, the rows of this one.

    Raises
    ------
    TypeError
        If one of the options `refused` is asked for, each of which needs the rows.
    """
    for option, value in refused.items():
        if value is not None and not (isinstance(value, (bool, int, float)) and not value):
            raise TypeError(
                f"Trainer: {option} needs rows, and x_train gives batches; make them so, or pass arrays x_train and t_train"
            )
    order = next_stream("Trainer", seed).words("order")[0]
    options = source, "Trainer: x_train", network, order, augment
    batches = BatchSource(*options) if communicator.size == 1 else RankSource(*options, communicator=communicator)
    if isinstance(batches, RankSource) and batches.is_sharded and (layers := stateful_layers(network)):
        raise ValueError(
            f"Trainer: {layers[0].name} goes on with the states of the batch before, and a checkpoint does not know the rows"
            " that a rank gives itself; give all ranks the same batches, or make the layer with stateful=False"
        )
    if batches.class_names is None:
        of_ranks = communicator.allgather(batches.learn_class_names())
        known = {name for names in of_ranks if names is not None for name in names}
        batches.class_names = sorted(known) or None
    return batches
