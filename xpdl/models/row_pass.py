"""The pass of a GPT over the next token of each text, in evaluation: what its layers compute, without what many rows need.

A layer checks its input, saves it for a backward pass and looks for a kernel; for a row of 128 values that takes longer than
the products. With 4 blocks of width 128, a token takes a fifth of the time here that it takes by the layers.
"""

from __future__ import annotations

import math
from typing import Any

from xpdl.backends.graphs import detached
from xpdl.backends.namespaces import Array, array_namespace, device, is_half, is_writable, on_device_of
from xpdl.layers.affine import Affine
from xpdl.layers.chain import Chain
from xpdl.layers.dropout import Dropout
from xpdl.layers.embedding import Embedding
from xpdl.layers.gelu import Gelu
from xpdl.layers.identity import Identity
from xpdl.layers.multi_head_attention import MultiHeadAttention
from xpdl.layers.positions import LearnedPositions
from xpdl.layers.row_normalization import LayerNormalization
from xpdl.layers.tied_embedding import TiedEmbedding, TiedScores
from xpdl.models.key_value_cache import KeyValueCache
from xpdl.ops.attention import rotary
from xpdl.ops.gelu import gelu

_KINDS = {Affine, Dropout, Embedding, Gelu, Identity, LayerNormalization, LearnedPositions, MultiHeadAttention}
_KINDS |= {TiedEmbedding, TiedScores}
# scores of positions that no token looks at
_NEVER = -1e30
_BLOCK = [["norm", "attention"], ["norm", "expand", "gelu", "project"]]


def fits(model: Chain) -> bool:
    """Return whether a model has the layers that a `GPT` is made with, and arrays that this pass computes with."""
    blocks = [layer for name, layer in model.layers.items() if name.startswith("block")]
    names = ["tokens", "positions", "dropout", *(f"block{k}" for k in range(1, len(blocks) + 1)), "norm", "head"]
    inside = [[[n for n in part.body.layers if n != "dropout"] for _, part in block.children()] for block in blocks]
    return (
        [name for name in names if name in model.layers] == list(model.layers)
        and all(type(leaf) in _KINDS for leaf in model.leaves())
        and inside == [_BLOCK] * len(blocks)
        and all(is_writable(p) and not is_half(p) for p in model.params.values())
    )


class RowPass:
    """Scores of the token after the next one of each text; for a model that `fits`, until its parameters change."""

    def __init__(self, model: Chain) -> None:
        layers = model.layers
        self.tokens = detached(layers["tokens"].params["W"])
        self.positions: Array | None = detached(layers["positions"].params["W"]) if "positions" in layers else None
        self.blocks = [_Block(layer) for name, layer in layers.items() if name.startswith("block")]
        self.norm, xp = _Normalization(layers["norm"]), array_namespace(self.tokens)
        own = layers["head"].params.get("W")
        self.head = xp.matrix_transpose(self.tokens) if own is None else detached(own)

    def __call__(self, ids: Array, cache: KeyValueCache) -> Array:
        """Scores (N, K) for tokens `ids` (N,), which are added to the cache."""
        with on_device_of(self.tokens):
            x = array_namespace(ids).take(self.tokens, ids, axis=0)
            if self.positions is not None:
                x = x + _at(self.positions, cache)
            for block in self.blocks:
                x = block(x, cache)
            cache.length += 1
            return self.norm(x) @ self.head


class _Block:
    def __init__(self, block: Any) -> None:
        attention, mlp = (part.body.layers for _, part in block.children())
        self.attention = attention["attention"]
        self.norms = [_Normalization(part["norm"]) for part in (attention, mlp)]
        self.form = mlp["gelu"].approximate
        params = {key: detached(value) for key, value in self.attention.params.items()}
        xp = array_namespace(params["Wq"])
        self.joined = [xp.concat([params[f"{key}{one}"] for one in "qkv"], axis=-1) for key in ("W", "b")]
        self.output = [params["Wo"], params["bo"]]
        self.expand, self.project = ([detached(mlp[n].params[k]) for k in "Wb"] for n in ("expand", "project"))

    def __call__(self, x: Array, cache: KeyValueCache) -> Array:
        x = x + self._attend(self.norms[0](x), cache)
        h = _mapped(self.norms[1](x), self.expand)
        return x + _mapped(_gelu(h) if self.form == "tanh" else gelu(h, self.form), self.project)

    def _attend(self, x: Array, cache: KeyValueCache) -> Array:
        xp, (n, size), heads = array_namespace(x), x.shape, self.attention.heads
        qkv = xp.reshape(_mapped(x, self.joined), (n, 3, heads, 1, size // heads))
        q, k, v = qkv[:, 0, ...], qkv[:, 1, ...], qkv[:, 2, ...]
        if self.attention.rotary:
            q, k = rotary(q, first=cache.length), rotary(k, first=cache.length)
        k, v, mask = cache.extended(self.attention, k, v)
        scores = xp.matmul(q, xp.matrix_transpose(k)) * (1.0 / math.sqrt(size // heads))
        if mask is not None:
            scores = xp.where(mask[:, None, None, :], scores, _NEVER)
        p = xp.exp(scores - xp.max(scores, axis=-1, keepdims=True))
        y = xp.matmul(p, v) / xp.sum(p, axis=-1, keepdims=True)
        return _mapped(xp.reshape(y, (n, size)), self.output)


class _Normalization:
    def __init__(self, layer: Any) -> None:
        self.gamma, self.beta, self.eps = detached(layer.gamma), detached(layer.beta), layer.eps
        xp, size = array_namespace(self.gamma), self.gamma.shape[0]
        # a product with it is the mean, in a third of the time
        self.mean = xp.full((size, 1), 1.0 / size, dtype=self.gamma.dtype, device=device(self.gamma))

    def __call__(self, x: Array) -> Array:
        x = x - x @ self.mean
        return x / ((x * x) @ self.mean + self.eps) ** 0.5 * self.gamma + self.beta


def _at(positions: Array, cache: KeyValueCache) -> Array:
    """The row (E,) of the next place, or of that of each text (N, E) where some are padded."""
    if cache.padding is None:
        return positions[cache.length, :]
    return array_namespace(positions).take(positions, cache.places(1, positions)[:, 0], axis=0)


def _mapped(x: Array, W_and_b: list[Array]) -> Array:
    W, b = W_and_b
    return x @ W + b


def _gelu(x: Array) -> Array:
    """Gelu by tanh."""
    scale = math.sqrt(2.0 / math.pi)
    return 0.5 * x * (1.0 + array_namespace(x).tanh(x * (scale + scale * 0.044715 * (x * x))))
