"""Arrays of one layer here, and of its counterpart in PyTorch: names, layouts, and what is one array there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from xpdl.layers.affine import Affine
from xpdl.layers.base import Layer
from xpdl.layers.batch_normalization import BatchNormalization
from xpdl.layers.bidirectional import Bidirectional
from xpdl.layers.convolution import Convolution
from xpdl.layers.convolution_transpose import ConvolutionTranspose
from xpdl.layers.embedding import Embedding
from xpdl.layers.multi_head_attention import MultiHeadAttention
from xpdl.layers.positions import LearnedPositions
from xpdl.layers.recurrent import GRU, LSTM, RNN
from xpdl.layers.row_normalization import GroupNormalization, LayerNormalization, RMSNormalization

Arrays = Sequence[npt.NDArray[np.floating]]

_SHORT: dict[type[Layer], str] = {
    Convolution: "conv",
    ConvolutionTranspose: "convt",
    Affine: "fc",
    BatchNormalization: "bn",
    LayerNormalization: "ln",
    GroupNormalization: "gn",
    RMSNormalization: "rms",
    Embedding: "emb",
    LearnedPositions: "pos",
    RNN: "rnn",
    LSTM: "lstm",
    GRU: "gru",
    MultiHeadAttention: "attn",
}
_THERE = {
    "W": "weight",
    "b": "bias",
    "gamma": "weight",
    "beta": "bias",
    "running_mean": "running_mean",
    "running_var": "running_var",
}


class Group(NamedTuple):
    """Arrays that are translated together.

    Attributes
    ----------
    here, there : tuple of str
        Their names on both sides.
    forth, back : function
        From the arrays here to those there, and from those there to those here. An array that does not fit is passed on as
        it is where its shape shows that; else they raise ValueError.
    """

    here: tuple[str, ...]
    there: tuple[str, ...]
    forth: Callable[..., Arrays]
    back: Callable[..., Arrays]


def short_name(layer: Layer) -> str | None:
    """Return what a module like `layer` is called in short; None if PyTorch has no counterpart."""
    layer = layer.layer if isinstance(layer, Bidirectional) else layer
    return next((name for kind, name in _SHORT.items() if isinstance(layer, kind)), None)


def groups_of(layer: Layer) -> list[Group]:
    """Return the arrays of a layer that has a short name; of another that has arrays, raise TypeError."""
    if isinstance(layer, Bidirectional):
        directions = zip(layer.children(), ("", "_reverse"), strict=True)
        return [group for (name, one), suffix in directions for group in _of_recurrent(one, f"{name}.", suffix)]
    if isinstance(layer, (RNN, LSTM, GRU)):
        return _of_recurrent(layer)
    if isinstance(layer, MultiHeadAttention):
        return _of_attention(layer)
    keys = [*layer.own("params"), *(key for key in layer.own("state") if key in _THERE)]
    if keys and short_name(layer) is None:
        raise TypeError(f"{type(layer).__name__} has no counterpart in PyTorch")
    return [_single(key, _THERE[key], isinstance(layer, Affine) and key == "W") for key in keys]


def _single(here: str, there: str, transposed: bool = False) -> Group:
    translate = _transposed if transposed else _as_it_is
    return Group((here,), (there,), translate, translate)


def _as_it_is(a: npt.NDArray[np.floating]) -> Arrays:
    return (a,)


def _transposed(a: npt.NDArray[np.floating]) -> Arrays:
    return (a.T if a.ndim == 2 else a,)


def _of_recurrent(layer: Layer, prefix: str = "", suffix: str = "") -> list[Group]:
    """Gates have the same order; there are two biases there, which are added up here but for what `GRU` calls `bh`."""
    biases = (f"bias_ih_l0{suffix}", f"bias_hh_l0{suffix}")
    of_gru = isinstance(layer, GRU)
    return [
        _single(f"{prefix}Wx", f"weight_ih_l0{suffix}", transposed=True),
        _single(f"{prefix}Wh", f"weight_hh_l0{suffix}", transposed=True),
        Group((f"{prefix}b", f"{prefix}bh"), biases, _parted_biases, _joined_biases)
        if of_gru
        else Group((f"{prefix}b",), biases, _two_biases, _one_bias),
    ]


def _two_biases(b: npt.NDArray[np.floating]) -> Arrays:
    return b, np.zeros_like(b)


def _one_bias(of_x: npt.NDArray[np.floating], of_h: npt.NDArray[np.floating]) -> Arrays:
    if of_x.shape != of_h.shape or of_x.ndim != 1:
        raise ValueError(f"must have one axis and one size, got shapes {of_x.shape} and {of_h.shape}")
    return (np.add(of_x, of_h, dtype=np.float64),)  # rounded once, to the dtype of the model


def _parted_biases(b: npt.NDArray[np.floating], bh: npt.NDArray[np.floating]) -> Arrays:
    return b, np.concatenate([np.zeros_like(b[: -len(bh)]), bh])


def _joined_biases(of_x: npt.NDArray[np.floating], of_h: npt.NDArray[np.floating]) -> Arrays:
    (total,) = _one_bias(of_x, of_h)
    gates = len(total) * 2 // 3
    return np.concatenate([total[:gates], of_x[gates:]]), of_h[gates:]


def _of_attention(layer: MultiHeadAttention) -> list[Group]:
    """Queries, keys and values have one array there."""
    groups = [
        Group(("Wq", "Wk", "Wv"), ("in_proj_weight",), _stacked, _in_three),
        _single("Wo", "out_proj.weight", transposed=True),
    ]
    if layer.use_bias:
        groups += [Group(("bq", "bk", "bv"), ("in_proj_bias",), _stacked, _in_three), _single("bo", "out_proj.bias")]
    return groups


def _stacked(*parts: npt.NDArray[np.floating]) -> Arrays:
    return (np.concatenate([part.T for part in parts]),)


def _in_three(a: npt.NDArray[np.floating]) -> Arrays:
    if a.ndim == 0 or len(a) % 3:
        raise ValueError(f"must be those of queries, keys and values, got shape {a.shape}")
    return [part.T for part in np.split(a, 3)]
