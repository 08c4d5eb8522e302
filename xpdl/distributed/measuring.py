"""Speed of the sums of a communicator."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from xpdl.backends import Backend
from xpdl.distributed.communicator import Communicator
from xpdl.distributed.transports import Transport
from xpdl.distributed.vectors import Buffer, added_up

_LARGE_BYTES = 1 << 22
_SMALL_CALLS, _LARGE_CALLS = 20, 2


@dataclass(frozen=True)
class SumSpeed:
    """Speed of the sums of a communicator.

    Attributes
    ----------
    small_seconds : float
        Of a sum of 8 bytes.
    bandwidth : float
        Bytes a second of a vector of 4 MiB, besides that time; in shared memory with the copy of the vector into it.
    copy_bandwidth : float
        Bytes a second at which one rank copies a vector, adds two and copies the sum.
    """

    small_seconds: float
    bandwidth: float
    copy_bandwidth: float


def sum_speed(communicator: Communicator) -> SumSpeed:
    """Measure sums; all ranks call it."""
    small, large = np.zeros(1), np.zeros(_LARGE_BYTES // 4, np.float32)
    transport = communicator.transport_of(Backend.of(small))
    small_seconds = _seconds(_sum_of(transport, small), _SMALL_CALLS)
    large_seconds = _seconds(_sum_of(transport, large), _LARGE_CALLS)
    copy_seconds = _seconds(lambda: added_up([large, large]).copy(), _LARGE_CALLS)
    bandwidth = _LARGE_BYTES / max(large_seconds - small_seconds, 1e-9)
    return SumSpeed(small_seconds, bandwidth, _LARGE_BYTES / copy_seconds)


def _sum_of(transport: Transport, values: Buffer) -> Callable[[], object]:
    """Return a function that adds up `values` over all ranks as it does gradients."""
    buffer = transport.buffer(values.size, values.dtype)

    def add_up() -> None:
        buffer.values[:] = values
        transport.start_sum(buffer.values)()

    return add_up


def _seconds(call: Callable[[], object], calls: int) -> float:
    call()  # memory is mapped when it is first written
    begin = time.perf_counter()
    for _ in range(calls):
        call()
    return (time.perf_counter() - begin) / calls
