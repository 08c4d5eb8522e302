"""The way of a GPU's arrays to other ranks by an MPI library that takes device memory."""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from xpdl.backends import Backend
from xpdl.backends.namespaces import Array
from xpdl.backends.staging import gpu_messages
from xpdl.distributed.compression import FORMS, Form
from xpdl.distributed.reductions import Reductions
from xpdl.distributed.vectors import summed

# Cray MPICH has no function to ask: its manual names the variable, which its GPU library needs
_CRAY = "MPICH_GPU_SUPPORT_ENABLED"


def missing(mpi: Any) -> str:
    """Return why the MPI library does not take device memory, "" where it says that it does.

    It is asked in three ways, of which one is enough: the info key ``mpi_memory_alloc_kinds`` of the world, of MPI 4.1
    (section 11.4.3), has the kind "cuda"; the function ``MPIX_Query_cuda_support``, of Open MPI, MPICH and MVAPICH, returns
    1; or the variable of Cray MPICH is set.

    Parameters
    ----------
    mpi : module
        ``mpi4py.MPI``.
    """
    kinds = mpi.COMM_WORLD.Get_info().Get("mpi_memory_alloc_kinds") or ""
    if any(kind.split(":")[0] == "cuda" for kind in kinds.split(",")) or os.environ.get(_CRAY) == "1":
        return ""
    query = getattr(ctypes.CDLL(mpi.__file__), "MPIX_Query_cuda_support", None)
    if query is None:
        return "the MPI library does not say that it takes device memory"
    return "" if query() == 1 else "the MPI library takes no device memory (MPIX_Query_cuda_support)"


class CUDAAwareTransport:
    """Sums and copies by MPI, which gets addresses of the GPU; messages go on in its calls alone, between layers.

    Parameters
    ----------
    ranks : MPICommunicator
    backend : Backend
        Of the arrays.
    form : Form
        Of gradients in messages.
    reason : str
        For this way.
    """

    def __init__(self, ranks: Any, backend: Backend, form: Form, reason: str) -> None:
        self._ranks, self._backend, self._form, self._reason = ranks, backend, form, reason
        self._gpu = gpu_messages(backend)
        self._place = OnDevice(self._gpu.Lane(backend.device), backend)
        self._sums: Reductions = ranks.reductions(FORMS[None], self._place)
        self._gradients: Reductions = ranks.reductions(form, self._place)

    def describe(self) -> str:
        return "added up by CUDA-aware MPI" + self._form.words + (f" ({self._reason})" if self._reason else "")

    def buffer(self, size: int, dtype: Any) -> Any:
        return self._gpu.SyncedBuffer(self._backend.device, size, dtype, self._ranks.size)

    def start_sum(self, values: Array, *, scattered: bool = False) -> Callable[[], Array]:
        return self._started(self._gradients, values, scattered)

    def allreduce(self, arrays: Sequence[Array]) -> list[Array]:
        with self._place.lane.device:
            return summed(arrays, self._summed)

    def joined(self, parts: Sequence[Array]) -> list[Array]:
        self._place.lane.wait_for_compute()
        return self._gradients.joined(parts)

    def broadcast(self, arrays: Sequence[Array]) -> list[Array]:
        with self._place.lane.device:
            copies = [a.copy() for a in arrays]  # contiguous
        self._place.lane.wait_for_compute()
        self._ranks.broadcast_in_place(copies)
        return copies

    def _summed(self, vector: Array) -> Array:
        self._place.lane.wait_for_compute()
        wait = self._started(self._sums, vector, False)
        return wait()

    def _started(self, reductions: Reductions, values: Array, scattered: bool) -> Callable[[], Array]:
        """Begin a sum, which is written to the memory of the vector: that of the lane is reused before others read it."""
        reduction = reductions.start(values, scattered=scattered)

        def wait() -> Array:
            total = reduction.wait()
            kept = values[: total.size]
            with self._place.working():
                kept[...] = total
            return kept

        return wait


class OnDevice:
    """Memory and order of work for `Reductions` on a GPU: MPI is called when the lane's work is done."""

    def __init__(self, lane: Any, backend: Backend) -> None:
        self.lane, self._backend = lane, backend

    def empty(self, shape: tuple[int, ...]) -> Array:
        """Return bytes without values."""
        with self.lane.device:
            return self._backend.xp.empty(shape, dtype=self._backend.xp.uint8)

    @contextlib.contextmanager
    def working(self) -> Iterator[None]:
        """Compute inside on the lane, and wait for it at the end."""
        with self.lane.alone():
            yield
            self.lane.stream.synchronize()
