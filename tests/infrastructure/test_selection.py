"""Cases are chosen when they are collected: what does not apply is not there, and what is exhaustive waits for CI."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests import selection
from tests.harness import SPECS

MODULE = """
import pytest

@pytest.mark.parametrize("x", range(4))
@pytest.mark.applies(lambda x: x > 0)
@pytest.mark.quick(lambda x: x == 1)
def test_numbers(x):
    assert x

@pytest.mark.needs("no_such_library")
def test_library():
    raise AssertionError

@pytest.mark.needs("no_such_library.part")
@pytest.mark.slow
def test_slow():
    raise AssertionError

@pytest.mark.backends("numpy")
def test_backends(backend):
    assert backend.id.startswith("numpy")

@pytest.mark.backends("jit")
@pytest.mark.backends("readonly")
def test_nobody(backend):
    raise AssertionError
"""


def collected(folder: Path, *options: str) -> tuple[list[str], str]:
    """The tests of MODULE that a run takes, and its output."""
    (folder / "conftest.py").write_text("from tests.conftest import *\n", encoding="utf-8")
    (folder / "test_it.py").write_text(MODULE, encoding="utf-8")
    (folder / "test_whole.py").write_text("import pytest\npytest.importorskip('no_such_library')\n", encoding="utf-8")
    settings = Path(__file__).parents[2] / "pyproject.toml"
    command = [sys.executable, "-m", "pytest", "-c", str(settings), f"--rootdir={folder}", "-p", "no:cacheprovider"]
    command += ["--collect-only", *options, str(folder)]
    done = subprocess.run(command, cwd=settings.parent, capture_output=True, text=True, check=False)
    return [line.split("::")[1] for line in done.stdout.splitlines() if "::" in line], done.stdout + done.stderr


@pytest.mark.exhaustive
def test_a_quick_run_has_one_backend_of_a_library_and_what_applies(tmp_path: Path) -> None:
    names, said = collected(tmp_path)
    assert names == ["test_numbers[1]", "test_backends[numpy]"], said
    assert "1 not collected, for want of no_such_library\n" in said
    assert "1 not collected, for want of test_whole.py: could not import 'no_such_library'" in said


@pytest.mark.exhaustive
def test_an_exhaustive_run_has_all_that_applies(tmp_path: Path) -> None:
    names, said = collected(tmp_path, "-m", "not slow")
    numbers = [f"test_numbers[{x}]" for x in (1, 2, 3)]
    assert names == [*numbers, "test_backends[numpy]", "test_backends[numpy:readonly]"], said


def test_a_quick_run_takes_the_backend_that_forbids_most() -> None:
    specs = [SPECS[name] for name in ("numpy", "numpy:readonly", "strict:device1", "strict:nosync", "jax:jit")]
    quick = selection._one_of_each_library(specs)
    assert {spec.id for spec in quick} == {"numpy", "strict:nosync", "jax:jit"}


def test_a_library_is_installed_or_not() -> None:
    assert selection.installed("numpy") and not selection.installed("no_such_library.part")


def test_bfloat16_of_the_host_needs_a_library() -> None:
    float16, bfloat16 = selection.host_dtypes("float16", "bfloat16")
    assert not float16.marks[0].args and bfloat16.marks[0].args == ("ml_dtypes",)


def test_a_parameter_needs_the_library_that_it_names() -> None:
    numpy, torch = selection.params_of("numpy", ("torch", "meta"))
    assert numpy.values == ("numpy",) and torch.values == ("torch", "meta")
    assert [param.marks[0].args for param in (numpy, torch)] == [("numpy",), ("torch",)]
