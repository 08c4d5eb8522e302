"""Single trials, what is told of them, and the processes that make them."""

import math
import os
import warnings
from concurrent.futures.process import BrokenProcessPool
from types import SimpleNamespace

import numpy as np
import pytest

import xpdl
from tests.search import builds
from tests.search.searches import halve, same, search
from xpdl import choice, get_backend, uniform
from xpdl.backends.random import Stream
from xpdl.search import runner
from xpdl.search.runner import Runs, last_score
from xpdl.training import History


def runs(build, *, score=last_score, processes=1, log=None, verbose=False, seed=0):
    return Runs("owner", build, {"x": uniform(0, 1)}, Stream(seed, "owner"), score, processes, log, verbose)


class TestTrial:
    def made(self, build, **options):
        (trial,) = runs(build, **options).made([(4, {"x": 0.5}, None)])
        return trial

    def test_of_a_number(self):
        trial = self.made(lambda x: np.float32(x))
        assert (trial.number, trial.params, trial.score, trial.history, trial.epochs, trial.error) == (
            4,
            {"x": 0.5},
            0.5,
            None,
            None,
            "",
        )
        assert type(trial.score) is float and 0.0 <= trial.seconds < 60.0

    def test_of_a_history_and_of_what_trains(self):
        history = History(test_acc_list=[0.25, 0.75])
        for build in (lambda x: history, lambda x: SimpleNamespace(train=lambda: history)):
            trial = self.made(build)
            assert trial.score == 0.75 and trial.history == history
        assert self.made(lambda x: history, score=lambda found: found.test_acc_list[0]).score == 0.25

    @pytest.mark.parametrize("wrong", [None, "0.5", 1j, SimpleNamespace(train=3)])
    def test_of_something_else(self, wrong):
        with pytest.raises(TypeError, match="search: build must return a Trainer, a History or a number, got") as said:
            self.made(lambda x: wrong)
        assert said.value.__notes__ == ["in trial 4 of the search, with {'x': 0.5}"]

    def test_epochs_are_given_where_they_are_granted(self):
        seen = []
        runs(lambda **given: seen.append(given) or 0.0).made([(0, {"x": 0.5}, None), (1, {"x": 0.5}, 3)])
        assert seen == [{"x": 0.5}, {"epochs": 3, "x": 0.5}]

    @pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
    def test_a_score_that_is_not_finite_is_the_worst(self, value):
        trial = self.made(lambda x: value)
        assert (trial.score, trial.error) == (-math.inf, f"the score is {value}")

    def test_a_training_that_breaks_off_has_the_worst_and_says_why(self):
        def build(x):
            raise FloatingPointError("the loss became nan")

        trial = self.made(build)
        assert (trial.score, trial.error) == (-math.inf, "the loss became nan")

    def test_warnings_of_overflow_are_not_told_and_others_are(self):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert self.made(lambda x: np.isinf(np.float32(3e38) * np.float32(10)).astype(float)).score == 1.0
            with pytest.raises(RuntimeWarning, match="divide by zero"):
                self.made(lambda x: float(np.float32(1) / np.float32(0)))

    def test_each_has_the_seed_of_its_number(self):
        def drawn(seed):
            build = lambda x: int(xpdl.shuffle_dataset(np.arange(99), np.arange(99))[0][0])  # noqa: E731
            return [trial.score for trial in runs(build, seed=seed).made([(n, {"x": 0.5}, None) for n in (0, 1, 0)])]

        first, second, again = drawn(0)
        assert first == again != second and drawn(1)[0] != first

    def test_seconds_are_those_it_took(self, monkeypatch):
        clock = iter([100.0, 102.5])
        monkeypatch.setattr(runner.time, "perf_counter", lambda: next(clock))
        assert self.made(lambda x: 0.0).seconds == 2.5


class TestTold:
    def test_of_each_trial_and_of_the_best_so_far(self, capsys):
        told = runs(lambda x, name: x, verbose=True)
        told.made([(n, {"x": x, "name": "n"}, None) for n, x in enumerate((0.25, 0.75, 0.5))])
        lines = capsys.readouterr().out.splitlines()
        assert [line.rpartition("  ")[0] for line in lines] == [
            "trial 0  score 0.2500 (best 0.2500)  x 0.25  name n",
            "trial 1  score 0.7500 (best 0.7500)  x 0.75  name n",
            "trial 2  score 0.5000 (best 0.7500)  x 0.5  name n",
        ]
        assert all(line.endswith(" s") for line in lines)

    def test_of_epochs_and_of_one_that_diverged(self, capsys):
        told = runs(lambda epochs, x: math.nan if x > 0.3 else x, verbose=True)
        told.made([(0, {"x": 1 / 3}, 9), (1, {"x": 0.0}, 9)])
        lines = capsys.readouterr().out.splitlines()
        assert [line.rpartition("  ")[0] for line in lines] == [
            "trial 0 (9 epochs)  diverged  x 0.3333",
            "trial 1 (9 epochs)  score 0.0000 (best 0.0000)  x 0",
        ]

    def test_of_those_that_are_in_the_log_and_of_the_end(self, tmp_path, capsys):
        jobs = [(number, {"x": 0.5}, None) for number in range(3)]
        runs(lambda x: x, log=tmp_path / "log", verbose=True).made(jobs[:2])
        assert "trials are in" not in capsys.readouterr().out
        again = runs(lambda x: x, log=tmp_path / "log", verbose=True)
        result = again.finished(again.made(jobs))
        first, trial, *table = capsys.readouterr().out.splitlines()
        assert first == f"2 of 3 trials are in {tmp_path / 'log'}" and trial.startswith("trial 2  score")
        assert table == str(result).splitlines()

    def test_nothing_where_that_is_asked_for(self, capsys):
        quiet = runs(lambda x: x)
        quiet.finished(quiet.made([(0, {"x": 0.5}, None)]))
        assert capsys.readouterr().out == ""


