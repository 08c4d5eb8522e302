"""Shared by the importers: the reader, and what they ask of the inputs of a node."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np

from xpdl.layers.base import Layer
from xpdl.onnx.arranging import arranged
from xpdl.onnx.nodes import BATCH, ONE, Given, Node, Signal, signal
from xpdl.onnx.source import HostArray, Unmapped
from xpdl.onnx.steps import Part, Step, row_after


class Reader(Protocol):
    """The reader of a file, as importers see it."""

    class_names: list[str] | None
    #: constant tables, and the steps that look rows up in them
    tables: list[tuple[HostArray, Step]]
    #: inputs that are booleans
    booleans: set[str]
    #: whether the file transposes an input from (N, H, W, C)
    channels_last: bool

    def weights(self, value: Given, what: str) -> HostArray:
        """Return a constant as floats that a layer may own."""

    def constant_of(self, name: str) -> HostArray | None:
        """Return the one constant of the file that a value is, or is a part of."""

    def is_used(self, name: str) -> bool:
        """Return whether a node takes a value, or it is an output."""


Importer = Callable[..., Signal | tuple[Signal | None, ...]]


def then(node: Node, x: Signal, layer: Part, axes: tuple[int, ...] | None = None) -> Signal:
    """Return the output of a layer; its axes are those of `x`, unless others are given."""
    shape = row_after(layer, x.step.shape) if isinstance(layer, Layer) else x.step.shape
    step = Step(node.outputs[0], layer, x.step, shape=shape)
    return Signal(step, x.axes if axes is None else axes, x.order)


def grids_of(node: Node, x: Given) -> Signal:
    """Return a value that is a batch of signals (N, C, L), images (N, C, H, W) or volumes (N, C, D, H, W)."""
    x = signal(x)
    grids = Signal(x.step, x.axes[1:], x.order)
    if not _in_batches(x) or not 3 <= len(x.axes) <= 5 or not x.real:
        raise Unmapped(f"its input is no batch of images (N, C, H, W), signals or volumes: rows are of shape {x.row}")
    grids = arranged(node.outputs[0], grids)
    return Signal(grids.step, (x.axes[0], *grids.axes))


def _in_batches(x: Signal) -> bool:
    """Return whether the first axis is that of the batch, or of size 1 where there is none."""
    return bool(x.axes) and (x.axes[0] == BATCH or (x.axes[0] == ONE and BATCH not in x.axes))


def features_of(x: Given) -> Signal:
    x = signal(x)
    if len(x.axes) != 2 or not _in_batches(x) or x.axes[1] < 0:
        raise Unmapped(f"its input is no batch of features (N, D): rows are of shape {x.row}")
    return x


def ordered(x: Signal, values: HostArray) -> HostArray:
    """Return values for the features of `x` in the file, along their first axis, in the order of xpdl."""
    if x.order is None:
        return values
    if x.order.size != values.shape[0]:
        raise Unmapped(f"it has {values.shape[0]} values for {x.order.size} features")
    ordered = np.empty_like(values)
    ordered[x.order] = values
    return ordered


def bias_of(values: HostArray, units: int) -> HostArray:
    if values.shape not in ((), (1,), (units,), (1, 1), (1, units)):
        raise Unmapped(f"its bias of shape {values.shape} is not one value for each of {units} units")
    return np.array(np.broadcast_to(values.reshape(-1), (units,)))
