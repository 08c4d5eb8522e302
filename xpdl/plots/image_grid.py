"""Grids of images: digits, filters, feature maps, misclassified and augmented examples."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from xpdl.backends import asnumpy
from xpdl.backends.random import next_stream
from xpdl.data.compose import Compose, as_transform
from xpdl.errors import ShapeError
from xpdl.ops.checks import positive_int
from xpdl.plots.labels import labels_of
from xpdl.plots.style import FAINT, INK, SMALL, Axes, Figure, Values, label, named, new_figure, new_panels

_SIDE = 0.85  # inches of a tile
_FILTERS = (3, 4, 5)  # axes of the filters of signals, images and volumes


def images(x: Any, *, titles: Sequence[str] | None = None, columns: int = 8, title: str = "") -> Figure:
    """Images side by side.

    Parameters
    ----------
    x : array (N, H, W), (N, 1, H, W), (N, 3, H, W), or (N, H * H) of square images
    titles : sequence of str, optional
        What stands above each.
    columns : int
        Images in a row.
    title : str

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ShapeError
        If `x` has none of these shapes, or there is not one title for each image.
    """
    pictures = _pictures(x, "images")
    if titles is not None and len(titles) != len(pictures):
        raise ShapeError(f"images: {len(titles)} titles for {len(pictures)} images")
    height = _SIDE + (0.2 if titles else 0.0)
    width = max(_SIDE, 0.085 * max(map(len, titles))) if titles else _SIDE
    figure, panels = new_panels(len(pictures), columns, width, height, title)
    for k, (picture, axes) in enumerate(zip(pictures, panels, strict=True)):
        _show(axes, picture, float(pictures.min()), float(pictures.max()), titles[k] if titles else "")
    return figure


def misclassified(
    x: Any, t: Any, predicted: Any, *, limit: int = 20, columns: int = 5, classes: Sequence[str] | None = None
) -> Figure:
    """The images that a net gets wrong, with what they are and what they were taken for.

    Parameters
    ----------
    x : array
        As in `images`.
    t : integer array (N,), or (N, K) one-hot
    predicted : integer array (N,), or scores (N, K)
    limit : int
        Images at most.
    columns : int
        Images in a row.
    classes : sequence of str, optional
        Their names, such as ``net.class_names``; numbers when not given.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ShapeError
        If shapes do not match, or there are fewer names than classes.
    """
    truth, guess = labels_of(t, "misclassified: t"), labels_of(predicted, "misclassified: predicted")
    pictures = asnumpy(x)
    if truth.shape != guess.shape or truth.shape != pictures.shape[:1]:
        raise ShapeError(
            f"misclassified: expected as many labels as images, got {len(pictures)} images, {len(truth)} labels and "
            f"{len(guess)} predictions"
        )
    count = 1 + max(truth.max(initial=0), guess.max(initial=0))
    names = list(map(str, range(count) if classes is None else classes))
    if len(names) < count:
        raise ShapeError(f"misclassified: {len(names)} names for {count} classes")
    wrong = np.flatnonzero(truth != guess)
    shown = wrong[:limit]
    first = f", the first {len(shown)}" if len(shown) < len(wrong) else ""
    title = f"{len(wrong):,} of {len(truth):,} wrong{first}"
    if not len(wrong):
        return new_figure(4.0, 1.0, title)
    titles = [f"{names[truth[k]]} seen as {names[guess[k]]}" for k in shown]
    return images(pictures[shown], titles=titles, columns=columns, title=title)


def augmented(
    x: Any,
    augment: Callable[..., Any] | Sequence[Callable[..., Any]],
    *,
    copies: int = 5,
    limit: int = 6,
    seed: int = 0,
    title: str = "",
) -> Figure:
    """Images beside what an augmentation makes of them: a row for each, the original first.

    Parameters
    ----------
    x : array (N, 1 or 3, H, W)
        Images as the network gets them.
    augment : callable or sequence of them
        As the option of `Trainer` of that name.
    copies : int
        Changed images beside each original.
    limit : int
        The first so many images are shown.
    seed : int
        Of what is drawn at random.
    title : str

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ShapeError
        If `x` has another shape, or `copies` or `limit` is no positive int.
    """
    copies, limit = positive_int(copies, "copies", "augmented"), positive_int(limit, "limit", "augmented")
    if np.ndim(x) != 4:
        raise ShapeError(f"augmented: expected images (N, 1 or 3, H, W), got shape {np.shape(x)}; reshape flat ones")
    transform = as_transform(Compose(*augment) if isinstance(augment, Sequence) else augment, "augmented")
    stream, x = next_stream("augmented", seed), x[:limit]
    grid = [_pictures(x, "augmented")]
    for k in range(copies):
        changed = transform(x, stream.child(f"copy {k}"))
        if np.ndim(changed) != 4 or len(changed) != len(x):
            raise ShapeError(
                f"augmented: augment must return {len(x)} images, as it got, got shape {np.shape(changed)}"
            )
        grid.append(_pictures(changed, "augmented"))
    low, high = float(grid[0].min()), float(grid[0].max())
    figure, panels = new_panels(len(x) * len(grid), len(grid), _SIDE, _SIDE + 0.1, title)
    for k, axes in enumerate(panels):
        row, column = divmod(k, len(grid))
        _show(axes, grid[column][row], low, high, "original" if k == 0 else "")
    return figure


def filters(W: Any, *, columns: int = 10, limit: int = 60, title: str = "") -> Figure:
    """The weights of a convolution as pictures, all on one scale: white is positive, mid-grey 0, black negative.

    Parameters
    ----------
    W : array (FN, C, FH, FW), (FN, C, FL) or (FN, C, FD, FH, FW), mapping, or model
        Filters, or name -> filters, as those before and after a training, each in a block of its own on its own scale; those
        of all convolutions of a model. Filters of three channels are pictures in colour; those of several others give a
        picture for each. Filters of signals are one line of pixels, those of volumes a picture for each of their slices.
    columns : int
        Pictures in a row.
    limit : int
        Pictures at most, of each block.
    title : str

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ShapeError
        If filters have another rank.
    """
    blocks = {}
    if hasattr(W, "params"):
        W = {name: array for name, array in W.params.items() if array.ndim in _FILTERS} or W
    for name, given in named(W).items():
        array: Values = np.empty(0) if hasattr(given, "params") else asnumpy(given)
        if array.ndim not in _FILTERS:
            got = "a model without such parameters" if hasattr(given, "params") else f"shape {array.shape}"
            raise ShapeError(
                f"filters: expected (FN, C, FH, FW), (FN, C, FL) or (FN, C, FD, FH, FW), got {got}; pass the weights of a "
                "convolution, such as net.params['Convolution1.W']"
            )
        in_colour = array.ndim == 4 and array.shape[1] == 3
        height = array.shape[-2] if array.ndim > 3 else 1
        pictures = np.moveaxis(array, 1, 3) if in_colour else array.reshape(-1, height, array.shape[-1])
        blocks[name] = pictures[:limit]
    rows = {name: math.ceil(len(block) / columns) for name, block in blocks.items()}
    side = 0.6
    figure = new_figure(
        side * columns, sum(side * count + 0.4 for count in rows.values()) + (0.35 * bool(title)), title
    )
    parts = figure.subfigures(len(blocks), 1, squeeze=False, height_ratios=[side * n + 0.4 for n in rows.values()])
    for (name, block), part in zip(blocks.items(), parts[:, 0], strict=True):
        part.set_facecolor("none")
        end = float(np.abs(block).max()) or 1.0
        words = f"{name}: " if name else ""
        part.suptitle(f"{words}black {-end:.2g}, white {end:.2g}".replace("-", "\u2212"), color=INK, fontsize=SMALL)
        panels = list(part.subplots(rows[name], columns, squeeze=False).flat)
        for tile, axes in zip(block, panels, strict=False):
            _show(axes, tile if tile.ndim == 2 else tile / (2 * end) + 0.5, -end, end)
        for unused in panels[len(block) :]:
            unused.remove()
    return figure


def feature_maps(maps: Any, *, columns: int = 8, title: str = "") -> Figure:
    """Draw the feature maps of one image, from dark (least) to bright (most), all layers on one scale.

    Parameters
    ----------
    maps : array (C, H, W), or mapping
        Channels of one layer, or layer -> channels; a batch of one image (1, C, H, W) does as well.
    columns : int
        The first so many channels are shown, a row for each layer.
    title : str

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ShapeError
        If there are several images, or no rows and columns.
    """
    layers = {}
    for name, given in named(maps).items():
        array = asnumpy(given)
        array = array[0] if array.ndim == 4 and len(array) == 1 else array
        if array.ndim != 3:
            raise ShapeError(f"feature_maps: expected (C, H, W) of one image, got shape {array.shape}")
        layers[name] = array
    columns = min(columns, max(map(len, layers.values())))
    low, high = float(min(a.min() for a in layers.values())), float(max(a.max() for a in layers.values()))
    figure = new_figure(1.3 + _SIDE * columns, _SIDE * len(layers) + (0.35 if title else 0.0), title)
    panels = figure.subplots(len(layers), columns, squeeze=False)
    for (name, array), row in zip(layers.items(), panels, strict=True):
        for channel, axes in enumerate(row):
            if channel < len(array):
                _show(axes, array[channel], low, high, cmap="cividis")
            else:
                axes.set_axis_off()
        size = "×".join(map(str, array.shape))
        words = f"{name}\n{size}" if name else size
        row[0].set_ylabel(words, color=INK, fontsize=SMALL, rotation=0, ha="right", va="center")
    figure.supxlabel(f"dark {low:.2g}, bright {high:.2g}".replace("-", "\u2212"), color=INK, fontsize=SMALL)
    return figure


def _pictures(x: Any, owner: str) -> Values:
    """Images (N, H, W), or (N, H, W, 3) in colour."""
    array = asnumpy(x)
    if array.ndim == 2 and math.isqrt(array.shape[1]) ** 2 == array.shape[1]:
        array = array.reshape(len(array), math.isqrt(array.shape[1]), -1)
    if array.ndim == 4 and array.shape[1] == 1:
        array = array[:, 0]
    elif array.ndim == 4 and array.shape[1] == 3:
        array = np.moveaxis(array, 1, 3)
        array = array / 255 if array.max() > 1 else np.clip(array, 0.0, 1.0)
    elif array.ndim != 3:
        array = array[:0]
    if not array.size:
        raise ShapeError(
            f"{owner}: expected images (N, H, W), (N, 1 or 3, H, W) or (N, H * H), got shape {np.shape(x)}"
        )
    return array


def _show(axes: Axes, picture: Values, low: float, high: float, title: str = "", cmap: str = "gray") -> None:
    axes.imshow(picture, cmap=cmap, vmin=low, vmax=high, interpolation="nearest")
    label(axes, title, size=SMALL)
    axes.set(xticks=[], yticks=[])
    for spine in axes.spines.values():
        spine.set_color(FAINT)
