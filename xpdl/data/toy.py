"""Toy data sets in the plane, drawn from a seed on the host and moved to the backend in use."""

from __future__ import annotations

from typing import Any

import numpy as np

from xpdl.backends import asarray
from xpdl.backends.namespaces import Array
from xpdl.backends.random import next_stream
from xpdl.ops.checks import number, positive_int


def spiral(
    n_per_class: int = 100, classes: int = 3, *, noise: float = 0.2, seed: int | None = None
) -> tuple[Array, Array]:
    """Interleaved arms of a spiral, one class each.

    Parameters
    ----------
    n_per_class, classes : int
    noise : float
        Standard deviation of the angle, in radians.
    seed : int, optional
        By default the points follow `xpdl.seed`.

    Returns
    -------
    x : floating array (classes * n_per_class, 2), within the unit circle
    t : integer array (classes * n_per_class,)

    Raises
    ------
    ShapeError
        If a count is not a positive int.
    ValueError
        If `noise` is negative or not finite.
    """
    positive_int(n_per_class, "n_per_class", "spiral")
    positive_int(classes, "classes", "spiral")
    noise = number(noise, "noise", "spiral", "at least 0")
    rng = next_stream("spiral", seed).generator("points")
    t = np.repeat(np.arange(classes), n_per_class)
    radius = np.tile(np.arange(n_per_class) / n_per_class, classes)
    angle = 4 * (t + radius) + noise * rng.standard_normal(t.size)
    return _placed(np.stack([radius * np.sin(angle), radius * np.cos(angle)], axis=1), t)


def moons(n: int = 200, *, noise: float = 0.1, seed: int | None = None) -> tuple[Array, Array]:
    """Two half circles that reach into each other, in random order.

    Parameters
    ----------
    n : int
        Points in all.
    noise : float
        Standard deviation of each coordinate.
    seed : int, optional
        By default the points follow `xpdl.seed`.

    Returns
    -------
    x : floating array (n, 2)
    t : integer array (n,) of 0 and 1

    Raises
    ------
    ShapeError
        If a count is not a positive int.
    ValueError
        If `noise` is negative or not finite.
    """
    positive_int(n, "n", "moons")
    noise = number(noise, "noise", "moons", "at least 0")
    stream = next_stream("moons", seed)
    rng, order = stream.generator("points"), stream.generator("order")
    t = np.arange(n) % 2
    angle = np.pi * rng.random(n)
    upper = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    lower = np.stack([1 - np.cos(angle), 0.5 - np.sin(angle)], axis=1)
    x = np.where(t[:, None] == 0, upper, lower) + noise * rng.standard_normal((n, 2))
    return _placed(x, t, order)


def xor_points(n: int = 200, *, noise: float = 0.1, seed: int | None = None) -> tuple[Array, Array]:
    """Clouds around the corners of the unit square, labelled by the exclusive or of their coordinates, in random order.

    Parameters
    ----------
    n : int
        Points in all.
    noise : float
        Standard deviation of each coordinate.
    seed : int, optional
        By default the points follow `xpdl.seed`.

    Returns
    -------
    x : floating array (n, 2)
    t : integer array (n,) of 0 and 1

    Raises
    ------
    ShapeError
        If a count is not a positive int.
    ValueError
        If `noise` is negative or not finite.
    """
    positive_int(n, "n", "xor_points")
    noise = number(noise, "noise", "xor_points", "at least 0")
    stream = next_stream("xor_points", seed)
    rng, order = stream.generator("points"), stream.generator("order")
    corner = np.stack([np.arange(n) // 2 % 2, np.arange(n) % 2], axis=1)
    return _placed(corner + noise * rng.standard_normal((n, 2)), corner[:, 0] ^ corner[:, 1], order)


def _placed(
    x: np.ndarray[Any, Any], t: np.ndarray[Any, Any], order: np.random.Generator | None = None
) -> tuple[Array, Array]:
    # classes in turn would make every second row a row of one class
    rows = np.arange(len(t)) if order is None else order.permutation(len(t))
    return asarray(x[rows]), asarray(t[rows])
