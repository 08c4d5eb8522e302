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


@contextlib.contextmanager
def watch_kernels(ran: list[str]) -> Iterator[None]:
    """Inside, each op that a compiled kernel computes is noted in `ran`."""
    dispatch.kernels_for(array_namespace(np.empty(0)))
    for module, _ in loading.KERNELS.values():
        loading.load(module)
    with own_kernels():
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


class Watched:
    """A module of compiled functions that notes each call in `ran`, such as ``"pooling.max_pooling"``."""

    def __init__(self, module: Any, ran: list[str]) -> None:
        self.module, self._ran = module, ran

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.module, name)
        if not callable(found):
            return found

        def watched(*args: Any, **kwargs: Any) -> Any:
            self._ran.append(f"{self.module.__name__.rpartition('.')[2]}.{name}")
            return found(*args, **kwargs)

        return watched
