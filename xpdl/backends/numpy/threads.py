"""A few threads that share the work of a kernel, with BLAS held to one thread meanwhile.

How a kernel cuts its work into tasks depends on shapes alone, and every task's result on nothing but its input, so results
are the same bits for any number of threads.
"""

from __future__ import annotations

import collections
import contextlib
import contextvars
import os
import queue
import threading
from collections.abc import Callable, Iterator, Sequence

import threadpoolctl

Task = Callable[[], None]


def thread_count() -> int:
    """``XPDL_NUM_THREADS``, or the number of processors this process may use."""
    asked = os.environ.get("XPDL_NUM_THREADS")
    if not asked:
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if not asked.isdecimal() or int(asked) < 1:
        raise ValueError(f"XPDL_NUM_THREADS must be a positive int, got {asked!r}")
    return int(asked)


def run(tasks: Sequence[Task]) -> None:
    """Run all tasks, in any order and at the same time, and return when all are done.

    An exception in one of them, or ctrl-C here, skips those not yet begun and is raised when the others have ended.
    """
    with _one_blas_thread():
        _pool().run(tasks)


class _Job:
    """The tasks of one `run`."""

    def __init__(self, tasks: Sequence[Task]) -> None:
        self.tasks = collections.deque(tasks)
        self.left: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()

    def work(self) -> None:
        """Take tasks until there are none."""
        while True:
            try:
                task = self.tasks.popleft()
            except IndexError:
                return
            task()

    def help(self, context: contextvars.Context) -> None:
        """Work as the caller would, with its `numpy.errstate`, and report the end of it."""
        try:
            context.run(self.work)
        except BaseException as error:  # raised again by the thread that waits
            self.tasks.clear()
            self.left.put(error)
        else:
            self.left.put(None)


class _Pool:
    def __init__(self, threads: int) -> None:
        self.helpers = threads - 1
        self.jobs: queue.SimpleQueue[tuple[_Job, contextvars.Context]] = queue.SimpleQueue()
        for _ in range(self.helpers):
            threading.Thread(target=self._serve, name="xpdl", daemon=True).start()

    def _serve(self) -> None:
        while True:
            job, context = self.jobs.get()
            job.help(context)
            # nothing of the caller's is kept while waiting
            del job, context

    def run(self, tasks: Sequence[Task]) -> None:
        helpers = min(self.helpers, len(tasks) - 1)
        # a task of ours that calls a kernel: the others are at work already
        if helpers < 1 or threading.current_thread().name == "xpdl":
            for task in tasks:
                task()
            return
        job = _Job(tasks)
        for _ in range(helpers):
            self.jobs.put((job, contextvars.copy_context()))
        errors: list[BaseException | None] = []
        try:
            job.work()
        finally:
            job.tasks.clear()
            # not before: they write into arrays of the caller
            errors += [job.left.get() for _ in range(helpers)]
        for error in errors:
            if error is not None:
                raise error


_lock = threading.Lock()
_pools: dict[int, _Pool] = {}


def _pool() -> _Pool:
    threads = thread_count()
    pool = _pools.get(threads)
    if pool is None:
        with _lock:
            pool = _pools.setdefault(threads, _Pool(threads)) if threads not in _pools else _pools[threads]
    return pool


class _Blas:
    """BLAS libraries in this process, and how many kernels hold them to one thread now."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.holders = 0
        # finding them takes a millisecond, setting them a microsecond
        self.libraries = threadpoolctl.ThreadpoolController().select(user_api="blas").lib_controllers
        self.before: list[int] = []


_blas: _Blas | None = None


@contextlib.contextmanager
def _one_blas_thread() -> Iterator[None]:
    global _blas
    if _blas is None:
        _blas = _Blas()
    blas = _blas
    with blas.lock:
        if blas.holders == 0:
            blas.before = [library.get_num_threads() for library in blas.libraries]
            for library in blas.libraries:
                library.set_num_threads(1)
        blas.holders += 1
    try:
        yield
    finally:
        with blas.lock:
            blas.holders -= 1
            if blas.holders == 0:
                for library, count in zip(blas.libraries, blas.before, strict=True):
                    library.set_num_threads(count)


def _after_fork() -> None:
    """A child process has none of its parent's threads, and perhaps a lock that one of them held."""
    global _lock, _blas
    _lock = threading.Lock()
    _pools.clear()
    if _blas is not None:
        if _blas.holders:
            for library, count in zip(_blas.libraries, _blas.before, strict=True):
                library.set_num_threads(count)
        _blas = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
