"""The pages of the site: every block of code runs and prints what stands below it, and every public name is there."""

import importlib
import inspect
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import xpdl
from tests.docs_tables import README
from tests.test_doctests import marks
from tests.test_readme import NUMBER

DOCS = Path(__file__).parents[1] / "docs"
PAGES = sorted(path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md"))
FENCED = re.compile(r"^```(?!`)(.*)\n((?s:.*?))^```$", re.MULTILINE)


def blocks(page):
    """(language or directive, content) of what is fenced."""
    return FENCED.findall((DOCS / page).read_text())


def with_code():
    return [page for page in PAGES if any(kind == "python" for kind, _ in blocks(page))]


def needed(page):
    """Keep a page where the optional libraries that its code imports are installed."""
    code = "".join(text for kind, text in blocks(page) if kind == "python")
    imported = set(re.findall(r"^(?:from|import) (\w+)", code, re.M)) - set(sys.stdlib_module_names) - {"xpdl", "numpy"}
    return [pytest.mark.needs(*sorted(imported))] if imported else []


def test_pages_are_found():
    assert {"own_layer.md", "own_kernel.md", "arrays.md", "chapters.md", "data_and_search.md"} <= set(with_code())


@pytest.mark.quick(lambda page: page in ("arrays.md", "own_kernel.md", "own_layer.md"))
@pytest.mark.parametrize("page", [pytest.param(page, marks=needed(page)) for page in with_code()])
def test_code_runs_and_prints_what_is_shown(page, tmp_path):
    found = [(kind, text) for kind, text in blocks(page) if kind in ("python", "text")]
    mark = "-- end of block --"
    program = "".join(f"{text}\nprint({mark!r}, flush=True)\n" for kind, text in found if kind == "python")
    command = [sys.executable, "-W", "error", "-c", program]
    run = subprocess.run(
        command, cwd=tmp_path, env=environment(), capture_output=True, text=True, encoding="utf-8", check=False
    )
    assert run.returncode == 0, run.stderr
    printed = iter(run.stdout.split(mark + "\n"))
    for (kind, _), (after, shown) in zip(found, [*found[1:], ("", "")], strict=True):
        if kind == "python":
            output = next(printed)
            if after == "text":
                assert NUMBER.sub("#", output) == NUMBER.sub("#", shown)
                for got, expected in zip(NUMBER.findall(output), NUMBER.findall(shown), strict=True):
                    assert float(got) == pytest.approx(float(expected), abs=0.02)


def environment():
    return {**os.environ, "PYTHONPATH": str(DOCS.parent), "XPDL_BACKEND": "numpy"}


INCLUDES = [
    (page, kind.split()[1], options)
    for page in PAGES
    for kind, options in blocks(page)
    if kind.startswith(("{include}", "{literalinclude}"))
]


@pytest.mark.parametrize(("page", "source", "options"), INCLUDES)
def test_what_is_included_is_there(page, source, options):
    text = ((DOCS / page).parent / source).read_text()
    places = [re.search(rf':{side}: "(.*)"', options)[1] for side in ("start-after", "end-before")]
    begin, end = (re.search(rf"^{re.escape(place)}$", text, re.MULTILINE) for place in places)
    assert begin and end and begin.start() < end.start(), f"{source} has no {' ... '.join(places)}"


def test_every_page_is_in_a_table_of_contents():
    listed = {"index.md"}
    for page in ("index.md", "api/index.md"):
        for entries in (text for kind, text in blocks(page) if kind == "{toctree}"):
            folder = Path(page).parent
            listed |= {(folder / f"{e}.md").as_posix() for e in entries.splitlines() if e and not e.startswith(":")}
    assert sorted(listed) == PAGES


def documented():
    """The objects of all modules that a page shows."""
    found = {}
    for page in PAGES:
        for name in re.findall(r"^\.\. automodule:: (\S+)$", (DOCS / page).read_text(), re.M):
            module = importlib.import_module(name)
            names = getattr(module, "__all__", None) or [n for n in vars(module) if not n.startswith("_")]
            found |= {id(getattr(module, n)): f"{name}.{n}" for n in names}
    return found


def test_every_public_name_is_on_a_page():
    shown = documented()
    public = {name: getattr(xpdl, name) for name in xpdl.__all__ if not name.startswith("_")}
    missing = [n for n, value in public.items() if not inspect.ismodule(value) and id(value) not in shown]
    assert missing == []


def linked():
    """Each link to a name and the module that has it, which may need an optional library."""
    for page in PAGES:
        for name in dict.fromkeys(re.findall(r"\{py:obj\}`([\w.]+)`", (DOCS / page).read_text())):
            *modules, last = name.removeprefix("xpdl.").split(".")
            module = ".".join(["xpdl", *modules])
            yield pytest.param(module, last, id=f"{page} {name}", marks=marks(module))


@pytest.mark.parametrize(("module", "name"), list(linked()))
def test_names_that_are_linked_exist(module, name):
    assert hasattr(importlib.import_module(module), name)


def test_no_page_says_again_what_the_readme_says():
    readme = {line for line in README.read_text().splitlines() if len(line) > 60}
    assert {page: again for page in PAGES if (again := readme & set((DOCS / page).read_text().splitlines()))} == {}


def test_gallery_shows_every_example():
    examples = {path.name for path in (DOCS.parent / "examples").glob("*.py")} - {"shared.py"}
    assert set(re.findall(r"`(\w+\.py)`", (DOCS / "gallery.md").read_text())) == examples


def test_figures_are_small_and_shown():
    shown = {name for page in PAGES for name in re.findall(r"figures/(\w+\.png)$", (DOCS / page).read_text(), re.M)}
    sizes = {path.name: path.stat().st_size for path in (DOCS / "figures").iterdir()}
    assert sizes.keys() == shown
    assert max(sizes.values()) < 100_000
