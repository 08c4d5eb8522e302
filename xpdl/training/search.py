"""Searches of hyper-parameters: at random, and with most of the effort for what looks promising."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import functools
import math
import multiprocessing
import numbers
import os
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import threadpoolctl

from xpdl.backends import get_backend, make_backend, use
from xpdl.backends.random import Stream, checked_seed, next_stream, seeded
from xpdl.ops.checks import flag, function, int_at_least, positive_int
from xpdl.training.history import History
from xpdl.training.progress import Progress
from xpdl.training.search_result import SearchResult, Trial, TrialLog
from xpdl.training.search_space import Distribution, check_space, sampled

Build = Callable[..., Any]
Score = Callable[[History], float]
Job = tuple[int, dict[str, Any], int | None]  # number, hyper-parameters, epochs


def last_score(history: History) -> float:
    """Accuracy on the test set at the end or, in a regression, the loss with a minus."""
    if history.test_acc_list:
        return history.test_acc_list[-1]
    if history.test_loss_list:
        return -history.test_loss_list[-1]
    raise ValueError("search: the history has neither test accuracies nor test losses; pass a score of your own")


def random_search(
    build: Build,
    space: Mapping[str, Distribution],
    n_trials: int,
    *,
    seed: int | None = None,
    score: Score = last_score,
    processes: int = 1,
    log: str | os.PathLike[str] | None = None,
    verbose: bool = True,
) -> SearchResult:
    """Train with hyper-parameters drawn at random and see which do best (the book's section 6.5).

    Parameters
    ----------
    build : callable
        ``build(**params)`` -> a `Trainer`, which is then trained; or the `History` of a training made there, or a number,
        its score. What has no seed of its own in it follows that of the trial.
    space : mapping
        Name -> `uniform`, `log_uniform` or `choice`.
    n_trials : int
    seed : int, optional
        Trial by trial, hyper-parameters and training depend on it and the trial's number alone. By default it follows
        `xpdl.seed`.
    score : callable
        ``score(history)`` -> a number, the higher the better.
    processes : int
        So many trainings run at the same time, each on its share of the processors. Results are those of one process.
        `build` then has to be a function that another process can import, with data that it loads or makes by itself, and
        a script starts what it does under ``if __name__ == "__main__":``. There, the backend is the one in use here.
    log : path, optional
        A file of JSON lines, written trial by trial. Where it exists, trials in it are not made again: a search that was
        broken off goes on, and one with more trials adds to it. That takes a `seed`. Changes of `build` are not noticed.
    verbose : bool
        Print a line for each trial and at the end the table of the best.

    Returns
    -------
    SearchResult

    Raises
    ------
    TypeError, ValueError
        If `space` has no distributions, or the log is that of another search.
    ShapeError
        If `n_trials` or `processes` is no positive int.

    Notes
    -----
    J. Bergstra, Y. Bengio, "Random Search for Hyper-Parameter Optimization", JMLR 13, 2012. A training that ends with a
    `FloatingPointError`, as of a NaN loss, has the score ``-inf``; any other error ends the search.

    Examples
    --------
    >>> result = random_search(lambda x: -((x - 3) ** 2), {"x": uniform(0, 10)}, 100, seed=0, verbose=False)
    >>> round(result.best.params["x"])
    3
    """
    check_space(space, "random_search")
    stream = _stream("random_search", seed, log)
    n_trials = positive_int(n_trials, "n_trials", "random_search")
    run = _Runs("random_search", build, space, stream, score, processes, log, verbose)
    return run.finished(run.made((number, run.params(number), None) for number in range(n_trials)))


def successive_halving(
    build: Build,
    space: Mapping[str, Distribution],
    n_trials: int,
    *,
    min_epochs: int = 1,
    max_epochs: int = 27,
    factor: int = 3,
    seed: int | None = None,
    score: Score = last_score,
    processes: int = 1,
    log: str | os.PathLike[str] | None = None,
    verbose: bool = True,
) -> SearchResult:
    """Train many nets for a short time, the best of them longer, and the best of those longer still.

    Parameters
    ----------
    build : callable
        ``build(epochs=..., **params)``, as for `random_search`, that trains for so many epochs.
    space, seed, score, processes, log, verbose
        As for `random_search`.
    n_trials : int
        With which the first round begins.
    min_epochs, max_epochs : int
        Of the first round, and at most.
    factor : int
        After each round, one of so many goes on, rounded down but at least one, and gets so many times the epochs.

    Returns
    -------
    SearchResult
        Of all rounds; its ``ranked`` has for each net its longest training.

    Raises
    ------
    TypeError, ValueError, ShapeError
        As `random_search`, and if `max_epochs` is less than `min_epochs` or `factor` less than 2.

    Notes
    -----
    K. Jamieson, A. Talwalkar, "Non-stochastic Best Arm Identification and Hyperparameter Optimization", arXiv:1502.07943.
    Each round trains from the start again, from the same initial weights, so that schedules may depend on `epochs`.

    Examples
    --------
    >>> def build(epochs, x):
    ...     return -((x - 3) ** 2) - 1 / epochs
    >>> result = successive_halving(build, {"x": uniform(0, 10)}, 27, max_epochs=9, seed=0, verbose=False)
    >>> [trial.epochs for trial in result.ranked[:4]], len(result.trials)
    ([9, 9, 9, 3], 39)
    """
    owner = "successive_halving"
    check_space(space, owner, reserved=("epochs",))
    stream = _stream(owner, seed, log)
    n_trials = positive_int(n_trials, "n_trials", owner)
    epochs = positive_int(min_epochs, "min_epochs", owner)
    int_at_least(epochs, max_epochs, "max_epochs", owner)
    int_at_least(2, factor, "factor", owner)
    run = _Runs(owner, build, space, stream, score, processes, log, verbose)
    trials: list[Trial] = []
    numbers = list(range(n_trials))
    while True:
        made = run.made((number, run.params(number), epochs) for number in numbers)
        trials += made
        if epochs * factor > max_epochs or len(numbers) == 1:
            return run.finished(trials)
        best = sorted(made, key=lambda trial: (-trial.score, trial.number))
        numbers = sorted(trial.number for trial in best[: max(1, len(best) // factor)])
        epochs *= factor


class _Runs:
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
    ) -> None:
        self.build, self.score = function(build, "build", owner), function(score, "score", owner)
        self.space, self.stream = space, stream
        self.processes = positive_int(processes, "processes", owner)
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
        # from the log, values are those that JSON has of them; these are the values themselves
        return [dataclasses.replace(self.log.done[number, epochs], params=params) for number, params, epochs in jobs]

    def finished(self, trials: list[Trial]) -> SearchResult:
        result = SearchResult(trials)
        self.progress.line(result.table())
        return result

    def _trials(self, jobs: list[Job]) -> Iterator[Trial]:
        calls = [functools.partial(_trial, self.build, self.score, job, self._seed(job[0])) for job in jobs]
        if self.processes == 1:
            yield from (call() for call in calls)
            return
        backend = get_backend()
        if make_backend(backend.name, None, backend.dtype).device != backend.device:
            raise ValueError(f"search: other processes work on the default device of {backend.name}; use processes=1")
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
                made = made.train()
        if isinstance(made, History):
            history, value = made, float(score(made))
        elif isinstance(made, numbers.Real):
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


def _enter(backend: str, dtype: str, threads: int) -> None:
    """Begin another process: the same backend, and a share of the processors."""
    os.environ.setdefault("XPDL_NUM_THREADS", str(threads))
    threadpoolctl.threadpool_limits(threads)
    use(backend, dtype=dtype)


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _stream(owner: str, seed: int | None, log: str | os.PathLike[str] | None) -> Stream:
    if seed is None and log is not None:
        raise ValueError(f"{owner}: a search with a log needs a seed, or it cannot go on with the same trials")
    return Stream(next_stream(owner).words("seed")[0] if seed is None else checked_seed(seed, owner), owner)
