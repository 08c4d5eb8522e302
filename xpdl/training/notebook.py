"""A run as HTML, for notebooks: its last numbers and a small curve, drawn without matplotlib."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from typing import Any

_WIDTH, _HEIGHT, _POINTS = 320, 80, 200
_COLOURS = ("#1f77b4", "#d62728", "#2ca02c")


def summary(history: Any) -> str:
    """Return the numbers of steps and epochs, and the last of each measurement, in one line."""
    epochs = len(history.seconds)
    words = [f"{len(history.train_loss_list)} steps, {epochs} epoch{'' if epochs == 1 else 's'}"]
    words += [f"{name} {value:.4g}" for name, value in list(history.last().items())[:12]]
    return ", ".join(words)


def history_html(history: Any) -> str:
    """Return the losses as curves, each with its first and last number, and the last of the other measurements."""
    losses = {
        "loss": history.epoch_loss_list if len(history.epoch_loss_list) > 1 else history.train_loss_list,
        "test loss": history.test_loss_list,
        "validation loss": history.val_loss_list,
    }
    curves = {name: found for name, values in losses.items() if (found := [v for v in values if math.isfinite(v)])}
    legend = "".join(
        f'<span style="color:{colour}">{name} {values[0]:.4g} to {values[-1]:.4g}</span> '
        for colour, (name, values) in zip(_COLOURS, curves.items(), strict=False)
    )
    return f"<div><b>History</b>: {html.escape(summary(history))}<br>{_svg(list(curves.values()))}<br>{legend}</div>"


def _setup(trainer: Any) -> dict[str, str]:
    return {
        "network": type(trainer.network).__name__,
        "optimizer": trainer.optimizer_at_start[:200],
        "batch size": str(trainer.batch_size),
        "epochs": f"{trainer.current_epoch} of {trainer.epochs}",
    }


def trainer_line(trainer: Any) -> str:
    """Return the network, optimizer and progress of a trainer in one line."""
    return f"<Trainer: {', '.join(f'{name} {value}' for name, value in _setup(trainer).items())}>"


def trainer_html(trainer: Any) -> str:
    """Return the network, optimizer and progress of a trainer, and its history."""
    words = _setup(trainer).items()
    rows = "".join(f"<tr><th>{name}</th><td>{html.escape(value)}</td></tr>" for name, value in words)
    return f"<div><table>{rows}</table>{history_html(trainer.history)}</div>"


def _svg(curves: Sequence[Sequence[float]]) -> str:
    """Return lines over the same range of values, each from the left to the right edge; empty without two points."""
    curves = [_thinned(values) for values in curves]
    if not any(len(values) > 1 for values in curves):
        return ""
    low, high = min(map(min, curves)), max(map(max, curves))
    lines = []
    for colour, values in zip(_COLOURS, curves, strict=False):
        scale = (_WIDTH - 4) / max(1, len(values) - 1)
        # halves, as a difference may be too large for a float
        heights = [(v / 2 - low / 2) / ((high / 2 - low / 2) or 1.0) for v in values]
        points = " ".join(f"{2 + i * scale:.1f},{_HEIGHT - 2 - (_HEIGHT - 4) * h:.1f}" for i, h in enumerate(heights))
        lines.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
    return f'<svg width="{_WIDTH}" height="{_HEIGHT}" role="img" aria-label="losses">{"".join(lines)}</svg>'


def _thinned(values: Sequence[float]) -> Sequence[float]:
    """At most `_POINTS` of many values, the first and last among them."""
    if len(values) <= _POINTS:
        return values
    return [values[round(i * (len(values) - 1) / (_POINTS - 1))] for i in range(_POINTS)]
