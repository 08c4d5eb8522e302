"""Searches by Optuna, which looks at the trials before when it chooses the next one."""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Mapping
from typing import Any

from xpdl.backends.random import next_stream, seeded
from xpdl.ops.checks import function
from xpdl.search.runner import Build, Score, last_score
from xpdl.search.space import Distribution, check_space
from xpdl.training.history import History
from xpdl.training.ownership import require_new


def optuna_objective(
    build: Build, space: Mapping[str, Distribution], *, seed: int | None = None, score: Score = last_score
) -> Callable[[Any], float]:
    """The objective of an Optuna study (``pip install "xpdl[optuna]"``) for what `random_search` takes.

    Parameters
    ----------
    build : callable
        ``build(**params)`` -> a `Trainer`. After each epoch its score is reported, and the study may prune the trial.
    space : mapping
        Name -> `uniform`, `log_uniform` or `choice`.
    seed : int, optional
        Of the trainings, each by the number of its trial; hyper-parameters follow the study's sampler. By default it
        follows `xpdl.seed`.
    score : callable
        ``score(history)`` -> a number, the higher the better: make the study with ``direction="maximize"``. A training
        that breaks off because of a NaN, or whose score is NaN or infinite, is pruned.

    Raises
    ------
    TypeError, ValueError
        If `space` has no distributions; in a trial without a `score` of one's own, if the study minimizes.
    ImportError
        In a trial that is pruned, if Optuna is not installed.

    Notes
    -----
    T. Akiba et al., "Optuna: A Next-generation Hyperparameter Optimization Framework", arXiv:1907.10902. ::

        study = optuna.create_study(direction="maximize")
        study.optimize(optuna_objective(build, space, seed=0), n_trials=50)
    """
    check_space(space, "optuna_objective")
    function(build, "build", "optuna_objective")
    function(score, "score", "optuna_objective")
    stream = next_stream("optuna_objective", seed)

    def objective(trial: Any) -> float:
        if score is last_score:
            _require_maximizing(trial)
        params = {name: distribution.suggest(trial, name) for name, distribution in space.items()}
        with seeded(stream.words(f"trial {trial.number}")[0]):
            trainer = build(**params)
            require_new(trainer.network, "optuna_objective")
            pruning = _Pruning(trial, score)
            trainer.callbacks.callbacks.append(pruning)
            try:
                history: History = trainer.train()
            except FloatingPointError as error:
                raise _pruned() from error
        if pruning.pruned:
            raise _pruned()
        value = float(score(history))
        if not math.isfinite(value):
            raise _pruned()
        return value

    return objective


class _Pruning:
    """A callback that tells the study how it goes, and stops the training if the study says so."""

    def __init__(self, trial: Any, score: Score) -> None:
        self.trial, self.score, self.pruned = trial, score, False

    def on_epoch_end(self, trainer: Any, epoch: int) -> None:
        self.trial.report(float(self.score(trainer.history)), epoch)
        if self.trial.should_prune():
            trainer.stop_training = self.pruned = True


def _require_maximizing(trial: Any) -> None:
    """Refuse a study that looks for the lowest score, which is the default of Optuna; a trial without a study is taken."""
    directions = getattr(getattr(trial, "study", None), "directions", ())
    if any(direction.name == "MINIMIZE" for direction in directions):
        raise ValueError(
            "optuna_objective: the study minimizes, and the higher the score the better; make it with "
            "optuna.create_study(direction='maximize')"
        )


def _pruned() -> Exception:
    try:
        pruned: Exception = importlib.import_module("optuna").TrialPruned()
    except ImportError as error:
        raise ImportError(f"pruning a trial needs Optuna: pip install 'xpdl[optuna]' ({error})") from error
    return pruned
