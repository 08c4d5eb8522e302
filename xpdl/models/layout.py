"""Order of the axes of images, which a model cannot see from the shape for certain."""

from __future__ import annotations

import warnings

from xpdl.layers.affine import Affine
from xpdl.layers.base import Shape
from xpdl.layers.composite import Composite
from xpdl.layers.convolution import Convolution
from xpdl.layers.flatten import Flatten
from xpdl.layers.pooling import AveragePooling, GlobalAveragePooling, GlobalMaxPooling, Pooling

_COLOURS = (1, 3, 4)
_SMALLEST = 8  # side of an image


def warn_of_channels_last(model: Composite, input_shape: Shape) -> None:
    """Warn of images (N, H, W, C), which convolution and pooling take for H channels of W x C pixels."""
    if len(input_shape) != 3 or input_shape[2] not in _COLOURS or min(input_shape[:2]) < _SMALLEST:
        return
    for layer in model.leaves():
        if isinstance(layer, (Affine, Flatten)):
            return
        if isinstance(layer, (Convolution, Pooling, AveragePooling, GlobalAveragePooling, GlobalMaxPooling)):
            channels, height, width = input_shape
            warnings.warn(
                f"{model.name}: rows of shape {input_shape} are taken for {channels} channels of {height} x {width} pixels; "
                "of images with the channels last, pass x.transpose(0, 3, 1, 2)",
                stacklevel=4,
            )
            return
