"""Smoothing of loss curves."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Mapping
from typing import Any

from xpdl.backends import asnumpy
from xpdl.backends.namespaces import Array, array_namespace, device, is_array
from xpdl.ops.checks import as_floating, require_rank

_REACH = 5  # to each side: a window of 11
_BETA = 2.0


def smooth_curve(x: Any) -> Array:
    """A curve of losses, smoothed by a Kaiser window of 11 points (the book's ch. 7.5).

    Parameters
    ----------
    x : sequence of numbers, or array (n,) of any library
        Any length; the book's function gives back fewer points than it got for curves of fewer than 11.

    Returns
    -------
    array (n,)
        A NumPy array for a sequence, else of the library and device of `x`. The ends are mirrored as in the book: the
        first point stands once, the last one twice.

    Raises
    ------
    ShapeError
        If `x` is not one curve.

    Examples
    --------
    >>> smooth_curve([1.0, 1.0, 1.0]).round(3)
    array([1., 1., 1.])
    """
    owner = "smooth_curve"
    if not is_array(x):
        if isinstance(x, (str, Mapping)) or not isinstance(x, Iterable):
            raise TypeError(f"{owner}: expected an array or a sequence of numbers, got {x!r}")
        x = asnumpy(list(x))
    x = as_floating(x, owner)
    require_rank(x, 1, owner, "one curve (n,)")
    xp = array_namespace(x)
    points = x.shape[0]
    if points == 0:
        return x
    period = 2 * points - 1
    places = [place % period for place in range(-_REACH, points + _REACH)]
    mirrored = [place if place < points else period - place for place in places]
    padded = xp.take(x, xp.asarray(mirrored, device=device(x)), axis=0)
    weights = [_bessel_i0(_BETA * math.sqrt(1 - (k / _REACH) ** 2)) for k in range(-_REACH, _REACH + 1)]
    total = sum(weights)
    terms = [xp.multiply(padded[k : k + points], weight / total) for k, weight in enumerate(weights)]
    return functools.reduce(xp.add, terms)


def _bessel_i0(x: float) -> float:
    """The modified Bessel function of order 0, by its power series."""
    return sum(((x / 2) ** k / math.factorial(k)) ** 2 for k in range(20))
