"""Passes over a whole data set: so many rows at once as suit a device, where the network is."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

from xpdl.backends import Backend
from xpdl.backends.namespaces import Array, is_array, is_host, on_device_of, same_device
from xpdl.data.structure import map_arrays, rows_in
from xpdl.distributed import Communicator
from xpdl.errors import ShapeError
from xpdl.layers.share import BatchShare, shared

# Rows in one forward pass: enough to keep a processor busy, few enough for the memory of any.
ROWS = 200
# Launches cost a device as much for 200 rows as for 2,000; where these do not fit, it takes the former.
ROWS_OF_A_DEVICE = 2000


def home(network: Any) -> Callable[[Array], Array]:
    """A function that moves rows to where a network is, of a data set too large for its device for example."""
    first = _first_parameter(network)
    if first is None:
        return lambda rows: rows
    backend = Backend.of(first)
    return lambda rows: map_arrays(lambda a: a if same_device(a, first) else backend.asarray(a), rows)


def as_share(
    network: Any, start: int, rows: int, communicator: Communicator | None
) -> contextlib.AbstractContextManager[None]:
    """Let layers see that so many rows are those from `start` on of a pass of one process."""
    if communicator is None:
        return contextlib.nullcontext()
    return shared(network, BatchShare(start + rows, communicator, (start, start + rows), exchanges=False))


def batched(network: Any, measured: Callable[[int], Any]) -> Any:
    """`measured` with the number of rows of one forward pass that suits the device of `network`."""
    parameters = getattr(network, "params", {}).values()
    with on_device_of(_first_parameter(network)):
        if parameters and not any(map(is_host, parameters)):
            with contextlib.suppress(MemoryError):
                return measured(ROWS_OF_A_DEVICE)
        return measured(ROWS)


def _first_parameter(network: Any) -> Array | None:
    return next(filter(is_array, getattr(network, "params", {}).values()), None)


def rows_of(x: Array, t: Array, owner: str) -> int:
    if rows_in(x) != rows_in(t) or rows_in(x) == 0:
        raise ShapeError(
            f"{owner}: expected as many rows of x as of t, and at least one, got {rows_in(x)} and {rows_in(t)}"
        )
    return rows_in(x)
