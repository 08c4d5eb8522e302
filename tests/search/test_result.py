"""The table of the best trials, and the log that a search goes on from."""

import contextlib
import dataclasses
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.harness import nonempty
from tests.search import builds
from tests.search.searches import halve, same, search
from tests.training.checkpoint.test_rotation import files_of_at_most
from xpdl import choice, uniform
from xpdl.search.result import SearchResult, Trial, TrialLog
from xpdl.training import History


def trial(number, score, epochs=None, **options):
    params = {"lr": number / 3, "units": number}
    return Trial(number, params, score, epochs=epochs, error="" if math.isfinite(score) else "nan", **options)


class TestResult:
    def test_the_best_comes_first_and_of_equals_the_earlier(self):
        trials = [trial(3, 0.5), trial(0, -math.inf), trial(2, 0.75), trial(1, 0.5)]
        result = SearchResult(trials)
        assert [one.number for one in result.trials] == [0, 1, 2, 3]
        assert [one.number for one in result.ranked] == [2, 1, 3, 0]
        assert result.best is trials[2] and repr(result) == "<SearchResult of 4 trials, best score 0.75>"

    def test_of_each_the_longest_counts_and_more_epochs_before_a_better_score(self):
        trials = [trial(0, 0.9, 3), trial(0, 0.99, 1), trial(1, 0.95, 1), trial(2, 0.98, 1), trial(1, 0.2, 9)]
        result = SearchResult(trials)
        assert [(one.number, one.epochs) for one in result.trials] == [(0, 1), (0, 3), (1, 1), (1, 9), (2, 1)]
        assert [(one.number, one.epochs) for one in result.ranked] == [(1, 9), (0, 3), (2, 1)]

    def test_a_trial_without_epochs_comes_before_those_that_have_some(self):
        result = SearchResult([trial(0, 0.9, 1), trial(0, 0.8)])
        assert [one.epochs for one in result.trials] == [None, 1] and result.best.epochs == 1
        assert [one.number for one in SearchResult([trial(0, 0.8), trial(1, 0.1, 1)]).ranked] == [1, 0]

    def test_table(self):
        result = SearchResult([trial(0, -math.inf), trial(1, 0.75, seconds=1.25), trial(100, 0.5, seconds=12.0)])
        assert str(result).splitlines() == [
            "rank  trial     score      lr  units  seconds",
            "   1      1    0.7500  0.3333      1      1.2",
            "   2    100    0.5000   33.33    100     12.0",
            "   3      0  diverged       0      0      0.0",
        ]

    def test_table_of_trials_with_epochs(self):
        result = SearchResult([trial(0, 0.25, 1), trial(1, 0.5, 27)])
        assert str(result).splitlines() == [
            "rank  trial   score      lr  units  epochs  seconds",
            "   1      1  0.5000  0.3333      1      27      0.0",
            "   2      0  0.2500       0      0       1      0.0",
        ]

    def test_table_has_the_best_ten_unless_asked_otherwise(self):
        result = SearchResult([trial(number, 0.5) for number in range(12)])
        assert len(result.table().splitlines()) == len(str(result).splitlines()) == 11
        assert len(result.table(3).splitlines()) == 4 and len(result.table(99).splitlines()) == 13


