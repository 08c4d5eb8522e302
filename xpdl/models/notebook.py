"""A model's summary as an HTML table, for notebooks."""

from __future__ import annotations

import html
from typing import Any

from xpdl.layers.base import Layer
from xpdl.layers.composite import Composite
from xpdl.models.summary import inputs_in_words, layer_costs

_MOST = 60  # rows


def summary_html(model: Composite, input_shape: Any, loss: Layer | None) -> str:
    """Return a table of the layers with their outputs and parameters; of a long model the first and the last."""
    costs = layer_costs(model, input_shape)
    rows = []
    for cost in costs:
        size = "?" if cost.output_shape is None else inputs_in_words(cost.output_shape)
        rows.append(_row("td", cost.path, cost.kind, size, "?" if cost.parameters is None else f"{cost.parameters:,}"))
    if len(rows) > _MOST:
        left_out = len(rows) - _MOST
        rows[_MOST // 2 : -_MOST // 2] = [_row("td", f"... {left_out} more", "", "", "")]
    known = [cost.parameters for cost in costs if cost.parameters is not None]
    total = f"{sum(known):,}" if len(known) == len(costs) else "?"
    shape = "" if input_shape is None else f", input {inputs_in_words(input_shape)}"
    ends = "" if loss is None else f", loss {loss!r}"
    caption = html.escape(f"{type(model).__name__}{shape}{ends}")
    head = _row("th", "layer", "kind", "output", "parameters")
    return (
        f"<table><caption>{caption}</caption><thead>{head}</thead><tbody>{''.join(rows)}</tbody>"
        f"<tfoot>{_row('th', 'total', '', '', total)}</tfoot></table>"
    )


def _row(cell: str, *words: str) -> str:
    return f"<tr>{''.join(f'<{cell}>{html.escape(word)}</{cell}>' for word in words)}</tr>"
