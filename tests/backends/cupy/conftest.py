"""CuPy's current device, for the tests of this folder."""

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests import harness
from tests.backends.cupy.cudnn_graphs import noted
from tests.backends.cupy.device import Device
from xpdl.backends.cupy import cudnn


@pytest.fixture
def gpu(backend: harness.Backend, monkeypatch: pytest.MonkeyPatch) -> Iterator[Device]:
    """The device of CuPy under test, as the current one; a real one, or hostcuda's."""
    import cupy

    with contextlib.ExitStack() as stack:
        stack.enter_context(backend.device)
        yield Device(cupy, backend.asarray, monkeypatch, backend.rules)


@pytest.fixture
def library(gpu: Device, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Puts hostcuda's cuDNN in place, and gives it."""
    if "CUPY_ON_HOST" not in os.environ:
        pytest.skip("looks at the graphs of hostcuda's cuDNN, which need CUPY_ON_HOST=1")

    def install(unsupported: tuple[str, ...] = ()) -> Any:
        module = noted(unsupported)
        monkeypatch.setattr(cudnn, "problem", lambda: None)
        monkeypatch.setattr(cudnn, "_local", cudnn._Local())
        monkeypatch.setitem(sys.modules, "cudnn", module)
        return module

    return install
