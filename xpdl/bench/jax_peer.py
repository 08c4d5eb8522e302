"""The same net in plain JAX: operators of `jax.lax`, `jax.grad` and optax's Adam, with the same weights."""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Mapping
from typing import Any

from xpdl.backends import asnumpy
from xpdl.bench.jax_sequences import Apply, attention_seq2seq, sequence_layer
from xpdl.layers import (
    Affine,
    BatchNormalization,
    Chain,
    Convolution,
    Dropout,
    Flatten,
    GlobalAveragePooling,
    Identity,
    Layer,
    Pooling,
    Relu,
    Residual,
    SoftmaxWithLoss,
)
from xpdl.models import AttentionSeq2seq, Sequential


class Peer:
    """A net as a function of its parameters.

    Batch normalization takes the statistics of a batch in training and keeps no running ones, which is less than the net of
    xpdl does.

    Parameters
    ----------
    network : Sequential or AttentionSeq2seq

    Attributes
    ----------
    params : list or dict
        Of each layer.
    apply : callable
        ``apply(params, x, key)`` -> scores.

    Raises
    ------
    ImportError
        If JAX or optax is not installed.
    TypeError
        If the net has a layer that is not known here.
    """

    def __init__(self, network: Sequential | AttentionSeq2seq) -> None:
        try:
            self.jax, self.optax = importlib.import_module("jax"), importlib.import_module("optax")
        except ImportError as error:
            raise ImportError(f"comparing with JAX needs it: pip install 'jax>=0.6' optax ({error})") from error
        if isinstance(network, AttentionSeq2seq):
            self.params, self.apply = attention_seq2seq(self.jax, network)
            return
        if type(network.last_layer) is not SoftmaxWithLoss or repr(network.last_layer) != "SoftmaxWithLoss()":
            raise TypeError(f"bench: only nets with a plain SoftmaxWithLoss are compared, got {network.last_layer!r}")
        self.params, self.apply = _chain(self.jax, network.layers)

    def loss(self, params: Any, x: Any, t: Any, key: Any = None) -> Any:
        """Mean cross entropy of the batch."""
        return self.optax.softmax_cross_entropy_with_integer_labels(self.apply(params, x, key), t).mean()

    def stepper(self, x: Any, t: Any, *, compiled: bool) -> Callable[[], Any]:
        """Return a training step with Adam: one function of `jax.jit`, with donated arguments, or operator by operator."""
        jax, optax, optimizer = self.jax, self.optax, self.optax.adam(1e-3)
        x, t = jax.tree.map(_moved, (x, t))
        state = [self.params, optimizer.init(self.params), jax.random.PRNGKey(0)]

        def step(params: Any, kept: Any, key: Any, x: Any, t: Any) -> Any:
            key, own = jax.random.split(key)
            loss, grads = jax.value_and_grad(self.loss)(params, x, t, own)
            updates, kept = optimizer.update(grads, kept, params)
            return loss, [optax.apply_updates(params, updates), kept, key]

        run: Any = jax.jit(step, donate_argnums=(0, 1, 2)) if compiled else step

        def call() -> Any:
            loss, state[:] = run(*state, x, t)
            return [loss, *jax.tree.leaves(state[0])]

        return call

    def predictor(self, x: Any, *, compiled: bool) -> Callable[[], Any]:
        """Return a function of scores."""
        rows = self.jax.tree.map(_moved, x)
        run = self.jax.jit(self.apply) if compiled else self.apply
        return lambda: run(self.params, rows, None)


def _moved(a: Any) -> Any:
    return importlib.import_module("jax").device_put(asnumpy(a))


def _chain(jax: Any, layers: Mapping[str, Layer]) -> tuple[list[Any], Apply]:
    made = [_layer(jax, layer) for layer in layers.values()]

    def apply(params: Any, x: Any, key: Any) -> Any:
        for number, ((_, function), own) in enumerate(zip(made, params, strict=True)):
            x = function(own, x, None if key is None else jax.random.fold_in(key, number))
        return x

    return [params for params, _ in made], apply


def _layer(jax: Any, layer: Layer) -> tuple[Any, Apply]:
    own = {name: jax.device_put(asnumpy(a)) for name, a in layer.own("params").items()}
    match layer:
        case Affine() if layer.axis == 1:
            return own, lambda p, x, key: x.reshape(len(x), -1) @ p["W"] + p["b"]
        case Convolution() if layer.groups == 1:
            return own, _convolution(jax, layer)
        case BatchNormalization():
            return own, _batch_normalization(jax, layer)
        case Pooling() if not layer.ceil_mode:
            windows = (1, 1, *layer.size), (1, 1, *layer.stride), [(0, 0), (0, 0), *((n, n) for n in layer.pad)]
            return {}, lambda p, x, key: jax.lax.reduce_window(x, -math.inf, jax.lax.max, *windows)
        case Relu():
            return {}, lambda p, x, key: jax.nn.relu(x)
        case Dropout():
            return {}, _dropout(jax, layer)
        case Flatten():
            return {}, lambda p, x, key: x.reshape(len(x), -1)
        case GlobalAveragePooling():
            return {}, lambda p, x, key: x.mean((2, 3))
        case Identity():
            return {}, lambda p, x, key: x
        case Chain():
            return _chain(jax, layer.layers)
        case Residual():
            body, shortcut = _chain(jax, layer.body.layers), _chain(jax, layer.shortcut.layers)
            return (body[0], shortcut[0]), lambda p, x, key: body[1](p[0], x, key) + shortcut[1](p[1], x, key)
    if (apply := sequence_layer(jax, layer)) is not None:
        return own, apply
    raise TypeError(f"bench: no layer of plain JAX is known for {layer!r}")


def _convolution(jax: Any, layer: Convolution) -> Apply:
    border, names = [(n, n) for n in layer.pad], ("NCHW", "OIHW", "NCHW")

    def apply(p: Any, x: Any, key: Any) -> Any:
        y = jax.lax.conv_general_dilated(
            x, p["W"], layer.stride, border, rhs_dilation=layer.dilation, dimension_numbers=names
        )
        return y + p["b"][:, None, None] if "b" in p else y

    return apply


def _batch_normalization(jax: Any, layer: BatchNormalization) -> Apply:
    running = [jax.device_put(asnumpy(layer.state[name])) for name in ("running_mean", "running_var")]

    def apply(p: Any, x: Any, key: Any) -> Any:
        axes = (0, *range(2, x.ndim))
        mean, var = running if key is None else (x.mean(axes), x.var(axes))
        mean, var, gamma, beta = (a.reshape(-1, *(1,) * (x.ndim - 2)) for a in (mean, var, p["gamma"], p["beta"]))
        return (x - mean) * jax.lax.rsqrt(var + layer.eps) * gamma + beta

    return apply


def _dropout(jax: Any, layer: Dropout) -> Apply:
    keep = 1.0 - layer.dropout_ratio

    def apply(p: Any, x: Any, key: Any) -> Any:
        if key is None:
            return x if layer.inverted else x * keep
        kept = x * jax.random.bernoulli(key, keep, x.shape)
        return kept / keep if layer.inverted else kept

    return apply
