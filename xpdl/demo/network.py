"""The network of the demo: trained or loaded, its answer for a drawing, and its ONNX file for browsers."""

from __future__ import annotations

import base64
import contextlib
import importlib
import re
import tempfile
import threading
from pathlib import Path
from typing import Any

import numpy as np

from xpdl.backends import asarray, asnumpy
from xpdl.data import load_mini_mnist
from xpdl.io.paths import cache_dir
from xpdl.layers import Affine, Convolution, Pooling, Relu, SoftmaxWithLoss
from xpdl.layers.tree import forward_in_mode
from xpdl.models import load_model
from xpdl.models.base import Model
from xpdl.models.sequential import Sequential
from xpdl.training import Trainer

#: of a drawing, in pixels
SIDE = 28
_SHAPES = ((1, SIDE, SIDE), (SIDE * SIDE,))


class Recognizer:
    """A trained network, for one drawing after the other.

    Parameters
    ----------
    net : Sequential
        Of images (1, 28, 28), or rows of 784 values.

    Raises
    ------
    ValueError
        If it takes something else, or gives no scores of classes.
    """

    def __init__(self, net: Model) -> None:
        if not isinstance(net, Sequential):
            raise ValueError(f"demo: shows the layers of a Sequential one after the other, got a {type(net).__name__}")
        if net.input_shape not in _SHAPES:
            raise ValueError(f"demo: the network takes rows of shape {net.input_shape}, a drawing has (1, 28, 28)")
        scores = net.output_shape(net.input_shape)
        if len(scores) != 1 or scores[0] < 2:
            raise ValueError(f"demo: the network gives rows of shape {scores}, expected scores of at least 2 classes")
        self.net = net
        self.class_names = net.class_names or [str(k) for k in range(scores[0])]
        if len(self.class_names) != scores[0]:
            raise ValueError(f"demo: the network has {scores[0]} scores and {len(self.class_names)} names of classes")
        self._lock = threading.Lock()  # layers save what a backward would need

    def answer(self, pixels: bytes) -> dict[str, Any]:
        """Return the probability of each class, and the output of each layer, for a drawing.

        Parameters
        ----------
        pixels : bytes
            784 grey values, row by row, 0 for the ground.

        Returns
        -------
        dict
            ``probabilities``, and ``layers``: each with its name, shape, and float32 values in base64.
        """
        rows = np.frombuffer(pixels, np.uint8).astype(np.float32) / 255
        shape = self.net.input_shape or ()
        layers = []
        with self._lock:
            x = asarray(rows.reshape(1, *shape))
            for name, layer in self.net.layers.items():
                x = forward_in_mode(layer, x, False)
                values = asnumpy(x)[0].astype("<f4")
                text = base64.b64encode(values.tobytes()).decode()
                layers.append({"name": name, "shape": list(values.shape), "values": text})
            loss = self.net.last_layer or SoftmaxWithLoss()
            probabilities = asnumpy(loss.activation(x)).reshape(-1)
        return {"probabilities": [float(p) for p in probabilities], "layers": layers}

    def onnx_file(self) -> tuple[bytes, dict[str, str]]:
        """Return an ONNX file with outputs of layers beside the scores, and the layer of each output by its name."""
        export = importlib.import_module("xpdl.onnx").export
        onnx = importlib.import_module("onnx")
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "net.onnx"
            export(self.net, path)
            proto = onnx.load(path)
        float_type, shape = proto.graph.output[0].type.tensor_type.elem_type, self.net.input_shape or ()
        outputs: dict[str, str] = {}
        for name, layer in self.net.layers.items():
            shape = layer.output_shape(shape)
            # the last node of a layer that is several has the largest number behind its name
            found = [
                node.output[0] for node in proto.graph.node if re.fullmatch(rf"{re.escape(name)}(_\d+)?", node.name)
            ]
            if found:
                outputs[found[-1]] = name
                if found[-1] != proto.graph.output[0].name:
                    value = onnx.helper.make_tensor_value_info(found[-1], float_type, ["N", *shape])
                    proto.graph.output.append(value)
        return proto.SerializeToString(), outputs


def recognizer(path: Path | None) -> Recognizer:
    """Return the network of a file; without one, one for digits, which is trained at its first use and kept."""
    if path is not None:
        return Recognizer(load_model(path))
    kept = cache_dir() / "demo" / "digits-1.safetensors"
    with contextlib.suppress(OSError, ValueError):  # not there yet, or damaged
        return Recognizer(load_model(kept))
    print("training a network on 6,000 digits; it is kept for the next time", flush=True)
    net = trained()
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        net.save(kept)
    except OSError as error:
        print(f"it could not be kept: {error}", flush=True)
    return Recognizer(net)


def trained(epochs: int = 3) -> Sequential:
    """Return a small convolutional network, trained on the digits in the package."""
    (x, t), _ = load_mini_mnist(flatten=False)
    layers = [
        *(Convolution(filters=8, size=3, pad=1), Relu(), Pooling(2, 2)),
        *(Convolution(filters=16, size=3, pad=1), Relu(), Pooling(2, 2)),
        *(Affine(units=64), Relu(), Affine(units=10)),
    ]
    net = Sequential(*layers, loss=SoftmaxWithLoss, seed=0)
    options: dict[str, Any] = {"optimizer": "adam", "optimizer_param": {"lr": 0.003}, "mini_batch_size": 50}
    Trainer(net, x, t, epochs=epochs, **options, verbose=False).train()
    return net
