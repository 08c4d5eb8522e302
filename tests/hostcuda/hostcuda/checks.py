"""Check more than a GPU could: ``pytest -p hostcuda.checks``.

In calls under a backend's rules, a read of device memory on the host is an error; and each launch of xpdl's kernels is
checked against the types of the kernel's parameters. With ``HOSTCUDA_GUARD=1`` arrays do not come from CuPy's pool, so that
each ends at a guard page.
"""

from __future__ import annotations

import contextlib
import functools
import os
import sys
from typing import Any

import numpy as np
import pytest

from hostcuda import core


def check(name: str, words: list[str], args: tuple[Any, ...]) -> None:
    """Compare a launch's arguments (arrays, int, float, 0 for a null pointer, NumPy structures) with `core.words`.

    Arrays are C-contiguous, or all images among them channels-last; a kernel that goes over memory would pair other values.
    """
    import cupy

    orders = {_order(name, value) for value in args if isinstance(value, cupy.ndarray)} - {"any"}
    assert len(orders) <= 1, f"{name}: images in two orders"
    assert len(args) == len(words), f"{name} takes {words}, got {len(args)} arguments"
    for value, word in zip(args, words, strict=True):
        if isinstance(value, cupy.ndarray):
            assert word[0] == "*", f"{name}: an array where {word} is expected"
            kind, dtype = word.lstrip("*"), str(value.dtype.name)
            same = kind == dtype or (kind.startswith("struct") and value.itemsize == int(kind[6:]))
            assert same, f"{name}: {dtype} where {word} is expected"
            assert value.data.device_id == cupy.cuda.device.get_device_id(), f"{name}: an array of another device"
        elif word[0] == "*":
            assert type(value) is int and value == 0, f"{name}: {value!r} for a pointer"
        elif word.startswith("struct"):
            assert isinstance(value, (np.ndarray, np.void)) and value.size == 1, f"{name}: {value!r} for a structure"
            assert value.nbytes == int(word[6:]), f"{name}: {value.nbytes} bytes for {word}"
        else:
            assert type(value) is {"int64": int, "float64": float}[word], f"{name}: {value!r} where {word} is expected"


def _order(name: str, a: Any) -> str:
    """The order of images in memory; any is that of other arrays, and of images with one channel or pixel."""
    images = a.ndim == 4 and a.transpose(0, 2, 3, 1).flags.c_contiguous
    assert images or a.flags.c_contiguous, f"{name}: an array that is not C-contiguous"
    if a.ndim != 4 or (images and a.flags.c_contiguous):
        return "any"
    return "channels-last" if images else "NCHW"


def pytest_configure(config: pytest.Config) -> None:
    """Check every launch of xpdl's kernels."""
    import cupy

    if os.environ.get("HOSTCUDA_GUARD", "0") != "0":
        cupy.cuda.set_allocator(None)
    from xpdl.backends.cupy import launch

    find = launch._function.__wrapped__

    @functools.cache
    def checked(*key: Any) -> Any:
        kernel = find(*key)

        def call(grid: tuple[int, ...], block: tuple[int, ...], args: tuple[Any, ...]) -> None:
            # the first access to `kernel` compiles it for the current device
            check(str(key), core.words(kernel.kernel.ptr), args)
            assert all(type(size) is int and size > 0 for size in (*grid, *block)), (key, grid, block)
            kernel(grid, block, args)

        return call

    launch._function = checked
    _allow_reads_of_planning()


def _allow_reads_of_planning() -> None:
    """A plan of cuDNN that includes relu is tried once, when it is made, and the host reads whether it keeps NaN."""
    from xpdl.backends.cupy import cudnn

    keeps_nan = cudnn._Device._keeps_nan

    @functools.wraps(keeps_nan)
    def allowed(*args: Any) -> bool:
        with core.no_reads(refuse=False):
            return keeps_nan(*args)

    cudnn._Device._keeps_nan = allowed


def pytest_report_header() -> str:
    protection = core.protection()
    if protection == "none":
        return "hostcuda: device memory is not protected: no memory protection keys here; HOSTCUDA_PROTECT=1 is slower"
    return f"hostcuda: device memory is protected by {protection}"


def pytest_collection_finish(session: pytest.Session) -> None:
    """Forbid reads on the host in calls under the rules of `tests.harness.Backend`."""
    harness = sys.modules.get("tests.harness")
    if harness is None:
        return
    rules = harness.Backend.rules

    @contextlib.contextmanager
    def stricter(self: Any) -> Any:
        with contextlib.ExitStack() as stack:
            stack.enter_context(rules(self))
            if self.spec.library == "cupy" and self.spec.gpu:
                stack.enter_context(core.no_reads())
            yield

    harness.Backend.rules = stricter
