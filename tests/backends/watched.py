"""A record of the compiled kernels that ran."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from xpdl.backends import dispatch, registry
from xpdl.backends.namespaces import array_namespace
from xpdl.backends.numba import loading


@contextlib.contextmanager
def own_kernels() -> Iterator[None]:
    """Inside, kernels may be registered and withdrawn; afterwards they are those of before."""
    before = dict(registry._kernels)
    try:
        yield
    finally:
        for key in registry._kernels.keys() - before.keys():
            registry.withdraw(*key)
        for key, function in before.items():
            registry.kernel(*key)(function)


def load_compiled() -> None:
    """Put all compiled kernels in the places of those that load them."""
    dispatch.kernels_for(array_namespace(np.empty(0)))
    for op, (module, _) in loading.KERNELS.items():
        if (loaded := loading.load(module)) is not None:
            registry.kernel("numba", op)(getattr(loaded, op))


@contextlib.contextmanager
def watch_kernels(ran: list[str]) -> Iterator[None]:
    """Inside, each op that a compiled kernel computes is noted in `ran`."""
    with own_kernels():
        load_compiled()
        for (group, op), function in list(registry._kernels.items()):
            if group == "numba":
                registry.kernel(group, op)(_watched(op, function, ran))
        yield


def _watched(op: str, function: Callable[..., Any], ran: list[str]) -> Callable[..., Any]:
    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        result = function(*args, **kwargs)
        if result is not registry.DECLINE:
            ran.append(op)
        return result

    return call


class _Kernels:
    """The kernels of NumPy's arrays as functions, Numba's before NumPy's; `DECLINE` where all decline."""

    def __getattr__(self, op: str) -> Any:
        dispatch.kernels_for(array_namespace(np.empty(0)))
        return functools.partial(registry.call, "numpy", op)


kernels = _Kernels()
