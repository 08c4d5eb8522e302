"""Layers beside their counterparts in PyTorch: one random configuration of each, with the values and gradients of both.

A `Peer` draws a configuration from a generator: a layer, its inputs, and the same function in PyTorch, whose arrays are the
layer's parameters by name.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from tests.pairs import as_tuple
from xpdl import layers as L
from xpdl.backends import make_backend
from xpdl.backends.random import Stream

Rng = np.random.Generator


@dataclasses.dataclass(frozen=True)
class Draw:
    """One configuration.

    Attributes
    ----------
    layer : Layer
        Built, with random parameters.
    inputs : tuple of arrays
        What ``forward`` takes; floating ones have gradients.
    there : function
        ``(torch, inputs, params)`` -> output, of tensors; `params` has the states, too.
    states : dict of arrays
        States to begin with, whose gradients the layer has as ``dh`` for ``h``.
    """

    layer: Any
    inputs: tuple[Any, ...]
    there: Callable[[Any, list[Any], dict[str, Any]], Any]
    states: dict[str, Any] = dataclasses.field(default_factory=dict)


def built(layer: Any, rng: Rng, *inputs: Any) -> Any:
    """The layer in float64, with parameters that are not those it begins with."""
    layer.build(
        inputs[0].shape[1:], stream=Stream(int(rng.integers(1000))), backend=make_backend("numpy", None, "float64")
    )
    for _, owner, key in layer.named_params():
        owner[key] = owner[key] + 0.5 * rng.standard_normal(owner[key].shape)
    return layer


def batch(rng: Rng, least: int = 1, most: int = 4) -> Any:
    """A random array (N, ..., F) with `least` to `most` axes after the first."""
    shape = rng.integers(1, 6, int(rng.integers(least, most + 1)) + 1)
    return 2.0 * rng.standard_normal(shape)


def unit(make: Callable[[Rng], Any], there: Callable[[Any, Any, Any], Any]) -> Callable[[Rng], Draw]:
    """Draw an elementwise layer; `there` takes torch, the input and the layer."""

    def draw(rng: Rng) -> Draw:
        layer, x = make(rng), batch(rng, 0)
        return Draw(layer, (x,), lambda torch, inputs, params: there(torch.nn.functional, inputs[0], layer))

    return draw


def _affine(rng: Rng) -> Draw:
    x = batch(rng)
    layer = built(L.Affine(units=int(rng.integers(1, 5)), use_bias=bool(rng.integers(2)), axis=-1), rng, x)

    def there(torch: Any, inputs: list[Any], params: dict[str, Any]) -> Any:
        return torch.nn.functional.linear(inputs[0], params["W"].T, params.get("b"))

    return Draw(layer, (x,), there)


def _layer_normalization(rng: Rng) -> Draw:
    x = batch(rng)
    layer = built(L.LayerNormalization(10.0 ** -rng.integers(1, 7)), rng, x)

    def there(torch: Any, inputs: list[Any], params: dict[str, Any]) -> Any:
        return torch.nn.functional.layer_norm(inputs[0], x.shape[-1:], params["gamma"], params["beta"], layer.eps)

    return Draw(layer, (x,), there)


def _rms_normalization(rng: Rng) -> Draw:
    x = batch(rng)
    layer = built(L.RMSNormalization(10.0 ** -rng.integers(1, 7)), rng, x)

    def there(torch: Any, inputs: list[Any], params: dict[str, Any]) -> Any:
        return torch.nn.functional.rms_norm(inputs[0], x.shape[-1:], params["gamma"], layer.eps)

    return Draw(layer, (x,), there)


def _group_normalization(rng: Rng) -> Draw:
    groups, size = (int(n) for n in rng.integers(1, 4, 2))
    x = rng.standard_normal((int(rng.integers(1, 4)), groups * size, *rng.integers(2, 5, int(rng.integers(1, 3)))))
    layer = built(L.GroupNormalization(groups, 10.0 ** -rng.integers(1, 7)), rng, x)

    def there(torch: Any, inputs: list[Any], params: dict[str, Any]) -> Any:
        return torch.nn.functional.group_norm(inputs[0], groups, params["gamma"], params["beta"], layer.eps)

    return Draw(layer, (x,), there)


def _global_max_pooling(rng: Rng) -> Draw:
    x = rng.standard_normal(rng.integers(1, 5, 4))
    return Draw(L.GlobalMaxPooling(), (x,), lambda torch, inputs, params: torch.amax(inputs[0], (2, 3)))


def _embedding(rng: Rng) -> Draw:
    ids = rng.integers(0, 6, rng.integers(1, 7, int(rng.integers(1, 4))))
    layer = built(L.Embedding(6, int(rng.integers(1, 5))), rng, ids)
    return Draw(layer, (ids,), lambda torch, inputs, params: torch.nn.functional.embedding(inputs[0], params["W"]))


#: class (and form) -> its peer
PEERS: dict[str, Callable[[Rng], Draw]] = {
    "Relu": unit(lambda rng: L.Relu(), lambda F, x, layer: F.relu(x)),
    "Sigmoid": unit(lambda rng: L.Sigmoid(), lambda F, x, layer: x.sigmoid()),
    "Tanh": unit(lambda rng: L.Tanh(), lambda F, x, layer: x.tanh()),
    "Gelu": unit(lambda rng: L.Gelu(), lambda F, x, layer: F.gelu(x)),
    "Gelu by tanh": unit(lambda rng: L.Gelu("tanh"), lambda F, x, layer: F.gelu(x, approximate="tanh")),
    "Silu": unit(lambda rng: L.Silu(), lambda F, x, layer: F.silu(x)),
    "LeakyRelu": unit(lambda rng: L.LeakyRelu(rng.random()), lambda F, x, layer: F.leaky_relu(x, layer.slope)),
    "Elu": unit(lambda rng: L.Elu(2 * rng.random()), lambda F, x, layer: F.elu(x, layer.alpha)),
    "Softplus": unit(lambda rng: L.Softplus(), lambda F, x, layer: F.softplus(x)),
    "Affine": _affine,
    "LayerNormalization": _layer_normalization,
    "RMSNormalization": _rms_normalization,
    "GroupNormalization": _group_normalization,
    "GlobalMaxPooling": _global_max_pooling,
    "Embedding": _embedding,
}


def compare(draw: Draw, rng: Rng) -> float:
    """The largest difference of outputs and gradients, in proportion to the largest value of each array."""
    import torch

    inputs = [None if x is None else torch.tensor(x, requires_grad=x.dtype.kind == "f") for x in draw.inputs]
    params = {path: torch.tensor(owner[key], requires_grad=True) for path, owner, key in draw.layer.named_params()}
    states = {name: torch.tensor(state, requires_grad=True) for name, state in draw.states.items()}
    expected = draw.there(torch, inputs, {**params, **states})
    y = draw.layer.forward(*draw.inputs)
    dout = rng.standard_normal(y.shape)
    expected.backward(torch.tensor(dout))
    dinputs = as_tuple(draw.layer.backward(dout))
    inputs = inputs[: len(dinputs)]
    pairs = [(y, expected.detach())]
    pairs += [(dx, x.grad) for dx, x in zip(dinputs, inputs, strict=True) if x.requires_grad]
    pairs += [(owner[key], params[path].grad) for path, owner, key in draw.layer.named_grads()]
    pairs += [(getattr(draw.layer, f"d{name}"), state.grad) for name, state in states.items()]
    assert len(pairs) == 1 + sum(x.requires_grad for x in inputs) + len(params) + len(states)
    return max(_difference(got, want.numpy()) for got, want in pairs)


def _difference(got: Any, want: Any) -> float:
    assert got.shape == want.shape
    return float(np.abs(got - want).max(initial=0.0) / max(1.0, np.abs(want).max(initial=0.0)))
