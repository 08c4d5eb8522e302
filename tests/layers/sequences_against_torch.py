"""Random configurations of layers of sequences, beside PyTorch's modules, cells and attention."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tests.layers.against_torch import Draw, Rng, built
from xpdl import layers as L
from xpdl.ops import attention as ops

_CELLS: dict[type, str] = {L.RNN: "rnn_tanh_cell", L.LSTM: "lstm_cell", L.GRU: "gru_cell"}


def _sizes(rng: Rng, count: int) -> list[int]:
    return [int(size) for size in rng.integers(1, 6, count)]


def _weights(torch: Any, params: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Those of a recurrent layer by PyTorch's names: the bias is that of the inputs, but for the part that is `bh`."""
    b, own = params[f"{prefix}b"], [params[f"{prefix}bh"]] if f"{prefix}bh" in params else []
    zeros = torch.zeros(len(b) - sum(map(len, own)), dtype=torch.float64)
    return {
        "weight_ih": params[f"{prefix}Wx"].T,
        "weight_hh": params[f"{prefix}Wh"].T,
        "bias_ih": b,
        "bias_hh": torch.cat([zeros, *own]),
    }


def recurrent(cls: Any, bidirectional: bool = False) -> Callable[[Rng], Draw]:
    """Draw a recurrent layer beside PyTorch's own."""

    def draw(rng: Rng) -> Draw:
        n, t, f, units = _sizes(rng, 4)
        x, sequences = rng.standard_normal((n, t, f)), bool(rng.integers(2))
        layer = cls(units, return_sequences=sequences)
        layer = built(L.Bidirectional(layer) if bidirectional else layer, rng, x)

        def there(torch: Any, inputs: list[Any], params: dict[str, Any]) -> Any:
            module = getattr(torch.nn, cls.__name__)(f, units, batch_first=True, bidirectional=bidirectional).double()
            given = {}
            for prefix, suffix in (("forwards.", ""), ("backwards.", "_reverse")) if bidirectional else (("", ""),):
                weights = _weights(torch, params, prefix)
                given.update({f"{name}_l0{suffix}": value for name, value in weights.items()})
            y, state = torch.func.functional_call(module, given, (inputs[0],))
            last = state[0] if cls is L.LSTM else state
            return y if sequences else torch.cat(list(last), dim=-1)

        return Draw(layer, (x,), there)

    return draw


def _steps(
    torch: Any, cls: type, x: Any, mask: Any, weights: dict[str, Any], states: list[Any]
) -> tuple[Any, list[Any]]:
    """The states h of all steps, by PyTorch's cell, and the last states; a step that does not count is skipped."""
    cell, found = getattr(torch, _CELLS[cls]), []
    for t in range(x.shape[1]):
        before = tuple(states) if cls is L.LSTM else states[0]
        after = cell(x[:, t], before, *weights.values())
        after = after if cls is L.LSTM else (after,)
        if mask is not None:
            after = [torch.where(mask[:, t, None], new, old) for new, old in zip(after, states, strict=True)]
        states = list(after)
        found.append(states[0])
    return torch.stack(found, dim=1), states


def _mask(rng: Rng, n: int, t: int) -> Any:
    """Steps that count, in any order, of a row also none; or None."""
    return rng.random((n, t)) < rng.random() if rng.integers(4) else None


