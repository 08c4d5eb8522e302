"""Graphs made node by node, and the models that they are read as."""

from __future__ import annotations

import functools
import importlib
from typing import Any

import numpy as np

import xpdl


def outputs(net: Any, x: Any) -> Any:
    """Return what the file computes: with the activation that is now part of the loss."""
    y = net.predict(x)
    return y if net.last_layer is None else net.last_layer.activation(y)


class Builder:
    """Nodes of a graph, and constants of random numbers."""

    def __init__(self) -> None:
        self.helper = importlib.import_module("onnx.helper")
        self.nodes: list[Any] = []
        self.constants: dict[str, Any] = {}
        self.rng = np.random.default_rng(0)

    def node(self, kind: str, *inputs: str, **attributes: Any) -> str:
        name = f"v{len(self.nodes)}"
        self.nodes.append(self.helper.make_node(kind, inputs, [name], name=f"n{len(self.nodes)}", **attributes))
        return name

    def constant(self, *shape: int, values: Any = None) -> str:
        name = f"c{len(self.constants)}"
        # weights of both signs, so that a softmax tells values apart; variances and divisors are positive
        drawn = self.rng.normal(0.0, 0.3, shape) if len(shape) > 1 else self.rng.uniform(0.5, 1.5, shape)
        drawn = drawn.astype("float32")
        self.constants[name] = drawn if values is None else np.asarray(values)
        return name

    def model(self, output: str, shape: tuple[Any, ...] = ("n", 4), opset: int = 17, **more: Any) -> Any:
        onnx, tensors = importlib.import_module("onnx"), importlib.import_module("onnx.numpy_helper")
        info = functools.partial(self.helper.make_tensor_value_info, elem_type=onnx.TensorProto.FLOAT)
        constants = [tensors.from_array(array, name) for name, array in self.constants.items()]
        graph = self.helper.make_graph(
            self.nodes, "graph", [info("x", shape=shape)], [info(output, shape=None)], constants
        )
        opsets = [self.helper.make_opsetid("", opset)]
        return self.helper.make_model(graph, opset_imports=opsets, ir_version=8, **more)


def loaded_from(proto: Any, folder: Any, **options: Any) -> Any:
    (folder / "x.onnx").write_bytes(proto.SerializeToString())
    return xpdl.onnx.load(folder / "x.onnx", **options)


def assert_computes(
    proto: Any, x: Any, folder: Any, channels_last: bool = False, runtime: bool = False, **options: Any
) -> Any:
    """Check that the model computes what ONNX's reference does, before and after it was saved, and has gradients."""
    net = loaded_from(proto, folder, **options)
    if runtime:  # where ONNX's reference is wrong, as for pooling of signals and volumes
        data, providers = proto.SerializeToString(), ["CPUExecutionProvider"]
        session = importlib.import_module("onnxruntime").InferenceSession(data, providers=providers)
    else:
        session = importlib.import_module("onnx.reference").ReferenceEvaluator(proto)
    (expected,) = session.run(None, {"x": x})
    own = np.ascontiguousarray(np.moveaxis(x, -1, 1)) if channels_last else x
    got = outputs(net, own).reshape(expected.shape)
    np.testing.assert_allclose(got, expected, atol=1e-5 * np.abs(expected).max())
    net.save(folder / "x.safetensors")
    np.testing.assert_array_equal(xpdl.load_model(folder / "x.safetensors").predict(own), net.predict(own))
    y = net.forward(own, True)
    net.backward(np.ones_like(y))
    assert net.grads.keys() == net.params.keys()
    return net
