"""Numbers that steps of a file compute of others, by which what they make together is recognised."""

from __future__ import annotations

from typing import Any

import numpy as np

from xpdl.layers.base import Layer
from xpdl.onnx.source import HostArray
from xpdl.onnx.steps import Scaling, Step, Unfinished

#: steps, and numbers of a value, that are looked into
_MOST_STEPS, MOST_VALUES = 24, 2**22


class Function(Unfinished):
    """A function of values that is no layer by itself.

    Parameters
    ----------
    node, before : str
        For messages.
    function : callable
        Arrays -> an array of the same shape.
    """

    def __init__(self, node: str, before: str, function: Any) -> None:
        super().__init__(node, before)
        self.function = function


class Mean(Unfinished):
    """The mean along axes of a batch, which stay with size 1.

    Parameters
    ----------
    node, before : str
        For messages.
    axes : tuple of int
    """

    def __init__(self, node: str, before: str, axes: tuple[int, ...]) -> None:
        super().__init__(node, before)
        self.axes = axes

    def forward(self, x: HostArray) -> HostArray:
        return np.asarray(np.mean(x, axis=self.axes, keepdims=True))


def values_of(end: Step, base: Step, x: HostArray, kinds: tuple[type[Layer | Mean], ...]) -> HostArray | None:
    """Return what the steps after `base` compute of `x` up to `end`.

    None stands for steps of other kinds than `kinds`, sums, scalings and functions, for too many of them, or for arrays that
    do not fit together.
    """
    found: dict[Step, HostArray] = {base: x}
    waiting = [end]
    while waiting:
        step = waiting[-1]
        before = [one for one in step.inputs if one not in found]
        if step in found:
            waiting.pop()
        elif before:
            waiting += before
        else:
            value = _value(step, [found[one] for one in step.inputs], kinds)
            if value is None or len(found) > _MOST_STEPS:
                return None
            found[step] = value
    return found[end]


def _value(step: Step, inputs: list[HostArray], kinds: tuple[type[Layer | Mean], ...]) -> HostArray | None:
    layer = step.layer
    if not inputs:
        return None
    if layer is None:
        return inputs[0] + inputs[1]
    if isinstance(layer, Function):
        with np.errstate(all="ignore"):
            return np.asarray(layer.function(*inputs))
    if isinstance(layer, Scaling):
        shape = np.broadcast_shapes((1, *layer.scale.shape), (1, *layer.shift.shape), (1,) * inputs[0].ndim)
        fits = len(shape) == inputs[0].ndim and all(a in (1, b) for a, b in zip(shape, inputs[0].shape, strict=True))
        return inputs[0] * layer.scale + layer.shift if fits else None
    return layer.forward(*inputs) if isinstance(layer, kinds) else None
