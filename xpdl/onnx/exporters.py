"""Nodes of each layer: a table of functions ``(layer, graph, *inputs) -> output``."""

from __future__ import annotations

from typing import Any

import numpy as np

from xpdl.backends.conversion import to_numpy
from xpdl.layers.affine import Affine
from xpdl.layers.arithmetic import AddLayer, MulLayer
from xpdl.layers.base import row_size
from xpdl.layers.batch_normalization import BatchNormalization
from xpdl.layers.chain import Chain
from xpdl.layers.convolution import Convolution
from xpdl.layers.dropout import Dropout
from xpdl.layers.flatten import Flatten
from xpdl.layers.identity import Identity
from xpdl.layers.pooling import AveragePooling, GlobalAveragePooling, Pooling
from xpdl.layers.relu import Relu
from xpdl.layers.residual import Residual
from xpdl.layers.sigmoid import Sigmoid
from xpdl.layers.softmax import Softmax
from xpdl.layers.tanh import Tanh
from xpdl.onnx.graph import Exporter, Graph, Value


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


def _nothing(layer: Any, graph: Graph, x: Value) -> Value:
    return x


def _weights(layer: Affine | Convolution, graph: Graph) -> list[Value]:
    return [graph.parameter(layer, key) for key in layer.params]


def _affine(layer: Affine, graph: Graph, x: Value) -> Value:
    return graph.node("Gemm", _rows(graph, x), *_weights(layer, graph))


def _convolution(layer: Convolution, graph: Graph, x: Value) -> Value:
    return graph.node(
        "Conv",
        x,
        *_weights(layer, graph),
        kernel_shape=layer.size,
        strides=layer.stride,
        pads=layer.pad * 2,
        dilations=layer.dilation,
        group=layer.groups,
    )


def _pooling(layer: Pooling, graph: Graph, x: Value) -> Value:
    return graph.node("MaxPool", x, kernel_shape=layer.size, strides=layer.stride, pads=layer.pad * 2)


def _average_pooling(layer: AveragePooling, graph: Graph, x: Value) -> Value:
    window: dict[str, Any] = {"kernel_shape": layer.size, "strides": layer.stride, "pads": layer.pad * 2}
    return graph.node("AveragePool", x, **window, count_include_pad=1)


def _global_average_pooling(layer: GlobalAveragePooling, graph: Graph, x: Value) -> Value:
    return graph.node("Flatten", graph.node("GlobalAveragePool", x), axis=1)


def _batch_normalization(layer: BatchNormalization, graph: Graph, x: Value) -> Value:
    gamma, beta, mean = (graph.parameter(layer, key) for key in ("gamma", "beta", "running_mean"))
    # a float32 in the file, at most eps; in float64 the rest goes to the variance
    eps = np.float32(layer.eps)
    eps = eps if float(eps) <= layer.eps else np.nextafter(eps, np.float32(0))
    var = graph.parameter(layer, "running_var")
    if graph.dtype == np.float64:
        graph.constants[var.name] = to_numpy(layer.running_var) + (layer.eps - float(eps))
    # the book's form for images: every activation is a feature
    whole = gamma.shape[0] != x.shape[0]
    rows = _rows(graph, x) if whole else x
    y = graph.node("BatchNormalization", rows, gamma, beta, mean, var, epsilon=float(eps))
    return graph.node("Reshape", y, graph.constant(np.array([-1, *x.shape]))) if whole else y


def _dropout(layer: Dropout, graph: Graph, x: Value) -> Value:
    keep = 1.0 if layer.inverted else 1.0 - layer.dropout_ratio
    return x if keep == 1.0 else graph.node("Mul", x, graph.constant(keep))


def _chain(layer: Chain, graph: Graph, x: Value) -> Value:
    for _, child in layer.children():
        x = graph.add(child, x)
    return x


def _residual(layer: Residual, graph: Graph, x: Value) -> Value:
    return graph.node("Add", graph.add(layer.body, x), graph.add(layer.shortcut, x))


def _rows(graph: Graph, x: Value) -> Value:
    return x if len(x.shape) == 1 else graph.node("Flatten", x, axis=1, shape=(row_size(x.shape),))


EXPORTERS: dict[type, Exporter] = {
    AddLayer: _node("Add"),
    Affine: _affine,
    AveragePooling: _average_pooling,
    BatchNormalization: _batch_normalization,
    Chain: _chain,
    Convolution: _convolution,
    Dropout: _dropout,
    Flatten: _node("Flatten", axis=1),
    GlobalAveragePooling: _global_average_pooling,
    Identity: _nothing,
    MulLayer: _node("Mul"),
    Pooling: _pooling,
    Relu: _node("Relu"),
    Residual: _residual,
    Sigmoid: _node("Sigmoid"),
    Softmax: _node("Softmax", axis=-1),
    Tanh: _node("Tanh"),
}
