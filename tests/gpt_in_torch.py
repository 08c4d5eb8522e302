"""The same GPT in PyTorch, written from its modules: the oracle of tests, and the peer of scripts/compare_gpt.py."""

from __future__ import annotations

import types
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F


class Attention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.c_attn, self.c_proj = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Any, past: Any = None) -> tuple[Any, Any]:
        n, t, width = x.shape
        q, k, v = (
            a.view(n, t, self.heads, width // self.heads).transpose(1, 2) for a in self.c_attn(x).split(width, dim=2)
        )
        if past is not None:
            k, v = torch.cat([past[0], k], dim=2), torch.cat([past[1], v], dim=2)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=t > 1)
        return self.c_proj(y.transpose(1, 2).reshape(n, t, width)), (k, v)


class Block(nn.Module):
    def __init__(self, width: int, heads: int, gelu: str) -> None:
        super().__init__()
        self.ln_1, self.attn, self.ln_2 = nn.LayerNorm(width), Attention(width, heads), nn.LayerNorm(width)
        parts = {"c_fc": nn.Linear(width, 4 * width), "gelu": nn.GELU(gelu), "c_proj": nn.Linear(4 * width, width)}
        self.mlp = nn.ModuleDict(parts)

    def forward(self, x: Any, past: Any = None) -> tuple[Any, Any]:
        y, kept = self.attn(self.ln_1(x), past)
        x = x + y
        return x + self.mlp["c_proj"](self.mlp["gelu"](self.mlp["c_fc"](self.ln_2(x)))), kept


class TorchGPT(nn.Module):
    """A net with the modules of GPT-2, from the arguments of a `GPT` without rotary positions and dropout."""

    def __init__(self, vocab: int, context: int, width: int, heads: int, depth: int, gelu: str, tied: bool) -> None:
        super().__init__()
        parts = {
            "wte": nn.Embedding(vocab, width),
            "wpe": nn.Embedding(context, width),
            "h": nn.ModuleList(Block(width, heads, gelu) for _ in range(depth)),
            "ln_f": nn.LayerNorm(width),
        }
        self.transformer = nn.ModuleDict(parts)
        self.lm_head = nn.Linear(width, vocab, bias=False)
        if tied:
            self.lm_head.weight = parts["wte"].weight

    def forward(self, ids: Any, past: Any = None) -> tuple[Any, list[Any]]:
        """Scores of all positions, and keys and values of `past` and these."""
        net = types.SimpleNamespace(**self.transformer)
        first = 0 if past is None else past[0][0].shape[2]
        x = net.wte(ids) + net.wpe(torch.arange(first, first + ids.shape[1]))
        kept = []
        for place, block in enumerate(net.h):
            x, pair = block(x, None if past is None else past[place])
            kept.append(pair)
        return self.lm_head(net.ln_f(x)), kept


def peer(model: Any) -> TorchGPT:
    """The net of the sizes of a `GPT`, in its dtype, with weights of its own."""
    names = ("vocab", "context", "width", "heads", "depth", "gelu", "tied")
    made = TorchGPT(*(model.config[name] for name in names))
    return made.to(getattr(torch, model.backend.dtype))
