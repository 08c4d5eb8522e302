"""The way of a GPU's arrays to other ranks by NCCL."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from xpdl.backends import Backend
from xpdl.backends.namespaces import Array
from xpdl.backends.staging import gpu_messages
from xpdl.distributed.communicator import RankError
from xpdl.distributed.compression import FORMS, Form
from xpdl.distributed.vectors import added_up, parts_of, summed

# for all ranks to fail alike
_GRACE = 3.0
_CURE = "NCCL_DEBUG=INFO makes NCCL say why"


class NCCLTransport:
    """Sums and copies between GPUs on a stream beside that of the computation; the host waits for none of them.

    NCCL adds up float32, float64 and integers itself, in an order of its own. Vectors in half precision and compressed ones
    are exchanged by rows, added up in float32 in the order of the ranks, and gathered.

    Parameters
    ----------
    backend : Backend
        Of the arrays.
    collectives : xpdl.backends.cupy.nccl.Collectives
    watch : callable
        Gets what says whether work is done, and its description, see `xpdl.distributed.watchdog.Watchdog.watch`.
    version : str
        Of NCCL.
    form : Form
        Of gradients in messages.
    """

    def __init__(
        self,
        backend: Backend,
        collectives: Any,
        watch: Callable[[Callable[[], bool], str], None],
        version: str,
        form: Form = FORMS[None],
    ) -> None:
        self._backend, self._collectives, self._lane = backend, collectives, collectives.lane
        self._watch, self._version, self._form = watch, version, form
        self._gpu, self._sums = gpu_messages(backend), 0

    def describe(self) -> str:
        return f"added up by NCCL {self._version}{self._form.words} (each rank has a GPU of its own)"

    def buffer(self, size: int, dtype: Any) -> Any:
        return self._gpu.DeviceBuffer(self._backend.device, size, dtype, self._collectives.size)

    def start_sum(self, values: Array, *, scattered: bool = False) -> Callable[[], Array]:
        return self._start(values, scattered, self._form)

    def allreduce(self, arrays: Sequence[Array]) -> list[Array]:
        with self._lane.device:
            return summed(arrays, lambda vector: self._start(vector, False, FORMS[None])())

    def joined(self, parts: Sequence[Array]) -> list[Array]:
        with self._lane.device:
            wholes = [self._backend.xp.empty(self._collectives.size * part.size, dtype=part.dtype) for part in parts]
        with self._queued("new values of parameters") as done:
            self._collectives.all_gather(parts, wholes)
        done()
        return wholes

    def broadcast(self, arrays: Sequence[Array]) -> list[Array]:
        with self._lane.device:
            copies = [a.copy() for a in arrays]  # contiguous
        with self._queued("the arrays of rank 0") as done:
            self._collectives.broadcast([a for a in copies if a.size])
        done()
        return copies

    def _start(self, values: Array, scattered: bool, form: Form) -> Callable[[], Array]:
        """Queue the sum of a vector, and return a function that lets the computation wait for it."""
        self._sums += 1
        with self._queued(f"sum {self._sums} of NCCL") as done:
            total = self._summed(values, scattered, form) if values.size else values

        def wait() -> Array:
            done()
            return total

        return wait

    def _summed(self, values: Array, scattered: bool, form: Form) -> Array:
        """Add up a vector in its own memory, and return that, or of a scattered one this rank's part."""
        is_plain = form is FORMS[None] and self._gpu.sums(values.dtype)
        rows = parts_of(values, self._collectives.size) if scattered or not is_plain else values
        if not is_plain:
            return self._exchanged(values, rows, scattered, form)
        if not scattered:
            self._collectives.all_reduce(values)
            return values
        part = rows[self._collectives.rank]
        self._collectives.reduce_scatter(rows, part)
        return part

    def _exchanged(self, values: Array, rows: Array, scattered: bool, form: Form) -> Array:
        """Add up rows, one of each rank, in the order of the ranks, and gather the sums of all ranks."""
        xp, sent = self._backend.xp, form.pack(rows)
        received = xp.empty(sent.shape, dtype=sent.dtype)
        self._collectives.exchange(sent, received)
        total = added_up(form.unpack(received, values.dtype)).astype(values.dtype, copy=False)
        if scattered:
            part = rows[self._collectives.rank]
            part[...] = total
            return part
        packed = form.pack(total.reshape(1, -1))
        whole = xp.empty((self._collectives.size, packed.shape[1]), dtype=packed.dtype)
        self._collectives.all_gather([packed], [whole])
        values[...] = form.unpack(whole, values.dtype).reshape(-1)[: values.size]
        return values

    @contextlib.contextmanager
    def _queued(self, what: str) -> Iterator[Callable[[], None]]:
        """Queue the work inside behind the computation so far; what is given lets the computation go on behind it.

        Raises
        ------
        RankError
            Where NCCL refuses it.
        """
        events: list[Any] = []
        with named_errors(self._gpu, self._collectives.rank, what), self._lane.after_compute():
            yield lambda: self._lane.compute_after(events[0])
        events.append(self._lane.record())
        self._watch(lambda: self._lane.is_done(events[0]), what)


@contextlib.contextmanager
def named_errors(gpu: Any, rank: int, what: str) -> Iterator[None]:
    """Raise an error of NCCL inside as `RankError`, with the rank."""
    try:
        yield
    except gpu.error_type() as error:
        raise RankError(f"NCCL: {what} failed on rank {rank}, {error}; {_CURE}") from error


def connected(ranks: Any, backend: Backend, form: Form) -> NCCLTransport | str:
    """Make the communicator of all ranks, which call this together; return the transport, or why NCCL makes none.

    Parameters
    ----------
    ranks : MPICommunicator
        By which the ranks find each other.
    backend : Backend
        Of this rank's arrays, on a GPU of its own.

    Raises
    ------
    RankError
        If NCCL does not start on this rank, and the others wait for it.
    """
    gpu, error, collectives = gpu_messages(backend), "", None
    unique_id = None
    try:
        unique_id = gpu.unique_id() if ranks.is_first else None
    except gpu.error_type() as refused:
        error = str(refused)
    unique_id, error = ranks.bcast((unique_id, error))
    if not error:
        is_there = threading.Event()
        ranks.watchdog.watch(is_there.is_set, "the start of NCCL")
        try:
            collectives = gpu.Collectives(backend.device, ranks.size, unique_id, ranks.rank)
        except gpu.error_type() as refused:
            error = str(refused)
        is_there.set()
        # the others may wait for this one in NCCL
        if not ranks.all_arrive(_GRACE if error else ranks.timeout) and error:
            raise RankError(f"NCCL: does not start on rank {ranks.rank}, {error}; {_CURE}")
    failed = [f"rank {rank}: {text}" for rank, text in enumerate(ranks.allgather(error)) if text]
    if failed:
        return f"NCCL does not start, {failed[0]}"
    assert collectives is not None
    ranks.watchdog.checks.append(collectives.check)
    return NCCLTransport(backend, collectives, ranks.watchdog.watch, gpu.availability()[0], form)
