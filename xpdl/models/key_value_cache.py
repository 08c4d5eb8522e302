"""Keys and values of the tokens so far, with which the next token costs one row through the net."""

from __future__ import annotations

import functools
from typing import Any

from xpdl.backends.namespaces import Array, array_namespace, device, is_writable
from xpdl.layers.chain import Chain
from xpdl.layers.multi_head_attention import MultiHeadAttention
from xpdl.layers.positions import LearnedPositions
from xpdl.layers.residual import Residual
from xpdl.layers.tree import forward_in_mode
from xpdl.ops.arithmetic import add
from xpdl.ops.positional import learned_positions


class KeyValueCache:
    """Keys and values of the attention layers of a model, of the tokens so far.

    Parameters
    ----------
    capacity : int
        The most tokens.
    padding : array (N,) of integers, optional
        Positions at the beginning of each text that are no part of it, and that no token looks at.

    Attributes
    ----------
    length : int
        Tokens so far, with the padding.
    """

    def __init__(self, capacity: int, padding: Array | None = None) -> None:
        self.capacity, self.length, self.padding = capacity, 0, padding
        self._kept: dict[Any, tuple[Array, Array]] = {}

    def forward(self, layer: Any, x: Array) -> Array:
        """The output of a layer in evaluation for positions `x` (N, T, ...) that follow those so far."""
        return _forward(layer, x, self)

    def extended(self, layer: Any, k: Array, v: Array) -> tuple[Array, Array, Array | None]:
        """Add keys and values (N, H, T, D) of an attention layer; return all so far, and a mask (N, S) of those that count.

        Where arrays cannot be written to, as in JAX, shapes that grow would be compiled anew for each token: all of the
        capacity is returned there, with the mask.
        """
        start, end = self.length, self.length + k.shape[2]
        if start == 0:
            self._kept[layer] = self._with_room(k), self._with_room(v)
            return k, v, self._counting(end, k)
        keys, values = self._kept[layer]
        if is_writable(keys):
            keys[:, :, start:end, :], values[:, :, start:end, :] = k, v
            return keys[:, :, :end, :], values[:, :, :end, :], self._counting(end, k)
        xp = array_namespace(k)
        places = xp.arange(self.capacity, device=device(k))
        is_next = xp.reshape(places == start, (self.capacity, 1))
        self._kept[layer] = keys, values = xp.where(is_next, k, keys), xp.where(is_next, v, values)
        there, counting = xp.broadcast_to(places < end, (k.shape[0], self.capacity)), self._counting(self.capacity, k)
        return keys, values, there if counting is None else xp.logical_and(there, counting)

    def places(self, count: int, beside: Array) -> Array:
        """Return the places in their texts of the next `count` tokens: (count,), or (N, count) where texts are padded."""
        xp = array_namespace(beside)
        places = xp.arange(count, device=device(beside)) + self.length
        if self.padding is None:
            return places
        return xp.clip(places - xp.expand_dims(self.padding, axis=-1), 0, None)

    def _counting(self, end: int, beside: Array) -> Array | None:
        """Return which of the first `end` positions are part of each text (N, end); None where all are."""
        if self.padding is None:
            return None
        return array_namespace(beside).arange(end, device=device(beside)) >= self.padding[:, None]

    def _with_room(self, a: Array) -> Array:
        xp, (n, heads, t, size) = array_namespace(a), a.shape
        room = xp.zeros((n, heads, self.capacity - t, size), dtype=a.dtype, device=device(a))
        return xp.concat([a, room], axis=2)


@functools.singledispatch
def _forward(layer: Any, x: Array, cache: KeyValueCache) -> Array:
    """Layers for which each position stands by itself."""
    return forward_in_mode(layer, x, False)


@_forward.register
def _(layer: Chain, x: Array, cache: KeyValueCache) -> Array:
    for step in layer.steps():
        x = _forward(step, x, cache)
    return x


@_forward.register
def _(layer: Residual, x: Array, cache: KeyValueCache) -> Array:
    return add(_forward(layer.body, x, cache), _forward(layer.shortcut, x, cache))


@_forward.register
def _(layer: MultiHeadAttention, x: Array, cache: KeyValueCache) -> Array:
    return layer.forward_next(x, cache.length, functools.partial(cache.extended, layer))


@_forward.register
def _(layer: LearnedPositions, x: Array, cache: KeyValueCache) -> Array:
    xp, places = array_namespace(x, layer.W), cache.places(x.shape[1], x)
    if places.ndim == 1:
        return learned_positions(x, xp.take(layer.W, places, axis=0))
    return add(x, xp.reshape(xp.take(layer.W, xp.reshape(places, (-1,)), axis=0), x.shape))
