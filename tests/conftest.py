"""Fixtures for all tests: `backend`, and isolation of what xpdl keeps for the whole process.

``XPDL_BACKENDS=numpy,torch`` selects backends (``all`` takes every one); ``XPDL_REQUIRE_GPU=1`` makes a GPU backend
that does not work a failure. Cases that do not apply, or need a library that is not installed, are not collected
(tests/selection.py).
``XPDL_HYPOTHESIS=thorough`` draws 1000 examples for each property instead of the same 15.
With ``CUPY_ON_HOST=1`` the backend ``cupy`` is the real CuPy without a GPU (tests/hostcuda).
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

# JAX has float64 only with this switch, once for the whole process. It is on in all tests: runs in float64 are compared
# across libraries to 1e-10, and a float32 array that wrongly becomes float64 would pass unseen with it off.
os.environ["JAX_ENABLE_X64"] = "1"

# A shell lets what it starts with `&` ignore ctrl-C; the tests of it, and processes that they start, are not to.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

import xpdl.backends
from tests.harness import Backend, problem, selected
from xpdl.backends import random

pytest_plugins = ["tests.selection"]

try:
    import hypothesis
except ImportError:  # its tests are skipped with that reason
    pass
else:
    # the same examples in every run; XPDL_HYPOTHESIS=thorough draws more of them, and others each time
    _options = {"deadline": None, "database": None, "suppress_health_check": list(hypothesis.HealthCheck)}
    hypothesis.settings.register_profile("quick", max_examples=15, derandomize=True, **_options)
    hypothesis.settings.register_profile("thorough", max_examples=1000, **_options)
    hypothesis.settings.load_profile(os.environ.get("XPDL_HYPOTHESIS", "quick"))


def pytest_report_header() -> str:
    return "xpdl backends: " + ", ".join(spec.id for spec in selected())


def use_hostcuda() -> None:
    """Let CuPy run on the host where CUPY_ON_HOST asks for it, by the checkout's hostcuda if none is installed.

    Raises pytest.UsageError, with the cure, where it cannot.
    """
    if os.environ.get("CUPY_ON_HOST", "") in ("", "0"):
        return
    if importlib.util.find_spec("hostcuda") is None:
        folder = str(Path(__file__).with_name("hostcuda"))
        sys.path.insert(0, folder)
        # subprocesses find its sitecustomize.py
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [folder, os.environ.get("PYTHONPATH")]))
        importlib.import_module("hostcuda.hook")
    core = importlib.import_module("hostcuda.core")
    # a hostcuda that was installed from elsewhere may have no such function
    if reason := getattr(core, "problem", lambda: None)():
        raise pytest.UsageError(f"CUPY_ON_HOST is set, and {reason}")


def pytest_configure() -> None:
    use_hostcuda()
    try:
        selected()
    except ValueError as error:
        raise pytest.UsageError(str(error)) from error


@pytest.fixture
def backend(request: pytest.FixtureRequest) -> Backend:
    """Each array library in turn, under the rules of `tests.harness.SPECS`; `tests.selection` chooses them."""
    spec = request.param
    if reason := problem(spec):
        pytest.fail(f"a GPU is required, and {spec.id} does not work: {reason}")
    return Backend(spec)


@pytest.fixture
def torch() -> Any:
    return importlib.import_module("torch")


@pytest.fixture
def jax() -> Any:
    return importlib.import_module("jax")


@pytest.fixture(autouse=True)
def isolated(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Every test starts without a backend chosen, from one seed, and leaves nothing behind."""
    monkeypatch.delenv("XPDL_BACKEND", raising=False)
    monkeypatch.setattr(xpdl.backends, "_current", None)
    random.seed(0)
    yield
    random.seed(0)


@pytest.fixture(scope="session")
def mnist_dir() -> Path:
    """The folder with the files of the real MNIST: ``XPDL_DATA``, or shared/data beside the repository."""
    roots = [Path(os.environ["XPDL_DATA"])] if os.environ.get("XPDL_DATA") else []
    roots.append(Path(__file__).parents[2] / "shared" / "data")
    for root in roots:
        for folder in (root, root / "mnist"):
            if list(folder.glob("train-images*")):
                return folder
    return pytest.skip(f"the real MNIST is in none of {', '.join(map(str, roots))}; set XPDL_DATA")
