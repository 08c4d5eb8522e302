"""A few threads that share the work of a kernel, with BLAS held to one thread meanwhile.

How a kernel cuts its work into tasks depends on shapes alone, and every task's result on nothing but its input, so results
are bitwise identical for any number of threads.
"""

from __future__ import annotations

import collections
import contextlib
import contextvars
import itertools
import os
import queue
import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import threadpoolctl

from xpdl.backends.arrays import NDArray
from xpdl.backends.cpu.partition import split
from xpdl.backends.decisions import note

Task = Callable[[], None]


# The number chosen in code, which comes before that of the environment.
_chosen: int | None = None


def thread_count() -> int:
    """Return the number given to `choose`, else ``XPDL_NUM_THREADS``, else the processors this process may use."""
    if _chosen is not None:
        return _chosen
    asked = os.environ.get("XPDL_NUM_THREADS")
    if not asked:
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if not asked.isdecimal() or int(asked) < 1:
        raise ValueError(f"XPDL_NUM_THREADS must be a positive int, got {asked!r}")
    return int(asked)


def choose(count: int | None) -> int | None:
    """Use so many threads from now on, in the whole process; None takes a choice back. What was chosen before."""
    global _chosen
    if count is not None and (not isinstance(count, int) or isinstance(count, bool) or count < 1):
        raise ValueError(f"use: threads must be a positive int, got {count!r}")
    before, _chosen = _chosen, count
    return before


def run(tasks: Sequence[Task]) -> None:
    """Run all tasks, in any order and at the same time, and return when all are done.

    An exception in one of them, or ctrl-C here, skips those not yet begun and is raised when the others have ended.
    """
    note("tasks", len(tasks))
    blas = _blas_here()
    blas.hold()
    try:
        helpers = min(thread_count(), len(tasks)) - 1 if len(tasks) > 1 else 0
        # a task of ours that calls a kernel: the others are at work already
        if helpers and threading.current_thread().name != "xpdl":
            _share(tasks, helpers)
        else:
            for task in tasks:
                task()
    finally:
        blas.release()


class _Job:
    """The tasks of one `run`, in as many shares as there are workers."""

    def __init__(self, tasks: Sequence[Task], workers: int) -> None:
        # As tasks go through memory in order, a worker has the same part of every array in its cache, kernel after kernel.
        self.shares = [collections.deque(tasks[part]) for part in split(len(tasks), workers)]
        self.left: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()
        self.lock = threading.Lock()
        self.helpers = 0
        self.open = True
        # of each worker, whether it has nothing to do with the job: not yet, or not any more
        self.away = np.ones(workers, np.bool_)

    def work(self, place: int) -> None:
        """Do the share of one worker, then what others have not begun."""
        for take in (self.shares[place].popleft, *(share.pop for share in self.shares)):
            while True:
                try:
                    task = take()
                except IndexError:
                    break
                task()

    def clear(self) -> None:
        """Skip what nobody has begun."""
        for share in self.shares:
            share.clear()

    def help(self, place: int, context: contextvars.Context) -> None:
        """Work as the caller would, with its `numpy.errstate`, and report the end of it; nothing if it is too late."""
        with self.lock:
            if not self.open:
                return
            self.helpers += 1
            self.away[place] = False
        try:
            context.run(self.work, place)
        except BaseException as error:  # raised again by the thread that waits
            self.clear()
            self.left.put(error)
        else:
            self.left.put(None)

    def close(self) -> list[BaseException]:
        """Wait for those who help, and let nobody begin any more; what they raised."""
        with self.lock:
            self.open = False
        self.clear()
        if waiting := _waiting():
            waiting.all_away(self.away)
        ends = [self.left.get() for _ in range(self.helpers)]
        return [error for error in ends if error is not None]


def _share(tasks: Sequence[Task], helpers: int) -> None:
    """Do the tasks here and in helpers that find the time: waking one takes as long as a small task."""
    job, jobs = _Job(tasks, helpers + 1), _jobs_for(helpers)
    for place in range(1, helpers + 1):
        jobs.put((job, place, contextvars.copy_context()))
    _posted[0] += 1
    try:
        job.work(0)
    finally:
        # also when a task has failed here: the others write into arrays of the caller
        errors = job.close()
    for error in errors:
        raise error


