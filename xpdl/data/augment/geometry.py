"""Transforms that turn, scale and bend images; values are blended from those of four pixels."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from xpdl.backends.namespaces import Array, array_namespace, device
from xpdl.backends.random import Stream
from xpdl.data.augment.base import Transform, beside, number, ordered, working_dtype
from xpdl.data.augment.resampling import affine, bilinear, pixels
from xpdl.data.augment.values import uniform


class Rotate(Transform):
    """Turn images around their centre; what comes in from outside is 0.

    Parameters
    ----------
    degrees : float or pair
        Each image turns by up to so many degrees either way, every angle equally likely. A pair is (lowest, highest);
        positive angles turn counter-clockwise.

    Raises
    ------
    TypeError, ValueError
        If `degrees` is negative where it is one number, no number, or not in order.
    """

    def __init__(self, degrees: float | tuple[float, float] = 10.0) -> None:
        if isinstance(degrees, (tuple, list)) and len(degrees) == 2:
            low, high = (number(value, "degrees", "Rotate") for value in degrees)
            ordered(low, high, "Rotate")
        else:
            high = number(degrees, "degrees", "Rotate", 0.0)
            low = -high
        self.degrees = low, high

    def apply(self, x: Array, stream: Stream) -> Array:
        angles = np.radians(self.generator(stream, "degrees").uniform(*self.degrees, x.shape[0]))
        cos, sin = np.cos(angles), np.sin(angles)
        # rows count downwards: where a pixel of the turned image comes from
        matrices = np.stack([cos, sin, -sin, cos], axis=1).reshape(-1, 2, 2)
        return affine(x, matrices, np.zeros((x.shape[0], 2)))


class Scale(Transform):
    """Make images larger or smaller around their centre, in a frame that stays; what comes in from outside is 0.

    Parameters
    ----------
    low, high : float
        Each image is made larger by a factor between them, every one equally likely; below 1 it becomes smaller.

    Raises
    ------
    TypeError, ValueError
        If they are not positive numbers in order.
    """

    def __init__(self, low: float = 0.9, high: float = 1.1) -> None:
        self.low, self.high = (number(value, name, "Scale") for value, name in ((low, "low"), (high, "high")))
        if self.low <= 0.0:
            raise ValueError(f"Scale: low must be positive, got {low!r}")
        ordered(self.low, self.high, "Scale")

    def apply(self, x: Array, stream: Stream) -> Array:
        factors = self.generator(stream, "factor").uniform(self.low, self.high, x.shape[0])
        return affine(x, np.eye(2) / factors.reshape(-1, 1, 1), np.zeros((x.shape[0], 2)))


class Elastic(Transform):
    """Bend images as if they were drawn on rubber: each pixel moves at random, and neighbours move alike.

    Parameters
    ----------
    alpha : float
        How far, in pixels: the uniform random numbers from -1 to 1 that are smoothed become so many times larger. The
        root mean square of a pixel's move along one axis is about ``alpha / (6.1 * sigma)``, less towards the border.
    sigma : float
        The standard deviation, in pixels, of the Gaussian they are smoothed by. Small ones tremble, large ones shift.

    Raises
    ------
    TypeError, ValueError
        If `alpha` is negative or `sigma` not positive.

    Notes
    -----
    P. Y. Simard, D. Steinkraus, J. C. Platt, "Best Practices for Convolutional Neural Networks Applied to Visual Document
    Analysis", 2003, whose values for MNIST in 29x29 are the defaults. The field is random numbers inside of the image and
    0 outside, before it is smoothed.
    """

    def __init__(self, alpha: float = 34.0, sigma: float = 4.0) -> None:
        self.alpha = number(alpha, "alpha", "Elastic", 0.0)
        self.sigma = number(sigma, "sigma", "Elastic")
        if self.sigma <= 0.0:
            raise ValueError(f"Elastic: sigma must be positive, got {sigma!r}")

    def apply(self, x: Array, stream: Stream) -> Array:
        xp = array_namespace(x)
        dtype = working_dtype(xp, x)
        places = []
        for axis, name in ((0, "down"), (1, "right")):
            size = x.shape[0], x.shape[2], x.shape[3]
            like = xp.zeros(size, dtype=dtype, device=device(x))
            field = 2.0 * uniform(like, stream.words(f"Elastic.{name}")) - 1.0
            moves = self._smoothing(size[1], x, dtype) @ field @ self._smoothing(size[2], x, dtype)
            places.append(xp.astype(pixels(size[1 + axis], x, 1 + axis), dtype) + self.alpha * moves)
        return bilinear(x, *places)

    def _smoothing(self, size: int, x: Array, dtype: Any) -> Array:
        """A matrix (size, size), equal to its transpose, that convolves a column with the Gaussian."""
        reach = np.arange(-size, size + 1)
        far = np.arange(-(size + math.ceil(8 * self.sigma)), size + math.ceil(8 * self.sigma) + 1)
        weights = np.exp(-0.5 * (reach / self.sigma) ** 2) / np.exp(-0.5 * (far / self.sigma) ** 2).sum()
        distance = np.subtract.outer(np.arange(size), np.arange(size))
        return beside(weights[distance + size], x, dtype)
