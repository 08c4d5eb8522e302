"""A training step that several ranks make together, and the agreement of ranks before the first one."""

from __future__ import annotations

import contextlib
import hashlib
import math
from collections.abc import Callable, Mapping
from typing import Any

from xpdl.backends import asnumpy
from xpdl.backends.namespaces import Array, array_namespace, is_array, is_floating
from xpdl.distributed import Communicator, RankError
from xpdl.distributed.buckets import Buckets
from xpdl.layers.batch_normalization import BatchNormalization
from xpdl.layers.named import Entry
from xpdl.layers.share import BatchShare, shared
from xpdl.models.base import Model
from xpdl.training.nan_check import FINITE, first_non_finite
from xpdl.training.network_state import named_arrays
from xpdl.training.overlap import overlapping
from xpdl.training.sharded_update import ShardedUpdate
from xpdl.training.step import EagerStep, StepResult, gradient, loss_of, update, weight_of


class DataParallelStep(EagerStep):
    """Makes a step of all ranks: each computes its rows of the global batch, and all update by the sum of their gradients.

    A rank's gradient is that of the loss of the global batch by its rows: the sum over the ranks weighs rows as one process
    does. All else that decides, losses, gradients and running statistics, is the same on all ranks, bitwise.

    Parameters
    ----------
    network, optimizer, precision, accumulate_grad_batches, state
        As of `EagerStep`.
    communicator : Communicator
    span : callable
        ``span(last)`` returns the first row of this rank in the global batch, the one after its last, and the rows of all.
    check_every : int, optional
        Compare the ranks' parameters after so many steps.
    shards : bool
        Whether each rank updates its share of the parameters alone, see `ShardedUpdate`.
    """

    def __init__(
        self,
        *parts: Any,
        communicator: Communicator,
        span: Callable[[bool], tuple[int, int, int]],
        check_every: int | None = None,
        shards: bool = False,
    ) -> None:
        super().__init__(*parts)
        self.communicator, self.span, self.check_every = communicator, span, check_every
        self._share = BatchShare(0, communicator)
        self.sharded = ShardedUpdate(self.network, self.optimizer, self.precision, communicator) if shards else None
        self._buckets = Buckets(communicator) if self.sharded is None else self.sharded.buckets

    def __call__(self, x: Array, t: Array, *sample_weight: Array, last: bool = False) -> StepResult:
        """As of `EagerStep`, on this rank's rows; the loss is that of the global batch."""
        self._share.finish()  # of a step that an error has ended
        start, stop, rows = self.span(last)
        self._share = share = BatchShare(rows, self.communicator, (start, stop))
        grads = self.gradient(x, t, *sample_weight)
        share.finish()
        loss, weight = share.loss, share.weight
        assert loss is not None and weight is not None
        self.state.pending.append((loss, weight))
        reduced = self.accumulator.add(grads, weight, last)
        # gradients that are accumulated are looked at when all ranks have those of all
        if reduced is None:
            self.read_losses(x, t)
        else:
            self._update(reduced, lambda sums: self.read_losses(x, t, sums))
            self._check()
        return StepResult(loss, reduced is not None)

    def finish(self) -> None:
        """Update with what is accumulated, where nobody knew which batch would be the last."""
        grads = self.accumulator.rest()
        if grads is not None:
            self._update(grads)

    def gradient(self, x: Array, t: Array, *sample_weight: Array) -> Any:
        """Compute this rank's part of the gradients of the global batch."""
        share = self._share
        overlaps = self.accumulator.count == 1
        with (
            shared(self.network, share),
            overlapping(self.network, self._buckets, as_zeros=share.is_idle) if overlaps else contextlib.nullcontext(),
        ):
            grads: Mapping[str, Array] = gradient(self.network, self.precision, x, t, *sample_weight)
        if not share.is_exchanged:  # the network is not xpdl's, and has not asked for it
            factor = share.exchange(loss_of(self.network, x, t), weight_of(self.network, x))
            grads = {name: grad * factor for name, grad in grads.items()}
        if share.is_idle:
            return {name: array_namespace(grad).zeros_like(grad) for name, grad in grads.items()}
        return grads

    def locate(self, x: Array, t: Array) -> str:
        """Describe the first layer with NaN or infinity, of the first rank that finds one; see `first_non_finite`."""
        span = self._share.start, self._share.stop
        share = BatchShare(self._share.rows, self.communicator, span, exchanges=False)
        with shared(self.network, share):
            found = FINITE if share.is_idle else first_non_finite(self.network, x, t)
        found_by_rank = enumerate(self.communicator.allgather(found))
        return next((f"on rank {rank}, {text}" for rank, text in found_by_rank if text != FINITE), FINITE)

    def _update(
        self, grads: Mapping[str, Array], read: Callable[[Mapping[str, Array]], None] = lambda sums: None
    ) -> None:
        """Update by the sums of the ranks' gradients, after `read` has seen them or, of pieces, what is not finite."""
        self._average_statistics()
        if self.sharded is None:
            sums = self._buckets.reduce(grads) if grads else {}  # all layers may be frozen
            read({} if self._buckets.are_known_finite() else sums)
            update(self.optimizer, self.precision, self.network.params, sums)
        else:
            sums = self.sharded.reduce(grads)
            finite, norm = self.sharded.agree(sums)
            read({} if finite else {"of a rank": array_namespace(*grads.values()).asarray(math.nan)})
            self.sharded.update(sums, finite, norm)

    def _average_statistics(self) -> None:
        """Give all ranks the mean of the running statistics that each has of its own rows."""
        slots = list(_local_statistics(self.network))
        share = (self._share.stop - self._share.start) / self._share.rows
        means = self.communicator.allreduce([share * owner[key] for _, owner, key in slots]) if slots else []
        for (_, owner, key), mean in zip(slots, means, strict=True):
            owner[key] = mean

    def _check(self) -> None:
        step = self.state.step + 1
        if self.check_every is not None and step % self.check_every == 0:
            require_equal(self.network, self.communicator, step)


def require_equal(network: Any, communicator: Communicator, step: int) -> None:
    """Compare parameters and running statistics of all ranks by a hash.

    Raises
    ------
    RankError
        If they are not bitwise identical; names the ranks that differ from rank 0.
    """
    digest = hashlib.sha256()
    for name, owner, key in named_arrays(network):
        digest.update(name.encode())
        digest.update(asnumpy(owner[key]).tobytes())
    digests = communicator.allgather(digest.digest())
    if other := [rank for rank, found in enumerate(digests) if found != digests[0]]:
        raise RankError(
            f"Trainer: after step {step}, parameters of rank {', '.join(map(str, other))} differ from those of rank 0; "
            "has a callback changed them on some ranks only?"
        )


def _local_statistics(network: Any) -> list[Entry]:
    """List the running statistics that each rank has of its own rows."""
    if not isinstance(network, Model):
        return []
    leaves = [leaf for leaf in network.leaves() if not (isinstance(leaf, BatchNormalization) and leaf.sync)]
    slots = [
        slot for leaf in leaves for slot in leaf.named_state() if slot[2] not in getattr(leaf, "constant_state", ())
    ]
    return [(name, owner, key) for name, owner, key in slots if is_array(owner[key]) and is_floating(owner[key])]
