"""Layers of the operators that scikit-learn's linear models and scalers are written as (domain ai.onnx.ml)."""

from __future__ import annotations

import numpy as np

from xpdl.layers.affine import Affine
from xpdl.layers.sigmoid import Sigmoid
from xpdl.layers.softmax import Softmax
from xpdl.onnx.arithmetic import scaled, shifted
from xpdl.onnx.arranging import after
from xpdl.onnx.importing import Reader, features_of, ordered, then
from xpdl.onnx.nodes import Given, Node, Signal, signal
from xpdl.onnx.source import Damaged, HostArray, Unmapped

_DTYPE = np.float32  # of their attributes


def scaler(node: Node, reader: Reader, x: Given) -> Signal:
    """Return ``(x - offset) scale`` of features."""
    x = features_of(x)
    offset, scale = (np.asarray(node.numbers(name), _DTYPE) for name in ("offset", "scale"))
    if not offset.size or not scale.size:
        raise Damaged(f"{node.label}: it has no offset, or no scale")
    return scaled(node, reader, shifted(node, reader, x, -offset), scale)


def linear_regressor(node: Node, reader: Reader, x: Given) -> Signal:
    """Return the scores of a linear regression."""
    if node.text("post_transform", "NONE") != "NONE":
        raise Unmapped(f"it computes {node.text('post_transform', '')[:20]} of its scores")
    return _affine(node, features_of(x), node.integer("targets", 1))


def linear_classifier(node: Node, reader: Reader, x: Given) -> tuple[Signal | None, Signal]:
    """Return the probabilities of classes; of two, that of the second. There is no layer for the label."""
    classes = node.integers("classlabels_ints") or node.texts("classlabels_strings")
    scores, kind = _affine(node, features_of(x), len(node.numbers("intercepts"))), node.text("post_transform", "NONE")
    reader.class_names = [str(one) for one in classes]
    if kind == "SOFTMAX" and len(classes) == scores.step.shape[0]:
        return None, then(node, scores, Softmax())
    W, b = (np.asarray(scores.step.layer.params[key]) for key in ("W", "b"))  # type: ignore[union-attr]
    if kind != "LOGISTIC" or len(classes) != 2 or W.shape[1] != 2 or np.any(W[:, 0] != -W[:, 1]) or b[0] != -b[1]:
        raise Unmapped(f"it computes {kind[:20]} of {scores.step.shape[0]} scores for {len(classes)} classes")
    second = Affine(np.ascontiguousarray(W[:, 1:]), b[1:].copy())
    step = after(node.outputs[1], after(node.outputs[1], scores.step.inputs[0], second), Sigmoid())
    return None, Signal(step, scores.axes)


def normalizer(node: Node, reader: Reader, x: Given) -> Signal:
    """Return probabilities that sum to 1 as they are."""
    x = signal(x)
    if node.text("norm", "MAX") != "L1" or not isinstance(x.step.layer, Softmax):
        raise Unmapped("xpdl has no layer for it, but after a softmax")
    return x


def _affine(node: Node, x: Signal, units: int) -> Signal:
    found, b = (np.asarray(node.numbers(name), _DTYPE) for name in ("coefficients", "intercepts"))
    if units < 1 or not found.size or found.size % units or b.size not in (0, units):
        raise Damaged(
            f"{node.label}: {found.size} coefficients and {b.size} intercepts are not those of {units} scores"
        )
    W: HostArray = np.ascontiguousarray(ordered(x, found.reshape(units, -1).T))
    y = then(node, x, Affine(W, b if b.size else None), (x.axes[0], 0))
    return Signal(y.step, y.axes)
