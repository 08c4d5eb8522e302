"""Updates of which each rank makes its share, with its share of the optimizer's state."""

from __future__ import annotations

import contextlib
import glob
import math
from collections.abc import Callable, Iterator, Mapping, Set
from typing import Any

from xpdl.backends import Backend
from xpdl.backends.namespaces import Array, array_namespace, copied, dtype_name, widened, write
from xpdl.distributed import Communicator
from xpdl.distributed.buckets import Buckets
from xpdl.optimizers import Optimizer
from xpdl.optimizers.clipping import global_norm
from xpdl.optimizers.groups import groups_of
from xpdl.optimizers.identity import reference
from xpdl.training.nan_check import all_finite
from xpdl.training.precision.mixed import MixedPrecision

Arrays = dict[str, Array]
# of a rank whose pieces are all without a gradient
_NOTHING = "no values"


class ShardedUpdate:
    """Updates of a share of all values by each rank, which then gives its new values to all (ZeRO-1, arXiv:1910.02054).

    A share is a contiguous part of each bucket of gradients: pieces of parameters, as vectors. The optimizer's state is that
    of the pieces; `whole` makes it that of the parameters, for files.

    Parameters
    ----------
    network, optimizer, precision
        As of `EagerStep`.
    communicator : Communicator
    """

    def __init__(
        self, network: Any, optimizer: Optimizer, precision: MixedPrecision | None, communicator: Communicator
    ) -> None:
        self.network, self.optimizer, self.precision = network, optimizer, precision
        self.communicator = communicator
        self.buckets = Buckets(communicator, scattered=True)
        #: the optimizer's dicts while they have the state of pieces
        self._own_state: dict[str, Arrays] = {}
        #: names without a gradient in this step
        self._frozen: Set[str] = frozenset()

    def reduce(self, grads: Mapping[str, Array]) -> Arrays:
        """Add up the ranks' gradients, and return the pieces of the sums that this rank updates by."""
        params = self.network.params
        # frozen ones have none: the layout must not change when they get one, as the state lies by it
        self._frozen = params.keys() - grads.keys()
        return self.buckets.reduce(
            {name: _zeros_like(p) if name in self._frozen else _cast(grads[name], p) for name, p in params.items()}
        )

    def agree(self, grads: Arrays) -> tuple[bool, float]:
        """Return whether the sums are finite on all ranks, and their norm if that is to be clipped."""
        clips = self.optimizer.clip_norm is not None
        norm = global_norm(list(grads.values())) if clips else None
        own = all_finite(grads), 0.0 if norm is None else float(norm)
        finite, norms = zip(*self.communicator.allgather(own), strict=True)
        return all(finite), math.hypot(*norms)

    def update(self, grads: Arrays, finite: bool, norm: float) -> None:
        """Change the parameters, by sums that `agree` was asked about."""
        params = dict(self.network.params)
        pieces = self._own_pieces()
        own = {name: piece for name, piece in pieces.items() if name not in self._frozen}
        grads = {name: grads[name] for name in own}
        if not own:  # the number of the step counts on all ranks
            nothing = _flat(next(iter(params.values())))[:0]
            own, grads = {_NOTHING: nothing}, {_NOTHING: nothing}
        limit = self.optimizer.clip_norm
        if limit is not None and limit < norm < math.inf:
            grads = {name: widened(grad) * (limit / norm) for name, grad in grads.items()}
        self._take_pieces_of_state(pieces)
        updated = self.optimizer.updated
        with _of_whole_parameters(self.optimizer, params, own):
            if self.precision is not None and self.precision.scales:
                self.precision.loss_scale.update(self.optimizer, own, grads, finite)
            else:
                self.optimizer.update(own, grads)
        for state in self._own_state.values():
            state.pop(_NOTHING, None)
        pieces |= own
        for name, values in self.buckets.join(pieces):
            p = params[name]
            new = Backend.of(p).asarray(values.reshape(p.shape), dtype_name(p.dtype))
            written = write(p, new)
            if written is not p:
                self.network.params[name] = written
        self.optimizer.updated = updated or reference(self.network.params, params)

    @contextlib.contextmanager
    def whole(self) -> Iterator[None]:
        """Give the optimizer of rank 0 the state of all ranks inside, for a file or for other ranks. All ranks enter."""
        optimizer = self.optimizer
        if not self.communicator.bcast(self._has_pieces()):
            yield
            return
        for kind, own in self._own_state.items():
            dtypes = [dtype for dtype in self.communicator.allgather(_dtype_of(own)) if dtype is not None]
            names = set().union(*self.communicator.allgather([*own]))
            state, pieces = {}, {name: own.get(name, piece) for name, piece in self._own_pieces(_zeros_like).items()}
            for name, values in self.buckets.join(pieces, dtypes[0]) if dtypes else ():
                if self.communicator.is_first and name in names:
                    p = self.network.params[name]
                    state[name] = Backend.of(p).asarray(values.reshape(p.shape).copy(), dtypes[0])
            if self.communicator.is_first:
                setattr(optimizer, kind, {name: state[name] for name in self.network.params if name in state})
        try:
            yield
        finally:
            for kind, own in self._own_state.items() if self.communicator.is_first else ():
                setattr(optimizer, kind, own)

    def _own_pieces(self, changed: Callable[[Array], Array] = lambda piece: piece) -> Arrays:
        params = self.network.params
        return {name: changed(_flat(params[name])[start:stop]) for name, (start, stop) in self.buckets.pieces.items()}

    def _has_pieces(self) -> bool:
        """Return whether the optimizer's state is that of pieces: no file has been read since the last update."""
        own = self._own_state
        return bool(own) and all(getattr(self.optimizer, kind) is arrays for kind, arrays in own.items())

    def _take_pieces_of_state(self, pieces: Arrays) -> None:
        if self._has_pieces():
            return
        for kind in self.optimizer.state_names:
            state = getattr(self.optimizer, kind)
            spans = {name: self.buckets.pieces.get(name, (0, 0)) for name in pieces if name in state}
            own = {name: copied(_flat(state[name])[start:stop]) for name, (start, stop) in spans.items()}
            setattr(self.optimizer, kind, own)
            self._own_state[kind] = own


