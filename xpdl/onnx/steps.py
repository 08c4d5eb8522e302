"""Steps that a file was read as: layers, and what becomes part of the layers beside it, each with those that it needs."""

from __future__ import annotations

import numpy as np

from xpdl.layers.affine import Affine
from xpdl.layers.base import Layer
from xpdl.layers.convolution import Convolution
from xpdl.layers.convolution_transpose import ConvolutionTranspose
from xpdl.layers.flatten import Flatten
from xpdl.layers.merging import Concatenate
from xpdl.layers.pooling import AveragePooling, GlobalAveragePooling, GlobalMaxPooling, Pooling
from xpdl.layers.rearranging import Permute, Reshape, Slice
from xpdl.layers.upsampling import UpSampling
from xpdl.onnx.source import HostArray, Unmapped

# sizes of one row; None for one that is not known
Row = tuple[int | None, ...]


class Scaling:
    """``scale x + shift``: part of the layer before it or after it, or a `ScaleShift`.

    Parameters
    ----------
    node : str
        For messages.
    scale, shift : array
        A number, or as many axes as a row has, of size 1 where the values do not depend on them.
    rank : int
        Axes of a row.
    """

    def __init__(self, node: str, scale: HostArray, shift: HostArray, rank: int) -> None:
        self.node, self.scale, self.shift, self.rank = node, scale, shift, rank


class Border:
    """A value that is added around images: part of the window after it.

    Parameters
    ----------
    node : str
        For messages.
    value : float
    pads : tuple of (before, after)
        Of each axis behind the channels.
    """

    def __init__(self, node: str, value: float, pads: tuple[tuple[int, int], ...]) -> None:
        self.node, self.value, self.pads = node, value, pads


class Unfinished:
    """A value between the nodes of one layer, such as the scores of an attention.

    Parameters
    ----------
    node, before : str
        The node that gives it, and a value before it, for messages.
    """

    def __init__(self, node: str, before: str) -> None:
        self.node, self.before = node, before


Part = Layer | Scaling | Border | Unfinished


class Step:
    """A layer, an input, or a sum, among the others of a graph.

    Parameters
    ----------
    name : str
        Of its output in the file.
    layer : Layer, Scaling, Border, Unfinished or None
        None for inputs, and for sums of two rows of one shape.
    *inputs : Step
    shape : tuple of int or None
        Of one row of the output; None for a size that is not known.
    """

    def __init__(self, name: str, layer: Part | None, *inputs: Step, shape: Row) -> None:
        self.name, self.layer, self.inputs, self.shape = name, layer, inputs, shape
        # the step that every way from an input to here goes through last
        self.fork: Step | None = _meeting(inputs)
        self.depth: int = 0 if self.fork is None else self.fork.depth + 1


def _meeting(steps: tuple[Step, ...]) -> Step | None:
    """Return the last step that all ways to `steps` go through; None if there is none."""
    if not steps:
        return None
    a: Step | None = steps[0]
    for other in steps[1:]:
        b: Step | None = other
        while a is not b:
            if a is None or b is None:
                return None
            a, b = (a.fork, b) if a.depth >= b.depth else (a, b.fork)
    return a


def row_after(layer: Layer, *shapes: Row) -> Row:
    """Return the shape of a row of the output, also where some sizes of the input are not known."""
    if all(None not in shape for shape in shapes):
        known = [tuple(size for size in shape if size is not None) for shape in shapes]
        found: Row = layer.output_shape(*known)
        return found
    shape = shapes[0]
    if isinstance(layer, (Concatenate, Permute, Reshape, Slice)):
        raise Unmapped("the sizes of a row are not known", "give input_shape=")
    if isinstance(layer, Affine):
        return (layer.units,) if layer.axis == 1 else (*shape[:-1], layer.units)
    if isinstance(layer, Flatten):
        return (None,)
    if isinstance(layer, (GlobalAveragePooling, GlobalMaxPooling)):
        return shape[:1]
    if isinstance(layer, (Convolution, ConvolutionTranspose, Pooling, AveragePooling, UpSampling)):
        channels = layer.filters if isinstance(layer, (Convolution, ConvolutionTranspose)) else shape[0]
        return (channels, *[None] * (len(shape) - 1))
    return shape


def known(row: Row) -> tuple[int, ...]:
    """Return sizes that are all known."""
    if None in row:
        raise Unmapped("the sizes of a row are not known", "give input_shape=")
    return tuple(size for size in row if size is not None)


def along_first(values: HostArray) -> HostArray | None:
    """Return one number, or one for each entry of the first axis of a row; None where they depend on others."""
    if values.size == 1:
        return np.reshape(values, ())
    return values.reshape(-1) if values.shape[0] == values.size else None
