"""Generic ops that are not compiled for JAX: those whose windows would take a compiler longer than the op itself."""

from __future__ import annotations

import importlib
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from xpdl.ops import windows

pytestmark = pytest.mark.needs("jax")


@pytest.fixture
def compiled(jax: Any, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The functions that generic ops compile."""
    seen: list[Any] = []
    windows.im2col(jax.numpy.zeros((1, 1, 1, 1)), 1, 1)  # imports what it needs
    generic = importlib.import_module("xpdl.backends.jax.generic")

    def jit(function: Any) -> Any:
        seen.append(function)
        return jax.jit(function)

    monkeypatch.setattr(generic, "jax", SimpleNamespace(jit=jit, Array=jax.Array))
    return seen


@pytest.mark.parametrize(("size", "count"), [(3, 1), (9, 0), (16, 0)])
def test_windows_of_many_values_are_not_compiled(size: int, count: int, jax: Any, compiled: list[Any]) -> None:
    col, shape = np.random.default_rng(0).standard_normal((4, size * size)), (1, 1, size + 1, size + 1)
    got = windows.col2im(jax.numpy.asarray(col), shape, size, size)
    np.testing.assert_allclose(got, windows.col2im(col, shape, size, size), rtol=1e-12)
    assert len(compiled) == count