def require_elementwise(optimizer: Any) -> None:
    """Refuse an optimizer that cannot update pieces of parameters.

    Raises
    ------
    TypeError
    """
    if not (isinstance(optimizer, Optimizer) and optimizer.elementwise):
        raise TypeError(
            "Trainer: shard_optimizer=True updates pieces of parameters, which takes an optimizer of xpdl with an "
            f"elementwise step, got {type(optimizer).__name__}; leave it out, or set elementwise = True in a class of "
            "xpdl.Optimizer whose step computes each value by itself"
        )


@contextlib.contextmanager
def _of_whole_parameters(optimizer: Optimizer, params: Arrays, pieces: Arrays) -> Iterator[None]:
    """Let the options of an optimizer mean for pieces what they mean for the parameters, whose gradients are clipped."""
    decay, lr_groups, clip_norm = optimizer.decay, optimizer.lr_groups, optimizer.clip_norm
    groups = groups_of(params, decay, lr_groups, type(optimizer).__name__)
    decaying = {name for group in groups if group.decays for name in group.names}
    if decay is not None:
        optimizer.decay = decaying.__contains__
    rates = {name: group.rate for group in groups for name in group.names if name in pieces and group.rate != 1}
    optimizer.lr_groups = {glob.escape(name): rate for name, rate in rates.items()}
    optimizer.clip_norm = None
    try:
        yield
    finally:
        optimizer.decay, optimizer.lr_groups, optimizer.clip_norm = decay, lr_groups, clip_norm


def _cast(grad: Array, p: Array) -> Array:
    return grad if grad.dtype == p.dtype else array_namespace(grad).astype(grad, p.dtype)


def _zeros_like(a: Array) -> Array:
    return array_namespace(a).zeros_like(a)


def _flat(a: Array) -> Array:
    return array_namespace(a).reshape(a, (-1,))


def _dtype_of(arrays: Arrays) -> str | None:
    return next((dtype_name(a.dtype) for a in arrays.values()), None)
