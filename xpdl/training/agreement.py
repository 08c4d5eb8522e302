"""Agreement of ranks on data, options and versions, and a common state to begin with."""

from __future__ import annotations

import hashlib
import platform
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import xpdl.version
from xpdl.backends import asnumpy
from xpdl.backends.namespaces import Array
from xpdl.backends.numba.loading import planned
from xpdl.data import is_mapped
from xpdl.data.structure import arrays_of
from xpdl.distributed import Communicator
from xpdl.training.checkpoint.format import restore, snapshot
from xpdl.training.network_state import named_arrays
from xpdl.training.run_state import Run, RunState
from xpdl.training.shared_states import take_share_of_states

# rows of a mapped file that are hashed, spread over it: it may be larger than the memory
_SAMPLED_ROWS = 64
_HASHED_ROWS = 4096


def require_agreement(
    run: Run, sets: Mapping[str, tuple[Array, Array]], communicator: Communicator, messages: Mapping[str, Any]
) -> None:
    """Refuse ranks that would train with other data, options or versions than rank 0.

    Parameters
    ----------
    run, sets, communicator
    messages : mapping
        Name -> plain value of options that change nothing but which messages there are, and when.

    Raises
    ------
    ValueError
        On every rank, with the ranks that differ and all that does.
    """
    every = communicator.allgather({**_settings(run, sets), **messages})
    differing = [
        f"rank {rank} has {'; '.join(found)}"
        for rank, own in enumerate(every)
        if (found := [*_differences(own, every[0])])
    ]
    if differing:
        raise ValueError(
            f"Trainer: ranks must have the same data, options and versions, but {', and '.join(differing)}; start all ranks "
            "with the same script, files and environment"
        )


def begin_alike(run: Run, state: RunState, communicator: Communicator) -> None:
    """Give all ranks what rank 0 begins with: weights, statistics, the optimizer's state, the position of the run."""
    own = {f"network.{name}": owner[key] for name, owner, key in named_arrays(run.network)}
    with run.with_whole_state():
        arrays, metadata = snapshot(run, state) if communicator.is_first else ({}, {})
    others = {name: a for name, a in arrays.items() if name not in own}
    others, metadata = communicator.bcast((others, metadata))
    of_network = communicator.transport_of(run.backend).broadcast(list(own.values()))
    if not communicator.is_first:
        restore(run, state, "rank 0", {**others, **dict(zip(own, of_network, strict=True))}, metadata)
    take_share_of_states(run.network, run.backend, communicator)


def _settings(run: Run, sets: Mapping[str, tuple[Array, Array]]) -> dict[str, Any]:
    """Name -> value of all that ranks must have in common, as plain values."""
    library = run.backend.name
    return {
        "xpdl": xpdl.version.__version__,
        "Python": platform.python_version(),
        "array library": f"{library} {getattr(sys.modules.get(library), '__version__', '')}".strip(),
        "kernels": planned(library),
        "epochs": run.epochs,
        "steps per epoch": run.steps_per_epoch,
        "shard_optimizer": run.sharded is not None,
        "bucket_bytes": run.communicator.bucket_bytes,
        "compression": run.communicator.compression,
        "transport": run.communicator.transport,
        **run.fingerprint(),
        **{name: _checksum(a) for which, (x, _) in sets.items() for name, a in arrays_of(x, f"x_{which}")},
        **{name: _checksum(a) for which, (_, t) in sets.items() for name, a in arrays_of(t, f"t_{which}")},
    }


def _differences(own: Mapping[str, Any], first: Mapping[str, Any]) -> Iterator[str]:
    for name in [*first, *(name for name in own if name not in first)]:
        here, there = own.get(name), first.get(name)
        if isinstance(here, Mapping) and isinstance(there, Mapping):
            yield from _differences(here, there)
        elif here != there:
            yield f"{name} {here}, rank 0 {there}"


def _checksum(rows: Array) -> str:
    """Describe an array by its shape, dtype and a hash of its values; of a mapped file, of rows spread over it."""
    digest, count = hashlib.blake2b(digest_size=8), int(rows.shape[0])
    if is_mapped(rows) and count > _SAMPLED_ROWS:
        starts, size = [number * (count - 1) // (_SAMPLED_ROWS - 1) for number in range(_SAMPLED_ROWS)], 1
    else:
        starts, size = list(range(0, count, _HASHED_ROWS)), _HASHED_ROWS
    for start in starts:
        digest.update(asnumpy(rows[start : min(start + size, count), ...]).tobytes())
    return f"{tuple(rows.shape)} {rows.dtype} {digest.hexdigest()}"
