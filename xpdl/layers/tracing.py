"""Shapes inside of a layer that holds layers, from a pass over two rows of zeros."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from xpdl.backends import Backend, get_backend
from xpdl.backends.namespaces import is_array, is_floating
from xpdl.backends.random import Stream
from xpdl.errors import ShapeError
from xpdl.layers.tree import forward_in_mode, in_mode

Shape = tuple[int, ...]

_CURE = "define output_shape, and in create_parameters build the layers inside by their build(shape)"


class Trace(NamedTuple):
    """Shapes of one row: of the output, and of the input of each child that the pass reached."""

    output: Shape
    inputs: dict[str, Shape]


def traced(layer: Any, shape: Shape) -> Trace:
    """Return the shapes in a layer that is built, for rows of `shape`; its saved arrays are left alone."""
    key = (shape, tuple(id(child) for _, child in layer.children()))
    known: dict[Any, Trace] = layer.__dict__.setdefault("_traces", {})
    if key not in known:
        known[key] = trace(copy.deepcopy(layer), shape, None, None)
    return known[key]


def trace(layer: Any, shape: Shape, stream: Stream | None, backend: Backend | None) -> Trace:
    """Run `forward` in evaluation on zeros; children that are not built yet are, from `stream`, for what reaches them.

    Raises
    ------
    ShapeError
        If `forward` cannot take such rows alone, or does not reach a child that is still to be built.
    """
    first = next((owner[key] for _, owner, key in layer.named_params() if is_floating(owner[key])), None)
    backend = Backend.of(first) if first is not None else backend or get_backend()
    dtype = backend.xp.int32 if layer.takes_ids else backend.float
    x = backend.xp.zeros((2, *shape), dtype=dtype, device=backend.device)
    inputs: dict[str, Shape] = {}
    with in_mode(layer, False), _recorded(layer, inputs, stream):
        try:
            y = forward_in_mode(layer, x, False)
        except Exception as error:
            if _CURE in str(error):  # of a layer inside
                raise
            raise ShapeError(
                f"{layer.name}: its layers are built by forward of two rows of zeros of shape {shape}, which raised "
                f"{type(error).__name__}: {error}; {_CURE}"
            ) from error
    missed = [name for name, child in layer.children() if not child.built]
    if missed:
        raise ShapeError(
            f"{layer.name}: forward, in evaluation, does not call the layer {missed[0]}, so that its sizes are unknown; "
            f"{_CURE}"
        )
    for one in layer.tree():  # zeros are nothing to go back through
        one.used_up = True
    if not is_array(y) or y.ndim == 0:
        raise ShapeError(f"{layer.name}: forward must return an array (N, ...), got {type(y).__name__}; {_CURE}")
    return Trace(tuple(y.shape[1:]), inputs)


@contextmanager
def _recorded(layer: Any, inputs: dict[str, Shape], stream: Stream | None) -> Iterator[None]:
    """Inside, the first call of a child's `forward` notes the shape of its input, and builds it."""
    children = list(layer.children())
    before = {name: child.__dict__.get("forward") for name, child in children}

    def restore(name: str, child: Any) -> None:
        child.__dict__.pop("forward", None)
        if before[name] is not None:
            child.forward = before[name]

    def recorder(name: str, child: Any) -> Any:
        def record(x: Any, *args: Any, **kwargs: Any) -> Any:
            restore(name, child)
            inputs[name] = tuple(x.shape[1:])
            if not child.built:
                own = None if stream is None else stream.child(name)
                child.build(inputs[name], stream=own, backend=Backend.of(x))
            return child.forward(x, *args, **kwargs)

        return record

    for name, child in children:
        child.forward = recorder(name, child)
    try:
        yield
    finally:
        for name, child in children:
            restore(name, child)