_Jobs = queue.SimpleQueue[tuple[_Job, int, contextvars.Context]]
_lock = threading.Lock()
_jobs: _Jobs = queue.SimpleQueue()
_helpers = 0
# Number of jobs so far, for threads that wait without looking at the queue.
_posted = np.zeros(1, np.int64)


def _jobs_for(helpers: int) -> _Jobs:
    """Return a pool in which at least so many threads wait for jobs."""
    global _helpers
    if _helpers < helpers:
        if waiting := _waiting():
            # compiled by the caller: where ctrl-C broke a compilation off, LLVM may be locked for all other threads
            waiting.posted(_posted, -1, np.ones(1, np.bool_), 0)
        with _lock:
            for _ in range(helpers - _helpers):
                threading.Thread(target=_serve, args=(_jobs,), name="xpdl", daemon=True).start()
                _helpers += 1
    return _jobs


def _serve(jobs: _Jobs) -> None:
    away, place = np.ones(1, np.bool_), 0
    while True:
        job, place, context = _next(jobs, away, place)
        job.help(place, context)
        away = job.away
        # nothing of the caller's is kept while waiting
        del job, context


def _next(jobs: _Jobs, away: NDArray, place: int) -> tuple[_Job, int, contextvars.Context]:
    """Wait for something to do; `away` is that of the job that was left at this `place`."""
    while waiting := _waiting():
        seen = int(_posted[0])
        with contextlib.suppress(queue.Empty):
            return jobs.get_nowait()
        if not waiting.posted(_posted, seen, away, place):
            break
    return jobs.get()


def wait_by(provider: Callable[[], Any]) -> None:
    """Have threads wait by the functions of the module that `provider` returns, as `xpdl.backends.numba.spin_wait` has them.

    They sleep where it returns None.
    """
    global _provider
    _provider = provider


def _nothing() -> None:
    return None


_provider: Callable[[], Any] = _nothing


def _waiting() -> Any:
    """The functions that wait without sleep, or None; Windows has none."""
    return _provider() if hasattr(os, "sched_yield") else None


class _Blas:
    """BLAS libraries in this process, and how many kernels hold them to one thread now."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.holders = 0
        # finding them takes a millisecond, setting them less than one microsecond
        libraries = threadpoolctl.ThreadpoolController().select(user_api="blas").lib_controllers
        self.controls = [_control(library) for library in libraries]
        self.before: list[int] = []

    def hold(self) -> None:
        with self.lock:
            if self.holders == 0:
                self.before = [count() for count, _ in self.controls]
                self._set([1] * len(self.controls))
            self.holders += 1

    def release(self) -> None:
        with self.lock:
            self.holders -= 1
            if self.holders == 0:
                self._set(self.before)

    def _set(self, counts: list[int]) -> None:
        for (_, set_count), count, before in zip(self.controls, counts, self.before, strict=True):
            if before != 1:
                set_count(count)


def _control(library: Any) -> tuple[Callable[[], int], Callable[[int], Any]]:
    """Return the getter and the setter of a library's number of threads.

    For OpenBLAS with threads of its own these are its functions: threadpoolctl's setter does nothing where another thread
    of the caller's has called it before.
    """
    if library.internal_api == "openblas" and library.threading_layer == "pthreads":
        for affixes in itertools.product(("", "scipy_"), ("", "64_", "_64")):
            count, set_count = (
                getattr(library.dynlib, f"openblas_{verb}_num_threads".join(affixes), None) for verb in ("get", "set")
            )
            if count is not None and set_count is not None:
                return count, set_count
    return library.get_num_threads, library.set_num_threads


_blas: _Blas | None = None


def _blas_here() -> _Blas:
    global _blas
    if _blas is None:
        with _lock:
            _blas = _blas or _Blas()
    return _blas


def _after_fork() -> None:
    """A child process has none of its parent's threads, and perhaps a lock that one of them held."""
    global _lock, _jobs, _helpers, _blas
    _lock, _jobs, _helpers = threading.Lock(), queue.SimpleQueue(), 0
    if _blas is not None:
        blas, _blas = _blas, None
        if blas.holders:
            blas._set(blas.before)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
