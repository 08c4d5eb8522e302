"""Transforms of the values of pixels, where they are."""

from __future__ import annotations

import math

from xpdl.backends.namespaces import Array, array_namespace
from xpdl.backends.random import Stream, random_bits
from xpdl.data.augment.base import Transform, beside, number, ordered, working_dtype


class Brightness(Transform):
    """Make images brighter or darker: all values of one are multiplied by one number.

    Parameters
    ----------
    low, high : float
        The number lies between them, every one equally likely.

    Raises
    ------
    TypeError, ValueError
        If they are not numbers of at least 0 in order.

    Notes
    -----
    0 stays 0, so that images should not have been centred before. Values are not clipped.
    """

    def __init__(self, low: float = 0.8, high: float = 1.2) -> None:
        self.low, self.high = (number(value, name, "Brightness", 0.0) for value, name in ((low, "low"), (high, "high")))
        ordered(self.low, self.high, "Brightness")

    def apply(self, x: Array, stream: Stream) -> Array:
        factors = self.generator(stream, "factor").uniform(self.low, self.high, (x.shape[0], 1, 1, 1))
        return x * beside(factors, x, x.dtype)


class Noise(Transform):
    """Add noise: to each value a normal random number of its own.

    Parameters
    ----------
    std : float
        Its standard deviation, in the unit of the values.

    Raises
    ------
    TypeError, ValueError
        If `std` is no number of at least 0.

    Notes
    -----
    One number per value is too many to be drawn on the host: they come from `xpdl.backends.random.random_bits` on the
    device, the same on every backend up to rounding, by G. E. P. Box and M. E. Muller, "A Note on the Generation of
    Random Normal Deviates", 1958. None lies further out than 5.8 standard deviations. Values are not clipped.
    """

    def __init__(self, std: float = 0.05) -> None:
        self.std = number(std, "std", "Noise", 0.0)

    def apply(self, x: Array, stream: Stream) -> Array:
        xp = array_namespace(x)
        radius = xp.sqrt(-2.0 * xp.log(1.0 - uniform(x, stream.words("Noise.radius"))))
        normal = radius * xp.cos(2.0 * math.pi * uniform(x, stream.words("Noise.angle")))
        return xp.astype(xp.astype(x, normal.dtype) + self.std * normal, x.dtype)


def uniform(like: Array, words: tuple[int, ...]) -> Array:
    """Multiples of 2**-24 in [0, 1), one per element of `like`, where that is; float64 for that, otherwise float32."""
    xp = array_namespace(like)
    return xp.astype(random_bits(like, words, 0), working_dtype(xp, like)) * 2.0**-24
