"""Ops that have kernels of Numba are tested twice: by NumPy's functions alone (``pure``), and with them (``compiled``).

That is every test of ``numpy/test_NAME.py`` where ``xpdl/backends/numba`` has a module of this name, and of other files
those that ask for the fixture `code`. ``code.assert_compiled("max_pooling")`` at the end proves that this kernel ran.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.backends.watched import watch_kernels
from xpdl.backends import dispatch, numba, registry
from xpdl.backends.cpu import thread_pool
from xpdl.backends.namespaces import array_namespace
from xpdl.backends.numba import loading

CODE = ("pure", "compiled")
PARAMS = ("pure", pytest.param("compiled", marks=pytest.mark.needs("numba")))
COMPILED = {f"tests.backends.numpy.test_{path.stem}" for path in Path(numba.__file__).parent.glob("*.py")}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    asked = [*inspect.signature(metafunc.function).parameters]
    for marker in metafunc.definition.iter_markers("usefixtures"):
        asked += marker.args
    if "code" in asked or metafunc.module.__name__ in COMPILED:
        metafunc.parametrize("code", PARAMS, indirect=True)


class Code:
    """The way that kernels run in a test.

    Attributes
    ----------
    name : str
        ``"pure"`` or ``"compiled"``.
    ran : list of str
        Ops that compiled kernels computed so far.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.ran: list[str] = []

    def assert_compiled(self, *names: str) -> None:
        """That each of these ran; none of any, where kernels are pure."""
        if self.name == "compiled":
            assert set(names) <= set(self.ran), f"of {names} ran only {self.ran}"
        else:
            assert not self.ran


@pytest.fixture(autouse=True)
def code(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Code | None]:
    """Pure or compiled kernels for this test, with a record of the compiled ones that ran."""
    name = getattr(request, "param", None)
    if name is None:  # a test without any compiled kernel
        yield None
        return
    dispatch.kernels_for(array_namespace(np.empty(0)))  # registered before anything is changed
    reason, here = loading.problem(), Code(name)
    # of processes that the test starts
    monkeypatch.setenv("XPDL_COMPILED", str(CODE.index(name)))
    if name == "pure":
        monkeypatch.setattr(loading, "problem", lambda: "this test is of NumPy's functions")
        monkeypatch.setattr(thread_pool, "_provider", lambda: None)
        with registry.without("numba"):
            yield here
    elif reason:
        pytest.skip(reason)
    else:
        with watch_kernels(here.ran):
            yield here
