"""docs/architecture.md names paths and tests that exist."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
TREE = re.search(r"^```text\n((?s:.*?))^```$", PAGE, re.MULTILINE)[1]
PROSE = PAGE.replace(TREE, "")
FILE = re.compile(r"[\w.-]+(?:/[\w.-]+)*(?:/|\.(?:py|md|toml))")


def paths_of_the_tree():
    """Yield each entry, below the folders that it is indented under, and the files that its description names."""
    folders = []
    for line in TREE.splitlines():
        depth, (entry, *description) = (
            (len(line) - len(line.lstrip())) // 2,
            re.split(r"\s{2,}", line.strip(), maxsplit=1),
        )
        folders[depth:] = [entry]
        yield "".join(folders)
        here = "".join(folders) if entry.endswith("/") else "".join(folders[:depth])
        for name in FILE.findall(" ".join(description)):
            yield name if (ROOT / name).exists() else here + name


def paths_of_the_prose():
    """Yield what stands in backticks and has a slash or the suffix of a file, and the pages that are linked."""
    for code in re.findall(r"`([^`\n]+)`", PROSE):
        if re.fullmatch(r"[\w.-]+(/[\w.-]+)+/?", code):
            yield code
    for page in re.findall(r"\]\(([\w.]+\.md)\)", PROSE):
        yield f"docs/{page}"


def test_paths_are_found():
    tree, prose = set(paths_of_the_tree()), set(paths_of_the_prose())
    assert {"xpdl/ops/", "xpdl/ops/activations.py", "xpdl/backends/dispatch.py", "tests/hostcuda/", ".ci/run"} <= tree
    assert {"xpdl/layers", "xpdl/training/checkpoint/format.py", "docs/own_kernel.md"} <= prose


@pytest.mark.parametrize("path", sorted({*paths_of_the_tree(), *paths_of_the_prose()}))
def test_path_exists(path):
    assert (ROOT / path).is_dir() if path.endswith("/") else (ROOT / path).exists()


def test_tests_that_it_names_exist():
    defined = {
        name
        for path in (ROOT / "tests").rglob("test_*.py")
        for name in re.findall(r"^def (test_\w+)", path.read_text(encoding="utf-8"), re.MULTILINE)
    }
    named = set(re.findall(r"`(test_\w+)`", PAGE))
    assert len(named) > 10
    assert named <= defined


def test_it_is_short():
    assert len(PAGE.splitlines()) <= 120
