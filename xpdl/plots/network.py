"""Pictures of networks: their layers in rows from the inputs down, and lines for what goes from one to another."""

from __future__ import annotations

import importlib
import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

from xpdl.layers.chain import Chain
from xpdl.layers.nodes import parts
from xpdl.layers.wired_layers import WiredLayers
from xpdl.plots.style import COLOURS, FAINT, INK, PAPER, SMALL, Axes, Figure, new_figure, tint

_WIDE, _HIGH = 1.75, 0.72  # inches of a place in a row, and of a row
_BOX = (1.5, 0.44)
_SWEEPS = 4  # over all rows, each of which puts boxes beneath those that they hang on


class Box(NamedTuple):
    """A box of the picture.

    Attributes
    ----------
    words : str
    sources : tuple of int
        Numbers of the boxes that lines come from.
    colour : str
    """

    words: str
    sources: tuple[int, ...]
    colour: str


def network(model: Any, *, title: str = "") -> Figure:
    """Draw the layers of a network from its inputs to its losses.

    Parameters
    ----------
    model : Graph, Sequential, or another composition of layers in a graph or in a row
        Nets inside are one box each. A layer that is used in several places is a box in each, in a colour of its own.
    title : str

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    TypeError
        If `model` is something else.

    Notes
    -----
    Boxes have the name of the layer and the shape of a row of its output, as far as it is known. Each is as many rows down
    as layers stand before it, at most.
    """
    if not isinstance(model, (WiredLayers, Chain)):
        raise TypeError(f"plots.network: expected a Graph or a Sequential, got {type(model).__name__}")
    boxes = _of_graph(model) if isinstance(model, WiredLayers) else _of_chain(model)
    paths, rows = _in_rows(boxes)
    places = {point: (x - (len(row) - 1) / 2, -y) for y, row in enumerate(rows) for x, point in enumerate(row)}
    widest = max(map(len, rows))
    figure = new_figure(0.3 + _WIDE * widest, 0.3 + _HIGH * len(rows) + (0.35 if title else 0.0), title)
    axes = figure.subplots()
    axes.set_axis_off()
    axes.set_xlim(-_WIDE * widest / 2, _WIDE * widest / 2)
    axes.set_ylim(-_HIGH * (len(rows) - 0.5), _HIGH / 2)
    for path in paths:
        _line(axes, [(_WIDE * x, _HIGH * y) for x, y in (places[point] for point in path)])
    for number, box in enumerate(boxes):
        x, y = places[number, 0]
        _draw(axes, box, _WIDE * x, _HIGH * y)
    return figure


def _of_chain(chain: Chain) -> list[Box]:
    shape = getattr(chain, "input_shape", None)
    boxes = [Box(_words("x", shape), (), FAINT)]
    for name, layer in chain.children():
        shape = None if shape is None else layer.output_shape(shape)
        boxes.append(Box(_words(name, shape), (len(boxes) - 1,), INK))
    return boxes + _losses(chain, [len(boxes) - 1])


def _of_graph(graph: WiredLayers) -> list[Box]:
    known = all(layer.built or not layer.holds_layers for layer in graph.tree())
    shapes: list[Any] = list(graph.shapes()) if known else [*graph.inputs.values()]
    names = [name for name, _, _ in graph.uses]
    shared = [name for name in graph.layers if names.count(name) > 1]
    colours = {name: COLOURS[place % len(COLOURS)] for place, name in enumerate(shared)}
    boxes = [Box(_words(name, shape), (), FAINT) for name, shape in graph.inputs.items()]
    source = {value: value for value in range(len(boxes))}  # number of a value -> box that it comes from
    for name, taken, given in graph.uses:
        source |= dict.fromkeys(given, len(boxes))
        shape = shapes[given[0]] if known and len(given) == 1 else None
        boxes.append(Box(_words(name, shape), tuple(source[value] for value in taken), colours.get(name, INK)))
    return boxes + _losses(graph, [source[value] for value in graph.outputs.values()])


