"""Packages that CI installs: pinned, hashed and reviewed."""

import importlib.metadata
import re
from pathlib import Path

import pytest

from scripts import review_dependencies as review

CI = Path(__file__).parents[1] / ".ci"


each_lock = pytest.mark.parametrize("name", sorted(path.name for path in CI.glob("*.lock")))


def test_locks_are_found():
    assert {"requirements.lock", "package.lock"} <= {path.name for path in CI.glob("*.lock")}


@each_lock
def test_all_in_the_lock_is_pinned_by_hashes(name):
    lock = review.locked(name)
    assert len(lock) > 15
    for package, (version, hashes) in lock.items():
        assert re.fullmatch(r"[\w.-]+", package) and re.fullmatch(r"[\w.]+", version)
        assert hashes and all(re.fullmatch("sha256:[0-9a-f]{64}", value) for value in hashes)


@each_lock
def test_lock_and_constraints_say_the_same(name):
    lines = (CI / "constraints.txt").read_text().splitlines()
    pinned = dict(line.split("==") for line in lines if "==" in line)
    pinned = {re.sub("[-_.]+", "-", name).lower(): version for name, version in pinned.items()}
    lock = {package: version for package, (version, _) in review.locked(name).items()}
    assert {package: pinned.get(package) for package in lock} == lock


def test_tools_of_the_package_check_are_in_its_lock():
    assert {"build", "twine", "hatchling"} <= set(review.locked("package.lock"))


def test_what_xpdl_requires_is_in_the_lock():
    assert set(review.required()) <= set(review.locked()) and len(review.required()) == 5


def test_what_compiles_is_in_the_lock_and_looked_at(monkeypatch):
    assert {"numba", "llvmlite"} <= set(review.locked())
    needs = {
        "xpdl": ["numpy>=2.1", "numba>=0.62; extra == 'compiled'", "pillow>=10; extra == 'images'"],
        "numba": ["llvmlite<0.51,>=0.50", "numpy<2.5", "tbb; extra == 'parallel'"],
    }
    monkeypatch.setattr(importlib.metadata, "requires", needs.__getitem__)
    assert review.compiler() == ["numba", "llvmlite"]


def test_without_the_compiler_there_is_nothing_of_it_to_look_at(monkeypatch):
    def requires(name):
        if name != "xpdl":
            raise importlib.metadata.PackageNotFoundError(name)
        return ["numba>=0.62; extra == 'compiled'"]

    monkeypatch.setattr(importlib.metadata, "requires", requires)
    assert review.compiler() == []


def test_a_file_that_was_changed_is_found(monkeypatch, tmp_path):
    assert review.changed_files("threadpoolctl") == []
    files = [file for file in importlib.metadata.files("threadpoolctl") if file.name == "threadpoolctl.py"]
    assert files
    other = tmp_path / "threadpoolctl.py"
    other.write_text("import os")
    monkeypatch.setattr(type(files[0]), "locate", lambda self: other)
    monkeypatch.setattr(importlib.metadata, "files", lambda name: files)
    assert review.changed_files("threadpoolctl") == ["threadpoolctl.py"]


@pytest.mark.parametrize("version, code", [(None, 0), ("0.0.1", 1)])
def test_another_version_than_the_locked_one_is_found(monkeypatch, capsys, version, code):
    names = [*review.required(), *review.compiler()]
    lock = {name: (importlib.metadata.version(name), []) for name in names}
    if version:
        lock["tqdm"] = (version, [])
    monkeypatch.setattr(review, "locked", lambda: lock)
    monkeypatch.setattr(review, "changed_files", lambda name: [])
    assert review.main() == code
    assert capsys.readouterr().out.count("\n") == 2 + len(names)
