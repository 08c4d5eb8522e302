"""Terms of the field in docstrings, comments and pages: see CONTRIBUTING.md."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = pytest.mark.exhaustive

ROOT = Path(__file__).parents[1]
FOLDERS = ("xpdl", "tests", "docs", "examples", "scripts")
MODULES = sorted(path.relative_to(ROOT).as_posix() for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))
PAGES = sorted(path.relative_to(ROOT).as_posix() for path in [*(ROOT / "docs").rglob("*.md"), *ROOT.glob("README*.md")])

#: a docstring names its subject or says what to do
RIDDLES = {"From", "How", "What", "When", "Where", "Whether", "Which", "Who", "Whoever", "Why"}

#: paraphrase -> term
TERMS = {
    r"python's lock": "the GIL",
    r"without gaps|lie together|lies together": "contiguous",
    r"same bits": "bitwise identical",
    r"(is|are|was|were|been) left out": "skipped",
    r"takes? the place of": "override, replace",
    r"\bfaded\b": "subnormals, flushed to zero",
    r"files of strangers": "untrusted files",
    r"\bwhoever\b": "a noun: the caller, the reader",
    r"turned, scaled and bent": "rotated, scaled and warped",
    r"\bremember(s|ed)\b": "saved, kept; slot variables",
}


def riddles(source: str) -> list[str]:
    """The first lines of docstrings that open with a word of `RIDDLES`."""
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    found = (ast.get_docstring(node) or "" for node in ast.walk(ast.parse(source)) if isinstance(node, documented))
    return [text.splitlines()[0] for text in found if text and text.split(maxsplit=1)[0] in RIDDLES]


def paraphrases(text: str) -> list[str]:
    """Sentences of a text that have a term in `TERMS`, with the term."""
    return [
        f"line {number}: {line.strip()}; write {term}"
        for number, line in enumerate(text.splitlines(), start=1)
        for words, term in TERMS.items()
        if re.search(words, line, re.IGNORECASE)
    ]


def of_files(names: list[str], found: Callable[[str], list[str]]) -> dict[str, list[str]]:
    """Files with what is `found` in their text, where there is any."""
    said = {name: found((ROOT / name).read_text(encoding="utf-8")) for name in names}
    return {name: lines for name, lines in said.items() if lines}


def test_docstrings_open_with_a_noun_or_an_imperative() -> None:
    assert len(MODULES) > 300 and of_files(MODULES, riddles) == {}


def test_terms_of_the_field() -> None:
    names = [name for name in [*MODULES, *PAGES] if name != "tests/test_words.py"]
    assert len(PAGES) > 20 and of_files(names, paraphrases) == {}


def test_riddles_and_paraphrases_are_found() -> None:
    assert riddles('"""What it is."""\ndef f():\n    """Whether it is so."""\n') == ["What it is.", "Whether it is so."]
    assert riddles('"""Whatever is right."""\ndef f():\n    """Return whether it is so."""\n') == []
    (found,) = paraphrases("kernels\n# give the same bits\n")
    assert found == "line 2: # give the same bits; write bitwise identical"


NAMES = re.compile(r"`(xpdl(?:\.\w+)+)")


def unknown(name: str) -> bool:
    """Tell whether a dotted name is neither a module nor a word in the source of one."""
    parts = name.split(".")
    for end in range(len(parts), 0, -1):
        path = ROOT.joinpath(*parts[:end])
        source = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
        if source.is_file():
            return any(not re.search(rf"\b{part}\b", source.read_text(encoding="utf-8")) for part in parts[end:])
    return True


def test_names_in_backticks_exist() -> None:
    files = [ROOT / name for name in [*MODULES, *PAGES, "CONTRIBUTING.md"]]
    named = {(name, path.name) for path in files for name in NAMES.findall(path.read_text(encoding="utf-8"))}
    assert len(named) > 100
    assert sorted((name, path) for name, path in named if unknown(name)) == []


def test_unknown_names_are_found() -> None:
    assert unknown("xpdl.atomic.write_atomically") and unknown("xpdl.io.atomic.write_at_once") and unknown("xpdl.fnord")
    assert not unknown("xpdl.io.atomic.write_atomically") and not unknown("xpdl.io.atomic") and not unknown("xpdl.use")
