"""Speed of the sums of a communicator."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from xpdl.backends import Backend, asnumpy
from xpdl.backends.namespaces import Array
from xpdl.distributed.communicator import Communicator
from xpdl.distributed.transports import Transport, alike
from xpdl.distributed.vectors import added_up

#: of a vector whose sum takes as long as its bytes do
LARGE_BYTES = 1 << 22
_SMALL_CALLS, _LARGE_CALLS = 20, 2


@dataclass(frozen=True)
class SumSpeed:
    """Speed of the sums of a communicator.

    Attributes
    ----------
    small_seconds : float
        Of a sum of 8 bytes.
    bandwidth : float
        Bytes a second of a vector of 4 MiB, besides that time, with its copies to where it is added up and back.
    copy_bandwidth : float
        Bytes a second at which one rank, or its GPU, copies a vector, adds two and copies the sum.
    """

    small_seconds: float
    bandwidth: float
    copy_bandwidth: float


def sum_speed(communicator: Communicator, backend: Backend) -> SumSpeed:
    """Measure sums of a backend's arrays, by the way that gradients take; all ranks call it."""
    transport = communicator.transport_of(backend)
    small, large = (backend.asarray(np.zeros(size), "float32") for size in (2, LARGE_BYTES // 4))
    small_seconds = _seconds(_sum_of(transport, small), _SMALL_CALLS)
    large_seconds = _seconds(_sum_of(transport, large), _LARGE_CALLS)
    # on the host or on the device, where terms are added up
    values = transport.buffer(LARGE_BYTES // 4, np.dtype("float32")).values
    values[:] = 0.0
    copy_seconds = _seconds(lambda: added_up([values, values]).copy(), _LARGE_CALLS)
    bandwidth = LARGE_BYTES / max(large_seconds - small_seconds, 1e-9)
    return SumSpeed(small_seconds, bandwidth, LARGE_BYTES / copy_seconds)


def _sum_of(transport: Transport, a: Array) -> Callable[[], Array]:
    """Return a function that adds up a vector over all ranks as it does gradients."""
    buffer = transport.buffer(int(a.shape[0]), np.dtype("float32"))

    def add_up() -> Array:
        buffer.put(0, a)
        buffer.wait()
        return alike(a, transport.start_sum(buffer.values)()[: a.shape[0]])

    return add_up


def _seconds(call: Callable[[], Array], calls: int) -> float:
    asnumpy(call()[:1])  # memory is mapped when it is first written
    begin = time.perf_counter()
    for _ in range(calls):
        result = call()
    asnumpy(result[:1])  # a device has finished
    return (time.perf_counter() - begin) / calls
