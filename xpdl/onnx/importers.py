"""Layer of each node: a table of functions ``(node, reader, *inputs) -> output``, the inverse of `exporters`."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from xpdl.layers.base import Layer
from xpdl.layers.batch_normalization import BatchNormalization
from xpdl.layers.dropout import Dropout
from xpdl.layers.elu import Elu
from xpdl.layers.gelu import Gelu
from xpdl.layers.leaky_relu import LeakyRelu
from xpdl.layers.log_softmax import LogSoftmax
from xpdl.layers.pooling import AveragePooling, GlobalAveragePooling, GlobalMaxPooling, Pooling
from xpdl.layers.recurrent import GRU, LSTM, RNN
from xpdl.layers.relu import Relu
from xpdl.layers.sigmoid import Sigmoid
from xpdl.layers.softmax import Softmax
from xpdl.layers.softplus import Softplus
from xpdl.layers.tanh import Tanh
from xpdl.onnx import attention, masks
from xpdl.onnx.arithmetic import add, add_all, divide, multiply, negative, subtract
from xpdl.onnx.arranging import arranged
from xpdl.onnx.formulas import choice, error_function, function
from xpdl.onnx.importing import Importer, Reader, grids_of, ordered, then
from xpdl.onnx.joining import concatenate, gather, part, split
from xpdl.onnx.layouts import flatten, reshape, squeeze, transpose, unsqueeze
from xpdl.onnx.nodes import BATCH, ONE, Given, Node, Signal, constant, decimal, signal
from xpdl.onnx.normalizations import (
    group_normalization,
    instance_normalization,
    largest,
    layer_normalization,
    mean,
    rms_normalization,
)
from xpdl.onnx.products import gemm, matmul
from xpdl.onnx.recurrence import recurrent
from xpdl.onnx.resizing import convolution_transpose, resize, upsample
from xpdl.onnx.scikit_learn import linear_classifier, linear_regressor, normalizer, scaler
from xpdl.onnx.source import FLOATS, HostArray, Unmapped
from xpdl.onnx.windows import border, convolution, pooling


def _elementwise(make: Callable[[], Layer]) -> Importer:
    def importer(node: Node, reader: Reader, x: Given) -> Signal:
        return then(node, signal(x), make())

    return importer


def _global_pooling(make: Callable[[], Layer]) -> Importer:
    def importer(node: Node, reader: Reader, x: Given) -> Signal:
        grids = grids_of(node, x)
        return then(node, grids, make(), (grids.axes[0], 0, *[ONE] * (len(grids.axes) - 2)))

    return importer


def _with_alpha(make: Callable[[float], Layer], default: float) -> Importer:
    def importer(node: Node, reader: Reader, x: Given) -> Signal:
        return then(node, signal(x), make(node.number("alpha", default)))

    return importer


def _prelu(node: Node, reader: Reader, x: Given, slope: Given) -> Signal:
    return then(node, signal(x), LeakyRelu(decimal(_number(constant(slope, "slope"), "slope"))))


def _celu(node: Node, reader: Reader, x: Given) -> Signal:
    if node.number("alpha", 1.0) != 1.0:
        raise Unmapped("xpdl has no layer for it, but with alpha=1")
    return then(node, signal(x), Elu())


def _gelu(node: Node, reader: Reader, x: Given) -> Signal:
    return then(node, signal(x), Gelu(node.text("approximate", "none")))


def _batch_normalization(
    node: Node, reader: Reader, x: Given, scale: Given, bias: Given, mean: Given, variance: Given
) -> Signal:
    x = signal(x)
    if len(x.axes) > 1 and x.axes[1] > 0:
        x = arranged(node.outputs[0], x)
    if len(x.axes) < 2 or x.axes[1] != 0 or x.axes[0] >= 0:
        raise Unmapped(f"its features are not the first axis of a row of shape {x.row}")
    arrays = {"scale": scale, "bias": bias, "mean": mean, "variance": variance}
    gamma, beta, average, var = (ordered(x, reader.weights(value, name)) for name, value in arrays.items())
    momentum, eps = node.number("momentum", 0.9), node.number("epsilon", 1e-5)
    if var.dtype == np.float64:
        # the file has a float32, at most the decimal, and the difference between them belongs to the variance
        own = float(np.float32(eps))
        above = decimal(float(np.nextafter(np.float32(own), np.float32(np.inf))))
        eps = above if len(str(above)) < len(str(eps)) else eps
        eps, var = (eps, var - (eps - own)) if np.all(var >= eps - own) else (own, var)
    return then(node, x, BatchNormalization(gamma, beta, momentum, average, var, eps=eps))


def _dropout(node: Node, reader: Reader, x: Given, ratio: Given = None, training_mode: Given = None) -> Signal:
    share = node.number("ratio", 0.5) if ratio is None else decimal(_number(constant(ratio, "ratio"), "ratio"))
    return then(node, signal(x), Dropout(share, inverted=True))


def _number(values: HostArray, what: str) -> float:
    if values.size != 1:
        raise Unmapped(f"its {what} is no number but of shape {values.shape}")
    return float(values.reshape(()))


def _along_axis(kind: type[Softmax] | type[LogSoftmax]) -> Importer:
    def importer(node: Node, reader: Reader, x: Given) -> Signal:
        x = signal(x)
        rank = len(x.axes)
        # before opset 13, over all axes from that one on
        axis = node.integer("axis", -1 if node.opset >= 13 else 1)
        if isinstance(x.step.layer, attention.Scores) and kind is Softmax and axis in (-1, rank - 1):
            return attention.softmax(node, x)
        own = x.place(axis, node.label)
        if own < 0 or (node.opset < 13 and axis % rank != rank - 1):
            raise Unmapped(
                f"it is over the axis {axis} of {rank}, and not over one of a row",
                "if the input of the file is one row, read it with batched=False" if own == BATCH else "",
            )
        return then(node, x, kind() if own == len(x.step.shape) - 1 else kind(own + 1))

    return importer


def _cast(node: Node, reader: Reader, x: Given) -> Signal:
    numbers = masks.numbers_of(node, reader, x)
    if numbers is not None:
        return numbers
    if node.integer("to", 0) not in FLOATS:
        raise Unmapped("it makes integers of the values")
    return signal(x)


def _where(node: Node, reader: Reader, condition: Given, x: Given, y: Given) -> Signal:
    return masks.kept_state(condition, x, y) or attention.where(node, condition, x, y) or choice(node, condition, x, y)


def _and(node: Node, reader: Reader, x: Given, y: Given) -> Signal:
    return attention.seen(node, x, y) if isinstance(x, Signal) else attention.seen(node, signal(y), x)


def _is_nan(node: Node, reader: Reader, x: Given) -> Signal:
    return attention.is_nan(node, signal(x))


def _identity(node: Node, reader: Reader, x: Given) -> Signal:
    return signal(x)


def _zip_map(node: Node, reader: Reader, x: Given) -> Signal:
    names = node.texts("classlabels_strings") or [str(one) for one in node.integers("classlabels_int64s")]
    reader.class_names = names
    return signal(x)


IMPORTERS: dict[str, Importer] = {
    "Add": add,
    "And": _and,
    "Attention": attention.operator,
    "AveragePool": pooling(AveragePooling),
    "BatchNormalization": _batch_normalization,
    "Cast": _cast,
    "Celu": _celu,
    "Concat": concatenate,
    "Conv": convolution,
    "ConvTranspose": convolution_transpose,
    "Div": divide,
    "Dropout": _dropout,
    "Elu": _with_alpha(Elu, 1.0),
    "Erf": function(error_function),
    "Flatten": flatten,
    "GRU": recurrent(GRU),
    "Gather": gather,
    "Gelu": _gelu,
    "Gemm": gemm,
    "GlobalAveragePool": _global_pooling(GlobalAveragePooling),
    "GlobalMaxPool": _global_pooling(GlobalMaxPooling),
    "GroupNormalization": group_normalization,
    "Greater": function(np.greater),
    "GreaterOrEqual": function(np.greater_equal),
    "Identity": _identity,
    "InstanceNormalization": instance_normalization,
    "IsNaN": _is_nan,
    "LSTM": recurrent(LSTM),
    "LayerNormalization": layer_normalization,
    "LeakyRelu": _with_alpha(LeakyRelu, 0.01),
    "LogSoftmax": _along_axis(LogSoftmax),
    "MatMul": matmul,
    "MaxPool": pooling(Pooling),
    "Mul": multiply,
    "Neg": negative,
    "Pad": border,
    "Less": function(np.less),
    "LessOrEqual": function(np.less_equal),
    "PRelu": _prelu,
    "Pow": function(np.power),
    "RMSNormalization": rms_normalization,
    "RNN": recurrent(RNN),
    "Reciprocal": function(np.reciprocal),
    "ReduceMax": largest,
    "ReduceMean": mean,
    "ReduceSum": masks.reduced(np.sum),
    "Relu": _elementwise(Relu),
    "Reshape": reshape,
    "Resize": resize,
    "Sigmoid": _elementwise(Sigmoid),
    "Softmax": _along_axis(Softmax),
    "Slice": part,
    "Softplus": _elementwise(Softplus),
    "Split": split,
    "Sqrt": function(np.sqrt),
    "Squeeze": squeeze,
    "Sub": subtract,
    "Sum": add_all,
    "Tanh": _elementwise(Tanh),
    "Transpose": transpose,
    "Unsqueeze": unsqueeze,
    "Upsample": upsample,
    "Where": _where,
    "ai.onnx.ml.LinearClassifier": linear_classifier,
    "ai.onnx.ml.LinearRegressor": linear_regressor,
    "ai.onnx.ml.Normalizer": normalizer,
    "ai.onnx.ml.Scaler": scaler,
    "ai.onnx.ml.ZipMap": _zip_map,
}
