"""A device as the tests of kernels see it: its arrays, the launches of xpdl's kernels, and comparison with generic ops."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest

from xpdl.backends import dispatch
from xpdl.backends.cupy import launch

#: relative errors that rounding explains
TOLERANCE = {"float16": 2e-2, "bfloat16": 1e-1, "float32": 5e-5, "float64": 1e-11}


class Launch(NamedTuple):
    """A launch of a kernel of xpdl's; `structures` are its arguments that go by value."""

    name: str
    dtype: str
    wide: bool
    grid: tuple[int, ...]
    block: tuple[int, ...]
    structures: list[Any]


class Device:
    """The current device of CuPy, or of an imitation of it.

    Attributes
    ----------
    cupy : module
    launches : list of Launch
        Those of xpdl's kernels by the host; what a CUDA graph repeats is not among them.
    rules : function
        Gives a context in which values are not read on the host.
    """

    def __init__(
        self,
        cupy: Any,
        array: Callable[..., Any],
        monkeypatch: pytest.MonkeyPatch,
        rules: Callable[[], Any] = contextlib.nullcontext,
    ) -> None:
        self.cupy, self.array, self.rules = cupy, array, rules
        self.launches: list[Launch] = []
        find = launch._function

        def noted(file: str, name: str, dtype: str, wide: bool) -> Any:
            kernel = find(file, name, dtype, wide)

            def call(grid: tuple[int, ...], block: tuple[int, ...], args: tuple[Any, ...]) -> None:
                structures = [a for a in args if isinstance(a, np.ndarray)]
                self.launches.append(Launch(name, dtype, wide, grid, block, structures))
                kernel(grid, block, args)

            return call

        monkeypatch.setattr(launch, "_function", noted)

    def launched(self) -> set[str]:
        """The kernels launched since the start of the test."""
        return {each.name for each in self.launches}

    def unaligned(self, a: Any, dtype: str | None = None) -> Any:
        """A contiguous array with the values of `a`, which begins at no multiple of 16 bytes."""
        flat = self.array(np.concatenate([np.zeros(1, a.dtype), a.ravel()]), dtype)[1:]
        assert flat.data.ptr % 16 and flat.flags.c_contiguous
        return flat.reshape(a.shape)

    def compare(self, op: Callable[..., Any], *arrays: Any, dtype: str = "float32", **static: Any) -> None:
        """Assert that kernels answer `op`, and give what the generic op gives in float64 of the same values."""
        rounded = [a.astype(dtype) if a.dtype.kind == "f" else a for a in arrays]
        before = len(self.launches)
        given = [self.array(a) for a in rounded]
        with self.rules():
            got = op(*given, **static)
        assert len(self.launches) > before, "no kernel ran"
        with dispatch.generic_only():
            want = op(*(a.astype("float64") if a.dtype.kind not in "biu" else a for a in rounded), **static)
        results = zip(*(r if isinstance(r, tuple) else (r,) for r in (got, want)), strict=True)
        for place, (actual, desired) in enumerate(results):
            if desired is None:
                assert actual is None
                continue
            assert isinstance(actual, self.cupy.ndarray) and actual.shape == np.shape(desired)
            if np.asarray(desired).dtype.kind != "f":
                np.testing.assert_array_equal(actual.get(), desired)
                continue
            # losses, statistics and log-sums stay in the dtype that is computed with
            wide = np.ndim(desired) == 0 or (
                place > 0 and op.__name__.endswith(("normalization", "forward", "attention"))
            )
            assert actual.dtype.name == (launch.computing_dtype(np.dtype(dtype)) if wide else dtype)
            finite = np.abs(desired)[np.isfinite(desired)]
            limit = TOLERANCE[dtype] * finite.max(initial=0.0)
            values = actual.get().astype("float64")
            np.testing.assert_allclose(values, desired, rtol=TOLERANCE[dtype], atol=limit)