class TestBeginningOfAProcess:
    @pytest.fixture
    def limits(self, monkeypatch):
        found = []
        monkeypatch.setattr(runner.threadpoolctl, "threadpool_limits", found.append)
        monkeypatch.setenv("XPDL_NUM_THREADS", "")
        return found

    def test_has_the_backend_and_a_share_of_the_processors(self, limits, monkeypatch):
        monkeypatch.delenv("XPDL_NUM_THREADS")
        runner._enter("numpy", "float64", 3)
        assert limits == [3] and os.environ["XPDL_NUM_THREADS"] == "3"
        assert (get_backend().name, get_backend().dtype) == ("numpy", "float64")

    def test_keeps_the_number_of_threads_that_the_user_wants(self, limits, monkeypatch):
        monkeypatch.setenv("XPDL_NUM_THREADS", "2")
        runner._enter("numpy", "float32", 3)
        assert os.environ["XPDL_NUM_THREADS"] == "2"

    @pytest.mark.parametrize(("processors", "processes", "share"), [(8, 2, 4), (8, 3, 2), (1, 2, 1)])
    def test_the_share_is_that_of_one_of_so_many(self, monkeypatch, processors, processes, share):
        begun = []

        class Pool:
            def __init__(self, workers, context, enter, arguments):
                begun.append((workers, context.get_start_method(), enter, arguments))
                raise InterruptedError

        monkeypatch.setattr(runner, "_processors", lambda: processors)
        monkeypatch.setattr(runner.concurrent.futures, "ProcessPoolExecutor", Pool)
        with pytest.raises(InterruptedError):
            runs(builds.parabola, score=builds.net, processes=processes).made([(0, {"x": 0.5}, None)])
        assert begun == [(processes, "spawn", runner._enter, ("numpy", "float32", share))]

    def test_processors_are_those_that_may_be_used(self, monkeypatch):
        monkeypatch.setattr(os, "sched_getaffinity", {0: {1, 2, 5}}.__getitem__, raising=False)
        assert runner._processors() == 3
        monkeypatch.delattr(os, "sched_getaffinity")
        for count, found in ((7, 7), (None, 1)):
            monkeypatch.setattr(os, "cpu_count", lambda count=count: count)
            assert runner._processors() == found


def test_an_error_ends_a_search_without_waiting_for_what_has_not_begun(monkeypatch):
    ends = []

    class Pool(runner.concurrent.futures.ThreadPoolExecutor):
        def __init__(self, workers, context, enter, arguments):
            super().__init__(workers)

        def shutdown(self, **options):
            ends.append(options)
            super().shutdown(**options)

    monkeypatch.setattr(runner.concurrent.futures, "ProcessPoolExecutor", Pool)
    with pytest.raises(KeyError, match="no such thing"):
        runs(builds.broken, score=builds.net, processes=2).made([(0, {"x": 9.0}, None)])
    assert ends[0] == {"wait": False, "cancel_futures": True}


class TestProcesses:
    def test_find_the_same_as_one(self, tmp_path):
        alone = halve(n_trials=4, max_epochs=3)
        same(halve(n_trials=4, max_epochs=3, processes=2, log=tmp_path / "log"), alone)
        same(halve(n_trials=4, max_epochs=3, log=tmp_path / "log"), alone)

    @pytest.mark.exhaustive
    def test_work_on_the_backend_in_use_and_errors_come_back(self):
        with xpdl.use("numpy", dtype="float64"):
            assert len(search(builds.backend, {"x": uniform(0, 1)}, 2, processes=2).trials) == 2
            with pytest.raises(KeyError, match="no such thing"):
                search(builds.broken, {"x": choice([9])}, 2, processes=2)

    @pytest.mark.exhaustive
    def test_one_that_dies_is_an_error_and_not_a_wait(self, tmp_path, monkeypatch):
        monkeypatch.setenv("SEARCH_COUNT", str(tmp_path / "count"))
        with pytest.raises(BrokenProcessPool) as error:
            search(builds.killed_at_the_fourth, {"x": uniform(0, 1)}, 9, processes=2)
        assert "search: a process ended by itself" in error.value.__notes__[0]

    def test_need_functions_that_can_be_sent(self):
        for options in ({"build": lambda x: x}, {"score": lambda history: 0.0}):
            with pytest.raises(TypeError, match=r"cannot be sent to another process .* or use processes=1"):
                search(**{"space": {"x": uniform(0, 1)}, "processes": 2, **options})

    def test_only_the_default_device(self):
        with (
            xpdl.use("array_api_strict", device="device1"),
            pytest.raises(ValueError, match=r"default device of array_api_strict; use processes=1"),
        ):
            search(builds.parabola, {"x": uniform(0, 1)}, 2, processes=2)
