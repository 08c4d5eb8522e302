"""A row of the table of layers."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

Arrays = dict[str, Any]


@dataclasses.dataclass(frozen=True, eq=False)
class Row:
    """A layer in one configuration.

    Attributes
    ----------
    make : function
        Of named arrays, those of `params` and `constants`; gives the layer.
    oracle : function
        ``(*inputs, arrays)`` -> output, in NumPy and float64.
    inputs : tuple of arrays
        What ``forward`` takes.
    params : dict
        Under the names that the layer's own ``params`` has.
    constants : dict
        Arrays that have no gradient.
    wrt : int
        How many of the inputs have gradients.
    core : bool
        Run also where compiling is slow, in float16 and in odd memory layouts.
    """

    id: str
    make: Callable[[Arrays], Any]
    oracle: Callable[..., Any]
    inputs: tuple[Any, ...]
    params: Arrays = dataclasses.field(default_factory=dict)
    constants: Arrays = dataclasses.field(default_factory=dict)
    wrt: int = 1
    core: bool = False

    @functools.cached_property
    def cls(self) -> type:
        return type(self.make({**self.params, **self.constants}))
