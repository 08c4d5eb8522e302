"""Training steps that `jax.jit` compiles as a whole."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Literal

import jax
import numpy as np

from xpdl.backends.jax import dropout
from xpdl.backends.jax.arrays import Array
from xpdl.backends.random import mask_keys

Words = tuple[int, ...]


class Compiler:
    """Traces steps: functions of arrays and numbers, which are arguments of the compiled step."""

    traces_steps: Literal[True] = True
    #: steps that are made before one is traced
    warm_up = 0

    def alike(self) -> AbstractContextManager[None]:
        """Change nothing inside: the ops of an eager step are those of a compiled one."""
        return contextlib.nullcontext()

    def compiled(self, body: Callable[..., Any]) -> Compiled:
        """Return `body` compiled."""
        return Compiled(body)


def compiler(device: Any) -> Compiler:
    """Return the compiler of steps; the function that it compiles runs where its arguments are."""
    return Compiler()


class Compiled:
    """A step that is compiled at its first call, and anew where shapes or dtypes are others.

    The arrays that it keeps from call to call are donated: their memory is that of the results. What another owner has put
    in the place of one is copied before, so that this owner's array stays valid.

    Parameters
    ----------
    body : callable
        ``body(kept, numbers, batch)`` -> (new values of `kept`, other results).

    Attributes
    ----------
    traces : int
        Times that `body` was called.
    """

    def __init__(self, body: Callable[..., Any]) -> None:
        self.traces = 0
        self._last: Sequence[Array] = ()

        def traced(kept: list[Array], keys: dict[str, Array], numbers: Any, batch: tuple[Array, ...]) -> Any:
            self.traces += 1
            with dropout.traced_keys(keys):
                return body(kept, numbers, batch)

        self._function = jax.jit(traced, donate_argnums=0)

    def trace(self, *arguments: Any) -> None:
        """Call `body` with stand-ins for the arguments of a call, and compute nothing."""
        self._function.trace(*self._given(*arguments))

    def __call__(
        self, kept: Sequence[Array], counters: Mapping[Words, int], numbers: Any, batch: tuple[Array, ...]
    ) -> Any:
        """Make a step, with the masks of these counters, and return what `body` does."""
        new, others = self._function(*self._given(kept, counters, numbers, batch))
        self._last = new
        return new, others

    def _given(self, kept: Sequence[Array], counters: Mapping[Words, int], numbers: Any, batch: Any) -> Any:
        last = self._last or [None] * len(kept)
        own = [a if a is before else a.copy() for a, before in zip(kept, last, strict=True)]
        keys = {
            dropout.stream_name(words): np.asarray(mask_keys(words, n), dtype=np.uint32)
            for words, n in counters.items()
        }
        return own, keys, numbers, batch
