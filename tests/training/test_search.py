"""Searches: the same trials from a seed, in one process or several, in one go or broken off, and the best one found."""

import dataclasses
import json
import math
import os
import subprocess
import sys
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import numpy as np
import pytest

import xpdl
from tests.training import search_builds
from xpdl import ShapeError, choice, log_uniform, random_search, successive_halving, uniform
from xpdl.backends.random import Stream
from xpdl.training import History

SPACE = {"lr": log_uniform(1e-3, 1.0), "units": choice(range(2, 8))}


def search(build=search_builds.net, space=SPACE, n_trials=4, **options):
    return random_search(build, space, n_trials, **{"seed": 0, "verbose": False, **options})


def halve(build=search_builds.net, space=SPACE, n_trials=9, **options):
    return successive_halving(build, space, n_trials, **{"seed": 0, "verbose": False, **options})


def same(one, other):
    """All but the time they took."""
    assert [dataclasses.replace(t, seconds=0, history=None) for t in one.trials] == [
        dataclasses.replace(t, seconds=0, history=None) for t in other.trials
    ]
    for a, b in zip(one.trials, other.trials, strict=True):
        if a.history is not None:
            assert a.history.train_loss_list == b.history.train_loss_list
            assert a.history.test_acc_list == b.history.test_acc_list
    assert [t.number for t in one.ranked] == [t.number for t in other.ranked]


class TestSpace:
    def drawn(self, distribution, n=2000):
        return np.array([distribution.sample(Stream(0, f"{i}").generator("x")) for i in range(n)])

    def evenly(self, shares, n=2000):
        share = 1 / len(shares)
        assert (np.abs(np.asarray(shares) / n - share) < 5 * math.sqrt(share * (1 - share) / n)).all()

    def test_uniform(self):
        x = self.drawn(uniform(-2, 3))
        assert x.min() >= -2 and x.max() <= 3
        self.evenly(np.histogram(x, 5, (-2, 3))[0])

    def test_log_uniform(self):
        x = self.drawn(log_uniform(1e-6, 1e-2))
        assert x.min() >= 1e-6 and x.max() <= 1e-2
        self.evenly(np.histogram(np.log10(x), 4, (-6, -2))[0])

    def test_choice(self):
        x = self.drawn(choice("abc"))
        self.evenly([(x == letter).sum() for letter in "abc"])

    def test_ends_are_never_left_by_a_rounding(self):
        for value in (1e-6, 0.1, 3.3, 1e5):
            assert log_uniform(value, value).sample(np.random.default_rng(0)) == value

    @pytest.mark.parametrize(
        "make, message",
        [
            (lambda: uniform(1, 0), "uniform: low must not exceed high, got 1 and 0"),
            (lambda: uniform(0, math.inf), "uniform: high must be a finite number, got inf"),
            (lambda: uniform("0", 1), "uniform: low must be a finite number, got '0'"),
            (lambda: log_uniform(0, 1), "log_uniform: low must be positive, got 0"),
            (lambda: choice([]), "choice: expected at least one option"),
        ],
    )
    def test_wrong_one_says_what_is_wrong(self, make, message):
        with pytest.raises(ValueError, match=message):
            make()

    def test_another_hyper_parameter_does_not_change_the_others(self):
        wide = search(lambda **params: 0.0, {**SPACE, "decay": uniform(0, 1)})
        narrow = search(lambda **params: 0.0)
        for one, other in zip(wide.trials, narrow.trials, strict=True):
            assert {name: one.params[name] for name in SPACE} == other.params


