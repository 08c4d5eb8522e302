"""Gradients that are sent to other ranks during the backward pass."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from xpdl.distributed.buckets import Buckets
from xpdl.layers.base import Layer
from xpdl.models.base import Model
from xpdl.models.sequential import Sequential


@contextlib.contextmanager
def overlapping(network: Any, buckets: Buckets, *, as_zeros: bool) -> Iterator[None]:
    """Put gradients of a network into `buckets` inside, as soon as its backward pass has them.

    Parameters
    ----------
    network
        Of one that is no `Sequential`, or that changes what that computes, none are.
    buckets : Buckets
    as_zeros : bool
        Whether this rank has no rows: its gradients count as zeros.
    """
    if not buckets.restart() or not _calls_after_backward(network):
        yield
        return
    others: Callable[[str, Layer], None] | None = network.after_backward

    def after_backward(name: str, layer: Layer) -> None:
        for path, owner, key in layer.named_grads():
            path = f"{name}.{path}"
            buckets.put(network.aliases.get(path, path), owner[key], as_zeros=as_zeros)
        if others is not None:
            others(name, layer)

    network.after_backward = after_backward
    try:
        yield
    finally:
        network.after_backward = others


def _calls_after_backward(network: Any) -> bool:
    """Return whether gradients are final when `after_backward` is called."""
    kind = type(network)
    return (
        isinstance(network, Sequential)
        and kind.gradient is Model.gradient
        and kind.backward_parameters is Sequential.backward_parameters
    )
