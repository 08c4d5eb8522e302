"""Searches of hyper-parameters: at random, and with most of the effort for what looks promising."""

from __future__ import annotations

import concurrent.futures
import os
from collections.abc import Mapping

from xpdl.backends.random import Stream, checked_seed, next_stream
from xpdl.ops.checks import int_at_least, positive_int
from xpdl.search.result import SearchResult, Trial
from xpdl.search.runner import Build, Runs, Score, last_score
from xpdl.search.space import Distribution, check_space


def random_search(
    build: Build,
    space: Mapping[str, Distribution],
    n_trials: int,
    *,
    seed: int | None = None,
    score: Score = last_score,
    processes: int = 1,
    executor: concurrent.futures.Executor | None = None,
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
        ``score(history)`` -> a number, the higher the better. Where `build` returns a number itself, none is taken.
    processes : int
        So many trainings run at the same time, each on its share of the processors. Results are those of one process.
        `build` then has to be a function that another process can import, with data that it loads or makes by itself, and
        a script starts what it does under ``if __name__ == "__main__":``. There, the backend is the one in use here.
    executor : concurrent.futures.Executor, optional
        Makes the trials instead: of a process pool, ``mpi4py.futures.MPIPoolExecutor``, ``Client(...).get_executor()`` of
        Dask or ``loky.get_reusable_executor()``. Functions and results are pickled; a trial whose worker was lost is made
        again, up to three times. Results are those of one process, where its workers use the same backend.
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
        If `space` has no distributions, the log is that of another search, or `build` returns a number beside a `score`.
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
    run = Runs("random_search", build, space, stream, score, processes, log, verbose, executor)
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
    executor: concurrent.futures.Executor | None = None,
    log: str | os.PathLike[str] | None = None,
    verbose: bool = True,
) -> SearchResult:
    """Train many nets for a short time, the best of them longer, and the best of those longer still.

    Parameters
    ----------
    build : callable
        ``build(epochs=..., **params)``, as for `random_search`, that trains for so many epochs.
    space, seed, score, processes, executor, log, verbose
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
    run = Runs(owner, build, space, stream, score, processes, log, verbose, executor)
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


def _stream(owner: str, seed: int | None, log: str | os.PathLike[str] | None) -> Stream:
    if seed is None and log is not None:
        raise ValueError(f"{owner}: a search with a log needs a seed, or it cannot go on with the same trials")
    return Stream(next_stream(owner).words("seed")[0] if seed is None else checked_seed(seed, owner), owner)
