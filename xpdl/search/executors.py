"""Trials of a search on an executor that the caller gives, such as that of a cluster."""

from __future__ import annotations

import concurrent.futures
import functools
import importlib
import pickle
import traceback
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from xpdl.backends import get_backend, use

R = TypeVar("R")

# A trial whose worker was lost so often ends the search: it may be what ends them.
ATTEMPTS = 3


def checked_executor(executor: Any, processes: int, owner: str) -> concurrent.futures.Executor | None:
    """Return `executor`, None for trials made here or by `processes`.

    Raises
    ------
    TypeError
        If it has no ``submit``, or is one of threads, which would share streams of random numbers.
    ValueError
        If there are `processes`, too.
    """
    if executor is None:
        return None
    if isinstance(executor, type) or not callable(getattr(executor, "submit", None)):
        raise TypeError(f"{owner}: executor must have submit(function), as of concurrent.futures, got {executor!r}")
    if isinstance(executor, concurrent.futures.ThreadPoolExecutor):
        raise TypeError(f"{owner}: executor: threads share streams of random numbers, got {executor!r}; pass processes")
    if processes != 1:
        raise ValueError(
            f"{owner}: processes={processes} and an executor, which has workers of its own; pass one of them"
        )
    return executor  # type: ignore[no-any-return]


def run_on(executor: concurrent.futures.Executor, calls: Sequence[functools.partial[R]]) -> Iterator[R]:
    """Yield the results of `calls`, made by an executor, as they come; those of lost workers are made again.

    A process pool that lost a worker takes no calls any more: another one with its settings takes the place.

    Raises
    ------
    BrokenExecutor
        If workers were lost over one call `ATTEMPTS` times.
    """
    backend = get_backend()
    pools = [executor]
    ready = [(functools.partial(_with_backend, backend.name, backend.dtype, call), 1) for call in calls]
    waiting: dict[concurrent.futures.Future[R], tuple[functools.partial[R], int]] = {}
    try:
        while ready or waiting:
            for call, attempt in ready:
                waiting[_submitted(pools, call)] = call, attempt
            ready = []
            done, _ = concurrent.futures.wait(waiting, return_when=concurrent.futures.FIRST_COMPLETED)
            for future in done:
                call, attempt = waiting.pop(future)
                error = None if future.cancelled() else future.exception()
                if not future.cancelled() and error is None:
                    yield future.result()
                elif (future.cancelled() or _is_lost(error)) and attempt < ATTEMPTS:
                    ready.append((call, attempt + 1))
                else:
                    error = error or concurrent.futures.CancelledError()
                    if _is_lost(error):
                        error.add_note(f"search: workers were lost over one trial {attempt} times")
                    raise error
    finally:
        for future in waiting:
            future.cancel()
        for pool in pools[1:]:
            pool.shutdown(wait=False)


def with_sendable_errors(call: Callable[[], R]) -> R:
    """Make a call in another process, and raise what pickle can bring back: a pool takes anything else for a lost worker.

    Raises
    ------
    RuntimeError
        In the place of an error that pickle cannot bring back, with its text and its traceback.
    """
    try:
        return call()
    except Exception as error:
        try:
            pickle.loads(pickle.dumps(error))
        except Exception:
            told = RuntimeError(f"{type(error).__name__}: {error}")
            told.add_note("".join(traceback.format_exception(error)))
            raise told from None
        raise


def _submitted(pools: list[concurrent.futures.Executor], call: functools.partial[R]) -> concurrent.futures.Future[R]:
    """Submit a call to the last of `pools`, or to a new one where that is broken."""
    try:
        return pools[-1].submit(call)
    except concurrent.futures.BrokenExecutor:
        replacement = _replacement(pools[-1])
        if replacement is None:
            raise
        pools.append(replacement)
        return replacement.submit(call)


def _replacement(broken: Any) -> concurrent.futures.Executor | None:
    """Return an executor with the settings of a pool that has lost a worker; None for other kinds."""
    if type(broken).__module__.partition(".")[0] == "loky":
        pool: concurrent.futures.Executor = importlib.import_module("loky").get_reusable_executor(broken._max_workers)
        return pool
    if not isinstance(broken, concurrent.futures.ProcessPoolExecutor):
        return None
    pool_settings: Any = vars(broken)
    names = ("max_workers", "mp_context", "initializer", "initargs")
    return concurrent.futures.ProcessPoolExecutor(**{name: pool_settings[f"_{name}"] for name in names})


def _with_backend(name: str, dtype: str, call: functools.partial[R]) -> R:
    """Make a trial in another process, with the backend of the one that asks."""
    use(name, dtype=dtype)
    return call()


def _is_lost(error: BaseException | None) -> bool:
    """Return whether an error says that a worker ended, and not that the call failed.

    Besides `concurrent.futures.BrokenExecutor`, of which loky's is one, Dask's ``KilledWorker``.
    """
    names = {kind.__name__ for kind in type(error).__mro__}
    return bool(names & {"BrokenExecutor", "KilledWorker", "CancelledError", "FutureCancelledError"})
