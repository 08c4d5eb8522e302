"""Layers and models of sequences in PyTorch, with the same weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from xpdl.backends import asnumpy
from xpdl.backends.namespaces import array_namespace
from xpdl.layers import LSTM, Embedding, Gelu, Layer, LayerNormalization, LearnedPositions, MultiHeadAttention
from xpdl.models import AttentionSeq2seq


def sequence_layer(torch: Any, layer: Layer) -> Any:
    """The module that computes what `layer` does, or None for one that is not of sequences."""
    nn = torch.nn
    match layer:
        case Embedding():
            return filled(torch, nn.Embedding(*layer.W.shape), weight=layer.W)
        case LSTM():
            return _lstm(torch, layer)
        case LearnedPositions():
            return _positions(torch, layer)
        case LayerNormalization():
            norm = nn.LayerNorm(layer.gamma.shape[0], eps=layer.eps)
            return filled(torch, norm, weight=layer.gamma, bias=layer.beta)
        case Gelu():
            return nn.GELU(layer.approximate)
        case MultiHeadAttention():
            return _attention(torch, layer)
    return None


def filled(torch: Any, module: Any, **values: Any) -> Any:
    """`module` with its parameters of these names set; None leaves one as it is."""
    with torch.no_grad():
        for name, value in values.items():
            if value is not None:
                getattr(module, name).copy_(torch.tensor(asnumpy(value)))
    return module


def attention_seq2seq(torch: Any, network: AttentionSeq2seq) -> Any:
    """`AttentionSeq2seq` as a module of a pair: questions, and answers without their last id."""
    encoder, decoder = network.encoder.layers, network.decoder

    class Answers(torch.nn.Module):  # type: ignore[misc]
        """Scores of the ids that follow."""

        def __init__(self) -> None:
            super().__init__()
            self.encoder_embedding, self.embedding = (
                sequence_layer(torch, one) for one in (encoder["Embedding"], decoder.embedding)
            )
            self.encoder, self.lstm = (torch_lstm(torch, one) for one in (encoder["LSTM"], decoder.lstm))
            self.affine = linear(torch, decoder.affine.W, decoder.affine.b)

        def forward(self, pair: Any) -> Any:
            questions, answers = pair
            hs, _ = self.encoder(self.encoder_embedding(questions))
            h = hs[:, -1:].transpose(0, 1).contiguous()
            y, _ = self.lstm(self.embedding(answers), (h, torch.zeros_like(h)))
            context = torch.nn.functional.scaled_dot_product_attention(y, hs, hs, scale=1.0)
            return self.affine(torch.cat([context, y], dim=-1))

    return Answers()


def linear(torch: Any, W: Any, b: Any) -> Any:
    """``x W + b``."""
    return filled(torch, torch.nn.Linear(*W.shape, bias=b is not None), weight=W.T, bias=b)


def torch_lstm(torch: Any, layer: Any) -> Any:
    """``torch.nn.LSTM``, whose second bias stays 0."""
    lstm = torch.nn.LSTM(layer.Wx.shape[0], layer.units, batch_first=True)
    zeros = 0 * layer.b
    return filled(torch, lstm, weight_ih_l0=layer.Wx.T, weight_hh_l0=layer.Wh.T, bias_ih_l0=layer.b, bias_hh_l0=zeros)


def _lstm(torch: Any, layer: LSTM) -> Any:
    class States(torch.nn.Module):  # type: ignore[misc]
        """The states of all steps, or the last one."""

        def __init__(self) -> None:
            super().__init__()
            self.lstm = torch_lstm(torch, layer)

        def forward(self, x: Any) -> Any:
            y, _ = self.lstm(x)
            return y if layer.return_sequences else y[:, -1]

    return States()


def _positions(torch: Any, layer: LearnedPositions) -> Any:
    class Positions(torch.nn.Module):  # type: ignore[misc]
        """``x + W``."""

        def __init__(self) -> None:
            super().__init__()
            self.W = torch.nn.Parameter(torch.tensor(asnumpy(layer.W)))

        def forward(self, x: Any) -> Any:
            return x + self.W[: x.shape[1]]

    return Positions()


def _attention(torch: Any, layer: MultiHeadAttention) -> Any:
    """Self-attention with one product for queries, keys and values, as programs for PyTorch have it."""
    if layer.rotary:
        raise TypeError(f"bench: {layer.name} with rotary=True has no counterpart here in PyTorch")

    class Attention(torch.nn.Module):  # type: ignore[misc]
        """``scaled_dot_product_attention`` of heads."""

        def __init__(self) -> None:
            super().__init__()
            maps = [(layer.params[f"W{one}"], layer.params.get(f"b{one}")) for one in "qkv"]
            self.qkv = linear(torch, _beside([W for W, _ in maps]), _beside([b for _, b in maps]))
            self.out = linear(torch, layer.Wo, layer.bo)

        def forward(self, x: Any) -> Any:
            n, t, size = x.shape
            heads = (a.view(n, t, layer.heads, -1).transpose(1, 2) for a in self.qkv(x).split(size, dim=2))
            y = torch.nn.functional.scaled_dot_product_attention(*heads, is_causal=layer.causal)
            return self.out(y.transpose(1, 2).reshape(n, t, size))

    return Attention()


def _beside(arrays: Sequence[Any]) -> Any:
    """Arrays joined along the last axis, or None where there are none."""
    return None if arrays[0] is None else array_namespace(*arrays).concat(list(arrays), axis=-1)
