"""Histograms of what layers give, and of what is taken for what."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from xpdl.backends import asnumpy
from xpdl.errors import ShapeError
from xpdl.plots.labels import labels_of
from xpdl.plots.style import COLOURS, INK, PAPER, SMALL, Figure, grid, label, new_figure, new_panels

_LONGEST_WITHOUT_SLANT = 2  # characters of a class name below the matrix


def activation_histograms(
    activations: Mapping[str, Any],
    *,
    bins: int = 30,
    limits: tuple[float, float] | None = None,
    columns: int = 5,
    title: str = "",
) -> Figure:
    """Draw histograms of the outputs of each layer (the book's figures 6-10 to 6-14).

    Parameters
    ----------
    activations : mapping
        Layer -> array of any shape.
    bins : int
    limits : (low, high), optional
        What the histograms cover, such as (0, 1) for sigmoids; by default all values.
    columns : int
        Panels in a row.
    title : str

    Returns
    -------
    matplotlib.figure.Figure
        A panel for each layer, with mean and standard deviation; the height is the share of values in a bin.
    """
    values = {name: asnumpy(array).astype(np.float64).ravel() for name, array in activations.items()}
    ends = limits or (min(v.min() for v in values.values()), max(v.max() for v in values.values()))
    figure, panels = new_panels(len(values), columns, 2.2, 2.3, title, sharex=True, sharey=True)
    for (name, flat), axes in zip(values.items(), panels, strict=True):
        shares = np.full(flat.size, 1 / max(flat.size, 1))
        axes.hist(flat, bins=bins, range=ends, weights=shares, color=COLOURS[0])
        label(axes, f"{name}\nmean {flat.mean():.2g}, std {flat.std():.2g}", size=SMALL)
        grid(axes)
    figure.supxlabel("activation", color=INK, fontsize=SMALL)
    figure.supylabel("share", color=INK, fontsize=SMALL)
    return figure


def confusion_matrix(t: Any, predicted: Any, *, classes: Sequence[str] | None = None, title: str = "") -> Figure:
    """Draw a confusion matrix.

    Parameters
    ----------
    t : integer array (N,), or (N, K) one-hot
    predicted : integer array (N,), or scores (N, K)
    classes : sequence of str, optional
        Names; by default 0, 1, 2, ...
    title : str
        By default the accuracy.

    Returns
    -------
    matplotlib.figure.Figure
        Rows are what it is, columns what it was taken for; the shade is the share of the row, its square root, so that
        few mistakes are seen, too.

    Raises
    ------
    ShapeError
        If shapes do not go together, or there are too few names.
    """
    truth, guess = labels_of(t, "confusion_matrix: t"), labels_of(predicted, "confusion_matrix: predicted")
    if truth.shape != guess.shape or not truth.size:
        raise ShapeError(f"confusion_matrix: got {len(truth)} labels and {len(guess)} predictions")
    count = int(max(truth.max(), guess.max())) + 1
    names = [str(k) for k in range(count)] if classes is None else list(classes)
    if len(names) < count:
        raise ShapeError(f"confusion_matrix: {len(names)} names for {count} classes")
    counts = np.zeros((len(names), len(names)), dtype=np.int64)
    np.add.at(counts, (truth, guess), 1)
    shares = np.sqrt(counts / np.maximum(counts.sum(axis=1, keepdims=True), 1))
    side = 1.6 + 0.42 * len(names)
    figure = new_figure(side, side)
    axes = figure.subplots()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, interpolation="nearest")
    label(axes, title or f"accuracy {(truth == guess).mean():.4f}", "taken for", "is")
    slanted = max(map(len, names)) > _LONGEST_WITHOUT_SLANT
    axes.set_xticks(range(len(names)), names, rotation=45 if slanted else 0, ha="right" if slanted else "center")
    axes.set_yticks(range(len(names)), names)
    for i, j in zip(*np.nonzero(counts), strict=True):
        ink = PAPER if shares[i, j] > 0.6 else INK
        axes.text(j, i, f"{counts[i, j]}", ha="center", va="center", color=ink, fontsize=SMALL)
    return figure
