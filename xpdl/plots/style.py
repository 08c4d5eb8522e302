"""Style of all figures: paper, ink, colours, and figures made without pyplot."""

from __future__ import annotations

import importlib
import io
import math
import sys
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from xpdl.backends import asnumpy

# matplotlib is optional, and so are its types
Figure: TypeAlias = Any
Axes: TypeAlias = Any
Values: TypeAlias = np.ndarray[Any, Any]

PAPER, INK, FAINT = "#ffffff", "#222222", "#c8c8c8"
#: M. Okabe, K. Ito, "Color Universal Design", without its yellow, which white paper swallows
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#555555")
DASHES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (8, 2)), (0, (3, 1)))
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
SMALL, NORMAL = 8, 10


def style(number: int) -> tuple[str, Any, str]:
    """Colour, dashes and marker of the curve with that number; after seven, colours meet other dashes and markers."""
    shifted = number + number // len(COLOURS)
    return COLOURS[number % len(COLOURS)], DASHES[shifted % len(DASHES)], MARKERS[shifted % len(MARKERS)]


def new_figure(width: float, height: float, title: str = "") -> Figure:
    """An empty figure of that size in inches, on white paper whatever the settings."""
    try:
        module = importlib.import_module("matplotlib.figure")
    except ImportError as error:
        raise ImportError(f"xpdl.plots needs matplotlib: pip install 'xpdl[plot]' ({error})") from error
    figure = module.Figure(figsize=(width, height), layout="constrained", facecolor=PAPER, edgecolor=PAPER)
    if title:
        figure.suptitle(title, color=INK, fontsize=NORMAL + 2)
    _show_in_notebooks(module.Figure)
    return figure


def _show_in_notebooks(kind: type) -> None:
    """Make a notebook show figures as pictures, which matplotlib does once pyplot is imported."""
    ipython = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    formatter = getattr(getattr(ipython, "display_formatter", None), "formatters", {}).get("image/png")
    if formatter is not None and kind not in formatter:
        formatter.for_type(kind, png)


def png(figure: Figure) -> bytes:
    """Return a figure as a file of the format PNG."""
    picture = io.BytesIO()
    figure.savefig(picture, format="png")
    return picture.getvalue()


def new_panels(
    count: int, columns: int, width: float, height: float, title: str = "", **sharing: Any
) -> tuple[Figure, list[Axes]]:
    """A figure with `count` panels of that size each, in rows of `columns`."""
    columns = min(columns, count)
    rows = math.ceil(count / columns)
    figure = new_figure(width * columns, height * rows + (0.35 if title else 0.0), title)
    panels = list(figure.subplots(rows, columns, squeeze=False, **sharing).flat)
    for unused in panels[count:]:
        unused.remove()
    for axes in panels[max(0, count - columns) : count]:
        axes.tick_params(labelbottom=True)  # also where the last row has no panel below
    return figure, panels[:count]


def label(axes: Axes, title: str = "", xlabel: str = "", ylabel: str = "", size: int = NORMAL) -> None:
    """Ink for everything of a panel that a setting could have made white, and its words."""
    axes.set_facecolor(PAPER)
    axes.set_title(title, color=INK, fontsize=size)
    axes.set_xlabel(xlabel, color=INK, fontsize=size)
    axes.set_ylabel(ylabel, color=INK, fontsize=size)
    axes.tick_params(colors=INK, which="both", labelsize=SMALL)
    for spine in axes.spines.values():
        spine.set_color(INK)
        spine.set_linewidth(0.8)


def grid(axes: Axes) -> None:
    """Faint lines below the curves, and no frame on the sides that have no scale."""
    axes.grid(True, color=FAINT, linewidth=0.5, linestyle="-")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def legend(axes: Axes, **options: Any) -> None:
    axes.legend(facecolor=PAPER, edgecolor=FAINT, labelcolor=INK, fontsize=SMALL, **options)


def whole_numbers(axis: Any) -> None:
    """Ticks at integers, as for epochs."""
    axis.get_major_locator().set_params(integer=True)


def tint(colour: str, share: float) -> tuple[float, ...]:
    """`colour` mixed with paper; a `share` of 1 is the colour itself."""
    channels = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
    return tuple(share * channel + 1 - share for channel in channels)


def named(what: Any, name: str = "") -> dict[str, Any]:
    """`what` as a dict: it may be one already, else it is called `name`."""
    return dict(what) if isinstance(what, Mapping) else {name: what}


def numbers(values: Any) -> Values:
    """A curve's points: of a list or of any library's array."""
    if isinstance(values, Sequence):
        return np.asarray([float(value) for value in values])
    return np.asarray(asnumpy(values), dtype=np.float64)
