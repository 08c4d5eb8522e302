"""The models of the second volume in PyTorch, written a second time, as functions of arrays by our names."""

from __future__ import annotations

from typing import Any


def lstm(torch: Any, p: dict[str, Any], name: str, x: Any, h: Any = None, c: Any = None) -> tuple[Any, Any, Any]:
    """All states (N, T, H) of an LSTM, and the last state and memory."""
    Wx, Wh, b = (p[f"{name}.{key}"] for key in ("Wx", "Wh", "b"))
    layer = torch.nn.LSTM(*Wx.shape[:1], Wh.shape[0], batch_first=True).to(torch.float64)
    weights = {"weight_ih_l0": Wx.T, "weight_hh_l0": Wh.T, "bias_ih_l0": b, "bias_hh_l0": torch.zeros_like(b)}
    zeros = torch.zeros((1, x.shape[0], Wh.shape[0]), dtype=torch.float64)
    start = (zeros if h is None else h[None], zeros if c is None else c[None])
    y, (h, c) = torch.func.functional_call(layer, weights, (x, start))
    return y, h[0], c[0]


def seq2seq(torch: Any, p: dict[str, Any], x: Any, t: Any, kind: str) -> Any:
    """Scores (N, S - 1, V) of the ids after the first of `t`; `kind` is the name of the class."""
    F = torch.nn.functional
    hs, h, _ = lstm(torch, p, "Encoder.LSTM", F.embedding(x, p["Encoder.Embedding.W"]))
    words = F.embedding(t[:, :-1], p["Decoder.Embedding.W"])
    peek = h[:, None, :].expand(-1, words.shape[1], -1)
    if kind == "PeekySeq2seq":
        words = torch.cat([peek, words], dim=2)
    y, _, _ = lstm(torch, p, "Decoder.LSTM", words, h)
    if kind == "PeekySeq2seq":
        y = torch.cat([peek, y], dim=2)
    if kind == "AttentionSeq2seq":
        context = F.scaled_dot_product_attention(y, hs, hs, scale=1.0)
        y = torch.cat([context, y], dim=2)
    return y @ p["Decoder.Affine.W"] + p["Decoder.Affine.b"]


def rnn_lm(torch: Any, p: dict[str, Any], x: Any, states: list[Any], masks: list[Any]) -> tuple[Any, list[Any]]:
    """Scores (N, T, V), and the states after; `masks` are factors of dropout before, between and after the layers."""
    y, after = torch.nn.functional.embedding(x, p["Embedding.W"]), []
    masks = masks or [1.0] * (len(states) + 1)
    for k, state in enumerate(states, 1):
        y, *state = lstm(torch, p, f"LSTM{k}", y * masks[k - 1], *state)
        after.append(state)
    W = p["Affine.W"] if "Affine.W" in p else p["Embedding.W"].T
    return (y * masks[-1]) @ W + p["Affine.b"], after
