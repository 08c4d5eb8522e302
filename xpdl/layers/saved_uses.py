"""Saved state of several forward passes of one layer, which stands in several places of a graph."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

Saved = list[tuple[Any, dict[str, Any]]]

# a backward pass writes these, and they belong to the layer, not to one of its uses
_OF_BACKWARD = ("grads", "used_up")


def saved_by(layer: Any) -> Saved:
    """Return the attributes of `layer`, and of those inside, as its last forward pass left them; no array is copied."""
    return [(one, dict(vars(one))) for one in layer.savers()]


@contextlib.contextmanager
def recalled(saved: Saved) -> Iterator[None]:
    """Inside, the layers have the attributes that they had after an earlier forward pass."""
    latest = [(one, dict(vars(one))) for one, _ in saved]
    for one, attributes in saved:
        one.__dict__.update(attributes)
    try:
        yield
    finally:
        for one, attributes in latest:
            one.__dict__.update({name: value for name, value in attributes.items() if name not in _OF_BACKWARD})
