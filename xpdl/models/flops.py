"""Floating-point operations of layers."""

from __future__ import annotations

import functools
import itertools
import math
import operator
from typing import Any

from xpdl.layers.affine import Affine
from xpdl.layers.base import Layer, Shape, first_shape, row_size
from xpdl.layers.batch_normalization import BatchNormalization
from xpdl.layers.bidirectional import Bidirectional
from xpdl.layers.convolution import Convolution
from xpdl.layers.convolution_transpose import ConvolutionTranspose
from xpdl.layers.dropout import Dropout
from xpdl.layers.elu import Elu
from xpdl.layers.embedding import Embedding
from xpdl.layers.flatten import Flatten
from xpdl.layers.gelu import Gelu
from xpdl.layers.identity import Identity
from xpdl.layers.leaky_relu import LeakyRelu
from xpdl.layers.log_softmax import LogSoftmax
from xpdl.layers.merging import Add, Concatenate, Multiply
from xpdl.layers.multi_head_attention import MultiHeadAttention
from xpdl.layers.nodes import parts
from xpdl.layers.pooling import AveragePooling, GlobalAveragePooling, GlobalMaxPooling, Pooling
from xpdl.layers.positions import LearnedPositions, SinusoidalPositions
from xpdl.layers.rearranging import Permute, Reshape, Slice
from xpdl.layers.recurrent import GRU, LSTM, RNN
from xpdl.layers.relu import Relu
from xpdl.layers.residual import Residual
from xpdl.layers.row_normalization import GroupNormalization, LayerNormalization, RMSNormalization
from xpdl.layers.sigmoid import Sigmoid
from xpdl.layers.silu import Silu
from xpdl.layers.softmax import Softmax
from xpdl.layers.softplus import Softplus
from xpdl.layers.tanh import Tanh
from xpdl.layers.tied_embedding import TiedScores
from xpdl.layers.upsampling import UpSampling


@functools.singledispatch
def flop(layer: Layer, input_shape: Shape) -> int | None:
    """Floating-point operations of one row going forward through a layer in evaluation; None where no formula is known.

    Parameters
    ----------
    layer : Layer
    input_shape : tuple of int
        Of one row.

    Notes
    -----
    An addition, a multiplication, a comparison and a function such as exp or tanh count 1 each, so a multiply-add counts 2.
    With D values in a row and P in its output:

    - affine: ``2 D P``, and with ``axis=-1`` ``2 P`` times the size of that axis; convolution: ``2 P (C / groups) FH FW``,
      products with the border included. The sum starts from the bias, which therefore is free.
    - transposed convolution: ``2 D (FN / groups) FH FW``, products that `pad` takes away included.
    - upsampling: 0 of repeated values; 3 for each interpolated value, of one axis after the other.
    - max pooling: ``P (pool_h pool_w - 1)`` comparisons; average pooling ``P pool_h pool_w``, the division included; global
      average pooling ``D``, global max pooling ``D - P``.
    - batch normalisation: ``4 D`` (mean, standard deviation, gamma, beta). Layer and group normalization: ``8 D``, with sums
      for both statistics; by the root mean square ``4 D`` (square, sum, division, gamma). The few roots do not count.
    - relu and tanh: ``D``; leaky relu ``2 D``; elu ``4 D``; sigmoid ``4 D`` (minus, exp, plus one, division); silu ``5 D``;
      softplus ``6 D``; gelu ``5 D``, in which the error function counts 1, and by tanh ``9 D``; softmax ``5 D - 2`` (largest
      value, differences, exp, sum, division), log-softmax ``5 D - 1``.
    - recurrent layers of H units, for each step of F values: ``2 (F + H) G H`` for the products of G gates, and for the rest
      ``2 H`` (simple), ``22 H`` (LSTM, G = 4), ``17 H`` (GRU, G = 3).
    - attention of T positions of E values to S: ``4 (T + S) E E`` for the four maps, ``4 T S E`` for scores and sums,
      ``5 T S`` for the softmax of each head. Positions that are added: ``D``.
    - dropout: ``D``, the book's scaling; 0 when inverted. Flatten, identity and embedding: 0.
    - residual block: its layers, and ``P`` for the sum. Sum and product of K inputs: ``(K - 1) P``. Reshape, permute, slice
      and concatenation: 0.

    ``flop.register(MyLayer)`` adds the formula of a layer of one's own.

    Examples
    --------
    >>> flop(Affine(units=10), (784,))
    15680
    """
    return None


@flop.register(Affine)
def _(layer: Affine, input_shape: Shape) -> int:
    features = row_size(input_shape) if layer.axis == 1 else input_shape[-1]
    return 2 * features * row_size(layer.output_shape(input_shape))


@flop.register(TiedScores)
def _(layer: TiedScores, input_shape: Shape) -> int:
    return 2 * input_shape[-1] * row_size(layer.output_shape(input_shape))