def stepwise(cls: Any) -> Callable[[Rng], Draw]:
    """Draw a layer with a mask, which begins with zeros, with given states, or with those of the piece before."""

    def draw(rng: Rng) -> Draw:
        n, t, f, units = _sizes(rng, 4)
        x, mask, begins = rng.standard_normal((n, t, f)), _mask(rng, n, t), int(rng.integers(3))
        layer = cls(units, return_sequences=bool(rng.integers(2)), stateful=begins == 2)
        layer = built(layer, rng, x)
        earlier = rng.standard_normal((n, *_sizes(rng, 1), f)) if begins == 2 else None
        if earlier is not None:
            layer.forward(earlier)
        elif begins == 1:
            for name in layer.state_names:
                setattr(layer, name, rng.standard_normal((n, units)))
        given = {name: getattr(layer, name) for name in layer.state_names} if begins == 1 else {}
        zeros = np.zeros((n, units))

        def there(torch: Any, inputs: list[Any], params: dict[str, Any]) -> Any:
            weights = _weights(torch, params)
            states = [params[name] if given else torch.tensor(zeros) for name in layer.state_names]
            if earlier is not None:
                states = _steps(torch, cls, torch.tensor(earlier), None, weights, states)[1]
                states = [state.detach() for state in states]
            y, _ = _steps(torch, cls, inputs[0], inputs[1], weights, states)
            return y if layer.return_sequences else y[:, -1]

        return Draw(layer, (x, mask), there, given)

    return draw


def both_ways(cls: Any) -> Callable[[Rng], Draw]:
    """Draw a layer in both directions, with a mask."""

    def draw(rng: Rng) -> Draw:
        n, t, f, units = _sizes(rng, 4)
        x, mask = rng.standard_normal((n, t, f)), _mask(rng, n, t)
        sequences = bool(rng.integers(2))
        layer = built(L.Bidirectional(cls(units, return_sequences=sequences)), rng, x)

        def there(torch: Any, inputs: list[Any], params: dict[str, Any]) -> Any:
            states = [torch.zeros((n, units), dtype=torch.float64)] * len(layer.layer.state_names)
            turned = [None if one is None else one.flip(1) for one in inputs]
            first, _ = _steps(torch, cls, *inputs, _weights(torch, params, "forwards."), states)
            second, _ = _steps(torch, cls, *turned, _weights(torch, params, "backwards."), states)
            if sequences:
                return torch.cat([first, second.flip(1)], dim=-1)
            return torch.cat([first[:, -1], second[:, -1]], dim=-1)

        return Draw(layer, (x, mask), there)

    return draw


def attention(crossed: bool) -> Callable[[Rng], Draw]:
    """Draw a layer of attention, of a sequence with itself or with another, of which some keys may be masked."""

    def draw(rng: Rng) -> Draw:
        n, t, s, heads, half = _sizes(rng, 5)
        s = s if crossed else t
        x, context = (rng.standard_normal((n, length, 2 * half * heads)) for length in (t, s))
        rotary, use_bias = (bool(rng.integers(2)) for _ in range(2))
        layer = L.MultiHeadAttention(heads, bool(rng.integers(2)) and t <= s, rotary=rotary, use_bias=use_bias)
        layer = built(layer, rng, x)
        for name, value in layer.params.items():
            layer.params[name] = 0.5 * value
        keep = rng.random((n, s)) < 0.7 if rng.integers(3) else None
        if keep is not None:
            keep[:, 0] = True  # of a query without keys, PyTorch's mean is NaN

        def there(torch: Any, inputs: list[Any], params: dict[str, Any]) -> Any:
            x, context, keep = inputs
            source = context if crossed else x

            def mapped(a: Any, one: str) -> Any:
                y = torch.nn.functional.linear(a, params[f"W{one}"].T, params.get(f"b{one}"))
                return y.unflatten(-1, (heads, -1)).transpose(1, 2)

            q, k, v = mapped(x, "q"), mapped(source, "k"), mapped(source, "v")
            if layer.rotary:
                q, k = (_rotated(torch, a) for a in (q, k))
            y = _attended(torch, q, k, v, keep, layer.causal)
            return torch.nn.functional.linear(y.transpose(1, 2).flatten(2), params["Wo"].T, params.get("bo"))

        return Draw(layer, (x, context if crossed else None, keep), there)

    return draw


def _attended(torch: Any, q: Any, k: Any, v: Any, keep: Any, causal: bool) -> Any:
    rows, columns = q.shape[2], k.shape[2]
    counts = torch.ones((q.shape[0], 1, rows, columns), dtype=torch.bool)
    counts = counts.tril(columns - rows) if causal else counts
    counts = counts if keep is None else counts & keep[:, None, None, :]
    return torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=counts)