def _losses(model: Any, ends: Sequence[int]) -> list[Box]:
    last = getattr(model, "last_layer", None)
    losses = list(getattr(last, "losses", {}).values())
    if losses:
        return [Box(type(loss).__name__, (end,), FAINT) for loss, end in zip(losses, ends, strict=True)]
    return [] if last is None else [Box(type(last).__name__, tuple(ends), FAINT)]


def _words(name: str, shape: Any) -> str:
    return name if shape is None else f"{name}\n{', '.join(str(one) for one in parts(shape))}"


def _in_rows(boxes: Sequence[Box]) -> tuple[list[list[tuple[int, int]]], list[list[tuple[int, int]]]]:
    """Return the lines as lists of points, and the points of each row in order.

    Point (number, 0) is a box, and (line, 1 and more) are places that a line goes through, past the boxes of rows between.
    """
    depth: list[int] = []
    for box in boxes:
        depth.append(1 + max((depth[source] for source in box.sources), default=-1))
    rows: list[list[tuple[int, int]]] = [[] for _ in range(max(depth) + 1)]
    for number, row in enumerate(depth):
        rows[row].append((number, 0))
    paths: list[list[tuple[int, int]]] = []
    for number, box in enumerate(boxes):
        for source in box.sources:
            through = [(len(paths), step) for step in range(1, depth[number] - depth[source])]
            for step, point in enumerate(through, start=1):
                rows[depth[source] + step].append(point)
            paths.append([(source, 0), *through, (number, 0)])
    above: dict[tuple[int, int], list[tuple[int, int]]] = {}
    below: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for path in paths:
        for one, other in itertools.pairwise(path):
            above.setdefault(other, []).append(one)
            below.setdefault(one, []).append(other)
    for sweep in range(_SWEEPS):
        for points in rows if sweep % 2 == 0 else rows[::-1]:
            _order(points, rows, above if sweep % 2 == 0 else below)
    return paths, rows


def _order(
    row: list[tuple[int, int]],
    rows: list[list[tuple[int, int]]],
    others: dict[tuple[int, int], list[tuple[int, int]]],
) -> None:
    """Put the points of a row in the order of the mean place of those that they are joined to."""
    place = {point: x - (len(one) - 1) / 2 for one in rows for x, point in enumerate(one)}

    def middle(point: tuple[int, int]) -> float:
        joined = others.get(point, [])
        return sum(place[other] for other in joined) / len(joined) if joined else place[point]

    row.sort(key=middle)


def _line(axes: Axes, points: list[tuple[float, float]]) -> None:
    """Draw a line from below a box to above another."""
    (x, y), (end_x, end_y) = points[0], points[-1]
    xs, ys = zip(*[(x, y - _BOX[1] / 2), *points[1:-1], (end_x, end_y + _BOX[1] / 2)], strict=True)
    axes.plot(xs[:-1], ys[:-1], color=INK, linewidth=0.8, solid_joinstyle="round", zorder=1)
    arrow = {"arrowstyle": "-|>", "color": INK, "linewidth": 0.8, "shrinkA": 0, "shrinkB": 0}
    axes.annotate("", xy=(xs[-1], ys[-1]), xytext=(xs[-2], ys[-2]), arrowprops=arrow, zorder=1)


def _draw(axes: Axes, box: Box, x: float, y: float) -> None:
    width, height = _BOX
    style = {
        "boxstyle": "round,pad=0.0,rounding_size=0.06",
        "facecolor": tint(box.colour, 0.12),
        "edgecolor": box.colour,
    }
    if box.colour == INK:
        style["facecolor"] = PAPER
    patches = importlib.import_module("matplotlib.patches")
    corner = x - width / 2, y - height / 2
    axes.add_patch(patches.FancyBboxPatch(corner, width, height, linewidth=1.0, zorder=2, **style))
    axes.text(x, y, box.words, color=INK, fontsize=SMALL, ha="center", va="center", zorder=3)
