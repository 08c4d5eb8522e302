"""Layers and models of sequences in plain JAX: recurrent ones by `jax.lax.scan`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from xpdl.backends import asnumpy
from xpdl.layers import (
    LSTM,
    Affine,
    Embedding,
    Gelu,
    Layer,
    LayerNormalization,
    LearnedPositions,
    MultiHeadAttention,
)
from xpdl.models import AttentionSeq2seq

#: ``apply(params, x, key)`` -> y, with a key of random numbers in training, and None in evaluation
Apply = Callable[[Any, Any, Any], Any]


def sequence_layer(jax: Any, layer: Layer) -> Apply | None:
    """Return the function that computes what `layer` does, or None for one that is not of sequences."""
    match layer:
        case Affine() if layer.axis == -1:
            return lambda p, x, key: x @ p["W"] + p["b"] if "b" in p else x @ p["W"]
        case Embedding():
            return lambda p, x, key: p["W"][x]
        case LSTM():
            return lambda p, x, key: lstm(jax, p, x) if layer.return_sequences else lstm(jax, p, x)[:, -1]
        case LearnedPositions():
            return lambda p, x, key: x + p["W"][: x.shape[1]]
        case LayerNormalization():
            return lambda p, x, key: jax.nn.standardize(x, epsilon=layer.eps) * p["gamma"] + p["beta"]
        case Gelu():
            return lambda p, x, key: jax.nn.gelu(x, approximate=layer.approximate == "tanh")
        case MultiHeadAttention() if not layer.rotary:
            return _attention(jax, layer)
    return None


def lstm(jax: Any, p: Any, x: Any, h: Any = None) -> Any:
    """All states (N, T, H), from `h` or zeros and a memory of zeros on."""

    def step(states: Any, a: Any) -> Any:
        h, c = states
        i, f, g, o = jax.lax.split(a + h @ p["Wh"], [h.shape[1]] * 4, axis=1)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jax.nn.tanh(g)
        h = jax.nn.sigmoid(o) * jax.nn.tanh(c)
        return (h, c), h

    zeros = jax.lax.full((len(x), p["Wh"].shape[0]), 0.0, x.dtype)
    start = (zeros if h is None else h, zeros)
    return jax.lax.scan(step, start, x.swapaxes(0, 1) @ p["Wx"] + p["b"])[1].swapaxes(0, 1)


def attention_seq2seq(jax: Any, network: AttentionSeq2seq) -> tuple[Any, Apply]:
    """`AttentionSeq2seq` as a function of a pair: questions, and answers without their last id."""
    encoder, decoder = network.encoder.layers, network.decoder
    layers = {
        "questions": encoder["Embedding"],
        "encoder": encoder["LSTM"],
        "answers": decoder.embedding,
        "decoder": decoder.lstm,
        "affine": decoder.affine,
    }
    params = {
        name: {key: jax.device_put(asnumpy(a)) for key, a in layer.own("params").items()}
        for name, layer in layers.items()
    }

    def apply(p: Any, pair: Any, key: Any) -> Any:
        questions, answers = pair
        hs = lstm(jax, p["encoder"], p["questions"]["W"][questions])
        y = lstm(jax, p["decoder"], p["answers"]["W"][answers], hs[:, -1])
        context = jax.nn.softmax(y @ hs.swapaxes(1, 2), axis=-1) @ hs
        return jax.lax.concatenate([context, y], 2) @ p["affine"]["W"] + p["affine"]["b"]

    return params, apply


def _attention(jax: Any, layer: MultiHeadAttention) -> Apply:
    """Self-attention by `jax.nn.dot_product_attention`."""

    def apply(p: Any, x: Any, key: Any) -> Any:
        def mapped(one: str, x: Any) -> Any:
            y = x @ p[f"W{one}"]
            return y + p[f"b{one}"] if f"b{one}" in p else y

        heads = [mapped(one, x).reshape(*x.shape[:2], layer.heads, -1) for one in "qkv"]
        return mapped("o", jax.nn.dot_product_attention(*heads, is_causal=layer.causal).reshape(x.shape))

    return apply
