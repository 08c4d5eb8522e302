"""Layer of each node: a table of functions ``(node, reader, *inputs) -> output``, the inverse of `exporters`."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from xpdl.layers.affine import Affine
from xpdl.layers.base import Layer
from xpdl.layers.batch_normalization import BatchNormalization
from xpdl.layers.dropout import Dropout
from xpdl.layers.elu import Elu
from xpdl.layers.embedding import Embedding
from xpdl.layers.gelu import Gelu
from xpdl.layers.leaky_relu import LeakyRelu
from xpdl.layers.log_softmax import LogSoftmax
from xpdl.layers.pooling import AveragePooling, GlobalAveragePooling, GlobalMaxPooling, Pooling
from xpdl.layers.relu import Relu
from xpdl.layers.row_normalization import LayerNormalization
from xpdl.layers.sigmoid import Sigmoid
from xpdl.layers.softmax import Softmax
from xpdl.layers.softplus import Softplus
from xpdl.layers.tanh import Tanh
from xpdl.onnx.arithmetic import add, add_all, divide, multiply, subtract
from xpdl.onnx.importing import Importer, Reader, bias_of, features_of, grids_of, ordered, then
from xpdl.onnx.layouts import concatenate, flatten, reshape, squeeze, transpose, unsqueeze
from xpdl.onnx.nodes import Given, Node, Signal, constant, decimal, integers, signal
from xpdl.onnx.resizing import convolution_transpose, resize, upsample
from xpdl.onnx.source import FLOATS, HostArray, Unmapped
from xpdl.onnx.steps import Step
from xpdl.onnx.windows import border, convolution, pooling


def _elementwise(make: Callable[[], Layer]) -> Importer:
    def importer(node: Node, reader: Reader, x: Given) -> Signal:
        return then(node, signal(x), make())

    return importer


def _gemm(node: Node, reader: Reader, x: Given, W: Given, b: Given = None) -> Signal:
    features = features_of(x)
    if node.integer("transA", 0):
        raise Unmapped("transA=1 mixes the rows of a batch")
    weights = reader.weights(W, "weights")
    if weights.ndim != 2:
        raise Unmapped(f"its weights have shape {weights.shape}")
    weights = weights.T if node.integer("transB", 0) else weights
    alpha, beta = node.number("alpha", 1.0), node.number("beta", 1.0)
    bias = None if b is None else bias_of(reader.weights(b, "bias"), weights.shape[1])
    weights = np.ascontiguousarray(ordered(features, weights))
    weights = weights if alpha == 1.0 else weights * weights.dtype.type(alpha)
    bias = bias if bias is None or beta == 1.0 else bias * bias.dtype.type(beta)
    return _plainly(then(node, features, Affine(weights, bias), (0,)))


def _plainly(x: Signal) -> Signal:
    return Signal(x.step, x.axes)


def _matmul(node: Node, reader: Reader, x: Given, W: Given) -> Signal:
    weights = reader.weights(W, "second input")
    if weights.ndim != 2:
        raise Unmapped(f"its weights have shape {weights.shape}")
    x = signal(x)
    if len(x.axes) > 1 and x.is_plain:
        return then(node, x, Affine(weights, axis=-1))
    features = features_of(x)
    layer = Affine(np.ascontiguousarray(ordered(features, weights)))
    return _plainly(then(node, features, layer, (0,)))


def _global_pooling(make: Callable[[], Layer]) -> Importer:
    def importer(node: Node, reader: Reader, x: Given) -> Signal:
        grids = grids_of(x)
        return then(node, grids, make(), (0, *[-1] * (len(grids.axes) - 1)))

    return importer


def _with_alpha(make: Callable[[float], Layer], default: float) -> Importer:
    def importer(node: Node, reader: Reader, x: Given) -> Signal:
        return then(node, signal(x), make(node.number("alpha", default)))

    return importer


def _gather(node: Node, reader: Reader, table: Given, ids: Given) -> Signal:
    if isinstance(table, Signal) or node.integer("axis", 0) != 0:
        raise Unmapped("it takes entries of its input, and not rows of a constant by their numbers")
    ids, W = signal(ids, "numbers"), reader.weights(table, "table")
    if W.ndim != 2:
        raise Unmapped(f"its table has shape {W.shape}")
    if ids.step.inputs or not ids.is_plain:
        raise Unmapped("its numbers are computed from the input of the model, and are not that itself")
    step = Step(node.outputs[0], Embedding(W=W), ids.step, shape=(*ids.step.shape, W.shape[1]))
    return Signal(step, (*ids.axes, len(ids.axes)))


def _gelu(node: Node, reader: Reader, x: Given) -> Signal:
    return then(node, signal(x), Gelu(node.text("approximate", "none")))


def _layer_normalization(node: Node, reader: Reader, x: Given, scale: Given, bias: Given = None) -> Signal:
    x = signal(x)
    axis = node.integer("axis", -1)
    if axis % (len(x.axes) + 1) != len(x.axes) or not x.axes or not x.is_plain:
        raise Unmapped(f"it is over the axes from {axis} on of rows of shape {x.row}, and not over the last")
    gamma = reader.weights(scale, "scale")
    beta = np.zeros_like(gamma) if bias is None else reader.weights(bias, "bias")
    return then(node, x, LayerNormalization(node.number("epsilon", 1e-5), gamma=gamma, beta=beta))


def _reduce_mean(node: Node, reader: Reader, x: Given, axes: Given = None) -> Signal:
    x = signal(x)
    found = node.integers("axes") if axes is None else integers(axes, "axes")
    reduced = {axis % (len(x.axes) + 1) - 1 for axis in found}
    rank = len(x.step.shape)
    if (
        sorted(x.axes[axis] for axis in reduced if axis >= 0) != [*range(1, rank)]
        or len(reduced) != rank - 1
        or rank < 2
    ):
        raise Unmapped(f"it reduces the axes {found}, which are not all of images but the channels")
    kept = [-1 if i in reduced else axis for i, axis in enumerate(x.axes)]
    if not node.integer("keepdims", 1):
        kept = [axis for axis in kept if axis >= 0]
    return then(node, x, GlobalAveragePooling(), tuple(kept))


def _batch_normalization(
    node: Node, reader: Reader, x: Given, scale: Given, bias: Given, mean: Given, variance: Given
) -> Signal:
    x = signal(x)
    if not x.axes or x.axes[0] != 0:
        raise Unmapped(f"its features are not the first axis of a row of shape {x.row}")
    arrays = {"scale": scale, "bias": bias, "mean": mean, "variance": variance}
    gamma, beta, average, var = (ordered(x, reader.weights(value, name)) for name, value in arrays.items())
    momentum, eps = node.number("momentum", 0.9), node.number("epsilon", 1e-5)
    if var.dtype == np.float64:
        # the file has a float32, and the difference to the decimal belongs to the variance
        rest = eps - float(np.float32(eps))
        eps, var = (eps, var - rest) if np.all(var >= rest) else (eps - rest, var)
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
        rank = len(x.axes) + 1
        # before opset 13, over all axes from that one on
        axis = node.integer("axis", -1 if node.opset >= 13 else 1) % rank
        own = x.axes[axis - 1] if axis else -1
        if axis == 0 or own < 0 or (node.opset < 13 and axis != rank - 1):
            raise Unmapped(f"it is over the axis {axis} of {rank}, and not over one of a row")
        return then(node, x, kind() if own == len(x.step.shape) - 1 else kind(own + 1))

    return importer


def _cast(node: Node, reader: Reader, x: Given) -> Signal:
    if node.integer("to", 0) not in FLOATS:
        raise Unmapped("it makes integers of the values")
    return signal(x)


def _identity(node: Node, reader: Reader, x: Given) -> Signal:
    return signal(x)


def _zip_map(node: Node, reader: Reader, x: Given) -> Signal:
    names = node.texts("classlabels_strings") or [str(one) for one in node.integers("classlabels_int64s")]
    reader.class_names = names
    return signal(x)


def _concat(node: Node, reader: Reader, *parts: Given) -> Signal:
    return concatenate(node, *parts)


IMPORTERS: dict[str, Importer] = {
    "Add": add,
    "AveragePool": pooling(AveragePooling),
    "BatchNormalization": _batch_normalization,
    "Cast": _cast,
    "Concat": _concat,
    "Conv": convolution,
    "ConvTranspose": convolution_transpose,
    "Div": divide,
    "Dropout": _dropout,
    "Elu": _with_alpha(Elu, 1.0),
    "Flatten": flatten,
    "Gather": _gather,
    "Gelu": _gelu,
    "Gemm": _gemm,
    "GlobalAveragePool": _global_pooling(GlobalAveragePooling),
    "GlobalMaxPool": _global_pooling(GlobalMaxPooling),
    "Identity": _identity,
    "LayerNormalization": _layer_normalization,
    "LeakyRelu": _with_alpha(LeakyRelu, 0.01),
    "LogSoftmax": _along_axis(LogSoftmax),
    "MatMul": _matmul,
    "MaxPool": pooling(Pooling),
    "Mul": multiply,
    "Pad": border,
    "ReduceMean": _reduce_mean,
    "Relu": _elementwise(Relu),
    "Reshape": reshape,
    "Resize": resize,
    "Sigmoid": _elementwise(Sigmoid),
    "Softmax": _along_axis(Softmax),
    "Softplus": _elementwise(Softplus),
    "Squeeze": squeeze,
    "Sub": subtract,
    "Sum": add_all,
    "Tanh": _elementwise(Tanh),
    "Transpose": transpose,
    "Unsqueeze": unsqueeze,
    "Upsample": upsample,
    "ai.onnx.ml.ZipMap": _zip_map,
}
