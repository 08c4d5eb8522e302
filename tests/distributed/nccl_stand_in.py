"""A stand-in for ``cupy.cuda.nccl`` that computes over MPI, on the GPUs that hostcuda emulates, and records its calls.

It has the functions and signatures of CuPy 14's module. What NCCL does not allow ends all ranks, with a line: other calls on
one rank than on another, memory that is not the communicator's GPU's, two ranks on one GPU.
"""

from __future__ import annotations

import math
import os
import signal
import sys
import types
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

NCCL_INT8, NCCL_UINT8, NCCL_INT32, NCCL_UINT32, NCCL_INT64, NCCL_UINT64 = range(6)
NCCL_FLOAT16, NCCL_FLOAT32, NCCL_FLOAT64, NCCL_BFLOAT16 = 6, 7, 8, 9
NCCL_SUM = 0
_DTYPES = [np.int8, np.uint8, np.int32, np.uint32, np.int64, np.uint64, np.float16, np.float32, np.float64]
_SYSTEM_ERROR, _INVALID_USAGE = 2, 5
available = True


class NcclError(RuntimeError):
    def __init__(self, status: int) -> None:
        self.status = status
        super().__init__({2: "NCCL_ERROR_SYSTEM_ERROR: unhandled system error"}.get(status, f"NCCL_ERROR {status}"))


class Call(NamedTuple):
    """A call: its name, count and dtype, whom it is for, its stream, and the number of its group."""

    name: str
    count: int
    dtype: str
    peer: int
    stream: int
    group: int


#: of this rank, in their order
calls: list[Call] = []
#: "call N" or "init" -> of which rank: where it fails, or stops for ever
failures: dict[str, int] = {}
stops: dict[str, int] = {}
asynchronous_error: list[int] = []
_group: list[tuple[Any, Call, Callable[..., Any]]] = []
_depth = _groups = 0


def get_version() -> int:
    return 22501


def get_build_version() -> int:
    return 22501


def get_unique_id() -> bytes:
    return bytes([7] * 128)


def groupStart() -> None:
    global _depth
    _depth += 1


def groupEnd() -> None:
    global _depth, _groups
    _depth -= 1
    if _depth == 0:
        begun, _group[:] = list(_group), []
        _groups += 1
        _enqueue(begun)


