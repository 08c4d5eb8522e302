"""Streams and graphs of the stand-in for CuPy: what is done while a graph is recorded is done again at each launch of it.

While it is recorded, kernels do not run, and nothing is written into arrays that are there; results of array functions are
made, for their shapes, from values that are not there yet. As in CuPy, a value that is read, a module that is loaded, or a
matrix product ends the recording with an error, and so does an array that comes from the host.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np


class CUDARuntimeError(RuntimeError):
    """``cupy.cuda.runtime.CUDARuntimeError``."""


class Graph:
    def __init__(self) -> None:
        self.work: list[Callable[[], None]] = []
        #: what its addresses belong to
        self.kept: list[Any] = []
        self.invalid = False
        self.launches = 0

    def launch(self) -> None:
        assert _recording is None, "a graph launched while another is recorded"
        self.launches += 1
        with np.errstate(all="ignore"):
            for work in self.work:
                work()


class Event:
    pass


class Stream:
    """A stream; of the default one nothing can be captured."""

    _numbers = itertools.count(1)

    def __init__(self, non_blocking: bool = False, null: bool = False) -> None:
        self.ptr = 0 if null else next(self._numbers)
        self.non_blocking = non_blocking

    def __enter__(self) -> Stream:
        _streams.append(self)
        return self

    def __exit__(self, *error: Any) -> None:
        assert _streams.pop() is self

    def begin_capture(self) -> None:
        global _recording
        assert _recording is None and self.non_blocking and current_stream() is self
        _recording = Graph()

    def end_capture(self) -> Graph:
        global _recording
        graph, _recording = _recording, None
        assert graph is not None and current_stream() is self
        if graph.invalid:
            raise CUDARuntimeError("cudaErrorStreamCaptureInvalidated: operation failed due to a previous error")
        graphs.append(graph)
        return graph


class MemoryPool:
    def malloc(self, size: int) -> None:
        raise AssertionError("arrays of the stand-in are NumPy's")


_recording: Graph | None = None
_streams = [Stream(null=True)]
#: every graph there was
graphs: list[Graph] = []


def current_stream() -> Stream:
    return _streams[-1]


def is_recording() -> bool:
    return _recording is not None


def refuse(what: str) -> None:
    """An error while a graph is recorded, which is then of no use."""
    if _recording is not None:
        _recording.invalid = True
        raise CUDARuntimeError(f"cudaErrorStreamCaptureUnsupported: {what} while a graph is recorded")


def run(work: Callable[[], None], *kept: Any) -> None:
    """Do `work` now; while a graph is recorded, at its launches only."""
    if _recording is None:
        work()
        return
    _recording.work.append(work)
    _recording.kept.append(kept)


def keep(array: Any) -> Any:
    if _recording is not None:
        _recording.kept.append(array)
    return array


def made(compute: Callable[[], Any], wrapped: Callable[[Any], Any], arrays: Callable[[Any], list[Any]]) -> Any:
    """What `compute` gives, `wrapped`; while a graph is recorded, each launch computes it anew, into the same `arrays`."""
    if _recording is None:
        return wrapped(compute())
    with np.errstate(all="ignore"):
        result = wrapped(compute())

    def again() -> None:
        for old, new in zip(arrays(result), arrays(wrapped(compute())), strict=True):
            old[...] = new

    if arrays(result):
        run(again, result)
    return result


@contextlib.contextmanager
def using_allocator(allocator: Any) -> Iterator[None]:
    assert allocator.__self__.__class__ is MemoryPool
    yield
