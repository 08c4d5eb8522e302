"""The data of a training: its sets where the network is, and the batches of an epoch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from xpdl.backends import Backend
from xpdl.backends.namespaces import Array
from xpdl.backends.random import next_stream
from xpdl.data import Batches, Prefetch, is_mapped
from xpdl.data.structure import rows_in
from xpdl.distributed import Communicator
from xpdl.ops.shares import share_of
from xpdl.training import inputs
from xpdl.training.stable_repr import words


class TrainingData:
    """Check the data sets of a trainer, move them to its network, and batch the rows to train with.

    Parameters
    ----------
    sets : mapping of str to (x, t)
        ``"train"``, and ``"val"`` and ``"test"`` where there are such rows.
    network
    backend : Backend
        Of the network.
    batch_size, seed, drop_last, augment, sample_weight, validation_split, communicator
        As of a `Trainer`.

    Attributes
    ----------
    sets : dict of str to (x, t)
    batches : Batches or Prefetch
    rows : int
        To train with.
    steps_per_epoch, last_batch_size : int
    """

    def __init__(
        self,
        sets: Mapping[str, tuple[Any, Any]],
        network: Any,
        backend: Backend,
        *,
        batch_size: int,
        seed: int | None,
        drop_last: bool,
        augment: Callable[..., Array] | Sequence[Callable[..., Array]] | None,
        sample_weight: Any,
        validation_split: float,
        communicator: Communicator,
    ) -> None:
        self.sets, weights, self._checksums = inputs.enter(
            sets, sample_weight, network, backend, validation_split, seed
        )
        x, t = self.sets["train"]
        self.rows = rows_in(x)
        order = next_stream("Trainer", seed).words("order")[0]
        options: dict[str, Any] = {"drop_last": drop_last, "transform": augment, "sample_weight": weights}
        self.batch_size, self._shard = batch_size, (communicator.rank, communicator.size)
        batches = Batches(x, t, batch_size, seed=order, backend=backend, shard=self._shard, **options)
        inputs.check_last_batch(network, x, batch_size, drop_last, communicator.size)
        self.augment = batches.transform
        self.batches: Batches | Prefetch = Prefetch(batches) if is_mapped(x) else batches
        self.steps_per_epoch = len(self.batches)
        self.last_batch_size = min(batch_size, self.rows - (self.steps_per_epoch - 1) * batch_size)

    def span(self, last: bool) -> tuple[int, int, int]:
        """Return the first row of this rank in a global batch, the one after its last, and the rows of all ranks."""
        rows = self.last_batch_size if last else self.batch_size
        return *share_of(rows, *self._shard), rows

    def of(self, which: str) -> tuple[Any, Any]:
        """Return x and t of a set, None where it is missing."""
        return self.sets.get(which, (None, None))

    def settings(self) -> dict[str, Any]:
        """Return the part of a run's fingerprint that the data make."""
        x_val, _ = self.of("val")
        return {
            "augment": words(self.augment),
            # without those for validation: another share of them is another number of these
            "rows": self.rows,
            "rows to validate with": 0 if x_val is None else rows_in(x_val),
            **self._checksums,
        }
