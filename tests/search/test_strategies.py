"""Searches: the same trials from a seed, and the best one found."""

import inspect
import math

import numpy as np
import pytest

import xpdl
from tests.harness import nonempty
from tests.search import builds
from tests.search.searches import halve, same, search
from xpdl import ShapeError, choice, log_uniform, random_search, successive_halving, uniform
from xpdl.search.strategies import last_score
from xpdl.training import History


class TestRandomSearch:
    def test_finds_the_best(self):
        result = search(builds.parabola, {"x": uniform(0, 10)}, 60)
        assert abs(result.best.params["x"] - 3) < 0.3
        assert [trial.number for trial in result.trials] == list(range(60))
        scores = [trial.score for trial in result.ranked]
        assert scores == sorted(scores, reverse=True) and result.best.score == scores[0]

    def test_trains_and_keeps_the_history(self):
        for trial in nonempty(search().trials):
            assert isinstance(trial.history, History) and trial.score == trial.history.test_acc_list[-1]
            assert len(trial.history.train_loss_list) == 6

    def test_score_may_be_another(self):
        result = search(score=lambda history: -history.train_loss_list[-1])
        assert result.best.score == -min(trial.history.train_loss_list[-1] for trial in result.trials)

    def test_depends_on_the_seed_alone(self):
        first = search()
        xpdl.seed(77)
        same(first, search())
        same(search(n_trials=2), type(first)(first.trials[:2]))
        assert search(seed=1).trials[0].params != first.trials[0].params

    def test_without_a_seed_follows_xpdl_seed(self):
        found = []
        for n in (5, 5, 6):
            xpdl.seed(n)
            found.append([trial.params for trial in search(seed=None, n_trials=2).trials])
        assert found[0] == found[1] != found[2]

    def test_leaves_the_streams_of_others_alone(self):
        xpdl.seed(3)
        expected = [xpdl.shuffle_dataset(np.arange(9), np.arange(9))[0].tolist() for _ in range(2)]
        xpdl.seed(3)
        found = [xpdl.shuffle_dataset(np.arange(9), np.arange(9))[0].tolist()]
        search(n_trials=1)
        found.append(xpdl.shuffle_dataset(np.arange(9), np.arange(9))[0].tolist())
        assert found == expected

    def test_diverged_training_is_the_worst_trial(self):
        result = search(space={"lr": choice([0.1, 1e200]), "units": choice([4])}, n_trials=6)
        diverged = [trial for trial in result.trials if trial.params["lr"] > 1]
        assert 0 < len(diverged) < 6
        for trial in diverged:
            assert trial.score == -math.inf and "the loss became" in trial.error and trial.history is None
        assert result.ranked[-len(diverged) :] == diverged
        assert str(result).count("diverged") == len(diverged)

    def test_score_that_is_nan_is_the_worst(self):
        result = search(lambda x: math.nan if x < 5 else x, {"x": uniform(0, 10)}, 10)
        assert result.best.score > 5 and result.ranked[-1].error == "the score is nan"

    def test_error_names_the_trial(self):
        with pytest.raises(KeyError, match="no such thing") as error:
            search(builds.broken, {"x": uniform(0, 10)}, 10)
        assert "of the search, with {'x': " in error.value.__notes__[0]

    def test_says_what_happens(self, capsys):
        result = search(builds.parabola, {"x": uniform(0, 10)}, 3, verbose=True)
        lines = capsys.readouterr().out.splitlines()
        assert [line.split("  ")[0] for line in lines[:3]] == ["trial 0", "trial 1", "trial 2"]
        assert lines[3:] == str(result).splitlines()
        assert lines[3].split() == ["rank", "trial", "score", "x", "seconds"]
        best = result.best
        assert lines[4].split()[:4] == ["1", str(best.number), f"{best.score:.4f}", f"{best.params['x']:.4g}"]
        assert len(search(builds.parabola, {"x": uniform(0, 10)}, 20).table(5).splitlines()) == 6


