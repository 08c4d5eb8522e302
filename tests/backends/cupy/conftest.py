"""CuPy's current device, for the tests of this folder."""

import contextlib
from collections.abc import Iterator

import pytest

from tests import harness
from tests.backends.cupy.device import Device


@pytest.fixture
def gpu(backend: harness.Backend, monkeypatch: pytest.MonkeyPatch) -> Iterator[Device]:
    """The device of CuPy under test, as the current one; a real one, or hostcuda's."""
    cupy = pytest.importorskip("cupy")
    with contextlib.ExitStack() as stack:
        stack.enter_context(backend.device)
        yield Device(cupy, backend.asarray, monkeypatch, backend.rules)
