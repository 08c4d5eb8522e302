"""Steps in a row, with residual blocks, as the layers of a `Sequential`."""

from __future__ import annotations

from collections.abc import Collection

from xpdl.layers.base import Layer
from xpdl.layers.chain import Chain
from xpdl.layers.identity import Identity
from xpdl.layers.residual import Residual
from xpdl.onnx.scalings import merged
from xpdl.onnx.steps import Part, Step

_DEEPEST = 50  # blocks within blocks


class _Branched(Exception):
    """Steps that are no row."""


def layers_between(start: Step, end: Step, shared: Collection[Layer]) -> list[Layer] | None:
    """Return the layers from a step to a later one, sums as residual blocks.

    None stands for steps that only a `Graph` has: branches that do not meet in sums, or a layer that is `shared` by several.
    """
    try:
        return _layers(start, end, set(), shared, 0)
    except _Branched:
        return None


def _layers(start: Step, end: Step, placed: set[Step], shared: Collection[Layer], depth: int) -> list[Layer]:
    row: list[Part] = []
    while end is not start:
        if depth > _DEEPEST or end in placed or end.fork is None or end.layer in shared:
            raise _Branched
        placed.add(end)
        if end.layer is not None:
            if len(end.inputs) > 1:
                raise _Branched
            row.append(end.layer)
        else:
            body, shortcut = (_layers(end.fork, branch, placed, shared, depth + 1) for branch in end.inputs)
            row.append(_block(body, shortcut))
        end = end.fork
    return merged(row[::-1])


def _block(body: list[Layer], shortcut: list[Layer]) -> Residual:
    if not body:
        body, shortcut = shortcut or [Identity()], body
    inside = shortcut[0] if len(shortcut) == 1 else Chain(*shortcut) if shortcut else None
    return Residual(*body, shortcut=inside)
