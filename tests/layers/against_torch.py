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
        ``(torch, inputs, params)`` -> output, of tensors.
    """

    layer: Any
    inputs: tuple[Any, ...]
    there: Callable[[Any, list[Any], dict[str, Any]], Any]


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


def _sequences(rng: Rng) -> Draw:
    x = 2.0 * rng.standard_normal(rng.integers(1, 6, int(rng.integers(2, 5))))
    t = rng.integers(-1, x.shape[-1], x.shape[:-1])
    t[(0,) * t.ndim] = 0  # of positions that are all ignored, PyTorch's mean is NaN
    weights = list(0.5 + rng.random(x.shape[-1])) if rng.integers(2) else None
    layer = L.SoftmaxWithLoss(0.3 * rng.integers(2), weights, ignore_label=-1)

    def there(torch: Any, inputs: list[Any], params: dict[str, Any]) -> Any:
        return torch.nn.functional.cross_entropy(
            inputs[0].reshape(-1, x.shape[-1]),
            inputs[1].reshape(-1),
            weight=None if weights is None else torch.tensor(weights, dtype=torch.float64),
            ignore_index=-1,
            label_smoothing=layer.label_smoothing,
        )

    return Draw(layer, (x, t), there)


def regression(make: Callable[[Rng], Any], there: Callable[[Any, Any, Any, Any], Any]) -> Callable[[Rng], Draw]:
    """Draw a loss of numbers; `there` takes the functions of torch, outputs, targets and the layer."""

    def draw(rng: Rng) -> Draw:
        layer, x = make(rng), batch(rng, 0)
        t = rng.integers(-3, 4, x.shape)
        return Draw(layer, (x, t), lambda torch, inputs, params: there(torch.nn.functional, *inputs, layer))

    return draw


def _hinge(rng: Rng) -> Draw:
    x = rng.standard_normal((int(rng.integers(1, 5)), int(rng.integers(2, 6))))
    t = rng.integers(0, x.shape[1], len(x))
    layer = L.Hinge(0.5 + rng.random())

    def there(torch: Any, inputs: list[Any], params: dict[str, Any]) -> Any:
        return x.shape[1] * torch.nn.functional.multi_margin_loss(*inputs, margin=layer.margin)

    return Draw(layer, (x, t), there)


def _gaussian(rng: Rng) -> Draw:
    x = rng.standard_normal((int(rng.integers(1, 5)), 2 * int(rng.integers(1, 4))))

    def there(torch: Any, inputs: list[Any], params: dict[str, Any]) -> Any:
        mean, log_var = inputs[0].chunk(2, dim=1)
        normal = torch.distributions.Normal(mean, torch.exp(0.5 * log_var))
        return torch.distributions.kl_divergence(normal, torch.distributions.Normal(0.0, 1.0)).sum() / len(x)

    return Draw(L.GaussianKL(), (x,), there)


def recurrent(cls: Any, kind: str, bidirectional: bool = False) -> Callable[[Rng], Draw]:
    """Draw a recurrent layer; PyTorch's own gets its parameters, the bias as that of the inputs."""

    def draw(rng: Rng) -> Draw:
        n, t, f, units = (int(size) for size in rng.integers(1, 6, 4))
        x, sequences = rng.standard_normal((n, t, f)), bool(rng.integers(2))
        layer = cls(units, return_sequences=sequences)
        layer = built(L.Bidirectional(layer) if bidirectional else layer, rng, x)

        def there(torch: Any, inputs: list[Any], params: dict[str, Any]) -> Any:
            module = getattr(torch.nn, kind)(f, units, batch_first=True, bidirectional=bidirectional).double()
            given = {}
            for prefix, suffix in (("forwards.", ""), ("backwards.", "_reverse")) if bidirectional else (("", ""),):
                given[f"weight_ih_l0{suffix}"] = params[f"{prefix}Wx"].T
                given[f"weight_hh_l0{suffix}"] = params[f"{prefix}Wh"].T
                given[f"bias_ih_l0{suffix}"] = params[f"{prefix}b"]
                own = [params[f"{prefix}bh"]] if kind == "GRU" else []
                zeros = torch.zeros(len(params[f"{prefix}b"]) - units * len(own), dtype=torch.float64)
                given[f"bias_hh_l0{suffix}"] = torch.cat([zeros, *own])
            y, state = torch.func.functional_call(module, given, (inputs[0],))
            last = state[0] if kind == "LSTM" else state
            return y if sequences else torch.cat(list(last), dim=-1)

        return Draw(layer, (x,), there)

    return draw


