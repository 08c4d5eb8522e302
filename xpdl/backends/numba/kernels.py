"""Registration of the compiled kernels; importing this module registers placeholders that load them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from xpdl.backends.cpu import thread_pool
from xpdl.backends.numba import loading
from xpdl.backends.registry import DECLINE, kernel, withdraw


def _placeholder(op: str, module: str, at_least: int) -> Callable[..., Any]:
    """A kernel for `op` that loads the compiled one into its place at the first call that is worth it."""

    def load(*args: Any, **kwargs: Any) -> Any:
        arrays = args[0] if args else next(iter(kwargs.values()))
        if at_least and _elements(arrays) < at_least:
            return DECLINE
        loaded = loading.load(module)
        if loaded is None:
            withdraw("numba", op)
            return DECLINE
        return kernel("numba", op)(getattr(loaded, op))(*args, **kwargs)

    return load


def _elements(arrays: Any) -> int:
    return sum(a.size for a in arrays) if isinstance(arrays, list) else arrays.size


if loading.switched_off() is None:
    for _op, (_module, _at_least) in loading.KERNELS.items():
        kernel("numba", _op)(_placeholder(_op, _module, _at_least))
    thread_pool.wait_by(lambda: loading.load("xpdl.backends.numba.spin_wait"))