class TestHalving:
    def test_grants_more_epochs_to_fewer(self):
        result = halve(n_trials=10, min_epochs=1, max_epochs=9, factor=3)
        rounds = {epochs: [t for t in result.trials if t.epochs == epochs] for epochs in (1, 3, 9)}
        assert [len(trials) for trials in rounds.values()] == [10, 3, 1]
        for before, after in ((1, 3), (3, 9)):
            ordered = sorted(rounds[before], key=lambda t: (-t.score, t.number))
            assert {t.number for t in rounds[after]} == {t.number for t in ordered[: len(rounds[after])]}
        assert all(len(t.history.test_acc_list) == t.epochs for t in result.trials)
        assert result.best.epochs == 9 and len(result.ranked) == 10
        assert "epochs" in str(result)

    def test_a_net_begins_again_as_it_began(self):
        result = halve(max_epochs=9)
        for trial in nonempty(result.trials):
            longest = next(t for t in result.ranked if t.number == trial.number)
            steps = len(trial.history.train_loss_list)
            assert trial.history.train_loss_list == longest.history.train_loss_list[:steps]

    def test_ends_with_one_or_with_the_most_epochs(self):
        def epochs(n, **options):
            def build(epochs, x):
                return x

            found = successive_halving(build, {"x": uniform(0, 1)}, n, seed=0, verbose=False, **options)
            return sorted(trial.epochs for trial in found.trials)

        assert epochs(2, max_epochs=100, factor=2) == [1, 1, 2]
        assert epochs(4, min_epochs=2, max_epochs=7, factor=2) == [2] * 4 + [4] * 2
        assert epochs(5, max_epochs=1) == [1] * 5


