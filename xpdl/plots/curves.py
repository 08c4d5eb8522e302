"""Curves over steps and epochs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from xpdl.errors import ShapeError
from xpdl.plots.style import (
    COLOURS,
    INK,
    NORMAL,
    SMALL,
    Axes,
    Figure,
    Values,
    grid,
    label,
    legend,
    named,
    new_figure,
    new_panels,
    numbers,
    style,
    whole_numbers,
)
from xpdl.training.smoothing import smooth_curve

_POINTS = 200  # of a loss curve: more cannot be seen
_FEW = 25  # points that all get markers
FEW_NAMES = 6  # that a panel has room for
_MARKS = 10  # markers of a longer curve, where they tell it from others


def curves(
    series: Mapping[str, Any],
    *,
    x: Any = None,
    title: str = "",
    xlabel: str = "",
    ylabel: str = "",
    log: bool | str = False,
) -> Figure:
    """Lines in one panel.

    Parameters
    ----------
    series : mapping
        Name -> numbers, a list or an array (n,).
    x : numbers, optional
        Where the points stand, for all lines; by default 1, 2, 3, ..., as for epochs.
    title, xlabel, ylabel : str
    log : bool or {"x", "y", "xy"}
        Which scales are logarithmic; True is "y".

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ShapeError
        If a line is no row of numbers, or does not go with `x`.
    ValueError
        If `log` is something else.
    """
    if log not in (False, True, "x", "y", "xy"):
        raise ValueError(f"curves: log must be True, False, 'x', 'y' or 'xy', got {log!r}")
    figure = new_figure(5.6, 3.6)
    axes = figure.subplots()
    label(axes, title, xlabel, ylabel)
    draw(axes, series, x, "curves")
    for axis in "y" if log is True else log or "":
        axes.set(**{f"{axis}scale": "log"})
    label(axes, title, xlabel, ylabel)
    return figure


def curve_grid(
    panels: Mapping[str, Mapping[str, Any]], *, columns: int = 4, title: str = "", xlabel: str = "", ylabel: str = ""
) -> Figure:
    """Lines in many small panels on the same scales, such as a training for each of many settings.

    Parameters
    ----------
    panels : mapping
        What stands above a panel -> its lines: name -> numbers, as in `curves`.
    columns : int
        Panels in a row.
    title, xlabel, ylabel : str

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ShapeError
        If a line is no row of numbers.
    """
    figure, axes = new_panels(len(panels), columns, 2.1, 1.7, title, sharex=True, sharey=True)
    for (name, series), panel in zip(panels.items(), axes, strict=True):
        draw(panel, series, None, "curve_grid", marked=False)
        label(panel, name, size=SMALL)
    figure.supxlabel(xlabel, color=INK, fontsize=SMALL)
    figure.supylabel(ylabel, color=INK, fontsize=SMALL)
    legend(axes[0], loc="best")
    return figure


def learning_curves(history: Any, *, title: str = "") -> Figure:
    """Loss over the steps and accuracy over the epochs of a training, or of several.

    Parameters
    ----------
    history : History or mapping
        Of one training, or name -> history of each. A `Trainer` has the lists, too.
    title : str

    Returns
    -------
    matplotlib.figure.Figure
        Losses are smoothed by `smooth_curve`; of one training, those of all steps lie behind in a lighter colour. Where
        there are no accuracies, as of a regression, the second panel has losses of the test set.
    """
    runs = named(history)
    figure, (left, right) = new_panels(2, 2, 4.8, 3.5, title)
    single = len(runs) == 1
    classifies = any(run.test_acc_list for run in runs.values())
    kind = "acc" if classifies else "loss"
    for number, (name, run) in enumerate(runs.items()):
        colour, _, marker = style(number)
        _draw_loss(left, numbers(run.train_loss_list), colour, "" if single else marker, name, behind=single)
        for which, line in (("training", "--"), ("test", "-")):
            # a regression keeps no losses of the training set after its epochs
            values = getattr(run, f"{which.removesuffix('ing')}_{kind}_list") if classifies or which == "test" else ()
            if not len(values):
                continue
            look: dict[str, Any] = {"color": COLOURS[which == "training"] if single else colour, "markersize": 4}
            look["marker"] = style(which == "training")[2] if single else marker
            look["label"] = which if single else name if which == "test" else None
            look["markevery"] = max(1, len(values) // _MARKS)
            right.plot(range(1, len(values) + 1), values, line, **look)
    words = "test solid, training dashed" if classifies and not single else ""
    label(left, "", "step", "loss")
    label(right, words, "epoch", "accuracy" if classifies else "test loss", size=NORMAL)
    for axes in (left, right):
        grid(axes)
        whole_numbers(axes.xaxis)
    left.set_ylim(bottom=0)
    if len(runs) > 1:
        legend(left)
    if right.lines:
        legend(right, loc="best")
    return figure


def search_results(result: Any, *, columns: int = 5, limit: int = 20) -> Figure:
    """The learning curves of a search of hyper-parameters, the best first (the book's figure 6-24).

    Parameters
    ----------
    result : SearchResult
        Or a sequence of trials, with ``params``, ``score`` and ``history``, in the order to draw.
    columns : int
        Panels in a row.
    limit : int
        Panels at most.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ValueError
        If no trial has a history, as where `build` returned numbers.
    """
    trials = [trial for trial in getattr(result, "ranked", result) if trial.history is not None][:limit]
    if not trials:
        raise ValueError("search_results: no trial has a history; let build return a Trainer or a History")
    tallest = max(len(trial.params) for trial in trials)
    figure, panels = new_panels(len(trials), columns, 2.1, 1.6 + 0.16 * tallest, sharex=True, sharey=True)
    for rank, (trial, axes) in enumerate(zip(trials, panels, strict=True), 1):
        history = trial.history
        test, train = ("test_acc_list", "train_acc_list") if history.test_acc_list else ("test_loss_list", "")
        for name, key, line, colour in (("test", test, "-", COLOURS[0]), ("training", train, "--", COLOURS[1])):
            values = numbers(getattr(history, key)) if key else ()
            axes.plot(range(1, len(values) + 1), values, line, color=colour, label=name)
        params = "\n".join(f"{name} {_short(value)}" for name, value in trial.params.items())
        label(axes, f"{rank}: {trial.score:.3f}\n{params}", size=SMALL)
        grid(axes)
        whole_numbers(axes.xaxis)
    figure.supxlabel("epoch", color=INK, fontsize=SMALL)
    figure.supylabel("accuracy" if trials[0].history.test_acc_list else "test loss", color=INK, fontsize=SMALL)
    legend(panels[0], loc="best")
    return figure


def draw(axes: Axes, series: Mapping[str, Any], x: Any, owner: str, *, marked: bool = True) -> None:
    """Draw lines, with markers and a legend where there is room for them."""
    for number, (name, values) in enumerate(series.items()):
        points = numbers(values)
        places = np.arange(1, points.size + 1) if x is None else numbers(x)
        if points.ndim != 1 or places.shape != points.shape:
            raise ShapeError(f"{owner}: {name!r} has shape {points.shape}, its places have {places.shape}")
        colour, dashes, marker = style(number)
        mark = marker if marked and points.size <= _FEW else ""
        axes.plot(places, points, color=colour, linestyle=dashes, marker=mark, markersize=4, label=name)
    grid(axes)
    if x is None:
        whole_numbers(axes.xaxis)
    if marked and len(series) > 1:
        # many names would cover their own curves
        beside = {} if len(series) <= FEW_NAMES else {"loc": "upper left", "bbox_to_anchor": (1.0, 1.0)}
        legend(axes, **({"loc": "best"} | beside))


def _draw_loss(axes: Axes, losses: Values, colour: str, marker: str, name: str, *, behind: bool) -> None:
    """A loss of thousands of steps, averaged in blocks and smoothed; all of it behind, if it is the only one."""
    steps = np.arange(1, losses.size + 1)
    if behind:
        axes.plot(steps, losses, color=colour, alpha=0.25, linewidth=0.7)
    block = max(1, math.ceil(losses.size / _POINTS))
    parts = range(0, losses.size, block)
    places = [float(steps[i : i + block].mean()) for i in parts]
    smooth = smooth_curve([float(losses[i : i + block].mean()) for i in parts])
    every = max(1, len(places) // _MARKS)
    axes.plot(places, smooth, color=colour, marker=marker, markevery=every, markersize=4, label=name)


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