class NcclCommunicator:
    def __init__(self, ndev: int, commId: bytes, rank: int) -> None:
        import cupy
        from mpi4py import MPI

        if failures.get("init") in (rank, -1):
            raise NcclError(_SYSTEM_ERROR)
        self._mpi, self._world = MPI, MPI.COMM_WORLD.Dup()
        self._size, self._rank, self._device = ndev, rank, cupy.cuda.Device().id
        assert (self._size, self._rank) == (self._world.Get_size(), self._world.Get_rank()) and len(commId) == 128
        everywhere = self._world.allgather((MPI.Get_processor_name(), self._device))
        if len(set(everywhere)) < ndev or len(set(self._world.allgather(commId))) > 1:
            raise NcclError(_INVALID_USAGE)

    def allReduce(self, sendbuf: int, recvbuf: int, count: int, datatype: int, op: int, stream: int) -> None:
        assert op == NCCL_SUM
        self._begin("allReduce", count, datatype, -1, stream, lambda: self._reduced(sendbuf, count, datatype, recvbuf))

    def reduceScatter(self, sendbuf: int, recvbuf: int, recvcount: int, datatype: int, op: int, stream: int) -> None:
        assert op == NCCL_SUM
        begin, end = self._rank * recvcount, (self._rank + 1) * recvcount

        def work() -> Any:
            ((_, total),) = self._reduced(sendbuf, recvcount * self._size, datatype, recvbuf)
            return [(recvbuf, total[begin:end])]

        self._begin("reduceScatter", recvcount, datatype, -1, stream, work)

    def allGather(self, sendbuf: int, recvbuf: int, count: int, datatype: int, stream: int) -> None:
        def work() -> Any:
            return [(recvbuf, self._of_all(self._read(sendbuf, count, datatype)).reshape(-1))]

        self._begin("allGather", count, datatype, -1, stream, work)

    def broadcast(self, sendbuff: int, recvbuff: int, count: int, datatype: int, root: int, stream: int) -> None:
        def work() -> Any:
            return [(recvbuff, self._of_all(self._read(sendbuff, count, datatype))[root])]

        self._begin("broadcast", count, datatype, root, stream, work)

    def send(self, sendbuf: int, count: int, datatype: int, peer: int, stream: int) -> None:
        def work() -> Any:
            return self._world.Isend(self._read(sendbuf, count, datatype), peer)

        self._begin("send", count, datatype, peer, stream, work)

    def recv(self, recvbuf: int, count: int, datatype: int, peer: int, stream: int) -> None:
        def work() -> Any:
            values = np.empty(count, _DTYPES[datatype])
            return self._world.Irecv(values, peer), recvbuf, values

        self._begin("recv", count, datatype, peer, stream, work)

    def check_async_error(self) -> None:
        if asynchronous_error:
            raise NcclError(asynchronous_error[0])

    def _begin(self, name: str, count: int, datatype: int, peer: int, stream: int, work: Callable[[], Any]) -> None:
        number = f"call {len(calls)}"
        if failures.get(number) == self._rank:
            raise NcclError(_SYSTEM_ERROR)
        if stops.get(number) == self._rank:
            os.kill(os.getpid(), signal.SIGSTOP)
        assert stream, "the default stream"
        call = Call(name, count, np.dtype(_DTYPES[datatype]).name, peer, stream, _groups if _depth else -1)
        calls.append(call)
        _group.append((self, call, work))
        if not _depth:
            begun, _group[:] = list(_group), []
            _enqueue(begun)

    def _reduced(self, address: int, count: int, datatype: int, to: int) -> list[tuple[int, Any]]:
        """Each part of the vector is added up from another rank on, as in a ring."""
        terms = self._of_all(self._read(address, count, datatype))
        total = np.empty_like(terms[0])
        for part, indices in enumerate(np.array_split(np.arange(count), self._size)):
            total[indices] = terms[part, indices]
            for step in range(1, self._size):
                total[indices] += terms[(part + step) % self._size, indices]
        return [(to, total)]

    def _read(self, address: int, count: int, datatype: int) -> Any:
        return _view(address, np.dtype(_DTYPES[datatype]), count, self._device).copy()

    def _of_all(self, values: Any) -> Any:
        everything = np.empty((self._size, values.size), values.dtype)
        self._world.Allgather([values.view(np.uint8), self._mpi.BYTE], [everything.view(np.uint8), self._mpi.BYTE])
        return everything

    def require_same(self, begun: list[Call]) -> None:
        """End all ranks unless they begin the same calls."""
        own = [(call.name, call.count, call.dtype) for call in begun]
        for rank, others in enumerate(self._world.allgather(own)):
            if others != own:
                print(f"stand-in: rank {self._rank} calls {own}, rank {rank} {others}", flush=True)
                self._world.Abort(3)


def _enqueue(begun: list[tuple[Any, Call, Callable[..., Any]]]) -> None:
    """Run calls that were begun together in the order of their stream: all read before any writes."""
    from hostcuda import core

    if not begun:
        return
    communicator, streams = begun[0][0], {call.stream for _, call, _ in begun}
    assert len(streams) == 1

    def work() -> None:
        with core.open_memory(), np.errstate(all="ignore"):
            communicator.require_same([call for _, call, _ in begun])
            results: list[tuple[int, Any]] = []
            received, sent = [], []
            for _, call, run in begun:
                found = run()
                if call.name == "recv":
                    received.append(found)
                elif call.name == "send":
                    sent.append(found)
                else:
                    results += found
            for request, address, values in received:
                request.Wait()
                results.append((address, values))
            for request in sent:
                request.Wait()
            for address, values in results:
                _view(address, values.dtype, values.size, communicator._device)[...] = values

    core.enqueue(work, streams.pop())


def _view(address: int, dtype: Any, count: int, device: int) -> Any:
    from cupy.cuda import runtime
    from hostcuda import arrays

    place = runtime.pointerGetAttributes(address)
    if count and (place.device != device or place.devicePointer != address):
        print(f"stand-in: address {address:#x} is not of GPU {device}", flush=True)
        os._exit(3)
    return arrays.contiguous(address, dtype, (math.prod((count,)),))


def install() -> Any:
    """Let ``cupy.cuda.nccl`` be this module."""
    import cupy

    module: types.ModuleType = sys.modules[__name__]
    sys.modules["cupy.cuda.nccl"] = cupy.cuda.nccl = module
    return module