class TestBook:
    """Section 6.5: accuracy rises at a learning rate of about 0.01."""

    DECAY = log_uniform(1e-8, 1e-4)

    @pytest.mark.exhaustive
    def test_halving_finds_the_rate_in_a_wide_range(self):
        space = {"lr": log_uniform(1e-6, 1.0), "weight_decay": self.DECAY}
        result = halve(builds.book, space, 20, min_epochs=3, max_epochs=27)
        assert 0.01 < result.best.params["lr"] < 0.3 and result.best.score > 0.7

    @pytest.mark.slow  # ten seconds
    def test_search_in_the_books_range(self):
        result = search(builds.book, {"lr": log_uniform(1e-6, 1e-2), "weight_decay": self.DECAY}, 20)
        assert 0.005 < result.best.params["lr"] < 0.01
        rates = [trial.params["lr"] for trial in result.ranked]
        assert min(rates[:3]) > 5 * sorted(rates)[len(rates) // 2]


@pytest.mark.parametrize("search", [search, halve])
class TestWrong:
    @pytest.mark.parametrize("space", [None, {}, [uniform(0, 1)], 3])
    def test_space(self, search, space):
        with pytest.raises(TypeError, match="space must map the names of hyper-parameters to distributions"):
            search(builds.parabola, space)

    def test_constant_belongs_into_build(self, search):
        with pytest.raises(TypeError, match=r"x must be a distribution.*got 3; a value that stays belongs into build"):
            search(builds.parabola, {"x": 3})

    @pytest.mark.parametrize("options", [{"n_trials": 0}, {"processes": 0}])
    def test_counts(self, search, options):
        with pytest.raises(ShapeError, match=f"{next(iter(options))} must be an int of at least 1, got 0"):
            search(builds.parabola, {"x": uniform(0, 1)}, **options)

    def test_build_must_return_something(self, search):
        with pytest.raises(TypeError, match="build must return a Trainer, a History or a number, got None"):
            search(lambda **params: None)

    def test_history_without_a_measure_needs_a_score(self, search):
        with pytest.raises(
            ValueError, match=r"neither accuracies nor losses of rows to test or .* pass a score of your own"
        ):
            search(lambda **params: History())


@pytest.mark.parametrize(
    "options, message",
    [({"max_epochs": 0}, "max_epochs"), ({"min_epochs": 5, "max_epochs": 4}, "max_epochs"), ({"factor": 1}, "factor")],
)
def test_rounds_of_halving_must_make_sense(options, message):
    with pytest.raises(ShapeError, match=f"successive_halving: {message} must be an int of at least"):
        halve(**options)


def test_epochs_is_no_hyper_parameter_of_halving():
    with pytest.raises(ValueError, match="'epochs' cannot be the name of a hyper-parameter here"):
        halve(space={"epochs": choice([1, 2])})


def test_regression_is_scored_by_its_loss():
    result = search(lambda x: History(test_loss_list=[5.0, x]), {"x": uniform(0, 10)}, 5)
    assert result.best.score == -min(trial.params["x"] for trial in result.trials)


def test_last_score_is_that_of_the_end():
    assert last_score(History(test_acc_list=[0.9, 0.25, 0.5])) == 0.5
    assert last_score(History(test_loss_list=[0.9, 0.25, 2.0])) == -2.0
    assert last_score(History(test_acc_list=[0.5], test_loss_list=[7.0])) == 0.5
    assert last_score(History(test_acc_list=[0.5], val_acc_list=[0.75])) == 0.5
    assert last_score(History(train_acc_list=[0.5], val_acc_list=[0.75], val_loss_list=[7.0])) == 0.75
    assert last_score(History(val_loss_list=[7.0])) == -7.0


class TestRounds:
    """Of halving, by how many train for how long."""

    def rounds(self, n, **options):
        found = successive_halving(lambda epochs, x: x, {"x": uniform(0, 1)}, n, seed=0, verbose=False, **options)
        numbers = {}
        for trial in found.trials:
            numbers.setdefault(trial.epochs, []).append(trial.number)
        return found, numbers

    def test_by_default_a_third_goes_on_from_one_epoch_to_27(self):
        found, numbers = self.rounds(29)
        assert {epochs: len(of) for epochs, of in numbers.items()} == {1: 29, 3: 9, 9: 3, 27: 1}
        assert found.best.params["x"] == max(trial.params["x"] for trial in found.trials)

    def test_the_most_epochs_are_reached(self):
        _, numbers = self.rounds(4, max_epochs=4, factor=2)
        assert {epochs: len(of) for epochs, of in numbers.items()} == {1: 4, 2: 2, 4: 1}

    def test_of_two_equals_the_earlier_goes_on(self):
        found = successive_halving(
            lambda epochs, x: 0.5, {"x": uniform(0, 1)}, 4, factor=2, max_epochs=2, seed=0, verbose=False
        )
        assert [trial.number for trial in found.trials if trial.epochs == 2] == [0, 1]

    def test_a_few_are_never_fewer_than_one(self):
        _, numbers = self.rounds(2, factor=3)
        assert {epochs: len(of) for epochs, of in numbers.items()} == {1: 2, 3: 1}


@pytest.mark.parametrize("function", [random_search, successive_halving])
def test_by_default_one_process_tells_what_it_does(function, capsys):
    parameters = inspect.signature(function).parameters
    assert parameters["processes"].default == 1
    function(lambda **given: 0.0, {"x": uniform(0, 1)}, 1, seed=0)
    assert capsys.readouterr().out.startswith("trial 0")


def test_a_seed_is_an_int_and_without_one_none_is_needed_but_for_a_log(tmp_path):
    with pytest.raises(TypeError, match=r"random_search: seed must be an int, got 1\.5"):
        search(builds.parabola, {"x": uniform(0, 1)}, seed=1.5)
    with pytest.raises(ValueError, match="successive_halving: a search with a log needs a seed"):
        halve(seed=None, log=tmp_path / "log")
    assert len(search(builds.parabola, {"x": uniform(0, 1)}, 1, seed=None).trials) == 1
