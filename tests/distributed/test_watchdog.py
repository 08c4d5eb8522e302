"""Waiting for other ranks, and a thread that looks after work of a device."""

from __future__ import annotations

import math
import threading
import types
from collections.abc import Callable
from typing import Any, NoReturn

import pytest

from xpdl.distributed import waiting, watchdog
from xpdl.distributed.waiting import RunningClock, Waiting
from xpdl.distributed.watchdog import Watchdog


class Ends:
    """Notes what ends a process, instead of that."""

    def __init__(self, seconds: float) -> None:
        self.said: list[str] = []
        self.has_said = threading.Event()
        self.dog = Watchdog(seconds, self.overdue, self.failed)

    def overdue(self, what: str) -> NoReturn:
        self.end(f"overdue {what}")

    def failed(self, error: Exception) -> NoReturn:
        self.end(f"failed {error}")

    def end(self, text: str) -> NoReturn:
        self.said.append(text)
        self.has_said.set()
        threading.Event().wait()  # as the end of a process, it does not return
        raise AssertionError


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watchdog, "_PAUSE", 0.001)


def never() -> bool:
    return False


def asked(done: bool, times: int = 3) -> tuple[Callable[[], bool], threading.Event]:
    """Return a question that is answered, and an event that happens when it was asked so often."""
    event, asks = threading.Event(), iter(range(times - 1))

    def is_done() -> bool:
        if next(asks, None) is None:
            event.set()
        return done

    return is_done, event


def test_work_that_takes_too_long_is_named_once() -> None:
    ends = Ends(0.0)
    ends.dog.watch(never, "sum 1")
    ends.dog.watch(never, "sum 2")
    assert ends.has_said.wait(30) and ends.said == ["overdue sum 1"]


def test_work_that_is_done_is_no_longer_looked_after() -> None:
    ends = Ends(0.0)
    ends.dog.watch(lambda: True, "sum 1")
    ends.dog.watch(never, "sum 2")
    assert ends.has_said.wait(30) and ends.said == ["overdue sum 2"]


def test_work_in_time_is_not_named() -> None:
    ends = Ends(1000.0)
    is_done, was_asked = asked(False)
    ends.dog.watch(is_done, "sum 1")
    assert was_asked.wait(30) and not ends.said


def test_work_that_comes_later_is_looked_after_too() -> None:
    ends = Ends(0.0)
    is_done, was_asked = asked(True, 1)
    ends.dog.watch(is_done, "sum 1")
    assert was_asked.wait(30) and not ends.said
    ends.dog.watch(never, "sum 2")
    assert ends.has_said.wait(30) and ends.said == ["overdue sum 2"]


@pytest.mark.parametrize("place", ["check", "question"])
def test_errors_end_the_process(place: str) -> None:
    def wrong() -> Any:
        raise RuntimeError("of the device")

    ends = Ends(1000.0)
    if place == "check":
        ends.dog.checks.append(wrong)
    ends.dog.watch(never if place == "check" else wrong, "sum 1")
    assert ends.has_said.wait(30) and ends.said == ["failed of the device"]


class Times:
    """The module `time` of a process that is stopped for so long in each pause."""

    def __init__(self, stop: float) -> None:
        self.seconds, self.stop = 0.0, stop

    def monotonic(self) -> float:
        return self.seconds

    def sleep(self, seconds: float) -> None:
        self.seconds += seconds + self.stop


#: no rank says that it ends
OF_MPI: dict[str, Any] = {"Status": lambda: None, "ANY_SOURCE": -1}


class Request:
    """A request of MPI that is finished when it has been tested so often."""

    def __init__(self, tests: float) -> None:
        self.tests = tests

    def Test(self) -> bool:
        self.tests -= 1
        return self.tests < 0


@pytest.mark.parametrize(
    ("stop", "pauses", "expected"),
    [
        pytest.param(0.0, 10.0, True, id="a message that comes"),
        pytest.param(0.0, math.inf, False, id="a message that does not come"),
        pytest.param(1000.0, 10.0, True, id="a process that was stopped"),
        pytest.param(1000.0, math.inf, False, id="a process that was stopped, and no message"),
    ],
)
def test_time_in_which_the_process_was_stopped_is_no_time_that_it_waited(
    monkeypatch: pytest.MonkeyPatch, stop: float, pauses: float, expected: bool
) -> None:
    monkeypatch.setattr(waiting, "time", Times(stop))
    monkeypatch.setattr(waiting, "_YIELDS", 0)
    monkeypatch.setattr(waiting, "_LONGEST_PAUSE", 0.1)
    mpi, reports = (types.SimpleNamespace(**values) for values in (OF_MPI, {"Improbe": lambda *_: None}))
    assert Waiting(mpi, reports).finished(Request(pauses), 15.0) is expected


def test_clock_counts_the_time_between_its_calls_up_to_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    times = Times(0.0)
    monkeypatch.setattr(waiting, "time", times)
    clock = RunningClock()
    found = []
    for seconds in (0.0, 0.25, 0.5, 1.0, 60.0, 0.25):
        times.seconds += seconds
        found.append(clock.now())
    assert found == [0.0, 0.25, 0.75, 1.75, 2.75, 3.0]
