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
    """Traces steps: functions of arrays and numbers, which are arguments of the compiled step.

    The arrays that its steps keep from call to call are donated: their memory is that of the results. What another owner has
    put in the place of one is copied before, so that this owner's array stays valid.
    """

    traces_steps: Literal[True] = True
    #: steps that are made before one is traced
    warm_up = 0

    def __init__(self) -> None:
        #: what the last step has made, by its identity, and is nobody else's
        self.made: dict[int, Array] = {}

    def __reduce__(self) -> Any:
        return Compiler, ()

    def alike(self) -> AbstractContextManager[None]:
        """Change nothing inside: the ops of an eager step are those of a compiled one."""
        return contextlib.nullcontext()

    def compiled(self, body: Callable[..., Any]) -> Compiled:
        """Return `body` compiled."""
        return Compiled(body, self.made)


def compiler(device: Any) -> Compiler:
    """Return the compiler of steps; the function that it compiles runs where its arguments are."""
    return Compiler()


class Compiled:
    """A step that is compiled at its first call, and anew where shapes or dtypes are others.

    Parameters
    ----------
    body : callable
        ``body(kept, numbers, batch)`` -> (new values of `kept`, other results).
    made : dict
        The ``made`` of its `Compiler`.

    Attributes
    ----------
    traces : int
        Times that `body` was called.
    """

    def __init__(self, body: Callable[..., Any], made: dict[int, Array]) -> None:
        self.traces, self._made = 0, made

        def traced(kept: list[Array], keys: dict[str, Array], numbers: Any, batch: tuple[Array, ...]) -> Any:
            self.traces += 1
            with dropout.traced_keys(keys):
                return body(kept, numbers, batch)

        self._function = jax.jit(traced, donate_argnums=0)

    def trace(self, *arguments: Any) -> None:
        """Call `body` with stand-ins for the arguments of a call, and compute nothing."""
        self._function.trace(*_given(*arguments))

    def __call__(
        self, kept: Sequence[Array], counters: Mapping[Words, int], numbers: Any, batch: tuple[Array, ...]
    ) -> Any:
        """Make a step, with the masks of these counters, and return what `body` does."""
        # each once, also where it is in two places
        own = [a if self._made.pop(id(a), None) is a else a.copy() for a in kept]
        new, others = self._function(*_given(own, counters, numbers, batch))
        self._made.clear()
        self._made.update({id(a): a for a in new})
        return new, others


def _given(kept: Sequence[Array], counters: Mapping[Words, int], numbers: Any, batch: Any) -> Any:
    """Return the arguments of the traced function."""
    keys = {
        dropout.stream_name(words): np.asarray(mask_keys(words, n), dtype=np.uint32) for words, n in counters.items()
    }
    return kept, keys, numbers, batch
