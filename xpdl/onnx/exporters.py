"""Nodes of each layer: a table of functions ``(layer, graph, *inputs) -> output``."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from xpdl.backends.conversion import to_numpy
from xpdl.layers.affine import Affine
from xpdl.layers.arithmetic import AddLayer, MulLayer
from xpdl.layers.base import row_size
from xpdl.layers.batch_normalization import BatchNormalization
from xpdl.layers.chain import Chain
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
from xpdl.layers.pooling import AveragePooling, GlobalAveragePooling, GlobalMaxPooling, Pooling
from xpdl.layers.relu import Relu
from xpdl.layers.residual import Residual
from xpdl.layers.row_normalization import GroupNormalization, LayerNormalization, RMSNormalization
from xpdl.layers.sigmoid import Sigmoid
from xpdl.layers.silu import Silu
from xpdl.layers.softmax import Softmax
from xpdl.layers.softplus import Softplus
from xpdl.layers.tanh import Tanh
from xpdl.layers.upsampling import UpSampling
from xpdl.models.gpt import GPT
from xpdl.onnx.graph import Exporter, Graph, Value
from xpdl.onnx.graph_exporters import OF_GRAPHS
from xpdl.onnx.sequence_exporters import OF_SEQUENCES
from xpdl.onnx.window_nodes import average_pooling, convolution, convolution_transpose, pooling, upsampling, weights


def exporter_of(layer: Any) -> Exporter | None:
    """Return the exporter of a layer: its own ``to_onnx``, or that of the class of xpdl whose ``forward`` it has."""
    if hasattr(layer, "to_onnx"):
        return _own
    kind = next((kind for kind in type(layer).__mro__ if kind in EXPORTERS), None)
    # a derived layer may compute something else
    if kind is None or any(getattr(layer.__class__, name, None) is not getattr(kind, name, None) for name in _PASSES):
        return None
    return EXPORTERS[kind]


_PASSES = ("forward", "forward_fused")


def _own(layer: Any, graph: Graph, *inputs: Value) -> Value:
    output: Value = layer.to_onnx(graph, *inputs)
    return output


def _node(kind: str, **attributes: Any) -> Exporter:
    """Exporter of a layer that is one operator without constants."""

    def exporter(layer: Any, graph: Graph, *inputs: Value) -> Value:
        return graph.node(kind, *inputs, **attributes)

    return exporter


def _along_axis(kind: str) -> Exporter:
    def exporter(layer: Softmax | LogSoftmax, graph: Graph, x: Value) -> Value:
        return graph.node(kind, x, axis=layer.axis)

    return exporter


def _nothing(layer: Any, graph: Graph, x: Value) -> Value:
    return x


def _affine(layer: Affine, graph: Graph, x: Value) -> Value:
    if layer.axis == 1 or len(x.shape) == 1:
        return graph.node("Gemm", _rows(graph, x), *weights(layer, graph))
    W, *b = weights(layer, graph)
    y = graph.node("MatMul", x, W)
    return graph.node("Add", y, *b) if b else y


def _global_average_pooling(layer: GlobalAveragePooling, graph: Graph, x: Value) -> Value:
    return graph.node("Flatten", graph.node("GlobalAveragePool", x), axis=1)


def _global_max_pooling(layer: GlobalMaxPooling, graph: Graph, x: Value) -> Value:
    return graph.node("Flatten", graph.node("GlobalMaxPool", x), axis=1)


def _batch_normalization(layer: BatchNormalization, graph: Graph, x: Value) -> Value:
    gamma, beta, mean = (graph.parameter(layer, key) for key in ("gamma", "beta", "running_mean"))
    eps = np.float32(layer.eps)
    var = graph.parameter(layer, "running_var")
    if graph.dtype == np.float64:
        # a float32 in the file, at most eps: the rest goes to the variance
        eps = eps if float(eps) <= layer.eps else np.nextafter(eps, np.float32(0))
        graph.constants[var.name] = to_numpy(layer.running_var) + (layer.eps - float(eps))
    # the book's form for images: every activation is a feature
    whole = gamma.shape[0] != x.shape[0]
    rows = _rows(graph, x) if whole else x
    numbers: dict[str, Any] = {"epsilon": float(eps), "momentum": float(layer.momentum)}
    y = graph.node("BatchNormalization", rows, gamma, beta, mean, var, **numbers)
    return graph.node("Reshape", y, graph.constant(np.array([-1, *x.shape]))) if whole else y


def _embedding(layer: Embedding, graph: Graph, x: Value) -> Value:
    return graph.node("Gather", graph.parameter(layer, "W"), x)


def _layer_normalization(layer: LayerNormalization, graph: Graph, x: Value) -> Value:
    if graph.dtype == np.float32:  # as eps is in the node
        p = (graph.parameter(layer, key) for key in ("gamma", "beta"))
        return graph.node("LayerNormalization", x, *p, axis=-1, epsilon=layer.eps)
    y = graph.node("Mul", _standardized(graph, x, layer.eps), graph.parameter(layer, "gamma"))
    return graph.node("Add", y, graph.parameter(layer, "beta"))


def _rms_normalization(layer: RMSNormalization, graph: Graph, x: Value) -> Value:
    return graph.node("Mul", _over_root(graph, x, layer.eps), graph.parameter(layer, "gamma"))


def _group_normalization(layer: GroupNormalization, graph: Graph, x: Value) -> Value:
    groups = graph.node("Reshape", x, graph.constant(np.array([0, layer.groups, -1])))
    y = graph.node("Reshape", _standardized(graph, groups, layer.eps), graph.constant(np.array([-1, *x.shape])))
    axes = graph.constant(np.arange(1, len(x.shape)))
    for kind, key in (("Mul", "gamma"), ("Add", "beta")):
        p = graph.parameter(layer, key)
        y = graph.node(kind, y, p if len(x.shape) == 1 else graph.node("Unsqueeze", p, axes))
    return y


def _standardized(graph: Graph, x: Value, eps: float) -> Value:
    """Subtract the mean along the last axis, and divide by the root of the variance and `eps`."""
    return _over_root(graph, graph.node("Sub", x, graph.node("ReduceMean", x, axes=[-1])), eps)


def _over_root(graph: Graph, x: Value, eps: float) -> Value:
    """Divide by the root of the mean square along the last axis and `eps`."""
    square = graph.node("ReduceMean", graph.node("Mul", x, x), axes=[-1])
    return graph.node("Div", x, graph.node("Sqrt", graph.node("Add", square, graph.constant(eps))))


def _gelu(layer: Gelu, graph: Graph, x: Value) -> Value:
    if layer.approximate == "none":
        cdf = graph.node("Erf", graph.node("Mul", x, graph.constant(math.sqrt(0.5))))
    else:
        square = graph.node("Mul", x, x)
        cubic = graph.node("Mul", graph.node("Mul", square, x), graph.constant(0.044715))
        inner = graph.node("Mul", graph.node("Add", x, cubic), graph.constant(math.sqrt(2.0 / math.pi)))
        cdf = graph.node("Tanh", inner)
    half = graph.node("Mul", x, graph.constant(0.5))
    return graph.node("Mul", half, graph.node("Add", cdf, graph.constant(1.0)))


def _silu(layer: Silu, graph: Graph, x: Value) -> Value:
    return graph.node("Mul", x, graph.node("Sigmoid", x))


def _leaky_relu(layer: LeakyRelu, graph: Graph, x: Value) -> Value:
    if graph.dtype == np.float32:
        return graph.node("LeakyRelu", x, alpha=layer.slope)
    # attributes are float32, whatever the arrays are
    scaled = graph.node("Mul", x, graph.constant(layer.slope))
    return graph.node("Where", graph.node("Greater", x, graph.constant(0.0)), x, scaled)


def _elu(layer: Elu, graph: Graph, x: Value) -> Value:
    y = graph.node("Elu", x, alpha=1.0)
    if layer.alpha == 1.0:
        return y
    scaled = graph.node("Mul", y, graph.constant(layer.alpha))
    return graph.node("Where", graph.node("Greater", x, graph.constant(0.0)), x, scaled)


def _dropout(layer: Dropout, graph: Graph, x: Value) -> Value:
    # the identity for runtimes, and for those that train further what it is here
    y = graph.node("Dropout", x, graph.constant(layer.dropout_ratio))
    return y if layer.inverted else graph.node("Mul", y, graph.constant(1.0 - layer.dropout_ratio))


def _chain(layer: Chain, graph: Graph, x: Value) -> Value:
    for _, child in layer.children():
        x = graph.add(child, x)
    return x


def _residual(layer: Residual, graph: Graph, x: Value) -> Value:
    return graph.node("Add", graph.add(layer.body, x), graph.add(layer.shortcut, x))


def _rows(graph: Graph, x: Value) -> Value:
    return x if len(x.shape) == 1 else graph.node("Flatten", x, axis=1, shape=(row_size(x.shape),))


EXPORTERS: dict[type, Exporter] = {
    **OF_GRAPHS,
    **OF_SEQUENCES,
    AddLayer: _node("Add"),
    Affine: _affine,
    AveragePooling: average_pooling,
    BatchNormalization: _batch_normalization,
    Chain: _chain,
    Convolution: convolution,
    ConvolutionTranspose: convolution_transpose,
    Dropout: _dropout,
    Elu: _elu,
    Embedding: _embedding,
    Flatten: _node("Flatten", axis=1),
    Gelu: _gelu,
    GPT: _chain,
    GlobalAveragePooling: _global_average_pooling,
    GlobalMaxPooling: _global_max_pooling,
    GroupNormalization: _group_normalization,
    Identity: _nothing,
    LayerNormalization: _layer_normalization,
    LeakyRelu: _leaky_relu,
    LogSoftmax: _along_axis("LogSoftmax"),
    MulLayer: _node("Mul"),
    Pooling: pooling,
    RMSNormalization: _rms_normalization,
    Relu: _node("Relu"),
    Residual: _residual,
    Sigmoid: _node("Sigmoid"),
    Silu: _silu,
    Softmax: _along_axis("Softmax"),
    Softplus: _node("Softplus"),
    Tanh: _node("Tanh"),
    UpSampling: upsampling,
}
