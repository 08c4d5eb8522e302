"""Defaults of a layer that another one builds in its `create_parameters`: a stream and the backend of that one."""

from __future__ import annotations

import contextlib
import contextvars
import itertools
from collections.abc import Iterator
from typing import NamedTuple

from xpdl.backends import Backend, get_backend
from xpdl.backends.random import Stream, next_stream
from xpdl.layers.tree import LayerTree


class _Parent(NamedTuple):
    layer: LayerTree
    stream: Stream
    backend: Backend
    unnamed: Iterator[int]


_parent: contextvars.ContextVar[_Parent | None] = contextvars.ContextVar("parent", default=None)


@contextlib.contextmanager
def building(layer: LayerTree, stream: Stream, backend: Backend) -> Iterator[None]:
    """Inside, layers that are built without a stream or a backend have those of `layer`."""
    token = _parent.set(_Parent(layer, stream, backend, itertools.count()))
    try:
        yield
    finally:
        _parent.reset(token)


def stream_for(layer: LayerTree, stream: Stream | None) -> Stream:
    """Return `stream`, or by default that of the layer's place in its parent, or a fresh one of `xpdl.seed`."""
    if stream is not None:
        return stream
    parent, kind = _parent.get(), type(layer).__name__
    if parent is None:
        return next_stream(kind)
    name = next((name for name, child in parent.layer.children() if child is layer), None)
    # not an attribute yet
    return parent.stream.child(name or f"{kind}#{next(parent.unnamed)}")


def backend_for(backend: Backend | None) -> Backend:
    """Return `backend`, or by default that of the parent, or the one in use."""
    parent = _parent.get()
    return backend or (get_backend() if parent is None else parent.backend)