class TestRandomSearch:
    def test_finds_the_best(self):
        result = search(search_builds.parabola, {"x": uniform(0, 10)}, 60)
        assert abs(result.best.params["x"] - 3) < 0.3
        assert [trial.number for trial in result.trials] == list(range(60))
        scores = [trial.score for trial in result.ranked]
        assert scores == sorted(scores, reverse=True) and result.best.score == scores[0]

    def test_trains_and_keeps_the_history(self):
        for trial in search().trials:
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
            search(search_builds.broken, {"x": uniform(0, 10)}, 10)
        assert "of the search, with {'x': " in error.value.__notes__[0]

    def test_says_what_happens(self, capsys):
        result = search(search_builds.parabola, {"x": uniform(0, 10)}, 3, verbose=True)
        lines = capsys.readouterr().out.splitlines()
        assert [line.split("  ")[0] for line in lines[:3]] == ["trial 0", "trial 1", "trial 2"]
        assert lines[3:] == str(result).splitlines()
        assert lines[3].split() == ["rank", "trial", "score", "x", "seconds"]
        best = result.best
        assert lines[4].split()[:4] == ["1", str(best.number), f"{best.score:.4f}", f"{best.params['x']:.4g}"]
        assert len(search(search_builds.parabola, {"x": uniform(0, 10)}, 20).table(5).splitlines()) == 6


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
        for trial in result.trials:
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
    """What its section 6.5 finds: accuracy begins at a learning rate of about 0.01."""

    DECAY = log_uniform(1e-8, 1e-4)

    def test_halving_finds_the_rate_in_a_wide_range(self):
        space = {"lr": log_uniform(1e-6, 1.0), "weight_decay": self.DECAY}
        result = halve(search_builds.book, space, 20, min_epochs=3, max_epochs=27)
        assert 0.01 < result.best.params["lr"] < 0.3 and result.best.score > 0.7

    @pytest.mark.slow  # ten seconds
    def test_search_in_the_books_range(self):
        result = search(search_builds.book, {"lr": log_uniform(1e-6, 1e-2), "weight_decay": self.DECAY}, 20)
        assert 0.005 < result.best.params["lr"] < 0.01
        rates = [trial.params["lr"] for trial in result.ranked]
        assert min(rates[:3]) > 5 * sorted(rates)[len(rates) // 2]


class TestLog:
    def test_search_goes_on_where_it_was(self, tmp_path):
        path, made = tmp_path / "log.jsonl", []

        def counted(x):
            made.append(x)
            return x

        def run(n):
            return search(counted, {"x": uniform(0, 1)}, n, log=path)

        first = run(3)
        assert len(made) == 3
        same(run(3), first)
        assert len(made) == 3
        more = run(5)
        assert len(made) == 5
        same(more, search(counted, {"x": uniform(0, 1)}, 5))
        same(run(2), type(first)(first.trials[:2]))

    def test_cut_off_anywhere_it_gives_the_same_result(self, tmp_path):
        path = tmp_path / "log.jsonl"
        whole = halve(search_builds.net, log=path, max_epochs=3, n_trials=4)
        content = path.read_bytes()
        for length in range(0, len(content), max(1, len(content) // 25)):
            path.write_bytes(content[:length])
            same(halve(search_builds.net, log=path, max_epochs=3, n_trials=4), whole)
            lines = path.read_bytes().splitlines()
            assert len(lines) == len(content.splitlines()) and all(json.loads(line) for line in lines)

    def test_killed_process_has_logged_what_it_finished(self, tmp_path):
        path, count = tmp_path / "log.jsonl", tmp_path / "count"
        code = (
            "import sys; from tests.training.search_builds import killed_at_the_fourth; from xpdl import *;"
            "random_search(killed_at_the_fourth, {'x': uniform(0, 1)}, 6, seed=0, log=sys.argv[1], verbose=False)"
        )
        env = {**os.environ, "SEARCH_COUNT": str(count)}
        root = Path(__file__).parents[2]
        command = [sys.executable, "-c", code, str(path)]
        assert subprocess.run(command, cwd=root, env=env).returncode == -9
        assert len(path.read_text().splitlines()) == 1 + 3
        assert subprocess.run(command, cwd=root, env=env).returncode == 0
        assert len(count.read_text()) == 4 + 3 and len(path.read_text().splitlines()) == 1 + 6

    def test_values_that_json_does_not_know_come_back_as_they_are(self, tmp_path):
        options = [(1, 2), np.float32(0.5), max]
        first = search(
            lambda x: [x is option for option in options].index(True), {"x": choice(options)}, 8, log=tmp_path / "log"
        )
        again = search(lambda x: 1 / 0, {"x": choice(options)}, 8, log=tmp_path / "log")
        same(again, first)
        assert all(trial.params["x"] is options[int(trial.score)] for trial in again.trials)

    def test_diverged_trial_stays_diverged(self, tmp_path):
        first = search(lambda x: math.nan, {"x": uniform(0, 1)}, 1, log=tmp_path / "log")
        same(search(lambda x: 1 / 0, {"x": uniform(0, 1)}, 1, log=tmp_path / "log"), first)

    def test_of_another_search_is_refused(self, tmp_path):
        path = tmp_path / "log"
        search(search_builds.parabola, {"x": uniform(0, 1)}, 1, log=path)
        before = path.read_bytes()
        for other in (
            lambda: search(search_builds.parabola, {"x": uniform(0, 2)}, 1, log=path),
            lambda: search(search_builds.parabola, {"x": uniform(0, 1)}, 1, log=path, seed=1),
            lambda: halve(search_builds.parabola, {"x": uniform(0, 1)}, 1, log=path),
        ):
            with pytest.raises(ValueError, match="is the log of another search"):
                other()
        assert path.read_bytes() == before

    @pytest.mark.parametrize("content", [b"important notes", b"important notes\n", b"[]\nx\n", b"\xff\n"])
    def test_other_file_is_refused_and_left_alone(self, tmp_path, content):
        path = tmp_path / "notes"
        path.write_bytes(content)
        with pytest.raises(ValueError, match="notes: is "):
            search(log=path)
        assert path.read_bytes() == content

    @pytest.mark.parametrize("line", [b"{}\n", b"3\n", b'{"number": 0}\n', b"{\n"])
    def test_damaged_line_is_an_error(self, tmp_path, line):
        path = tmp_path / "log"
        search(search_builds.parabola, {"x": uniform(0, 1)}, 1, log=path)
        path.write_bytes(path.read_bytes() + line)
        with pytest.raises(ValueError, match=r"log: (is not the log|has a line)"):
            search(search_builds.parabola, {"x": uniform(0, 1)}, 1, log=path)

    def test_needs_a_seed(self, tmp_path):
        with pytest.raises(ValueError, match="a search with a log needs a seed"):
            search(log=tmp_path / "log", seed=None)
        assert not (tmp_path / "log").exists()


class TestProcesses:
    def test_find_the_same_as_one(self, tmp_path):
        alone = halve(n_trials=4, max_epochs=3)
        same(halve(n_trials=4, max_epochs=3, processes=2, log=tmp_path / "log"), alone)
        same(halve(n_trials=4, max_epochs=3, log=tmp_path / "log"), alone)

    def test_work_on_the_backend_in_use_and_errors_come_back(self):
        with xpdl.use("numpy", dtype="float64"):
            assert len(search(search_builds.backend, {"x": uniform(0, 1)}, 2, processes=2).trials) == 2
            with pytest.raises(KeyError, match="no such thing"):
                search(search_builds.broken, {"x": choice([9])}, 2, processes=2)

    def test_one_that_dies_is_an_error_and_not_a_wait(self, tmp_path, monkeypatch):
        monkeypatch.setenv("SEARCH_COUNT", str(tmp_path / "count"))
        with pytest.raises(BrokenProcessPool) as error:
            search(search_builds.killed_at_the_fourth, {"x": uniform(0, 1)}, 9, processes=2)
        assert "search: a process ended by itself" in error.value.__notes__[0]

    def test_need_functions_that_can_be_sent(self):
        for options in ({"build": lambda x: x}, {"score": lambda history: 0.0}):
            with pytest.raises(TypeError, match=r"cannot be sent to another process .* or use processes=1"):
                search(**{"space": {"x": uniform(0, 1)}, "processes": 2, **options})

    def test_only_the_default_device(self):
        pytest.importorskip("array_api_strict")
        with (
            xpdl.use("array_api_strict", device="device1"),
            pytest.raises(ValueError, match=r"default device of array_api_strict; use processes=1"),
        ):
            search(search_builds.parabola, {"x": uniform(0, 1)}, 2, processes=2)


@pytest.mark.parametrize("search", [search, halve])
class TestWrong:
    @pytest.mark.parametrize("space", [None, {}, [uniform(0, 1)], 3])
    def test_space(self, search, space):
        with pytest.raises(TypeError, match="space must map the names of hyper-parameters to distributions"):
            search(search_builds.parabola, space)

    def test_constant_belongs_into_build(self, search):
        with pytest.raises(TypeError, match=r"x must be a distribution.*got 3; a value that stays belongs into build"):
            search(search_builds.parabola, {"x": 3})

    @pytest.mark.parametrize("options", [{"n_trials": 0}, {"processes": 0}])
    def test_counts(self, search, options):
        with pytest.raises(ShapeError, match=f"{next(iter(options))} must be an int of at least 1, got 0"):
            search(search_builds.parabola, {"x": uniform(0, 1)}, **options)

    def test_build_must_return_something(self, search):
        with pytest.raises(TypeError, match="build must return a Trainer, a History or a number, got None"):
            search(lambda **params: None)

    def test_history_without_a_measure_needs_a_score(self, search):
        with pytest.raises(ValueError, match="neither test accuracies nor test losses; pass a score of your own"):
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
