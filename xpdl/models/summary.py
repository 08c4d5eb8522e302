"""The table that ``model.summary()`` prints."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from xpdl.models.sequential import Sequential


def summary_table(model: Sequential) -> str:
    """One row per layer: its name, kind, output shape and number of parameters."""
    shape = model.input_shape
    rows = [("layer", "kind", "output", "parameters")]
    total = 0
    for name, layer in model.children():
        shape = None if shape is None else layer.output_shape(shape)
        count = sum(math.prod(owner[key].shape) for _, owner, key in layer.slots("params"))
        total += count
        size = "?" if shape is None else "(N, " + ", ".join(map(str, shape)) + ")"
        rows.append((name, type(layer).__name__, size, f"{count:,}" if layer.built else "not built"))
    widths = [max(len(row[i]) for row in rows) for i in range(4)]
    lines = [
        f"{row[0]:<{widths[0]}}  {row[1]:<{widths[1]}}  {row[2]:<{widths[2]}}  {row[3]:>{widths[3]}}".rstrip()
        for row in rows
    ]
    rule = "-" * (sum(widths) + 6)
    last = "" if model.last_layer is None else f", loss {type(model.last_layer).__name__}"
    return "\n".join([f"{type(model).__name__}{last}", lines[0], rule, *lines[1:], rule, f"{total:,} parameters"])
