"""Kernels of which there is compiled code are tested twice: as NumPy's functions (``pure``), and as ``compiled``.

That is every test of ``numpy/test_NAME.py`` where ``xpdl/backends/numpy/NAME.py`` asks for compiled code, and of other
files those that ask for the fixture `code`. ``code.assert_compiled("NAME.function")`` at the end of a test proves that
this ran.
"""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest

from tests.backends.watched import Watched
from xpdl.backends import numba as compiled

CODE = ("pure", "compiled")
COMPILED = {
    f"tests.backends.numpy.test_{path.stem}"
    for path in (Path(compiled.__file__).parents[1] / "numpy").glob("*.py")
    if "compiled.kernels(" in path.read_text()
}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    asked = [*inspect.signature(metafunc.function).parameters]
    for marker in metafunc.definition.iter_markers("usefixtures"):
        asked += marker.args
    if "code" in asked or metafunc.module.__name__ in COMPILED:
        metafunc.parametrize("code", CODE, indirect=True)


class Code:
    """How kernels are run in a test.

    Attributes
    ----------
    name : str
        ``"pure"`` or ``"compiled"``.
    ran : list of str
        Compiled functions called so far, such as ``"pooling.forward"``.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.ran: list[str] = []

    def assert_compiled(self, *names: str) -> None:
        """That each of these functions ran; none of any, where kernels are pure."""
        if self.name == "compiled":
            assert set(names) <= set(self.ran), f"of {names} ran only {self.ran}"
        else:
            assert not self.ran


@pytest.fixture(autouse=True)
def code(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Code | None:
    """Whether the kernels of this test are pure or compiled, and which compiled functions ran."""
    name = getattr(request, "param", None)
    if name is None:  # a test without any compiled kernel
        return None
    here = Code(name)
    # of processes that the test starts
    monkeypatch.setenv("XPDL_COMPILED", str(CODE.index(name)))
    if name == "pure":
        monkeypatch.setattr(compiled, "problem", lambda: "this test is of NumPy's functions")
    elif reason := compiled.problem():
        pytest.skip(reason)
    else:
        loaded = compiled._loaded
        monkeypatch.setattr(compiled, "_loaded", lambda module: Watched(loaded(module), here.ran))
    return here