def attention(crossed: bool) -> Callable[[Rng], Draw]:
    """Draw a layer of attention, of a sequence with itself or with another, of which some keys are masked."""

    def draw(rng: Rng) -> Draw:
        n, t, s, heads, half = (int(size) for size in rng.integers(1, 6, 5))
        x, context = (rng.standard_normal((n, length, 2 * half * heads)) for length in (t, s))
        layer = L.MultiHeadAttention(heads, bool(rng.integers(2)) and t <= s, rotary=bool(rng.integers(2)))
        layer = built(layer, rng, x)
        for name, value in layer.params.items():
            layer.params[name] = 0.5 * value
        keep = rng.random((n, s)) < 0.7
        keep[:, 0] = True  # of a query without keys, PyTorch's mean is NaN
        inputs = (x, context, keep) if crossed else (x,)

        def there(torch: Any, inputs: list[Any], params: dict[str, Any]) -> Any:
            source = inputs[1] if crossed else inputs[0]

            def mapped(a: Any, one: str) -> Any:
                y = torch.nn.functional.linear(a, params[f"W{one}"].T, params[f"b{one}"])
                return y.unflatten(-1, (heads, -1)).transpose(1, 2)

            q, k, v = mapped(inputs[0], "q"), mapped(source, "k"), mapped(source, "v")
            if layer.rotary:
                q, k = (_rotated(torch, a) for a in (q, k))
            rows, columns = q.shape[2], k.shape[2]
            counts = torch.ones((n, 1, rows, columns), dtype=torch.bool)
            if layer.causal:
                counts = counts.tril(columns - rows)
            if crossed:
                counts = counts & inputs[2][:, None, None, :]
            y = torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=counts)
            return torch.nn.functional.linear(y.transpose(1, 2).flatten(2), params["Wo"].T, params["bo"])

        return Draw(layer, inputs, there)

    return draw


def _rotated(torch: Any, a: Any) -> Any:
    """Pairs of both halves, as complex numbers, turned."""
    first, second = a.chunk(2, dim=-1)
    half = first.shape[-1]
    speed = 10000.0 ** (-torch.arange(half, dtype=torch.float64) / half)
    angle = torch.arange(a.shape[-2], dtype=torch.float64)[:, None] * speed
    turned = torch.complex(first, second) * torch.polar(torch.ones_like(angle), angle)
    return torch.cat([turned.real, turned.imag], dim=-1)


#: class (and form) -> its peer
PEERS: dict[str, Callable[[Rng], Draw]] = {
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
    "MultiHeadAttention": attention(crossed=False),
    "MultiHeadAttention of a context": attention(crossed=True),
    "RNN": recurrent(L.RNN, "RNN"),
    "LSTM": recurrent(L.LSTM, "LSTM"),
    "GRU": recurrent(L.GRU, "GRU"),
    "Bidirectional LSTM": recurrent(L.LSTM, "LSTM", bidirectional=True),
    "Bidirectional GRU": recurrent(L.GRU, "GRU", bidirectional=True),
    "SoftmaxWithLoss": _sequences,
    "MeanSquaredError": regression(lambda rng: L.MeanSquaredError(), lambda F, x, t, layer: F.mse_loss(x, t.double())),
    "MeanAbsoluteError": regression(lambda rng: L.MeanAbsoluteError(), lambda F, x, t, layer: F.l1_loss(x, t.double())),
    "Huber": regression(
        lambda rng: L.Huber(0.2 + rng.random()), lambda F, x, t, layer: F.huber_loss(x, t.double(), delta=layer.delta)
    ),
    "Hinge": _hinge,
    "GaussianKL": _gaussian,
}


def compare(draw: Draw, rng: Rng) -> float:
    """The largest difference of outputs and gradients, in proportion to the largest value of each array."""
    import torch

    inputs = [torch.tensor(x, requires_grad=x.dtype.kind == "f") for x in draw.inputs]
    params = {path: torch.tensor(owner[key], requires_grad=True) for path, owner, key in draw.layer.named_params()}
    expected = draw.there(torch, inputs, params)
    y = draw.layer.forward(*draw.inputs)
    dout = rng.standard_normal(y.shape)
    expected.backward(torch.tensor(dout))
    dinputs = as_tuple(draw.layer.backward(dout))
    inputs = inputs[: len(dinputs)]
    pairs = [(y, expected.detach())]
    pairs += [(dx, x.grad) for dx, x in zip(dinputs, inputs, strict=True) if x.requires_grad]
    pairs += [(owner[key], params[path].grad) for path, owner, key in draw.layer.named_grads()]
    assert len(pairs) == 1 + sum(x.requires_grad for x in inputs) + len(params)
    return max(_difference(got, want.numpy()) for got, want in pairs)


def _difference(got: Any, want: Any) -> float:
    assert got.shape == want.shape
    return float(np.abs(got - want).max(initial=0.0) / max(1.0, np.abs(want).max(initial=0.0)))
