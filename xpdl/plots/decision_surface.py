"""Figures of the plane: decision surfaces, gradient fields and paths of optimizers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from xpdl.backends import Backend, asarray, asnumpy
from xpdl.backends.namespaces import is_array, is_floating
from xpdl.errors import ShapeError
from xpdl.gradients import numerical_gradient
from xpdl.plots.style import (
    COLOURS,
    DASHES,
    FAINT,
    INK,
    MARKERS,
    NORMAL,
    PAPER,
    Axes,
    Figure,
    Values,
    label,
    legend,
    new_figure,
    new_panels,
    tint,
)

Range = tuple[float, float]
_CONTOURS = 14
_FINE = 41  # points along a side, for contours


def decision_boundary(
    predict: Any, x: Any, t: Any, *, title: str = "", classes: Sequence[str] | None = None, resolution: int = 200
) -> Figure:
    """Draw the class that a net gives to each point of the plane, and the points themselves.

    Parameters
    ----------
    predict : model or callable
        ``predict(points)`` for an array (N, 2) of the kind of `x` -> scores (N, K), of which the largest decides; one score
        (N, 1), whose sign does; or integer labels (N,).
    x : array (N, 2)
    t : integer array (N,)
    title : str
    classes : sequence of str, optional
        Names for the legend.
    resolution : int
        Points along each side that are asked for.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ShapeError
        If `x` are no points of a plane, `t` no label for each, `predict` gives something else, or names are missing.
    """
    points, labels = asnumpy(x), asnumpy(t).astype(np.int64)
    if points.ndim != 2 or points.shape[1] != 2 or labels.shape != points.shape[:1]:
        raise ShapeError(
            f"decision_boundary: expected points (N, 2) and labels (N,), got shapes {points.shape} and {labels.shape}"
        )
    low, high = points.min(axis=0), points.max(axis=0)
    low, high = low - 0.12 * (high - low), high + 0.12 * (high - low)
    sides = [np.linspace(low[i], high[i], resolution) for i in (0, 1)]
    plane = np.stack(np.meshgrid(*sides), axis=2).reshape(-1, 2)
    backend = Backend.of(x) if is_array(x) and is_floating(x) else None
    found = _classes_of(getattr(predict, "predict", predict)(backend.asarray(plane) if backend else asarray(plane)))
    if found.shape != plane.shape[:1]:
        raise ShapeError(f"decision_boundary: predict gave shape {found.shape} for {len(plane)} points")
    count = int(max(labels.max(), found.max())) + 1
    if classes is not None and len(classes) < count:
        raise ShapeError(f"decision_boundary: {len(classes)} names for {count} classes")
    figure = new_figure(5.2, 4.4)
    axes = figure.subplots()
    label(axes, title, "$x_1$", "$x_2$")
    regions = found.reshape(resolution, resolution)
    tints = [tint(COLOURS[k % len(COLOURS)], 0.25) for k in range(count)]
    axes.contourf(*sides, regions, levels=np.arange(count + 1) - 0.5, colors=tints)
    if regions.min() < regions.max():
        axes.contour(*sides, regions, levels=np.arange(count - 1) + 0.5, colors=INK, linewidths=0.8)
    for k in range(count):
        own = points[labels == k]
        name = classes[k] if classes else f"class {k}"
        look = {"color": COLOURS[k % len(COLOURS)], "marker": MARKERS[k % len(MARKERS)]}
        axes.scatter(*own.T, s=26, edgecolors=PAPER, linewidths=0.6, label=name, **look)
    legend(axes, loc="best")
    return figure


def gradient_field(
    f: Callable[[Any], Any], *, x: Range = (-2, 2), y: Range = (-2, 2), points: int = 15, title: str = ""
) -> Figure:
    """Arrows downhill, along the negative numerical gradient, over contours of the function (the book's figure 4-9).

    Parameters
    ----------
    f : callable
        Of an array (2,) of the backend in use to a number, as for `numerical_gradient`.
    x, y : (low, high)
        The part of the plane.
    points : int
        Arrows along each side.
    title : str

    Returns
    -------
    matplotlib.figure.Figure
    """
    sides, fine = ([np.linspace(*x, count), np.linspace(*y, count)] for count in (points, _FINE))
    slopes = np.stack([asnumpy(numerical_gradient(f, place)) for place in _places(*sides)]).reshape(points, points, 2)
    values = np.array([float(f(place)) for place in _places(*fine)]).reshape(_FINE, _FINE)
    figure = new_figure(4.8, 4.4)
    axes = figure.subplots()
    label(axes, title, "$x_0$", "$x_1$")
    _contours(axes, fine[0], fine[1], values, np.linspace(values.min(), values.max(), _CONTOURS)[1:-1])
    axes.quiver(*sides, -slopes[..., 0], -slopes[..., 1], angles="xy", color=COLOURS[0], width=0.004, zorder=2)
    axes.set_aspect("equal")
    return figure


def optimizer_paths(
    f: Callable[[Values, Values], Values],
    paths: Mapping[str, Any],
    *,
    x: Range = (-10, 10),
    y: Range = (-5, 5),
    minima: Sequence[Range] = (),
    columns: int = 2,
    title: str = "",
) -> Figure:
    """The ways that optimizers take over a function of two variables (the book's figure 6-8), a panel each.

    Parameters
    ----------
    f : callable
        ``f(x, y)``, elementwise on NumPy arrays.
    paths : mapping
        Name -> array (n, 2), or a list of pairs.
    x, y : (low, high)
        The part of the plane.
    minima : sequence of pairs
        Points to mark with a cross.
    columns : int
        Panels in a row.
    title : str

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ShapeError
        If a path has no points of a plane.
    """
    sides = np.linspace(*x, 120), np.linspace(*y, 120)
    values = np.asarray(f(*np.meshgrid(*sides)))
    # parts of the same area: a flat valley is seen as well as steep walls
    levels = np.unique(np.quantile(values, np.linspace(0, 1, _CONTOURS + 2)[1:-1]))
    figure, panels = new_panels(len(paths), columns, 3.9, 2.9, title, sharex=True, sharey=True)
    for number, ((name, path), axes) in enumerate(zip(paths.items(), panels, strict=True)):
        way = np.asarray(path, dtype=np.float64) if isinstance(path, (list, tuple)) else asnumpy(path)
        if way.ndim != 2 or way.shape[1] != 2 or not len(way):
            raise ShapeError(f"optimizer_paths: {name!r} must have points (n, 2), got shape {way.shape}")
        label(axes, f"{name}, {len(way) - 1} steps")
        _contours(axes, *sides, values, levels)
        colour = COLOURS[number % len(COLOURS)]
        axes.plot(*way.T, color=colour, marker="o", markersize=3, linewidth=1.2, linestyle=DASHES[0])
        axes.plot(*way[0], color=colour, marker="s", markersize=7, linestyle="", label="start")
        axes.plot(*way[-1], color=colour, marker="*", markersize=11, markeredgecolor=INK, linestyle="", label="end")
        for minimum in minima:
            axes.plot(*minimum, color=INK, marker="+", markersize=11, markeredgewidth=1.5, linestyle="")
        axes.set(xlim=x, ylim=y)
    figure.supxlabel("$x$", color=INK, fontsize=NORMAL)
    figure.supylabel("$y$", color=INK, fontsize=NORMAL)
    legend(panels[0], loc="best")
    return figure


def _places(x: Values, y: Values) -> list[Any]:
    """The points of a grid, each an array (2,) of the backend in use."""
    return [asarray([float(a), float(b)]) for b in y for a in x]


def _contours(axes: Axes, x: Values, y: Values, values: Values, levels: Values) -> None:
    axes.contour(x, y, values, levels=levels, colors=FAINT, linewidths=0.8, linestyles="-", zorder=1)


def _classes_of(scores: Any) -> Values:
    """Labels (N,) from what a net gives."""
    found = asnumpy(scores)
    if found.ndim == 2:
        found = found.argmax(axis=1) if found.shape[1] > 1 else found[:, 0] > 0
    return found.astype(np.int64)