class TestTrialLog:
    HEADER = {"search": "s", "seed": 1}  # noqa: RUF012

    def lines(self, path):
        return [json.loads(line) for line in path.read_text().splitlines()]

    def test_without_a_file_it_keeps_trials_in_memory(self):
        log = TrialLog(None, self.HEADER)
        log.add(trial(0, 0.5))
        log.add(trial(0, 0.5, 3))
        assert log.path is None and list(log.done) == [(0, None), (0, 3)]

    def test_comes_back_as_it_was(self, tmp_path):
        trials = [trial(0, 0.5, history=History([1.0]), seconds=2.5), trial(1, -math.inf), trial(1, 0.25, 3)]
        log = TrialLog(tmp_path / "log", self.HEADER)
        for one in trials:
            log.add(one)
        assert TrialLog(tmp_path / "log", self.HEADER).done == log.done == {(t.number, t.epochs): t for t in trials}
        header, *lines = self.lines(tmp_path / "log")
        assert header == self.HEADER and [line["score"] for line in lines] == [0.5, None, 0.25]
        assert lines[0] == dataclasses.asdict(trials[0])

    def test_a_line_is_on_the_disk_when_it_is_added(self, tmp_path, monkeypatch):
        sizes, fsync = [], os.fsync
        monkeypatch.setattr(os, "fsync", lambda handle: sizes.append(os.fstat(handle).st_size) or fsync(handle))
        path = tmp_path / "log"
        log = TrialLog(path, self.HEADER)
        assert sizes == [path.stat().st_size] and path.read_bytes().endswith(b"}\n")
        log.add(trial(0, 0.5))
        assert sizes[1:] == [path.stat().st_size] and path.read_bytes().count(b"\n") == 2

    def test_a_line_that_was_cut_off_is_dropped(self, tmp_path):
        path = tmp_path / "log"
        TrialLog(path, self.HEADER).add(trial(0, 0.5))
        whole = path.read_bytes()
        path.write_bytes(whole + whole.splitlines()[1][:9])
        with pytest.warns(
            UserWarning, match=r"search: the last line of .*log was cut off; it is removed, and its trial"
        ):
            assert list(TrialLog(path, self.HEADER).done) == [(0, None)]
        assert path.read_bytes() == whole

    @pytest.mark.parametrize("length", [0, 1, 9])
    def test_a_header_that_was_cut_off_is_written_again(self, tmp_path, length):
        path = tmp_path / "log"
        TrialLog(path, self.HEADER)
        whole = path.read_bytes()
        path.write_bytes(whole[:length])
        assert TrialLog(path, self.HEADER).done == {} and path.read_bytes() == whole

    def test_a_whole_one_is_not_written_to(self, tmp_path, monkeypatch):
        path = tmp_path / "log"
        TrialLog(path, self.HEADER).add(trial(0, 0.5))
        monkeypatch.setattr(os, "truncate", None)
        monkeypatch.setattr(os, "fsync", None)
        assert len(TrialLog(path, self.HEADER).done) == 1

    def test_of_another_search_both_are_told(self, tmp_path):
        TrialLog(tmp_path / "log", {"seed": 2})
        with pytest.raises(ValueError) as said:
            TrialLog(tmp_path / "log", {"seed": 3})
        assert str(said.value) == (
            f'{tmp_path / "log"}: is the log of another search, {{"seed": 2}}, this one is {{"seed": 3}}; take another '
            "file, or remove it"
        )

    def test_what_json_has_no_number_for_has_a_name_there_and_comes_back(self, tmp_path):
        log = TrialLog(tmp_path / "log", self.HEADER)
        history = History([math.nan, math.inf, -math.inf, np.float32(0.5)])
        log.add(Trial(0, {"x": math.inf}, 0.5, history))
        (line,) = self.lines(tmp_path / "log")[1:]
        assert line["params"] == {"x": "Infinity"}
        assert line["history"]["train_loss_list"] == ["NaN", "Infinity", "-Infinity", 0.5]
        (found,) = TrialLog(tmp_path / "log", self.HEADER).done.values()
        np.testing.assert_array_equal(found.history.train_loss_list, history.train_loss_list)

    def test_a_full_disk_is_a_warning_once_and_trials_are_written_later(self, tmp_path):
        log = TrialLog(tmp_path / "log", self.HEADER)
        log.add(trial(0, 0.5))
        whole = (tmp_path / "log").read_bytes()
        with (
            files_of_at_most(len(whole) + 9),
            pytest.warns(UserWarning, match="trial 1 is not in .*log yet: .*large") as said,
        ):
            log.add(trial(1, 0.25))
            log.add(trial(2, 0.75))
        assert len(said) == 1 and (tmp_path / "log").read_bytes() == whole
        log.add(trial(3, 0.5))
        assert list(TrialLog(tmp_path / "log", self.HEADER).done) == [(number, None) for number in range(4)]


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

    @pytest.mark.exhaustive
    def test_cut_off_anywhere_it_gives_the_same_result(self, tmp_path):
        path = tmp_path / "log.jsonl"
        whole = halve(builds.net, log=path, max_epochs=3, n_trials=4)
        content = path.read_bytes()
        for length in nonempty(range(0, len(content), max(1, len(content) // 25))):
            path.write_bytes(content[:length])
            torn = b"\n" in content[:length] and content[length - 1] != ord("\n")
            with pytest.warns(UserWarning, match="was cut off") if torn else contextlib.nullcontext():
                same(halve(builds.net, log=path, max_epochs=3, n_trials=4), whole)
            lines = path.read_bytes().splitlines()
            assert len(lines) == len(content.splitlines()) and all(json.loads(line) for line in lines)

    @pytest.mark.exhaustive
    def test_killed_process_has_logged_what_it_finished(self, tmp_path):
        path, count = tmp_path / "log.jsonl", tmp_path / "count"
        code = (
            "import sys; from tests.search.builds import killed_at_the_fourth; from xpdl import *;"
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
        search(builds.parabola, {"x": uniform(0, 1)}, 1, log=path)
        before = path.read_bytes()
        for other in (
            lambda: search(builds.parabola, {"x": uniform(0, 2)}, 1, log=path),
            lambda: search(builds.parabola, {"x": uniform(0, 1)}, 1, log=path, seed=1),
            lambda: halve(builds.parabola, {"x": uniform(0, 1)}, 1, log=path),
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
        search(builds.parabola, {"x": uniform(0, 1)}, 1, log=path)
        path.write_bytes(path.read_bytes() + line)
        with pytest.raises(ValueError, match=r"log: (is not the log|has a line)"):
            search(builds.parabola, {"x": uniform(0, 1)}, 1, log=path)

    def test_needs_a_seed(self, tmp_path):
        with pytest.raises(ValueError, match="a search with a log needs a seed"):
            search(log=tmp_path / "log", seed=None)
        assert not (tmp_path / "log").exists()
