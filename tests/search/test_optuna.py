"""The objective of an Optuna study, where Optuna is installed."""

import subprocess
import sys

import numpy as np
import pytest

from tests.search import builds
from xpdl import choice, log_uniform, uniform
from xpdl.search import optuna_objective

SPACE = {"lr": log_uniform(1e-3, 1.0), "units": choice([4, 8])}


class FakeTrial:
    """Of a study: what it is asked, and whether it wants to prune after some epochs."""

    def __init__(self, number=0, prune_at=None):
        self.number, self.prune_at = number, prune_at
        self.asked, self.reported = [], []

    def suggest_float(self, name, low, high, *, log):
        self.asked.append((name, low, high, log))
        return high

    def suggest_categorical(self, name, options):
        self.asked.append((name, options))
        return options[0]

    def report(self, value, step):
        self.reported.append((step, value))

    def should_prune(self):
        return len(self.reported) == self.prune_at


class TestObjective:
    def test_asks_for_the_space_and_reports_each_epoch(self):
        trial = FakeTrial()
        space = {**SPACE, "epochs": choice([3]), "extra": uniform(0, 1)}
        value = optuna_objective(lambda extra, **params: builds.net(**params), space, seed=0)(trial)
        assert trial.asked == [("lr", 1e-3, 1.0, True), ("units", (4, 8)), ("epochs", (3,)), ("extra", 0, 1, False)]
        assert [step for step, _ in trial.reported] == [1, 2, 3] and trial.reported[-1][1] == value

    def test_training_depends_on_the_seed_and_the_number(self):
        def losses(number, seed):
            found = []
            optuna_objective(builds.net, SPACE, seed=seed, score=lambda h: found.append(h) or 0.0)(FakeTrial(number))
            return found[-1].train_loss_list

        assert losses(0, 0) == losses(0, 0) != losses(1, 0) and losses(0, 0) != losses(0, 1)

    def test_space_is_checked(self):
        with pytest.raises(TypeError, match="optuna_objective: x must be a distribution"):
            optuna_objective(builds.net, {"x": 1})

    def test_without_optuna_pruning_says_what_to_install(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "optuna", None)
        with pytest.raises(ImportError, match=r"pip install 'xpdl\[optuna\]'"):
            optuna_objective(builds.net, SPACE)(FakeTrial(prune_at=1))

    @pytest.mark.needs("optuna")
    def test_in_a_study(self):
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=0))
        study.optimize(optuna_objective(builds.net, SPACE, seed=0), n_trials=4)
        assert len(study.trials) == 4 and 0.5 < study.best_value <= 1 and set(study.best_params) == set(SPACE)

    @pytest.mark.needs("optuna")
    @pytest.mark.parametrize("directions", [["minimize"], ["maximize", "minimize"], None])
    def test_study_that_minimizes_is_refused_unless_the_score_is_its_own(self, directions):
        import optuna

        optuna.logging.set_verbosity(optuna.logging.CRITICAL)
        study = optuna.create_study(directions=directions)  # without any it minimizes
        with pytest.raises(ValueError, match="the study minimizes, and the higher the score the better"):
            study.optimize(optuna_objective(builds.net, SPACE, seed=0), n_trials=1)
        study = optuna.create_study()
        study.optimize(optuna_objective(builds.net, SPACE, seed=0, score=lambda history: 0.5), n_trials=1)
        assert study.best_value == 0.5

    @pytest.mark.needs("optuna")
    def test_is_pruned_when_the_study_says_so_and_when_it_diverges(self):
        import optuna

        trial = FakeTrial(prune_at=1)
        with pytest.raises(optuna.TrialPruned):
            optuna_objective(builds.net, SPACE)(trial)
        assert len(trial.reported) == 1
        with np.errstate(all="ignore"), pytest.raises(optuna.TrialPruned):
            optuna_objective(builds.net, {**SPACE, "lr": choice([1e200])})(FakeTrial())


@pytest.mark.exhaustive
def test_nothing_else_loads_them():
    code = "import sys, xpdl.search; print([name for name in ('sklearn', 'optuna') if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
