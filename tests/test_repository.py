"""Files for people who change xpdl: the commands and paths that they name exist, and versions agree."""

import re
import tomllib
from pathlib import Path

import pytest

import xpdl

ROOT = Path(__file__).parents[1]
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
CHANGELOG = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
PAGES = ["CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md", "Makefile", ".github/pull_request_template.md"]
PATH = re.compile(r"(?<![\w/.-])(?:docs|examples|scripts|tests|xpdl|\.ci)/[\w./-]*\w")


def named():
    """(file, path) of what each of the files names in the repository."""
    for page in PAGES:
        for path in PATH.findall((ROOT / page).read_text(encoding="utf-8")):
            yield page, path


def test_paths_are_found():
    assert {
        ("CONTRIBUTING.md", "tests/harness.py"),
        ("SECURITY.md", "xpdl/io/tensors.py"),
        ("Makefile", ".ci/run"),
    } <= {*named()}


@pytest.mark.parametrize("page, path", sorted({*named()}))
def test_path_exists(page, path):
    assert (ROOT / path).exists()


def test_contributing_names_the_targets_of_the_makefile():
    targets = set(re.findall(r"^([a-z]+):", MAKEFILE, re.MULTILINE)) - {"help"}
    assert targets == set(re.findall(r"^\.PHONY: help (.*)$", MAKEFILE, re.MULTILINE)[0].split())
    assert set(re.findall(r"\bmake ([a-z]+)", CONTRIBUTING)) == targets


def test_makefile_indents_by_tabs():
    recipes = [line for line in MAKEFILE.splitlines() if line[:1].isspace()]
    assert recipes
    assert all(line.startswith("\t") for line in recipes)


def test_changelog_has_the_version_below_what_is_unreleased():
    sections = re.findall(r"^## (\S+)", CHANGELOG, re.MULTILINE)
    assert sections[0] == "Unreleased"
    assert sections[1] == xpdl.__version__
    kinds = set(re.findall(r"^### (\w+)", CHANGELOG, re.MULTILINE))
    assert kinds <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}


def test_citation_has_the_version():
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert re.search(r"^version: (.*)$", citation, re.MULTILINE)[1] == xpdl.__version__
    date = re.search(r"^date-released: (.*)$", citation, re.MULTILINE)[1]
    assert f"## {xpdl.__version__} ({date})" in CHANGELOG


def test_hosted_workflow_runs_what_a_change_must_pass():
    workflow = (ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8")
    assert re.findall(r"^\s+- run: (.*)$", workflow, re.MULTILINE) == [".ci/run"]
    assert "scripts/check_package.sh" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")


def test_metadata_are_for_people_who_look_for_the_package():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["urls"] and all(url.startswith("https://") for url in project["urls"].values())
    assert {"deep learning", "education"} <= set(project["keywords"])
    classifiers = project["classifiers"]
    assert len(set(classifiers)) == len(classifiers) and "Typing :: Typed" in classifiers
    versions = [name.rpartition(" ")[2] for name in classifiers if re.fullmatch(r".*Python :: 3\.\d+", name)]
    assert project["requires-python"] == f">={versions[0]}"
    tried = re.search(r"versions=\((3.*)\)", (ROOT / "scripts" / "check_pythons.sh").read_text(encoding="utf-8"))[1]
    assert tried.split() == versions
