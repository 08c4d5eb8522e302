"""The GPU tests of the repository, run in a process of their own; a later run goes on where an earlier one was ended."""

from __future__ import annotations

import collections
import dataclasses
import importlib.util
import os
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from xpdl.bench.child import run_child

# Each outcome is a line of -vv, with and without pytest-xdist. In an image, the checkout belongs to another user: pytest
# could keep no cache there.
_PYTEST = (sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-m", "gpu and not slow", "-vv", "-rfE")
_OUTCOME = re.compile(r"(?:\[gw\d+\] \[ *\d+%\] (?P<first>[A-Z]+) )?(?P<test>\S+::.*?)(?: (?P<last>[A-Z]+)\b.*)?$")
_OUTCOMES = {"PASSED", "FAILED", "ERROR", "SKIPPED", "XFAIL"}
_BAD = {"FAILED", "ERROR", "CRASHED"}
# All work on one GPU: beyond so many, its memory is the limit.
_MOST_WORKERS = 8


@dataclasses.dataclass
class SuiteRun:
    """Outcomes of tests.

    Attributes
    ----------
    outcomes : dict
        Name of a test -> ``"PASSED"``, ``"FAILED"``, ``"ERROR"``, ``"SKIPPED"``, ``"XFAIL"``, or ``"CRASHED"`` for the one
        that ended the process.
    seconds : float
        Of all runs.
    finished : bool
        Whether none is left to run.
    note : str
        Why they did not finish.
    """

    outcomes: dict[str, str] = dataclasses.field(default_factory=dict)
    seconds: float = 0.0
    finished: bool = False
    note: str = ""

    @property
    def bad(self) -> list[str]:
        return [f"{outcome} {test}" for test, outcome in self.outcomes.items() if outcome in _BAD]

    @property
    def summary(self) -> str:
        counts = collections.Counter(self.outcomes.values())
        counted = ", ".join(f"{count} {outcome.lower()}" for outcome, count in sorted(counts.items()))
        return (counted or "none ran") + (f"; {self.note}" if self.note else "")


def run_tests(
    limit: float,
    log: Path,
    before: SuiteRun | None = None,
    paths: Sequence[str] = ("tests",),
    command: Sequence[str] = _PYTEST,
) -> SuiteRun:
    """Run the tests that `before` lacks for at most `limit` seconds.

    Parameters
    ----------
    limit : float
    log : path
        Their output is added to it as it comes.
    before : SuiteRun, optional
        Of earlier runs.
    paths : sequence of str
        In the checkout that this package lies in.
    command : sequence of str
        Pytest, to which options and `paths` are added.

    Returns
    -------
    SuiteRun
        Of `before` and this run together.
    """
    before = SuiteRun() if before is None else before
    root = Path(__file__).parents[2]
    if not (root / "tests" / "harness.py").exists():
        return SuiteRun(finished=True, note="not run: they are in the repository, not in the package")
    outcomes, open_test = dict(before.outcomes), ""
    with log.open("a", encoding="utf-8") as file:

        def on_line(line: str) -> None:
            nonlocal open_test
            print(line, file=file, flush=True)
            open_test = _read(line, outcomes)

        options = [*workers(), *(f"--deselect={test}" for test in before.outcomes), *paths]
        ended = run_child([*command, *options], limit, on_line, folder=root, environment=_environment())
        print(ended.errors, file=file, flush=True)
    # 0 and 1 are pytest's for all passed and some failed; 5 is for none to run
    finished = ended.code in (0, 1) or (ended.code == 5 and bool(before.outcomes))
    if open_test and ended.code is not None and not finished:
        outcomes[open_test] = "CRASHED"
    note = "" if finished else ended.reason
    return SuiteRun(outcomes, before.seconds + ended.seconds, finished, note)


def workers() -> list[str]:
    """Options that share the tests between processes, where pytest-xdist is installed and there are processors for it."""
    count = min(_MOST_WORKERS, os.cpu_count() or 1)
    return ["-n", str(count)] if count > 1 and importlib.util.find_spec("xdist") else []


def _environment() -> Mapping[str, str]:
    return {"XPDL_BACKENDS": "cupy", "XPDL_REQUIRE_GPU": "1"}


def _read(line: str, outcomes: dict[str, str]) -> str:
    """Add the outcome in a line of pytest; the name of the test that has begun and not ended there, or none."""
    found = _OUTCOME.match(line)
    if found is None:
        return ""
    outcome = found["first"] or found["last"]
    if outcome not in _OUTCOMES:
        return "" if found["last"] else found["test"].strip()
    outcomes[found["test"].strip()] = outcome
    return ""
