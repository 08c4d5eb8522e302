"""The trials of a search, made here or by other processes."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import functools
import math
import multiprocessing
import numbers
import os
import pickle
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import threadpoolctl

from xpdl.backends import get_backend, make_backend, use
from xpdl.backends.random import Stream, seeded
from xpdl.ops.checks import flag, function, positive_int
from xpdl.search.executors import checked_executor, run_on, with_sendable_errors
from xpdl.search.result import SearchResult, Trial, TrialLog
from xpdl.search.space import Distribution, sampled
from xpdl.training.history import History
from xpdl.training.ownership import require_new
from xpdl.training.progress import Progress
from xpdl.training.trainer import Trainer

Build = Callable[..., Any]
Score = Callable[[History], float]
Job = tuple[int, dict[str, Any], int | None]  # number, hyper-parameters, epochs


def last_score(history: History) -> float:
    """Accuracy on the test set at the end or, in a regression, the loss with a minus; without one, on the validation set."""
    last = history.last()
    for name in ("test_acc", "val_acc", "test_loss", "val_loss"):
        if name in last:
            return -last[name] if name.endswith("loss") else last[name]
    raise ValueError(
        "search: the history has neither accuracies nor losses of rows to test or to validate with; pass a score of your own"
    )


class Runs:
    """The trials of a search: made here or by other processes, unless the log has them."""

    def __init__(
        self,
        owner: str,
        build: Build,
        space: Mapping[str, Distribution],
        stream: Stream,
        score: Score,
        processes: int,
        log: str | os.PathLike[str] | None,
        verbose: bool,
        executor: concurrent.futures.Executor | None = None,
    ) -> None:
        self.build, self.score = function(build, "build", owner), function(score, "score", owner)
        self.space, self.stream = space, stream
        self.processes = positive_int(processes, "processes", owner)
        self.executor = checked_executor(executor, self.processes, owner)
        self.progress = Progress(flag(verbose, "verbose", owner))
        header = {"search": owner, "seed": stream.seed, "space": {name: repr(space[name]) for name in space}}
        self.log = TrialLog(log, header)

    def params(self, number: int) -> dict[str, Any]:
        return sampled(self.space, self.stream.child(f"params {number}"))

    def made(self, jobs: Iterable[Job]) -> list[Trial]:
        """The trials of all `jobs`, in their order."""
        jobs = list(jobs)
        missing = [job for job in jobs if (job[0], job[2]) not in self.log.done]
        if len(missing) < len(jobs):
            self.progress.line(f"{len(jobs) - len(missing)} of {len(jobs)} trials are in {self.log.path}")
        for trial in self._trials(missing):
            self.log.add(trial)
            self.progress.line(self._told(trial))
        # values from the log went through JSON; these are the originals
        return [dataclasses.replace(self.log.done[number, epochs], params=params) for number, params, epochs in jobs]

    def finished(self, trials: list[Trial]) -> SearchResult:
        result = SearchResult(trials)
        self.progress.line(result.table())
        return result

    def _trials(self, jobs: list[Job]) -> Iterator[Trial]:
        calls = [functools.partial(_trial, self.build, self.score, job, self._seed(job[0])) for job in jobs]
        if self.processes == 1 and self.executor is None:
            yield from (call() for call in calls)
            return
        backend = get_backend()
        if make_backend(backend.name, None, backend.dtype).device != backend.device:
            raise ValueError(f"search: other processes work on the default device of {backend.name}; use processes=1")
        if self.executor is None or isinstance(self.executor, concurrent.futures.ProcessPoolExecutor):
            _require_sendable(self.build, self.score)
        calls = [functools.partial(with_sendable_errors, call) for call in calls]
        if self.executor is not None:
            yield from run_on(self.executor, calls)
            return
        with concurrent.futures.ProcessPoolExecutor(
            self.processes,
            # not forked: threads, and a GPU, do not survive that
            multiprocessing.get_context("spawn"),
            _enter,
            (backend.name, backend.dtype, max(1, _processors() // self.processes)),
        ) as pool:
            futures = [pool.submit(call) for call in calls]
            try:
                for future in concurrent.futures.as_completed(futures):
                    yield future.result()
            except concurrent.futures.BrokenExecutor as error:
                error.add_note(
                    "search: a process ended by itself: out of memory, or there is no "
                    "if __name__ == '__main__': around what the script does"
                )
                raise
            finally:
                pool.shutdown(wait=False, cancel_futures=True)

    def _seed(self, number: int) -> int:
        return self.stream.child(f"trial {number}").words("seed")[0]

    def _told(self, trial: Trial) -> str:
        best = max(self.log.done.values(), key=lambda one: (one.score, -one.number))
        granted = "" if trial.epochs is None else f" ({trial.epochs} epochs)"
        values = "  ".join(
            f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}"
            for name, value in trial.params.items()
        )
        outcome = f"score {trial.score:.4f} (best {best.score:.4f})" if not trial.error else "diverged"
        return f"trial {trial.number}{granted}  {outcome}  {values}  {trial.seconds:.1f} s"


def _trial(build: Build, score: Score, job: Job, seed: int) -> Trial:
    """Make one trial; runs here or in another process."""
    number, params, epochs = job
    begin = time.perf_counter()
    history, error = None, ""
    try:
        with seeded(seed), warnings.catch_warnings():
            # a training that diverges is told by its score
            warnings.filterwarnings("ignore", "(overflow|invalid value) encountered", RuntimeWarning)
            made = build(**params) if epochs is None else build(epochs=epochs, **params)
            if callable(getattr(made, "train", None)):
                if isinstance(made, Trainer):
                    require_new(made.network, "search")
                made = made.train()
        if isinstance(made, History):
            history, value = made, float(score(made))
        elif isinstance(made, numbers.Real):
            if score is not last_score:
                raise TypeError(f"search: score takes a History, and build returned {made!r}; leave out score")
            value = float(made)
        else:
            raise TypeError(f"search: build must return a Trainer, a History or a number, got {made!r}")
    except FloatingPointError as raised:
        value, error = -math.inf, str(raised)
    except Exception as raised:
        raised.add_note(f"in trial {number} of the search, with {params}")
        raise
    if not math.isfinite(value):
        value, error = -math.inf, error or f"the score is {value}"
    return Trial(number, params, value, history, time.perf_counter() - begin, epochs, error)


def _require_sendable(*functions: Callable[..., Any]) -> None:
    """Refuse what another process cannot import."""
    for one in functions:
        try:
            pickle.dumps(one)
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            raise TypeError(
                f"search: {one!r} cannot be sent to another process ({error}); make it a function of a module, or use "
                "processes=1"
            ) from error


def _enter(backend: str, dtype: str, threads: int) -> None:
    """Begin another process: the same backend, and a share of the processors."""
    os.environ.setdefault("XPDL_NUM_THREADS", str(threads))
    threadpoolctl.threadpool_limits(threads)
    use(backend, dtype=dtype)


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
