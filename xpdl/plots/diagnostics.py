"""Diagnostics of layers over a training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from xpdl.plots.curves import FEW_NAMES, draw
from xpdl.plots.style import INK, Figure, label, new_panels, numbers

_MOST_LINES = 12  # that can be told apart


def diagnostics(
    measured: Any = None,
    *,
    dead_relu: Mapping[str, Sequence[float]] | None = None,
    saturation: Mapping[str, Sequence[float]] | None = None,
    update_ratio: Mapping[str, Sequence[float]] | None = None,
    xlabel: str = "epoch",
) -> Figure:
    """Draw the diagnostics of layers over a training: a panel for each measure that is given.

    Of more than twelve lines, a panel shows the least, the median and the largest at each point instead.

    Parameters
    ----------
    measured : Diagnostics or mapping, optional
        The callback, or its `history`, in the place of the measures one by one.
    dead_relu : mapping, optional
        Layer -> shares of units that never fire.
    saturation : mapping, optional
        Layer -> shares of sigmoid or tanh outputs near their ends.
    update_ratio : mapping, optional
        Parameter -> size of its updates relative to its own size. A line marks 1e-3, about where training goes well.
        Of more than six parameters, only the weights `W` are drawn.
    xlabel : str
        What the values were taken at.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ValueError
        If no measure is given.
    """
    if measured is not None:
        asked = {"dead_relu": dead_relu, "saturation": saturation, "update_ratio": update_ratio}
        own = {name: measure for name, measure in asked.items() if measure is not None}
        return diagnostics(**{**getattr(measured, "history", measured), **own}, xlabel=xlabel)
    given = {
        "dead ReLU units": dead_relu,
        "saturated outputs": saturation,
        "update / weight": _weights(update_ratio),
    }
    shown = {name: measure for name, measure in given.items() if measure}
    if not shown:
        raise ValueError("diagnostics: give at least one of dead_relu, saturation and update_ratio")
    figure, panels = new_panels(len(shown), 3, 4.4, 3.5)
    for (name, measure), axes in zip(shown.items(), panels, strict=True):
        # the book's nets call the layer after the first affine one Activation_function1
        series = {layer.replace("Activation_function", "activation "): values for layer, values in measure.items()}
        draw(axes, _few(series), None, "diagnostics")
        if name == "update / weight":
            axes.set_yscale("log")
            axes.axhline(1e-3, color=INK, linewidth=0.8, linestyle=(0, (1, 3)))
        else:
            axes.set_ylim(-0.03, 1.03)
        label(axes, name, xlabel, "ratio" if name == "update / weight" else "share")
    return figure


def _few(series: Mapping[str, Any]) -> Mapping[str, Any]:
    """A few lines as they are, and of more than can be told apart the least, median and largest at each point."""
    lengths = {len(values) for values in series.values()}
    if len(series) <= _MOST_LINES or len(lengths) > 1:
        return series
    values = np.stack([numbers(line) for line in series.values()])
    return {
        f"largest of {len(series)}": values.max(axis=0),
        "median": np.median(values, axis=0),
        "least": values.min(axis=0),
    }


def _weights(update_ratio: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """All parameters, or the weights `W1` or `Affine1.W` of many."""
    if update_ratio is None or len(update_ratio) <= FEW_NAMES:
        return update_ratio
    return {name: line for name, line in update_ratio.items() if name.split(".")[-1].startswith("W")} or update_ratio
