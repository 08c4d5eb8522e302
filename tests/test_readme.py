"""The README is true: its code runs and prints the output shown, and its figures stand in the pages that it links."""

import re

import pytest

from tests import docs_tables
from tests.docs_tables import README, ROOT, TRANSLATIONS
from xpdl.backends.dispatch import _KERNEL_MODULES

LINK = re.compile(r'\]\(([^)]+)\)|src="([^"]+)"')
NUMBER = re.compile(r"\d+\.\d+")


def chapter(title):
    """The text below a heading."""
    return re.search(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", README.read_text(), re.MULTILINE | re.DOTALL)[1]


@pytest.mark.exhaustive
def test_example_prints_the_output_shown():
    shown = re.search(r"```text\n(.*?)```", docs_tables.section("example"), re.DOTALL)[1]
    printed = docs_tables.output_of(docs_tables.code("example"))
    assert NUMBER.sub("#", printed) == NUMBER.sub("#", shown)
    # the last bits of a matrix product depend on the machine, and with them whether one digit in a hundred is right
    for got, expected in zip(NUMBER.findall(printed), NUMBER.findall(shown), strict=True):
        assert float(got) == pytest.approx(float(expected), abs=0.01)


def test_layer_is_its_source_without_docstrings():
    assert docs_tables.section("layer") == docs_tables.layer()


def test_shell_blocks_are_the_main_job_and_the_tests():
    kinds = re.findall(r"^```(\w+)$", README.read_text(), re.MULTILINE)
    train, tests = re.findall(r"```sh\n(.*?)```", README.read_text(), re.DOTALL)
    assert kinds[:2] == ["sh", "sh"]
    assert train.endswith("xpdl train\n") and tests.endswith("-m pytest\n")
    assert all("venv" in block and "pip install" in block for block in (train, tests))


def test_is_short():
    assert len(README.read_text().splitlines()) <= 140


def links(page):
    """Targets of links and pictures, without those to the README in other languages."""
    found = [target or picture for target, picture in LINK.findall(page.read_text())]
    return sorted(target for target in found if not target.startswith("README"))


def test_files_that_it_links_exist():
    targets = [target for target in links(README) if not target.startswith("https:")]
    assert len(targets) > 15
    assert [
        target for target in [*targets, *(page.name for page in TRANSLATIONS)] if not (ROOT / target).exists()
    ] == []


@pytest.mark.parametrize("page", TRANSLATIONS, ids=lambda page: page.name)
def test_translation_has_the_same_code_links_and_figures(page):
    def code_and_headings(page):
        return re.findall(r"^(```\w+\n[^`]*^```|#+ |\|---.*|<!-- .*)", page.read_text(), re.MULTILINE)

    def rows(page):
        return [line.count("|") for line in page.read_text().splitlines() if line.startswith("|")]

    def figures(page):
        return sorted(re.findall(r"\d[\d.,-]*\d|\d", page.read_text()))

    assert code_and_headings(page) == code_and_headings(README)
    assert links(page) == links(README)
    assert rows(page) == rows(README)
    assert [n for n in figures(page) if "." in n or len(n) > 3] == [
        n for n in figures(README) if "." in n or len(n) > 3
    ]


def test_figures_of_performance_stand_in_the_docs():
    figures = NUMBER.findall(chapter("Performance"))
    measured = (ROOT / "docs" / "performance.md").read_text()
    assert len(figures) == 4
    for figure in figures:
        assert re.search(rf"geometric mean.*\b{re.escape(figure)}\b", measured), figure


def test_backends_with_kernels_are_those_of_dispatch():
    rows = [line.strip("| ").split(" | ") for line in chapter("Backends").splitlines() if line.startswith("|")]
    libraries = {row[0].lower().removeprefix("py") for row in rows[2:] if row[1] != "generic ops"}
    assert libraries == set(_KERNEL_MODULES)
