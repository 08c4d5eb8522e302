"""Tests that can fail: each asserts something on every path, and skips for nothing that could be known beforehand."""

from __future__ import annotations

import ast
import functools
from pathlib import Path

import pytest

from tests.infrastructure.assertions import ROOT, SKIPS, Function, asserts, called, defined_tests, module

pytestmark = pytest.mark.exhaustive

FILES = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob("tests/**/test_*.py"))

# (file, function) -> why it may skip: what it needs of the machine is known in its middle alone
MAY_SKIP: dict[tuple[str, str], str] = {}


def skips(function: Function) -> list[int]:
    """The lines that skip."""
    calls = [node for node in ast.walk(function) if isinstance(node, ast.Call)]
    return [call.lineno for call in calls if called(call.func) in SKIPS and "pytest" in ast.dump(call.func)]


@functools.cache
def all_tests() -> list[tuple[str, Function]]:
    return [(name, test) for name in FILES for test in defined_tests(ROOT / name)]


def test_every_test_asserts_something_on_each_of_its_paths() -> None:
    vacuous = [f"{name}:{test.lineno} {test.name}" for name, test in all_tests() if not asserts(test, ROOT / name)]
    assert not vacuous, "parametrize by what applies; loop over nonempty(...); or say with does_not_raise()"


def test_no_test_skips_in_its_body() -> None:
    skipping = [
        f"{name} {test.name}" for name, test in all_tests() if skips(test) and (name, test.name) not in MAY_SKIP
    ]
    assert not skipping, "mark it with applies, needs or skipif: what does not apply is not collected"


def test_tests_are_found() -> None:
    assert len(FILES) > 150 and len(all_tests()) > 2000


def test_exceptions_are_still_needed() -> None:
    functions = {(name, test.name): test for name, test in all_tests()}
    assert [key for key in MAY_SKIP if not skips(functions[key])] == []


ASSERTING = {
    "at once": "assert x",
    "in both branches": "if x:\n    assert x\nelse:\n    assert not x",
    "behind a branch that goes on": "if x:\n    y = x\nassert x",
    "in a with": "with x:\n    assert x",
    "an error": "with pytest.raises(ValueError):\n    x()",
    "over a literal": "for y in (1, 2):\n    assert y",
    "over a value of the module": "for y in VALUES.items():\n    assert y",
    "over what is checked": "for y in nonempty(x):\n    assert y",
    "over a range": "for y in range(3):\n    assert y",
    "behind a loop with a continue": "for y in (1, 2):\n    if y:\n        continue\nassert x",
    "by a function": "helper(x)",
    "by a function of its own": "def check(y):\n    assert y\ncheck(x)",
    "by a function of NumPy": "np.testing.assert_array_equal(x, 1)",
    "in an else of a try": "try:\n    x()\nexcept ValueError as error:\n    assert error\nelse:\n    pytest.fail('none')",
    "that nothing is raised": "with does_not_raise():\n    x()",
}
VACUOUS = {
    "nothing": "x()",
    "under a condition": "if x:\n    assert x",
    "behind a return": "if x:\n    return\nassert x",
    "behind a continue": "for y in (1, 2):\n    if y:\n        continue\n    assert y",
    "over what may be empty": "for y in x:\n    assert y",
    "over an empty literal": "for y in ():\n    assert y",
    "over a filtered list": "for y in [z for z in (1, 2) if z in x]:\n    assert y",
    "behind a return in a loop": "for y in x:\n    if y:\n        return\nassert x",
    "in a function that is not called": "def check(y):\n    assert y",
    "by a function that may not": "sometimes(x)",
    "in an except": "try:\n    x()\nexcept ValueError as error:\n    assert error",
    "in a while": "while x:\n    assert x",
    "behind an and": "x and helper(x)",
    "in a lambda": "y = lambda: helper(x)",
    "suppressed": "with contextlib.suppress(ValueError):\n    x()\n    assert x",
    "in a case of some": "match x:\n    case 1:\n        assert x",
}
AROUND = """
VALUES = {"a": 1}
def helper(y):
    assert y
def sometimes(y):
    if y:
        assert y
"""


def written(folder: Path, body: str) -> Path:
    path = folder / "test_it.py"
    lines = "\n".join(f"    {line}" for line in body.splitlines())
    path.write_text(f"{AROUND}\ndef test_it(x):\n{lines}\n", encoding="utf-8")
    return path


@pytest.mark.parametrize("body", ASSERTING.values(), ids=ASSERTING)
def test_an_assertion_is_found(body: str, tmp_path: Path) -> None:
    path = written(tmp_path, body)
    assert asserts(module(path).functions["test_it"], path)


@pytest.mark.parametrize("body", VACUOUS.values(), ids=VACUOUS)
def test_a_path_without_an_assertion_is_found(body: str, tmp_path: Path) -> None:
    path = written(tmp_path, body)
    assert not asserts(module(path).functions["test_it"], path)


def test_the_defined_tests_classes_are_looked_at(tmp_path: Path) -> None:
    path = tmp_path / "test_it.py"
    path.write_text("class TestIt:\n    def test_it(self):\n        pytest.skip('later')\n", encoding="utf-8")
    (found,) = defined_tests(path)
    assert found.name == "test_it" and skips(found) == [3]