def _rotated(torch: Any, a: Any) -> Any:
    """Pairs of both halves, as complex numbers, turned."""
    first, second = a.chunk(2, dim=-1)
    half = first.shape[-1]
    speed = 10000.0 ** (-torch.arange(half, dtype=torch.float64) / half)
    angle = torch.arange(a.shape[-2], dtype=torch.float64)[:, None] * speed
    turned = torch.complex(first, second) * torch.polar(torch.ones_like(angle), angle)
    return torch.cat([turned.real, turned.imag], dim=-1)


class _Blocks(L.Layer):
    """The op of attention with blocks of another size, as a layer of three inputs and a mask."""

    def __init__(self, causal: bool, block: int) -> None:
        super().__init__()
        self.options: Any = {"causal": causal, "block": block}

    def forward(self, *inputs: Any) -> Any:
        q, k, v, self.mask = inputs
        y, log_sum = ops.attention(*inputs, **self.options)
        self.saved = (q, k, v, y, log_sum)
        return y

    def backward(self, dout: Any) -> Any:
        return ops.attention_backward(dout, *self.saved, self.mask, **self.options)


def in_blocks(rng: Rng) -> Draw:
    n, heads, size, t, s = _sizes(rng, 5)
    t, s, causal = 2 * t, 2 * s, bool(rng.integers(2))
    t = min(t, s) if causal else t
    q, k, v = (2.0 * rng.standard_normal((n, heads, length, size)) for length in (t, s, s))
    keep = rng.random((n, s)) < 0.7 if rng.integers(2) else None
    if keep is not None:
        keep[:, 0] = True

    def there(torch: Any, inputs: list[Any], params: dict[str, Any]) -> Any:
        return _attended(torch, *inputs, causal)

    return Draw(_Blocks(causal, *_sizes(rng, 1)), (q, k, v, keep), there)


def sinusoidal_positions(rng: Rng) -> Draw:
    x = rng.standard_normal(_sizes(rng, 3))
    layer = L.SinusoidalPositions(10.0 ** (1 + 4 * rng.random()))

    def there(torch: Any, inputs: list[Any], params: dict[str, Any]) -> Any:
        t, size = x.shape[1:]
        speed = layer.base ** (-torch.arange(0, size + size % 2, 2, dtype=torch.float64) / size)
        turns = torch.polar(torch.ones(1, dtype=torch.float64), torch.arange(t)[:, None] * speed)
        return inputs[0] + torch.stack([turns.imag, turns.real], dim=-1).flatten(1)[:, :size]

    return Draw(layer, (x,), there)


def learned_positions(rng: Rng) -> Draw:
    x = rng.standard_normal(_sizes(rng, 3))
    layer = built(L.LearnedPositions(x.shape[1] + int(rng.integers(3))), rng, x)

    def there(torch: Any, inputs: list[Any], params: dict[str, Any]) -> Any:
        return inputs[0] + torch.nn.functional.embedding(torch.arange(x.shape[1]), params["W"])

    return Draw(layer, (x,), there)


PEERS: dict[str, Callable[[Rng], Draw]] = {
    "MultiHeadAttention": attention(crossed=False),
    "MultiHeadAttention of a context": attention(crossed=True),
    "attention in blocks": in_blocks,
    "SinusoidalPositions": sinusoidal_positions,
    "LearnedPositions": learned_positions,
    **{cls.__name__: recurrent(cls) for cls in _CELLS},
    **{f"{cls.__name__} with masks and states": stepwise(cls) for cls in _CELLS},
    **{f"Bidirectional {cls.__name__}": recurrent(cls, bidirectional=True) for cls in _CELLS},
    **{f"Bidirectional {cls.__name__} with masks": both_ways(cls) for cls in _CELLS},
}
