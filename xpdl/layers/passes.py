"""Wrappers of a layer's methods: passes compute with values alone, each forward is good for one backward."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from xpdl.backends.arrays import HostArray
from xpdl.backends.graphs import on_values
from xpdl.layers.option_order import own_order
from xpdl.option_names import OF_LAYER, known_options

Pass = Callable[..., Any]

# first arguments that have no graph; the gradient of a loss begins with a number
_VALUES = (HostArray, float)


def constructor(method: Pass) -> Pass:
    """Decorator of a constructor that refuses options under the names, and in the order, that other libraries have."""
    return known_options(OF_LAYER)(own_order(method))


def forward_pass(method: Pass) -> Pass:
    """Decorator of a pass that saves what one `backward_pass` needs."""
    values = on_values(method)

    @functools.wraps(method)
    def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
        y = (method if args and type(args[0]) in _VALUES else values)(self, *args, **kwargs)
        self.used_up = False
        return y

    return forward


def backward_pass(method: Pass) -> Pass:
    """Decorator of a pass that uses up what `forward_pass` saved, unless ``repeatable_backward`` is true.

    A layer that is called in two places before its backward has saved the second call alone: a second backward would give
    the first call the gradient of the second, and is an error.
    """
    values = on_values(method)

    @functools.wraps(method)
    def backward(self: Any, *args: Any, **kwargs: Any) -> Any:
        if self.used_up:
            raise RuntimeError(
                f"{self.name}: backward has used up what the last forward saved; call forward before each backward, and "
                "make one layer for each place that needs one"
            )
        dx = (method if args and type(args[0]) in _VALUES else values)(self, *args, **kwargs)
        self.used_up = not self.repeatable_backward
        return dx

    return backward


#: method of a layer -> its wrapper
WRAPPERS = {
    "__init__": constructor,
    "forward": forward_pass,
    "forward_fused": forward_pass,
    "backward": backward_pass,
    "backward_fused": backward_pass,
    "backward_parameters": backward_pass,
}