@flop.register(Convolution)
def _(layer: Convolution, input_shape: Shape) -> int:
    taps = input_shape[0] // layer.groups * math.prod(layer.size)
    return 2 * taps * row_size(layer.output_shape(input_shape))


@flop.register(ConvolutionTranspose)
def _(layer: ConvolutionTranspose, input_shape: Shape) -> int:
    return 2 * row_size(input_shape) * layer.filters // layer.groups * math.prod(layer.size)


@flop.register(UpSampling)
def _(layer: UpSampling, input_shape: Shape) -> int:
    factors = layer.factors(len(input_shape) - 1)
    if layer.mode == "nearest":
        return 0
    sizes = itertools.accumulate(factors, initial=row_size(input_shape), func=operator.mul)
    return 3 * sum(list(sizes)[1:])


@flop.register(Pooling)
def _(layer: Pooling, input_shape: Shape) -> int:
    return (math.prod(layer.size) - 1) * row_size(layer.output_shape(input_shape))


@flop.register(AveragePooling)
def _(layer: AveragePooling, input_shape: Shape) -> int:
    return math.prod(layer.size) * row_size(layer.output_shape(input_shape))


@flop.register(Relu)
@flop.register(Tanh)
@flop.register(GlobalAveragePooling)
def _(layer: Layer, input_shape: Shape) -> int:
    return row_size(input_shape)


@flop.register(GlobalMaxPooling)
def _(layer: GlobalMaxPooling, input_shape: Shape) -> int:
    return row_size(input_shape) - row_size(layer.output_shape(input_shape))


@flop.register(LeakyRelu)
def _(layer: LeakyRelu, input_shape: Shape) -> int:
    return 2 * row_size(input_shape)


@flop.register(Silu)
def _(layer: Silu, input_shape: Shape) -> int:
    return 5 * row_size(input_shape)


@flop.register(Softplus)
def _(layer: Softplus, input_shape: Shape) -> int:
    return 6 * row_size(input_shape)


@flop.register(Gelu)
def _(layer: Gelu, input_shape: Shape) -> int:
    return (5 if layer.approximate == "none" else 9) * row_size(input_shape)


@flop.register(LayerNormalization)
@flop.register(GroupNormalization)
def _(layer: Layer, input_shape: Shape) -> int:
    return 8 * row_size(input_shape)


@flop.register(Sigmoid)
@flop.register(Elu)
@flop.register(RMSNormalization)
@flop.register(BatchNormalization)
def _(layer: Layer, input_shape: Shape) -> int:
    return 4 * row_size(input_shape)


@flop.register(Softmax)
def _(layer: Softmax, input_shape: Shape) -> int:
    return 5 * row_size(input_shape) - 2


@flop.register(LogSoftmax)
def _(layer: LogSoftmax, input_shape: Shape) -> int:
    return 5 * row_size(input_shape) - 1


@flop.register(Dropout)
def _(layer: Dropout, input_shape: Shape) -> int:
    return 0 if layer.inverted else row_size(input_shape)


@flop.register(RNN)
@flop.register(LSTM)
@flop.register(GRU)
def _(layer: RNN | LSTM | GRU, input_shape: Any) -> int:
    steps, features = first_shape(input_shape)
    products = 2 * (features + layer.units) * layer.gates * layer.units
    return steps * (products + {RNN: 2, LSTM: 22, GRU: 17}[type(layer)] * layer.units)


@flop.register(MultiHeadAttention)
def _(layer: MultiHeadAttention, input_shape: Any) -> int:
    """As if no position were masked."""
    shapes = parts(input_shape)
    (queries, size), (keys, _) = shapes[0], shapes[min(1, len(shapes) - 1)]
    maps, sums = 4 * (queries + keys) * size * size, queries * keys * (4 * size + 5 * layer.heads)
    return int(maps + sums)


@flop.register(SinusoidalPositions)
@flop.register(LearnedPositions)
def _(layer: Layer, input_shape: Shape) -> int:
    return row_size(input_shape)


@flop.register(Bidirectional)
def _(layer: Bidirectional, input_shape: Shape) -> int:
    """Of its own: `costs` asks each direction for its share."""
    return 0


@flop.register(Embedding)
@flop.register(Flatten)
@flop.register(Identity)
def _(layer: Layer, input_shape: Shape) -> int:
    return 0


@flop.register(Concatenate)
@flop.register(Permute)
@flop.register(Reshape)
@flop.register(Slice)
def _(layer: Layer, input_shape: Any) -> int:
    return 0


@flop.register(Add)
@flop.register(Multiply)
def _(layer: Layer, input_shape: Any) -> int:
    shapes = parts(input_shape)
    return (len(shapes) - 1) * row_size(layer.output_shape(*shapes))


@flop.register(Residual)
def _(layer: Residual, input_shape: Shape) -> int | None:
    """Of the sum alone, which is the block's own: `costs` asks each layer inside for its own, too."""
    return row_size(layer.output_shape(input_shape))
