"""Attention in pieces: products of queries and keys, masks, a softmax, and products with values."""

from __future__ import annotations

import dataclasses
import math
from typing import NamedTuple

import numpy as np

from xpdl.layers.merging import Concatenate
from xpdl.layers.rearranging import Reshape, Slice
from xpdl.onnx.arranging import reshaped
from xpdl.onnx.evaluating import MOST_VALUES, values_of
from xpdl.onnx.importing import Reader
from xpdl.onnx.nodes import BATCH, ONE, Given, Node, Signal, constant
from xpdl.onnx.source import HostArray, Unmapped
from xpdl.onnx.steps import Scaling, Step, Unfinished, known
from xpdl.ops.attention import rotary

#: scores of keys that are not looked at are at most that
_NEVER = -1e4
_LONGEST = 2**14  # of masks that are looked into


@dataclasses.dataclass
class Scores(Unfinished):
    """Scores of queries and keys, (heads, T, S) of a row.

    Attributes
    ----------
    node : str
    heads : int
    factor : float
        By which the products are multiplied.
    is_rotary, is_causal, is_softmax : bool
    mask : Step or None
        Keys that count.
    """

    node: str
    before: str
    heads: int
    factor: float
    is_rotary: bool
    is_causal: bool = False
    is_softmax: bool = False
    mask: Step | None = None


@dataclasses.dataclass
class Joined(Unfinished):
    """Means of values by attention, of all heads beside each other, (T, E) of a row."""

    node: str
    before: str
    scores: Scores


@dataclasses.dataclass
class Seen(Unfinished):
    """Keys that count, of a mask, or of a mask and those up to the query."""

    node: str
    before: str
    is_causal: bool


class _Heads(NamedTuple):
    """Vectors of all heads: the step with all of them beside each other, and what was done to them since."""

    step: Step
    heads: int
    factor: float
    is_rotary: bool


def product(node: Node, x: Signal, y: Signal) -> Signal:
    """Return the product of two values, which is part of an attention."""
    if isinstance(x.step.layer, Scores):
        return _joined(node, x, _heads(y))
    keys = Signal(y.step, (*y.axes[:-2], *y.axes[:-3:-1]), y.order)
    q, k = _heads(x), _heads(keys)
    if q is None or k is None or (q.heads, q.is_rotary) != (k.heads, k.is_rotary):
        raise Unmapped("it multiplies two computed values, other than the queries and keys of an attention")
    shape = (q.heads, q.step.shape[0], k.step.shape[0])
    part = Scores(node.label, x.step.name, q.heads, q.factor * k.factor, q.is_rotary)
    return Signal(Step(node.outputs[0], part, q.step, k.step, shape=shape), (BATCH, 0, 1, 2))


def _heads(x: Signal) -> _Heads | None:
    """Return vectors (N, heads, T, D) in a file; None of something else."""
    step, factor, is_rotary = x.step, 1.0, False
    while True:
        layer = step.layer
        if isinstance(layer, Scaling) and layer.scale.size == 1 and not np.any(layer.shift):
            factor, step = factor * float(layer.scale.reshape(())), step.inputs[0]
        elif isinstance(layer, Concatenate) and not is_rotary and (unturned := _unturned(step)) is not None:
            is_rotary, step = True, unturned
        else:
            break
    if x.axes == (BATCH, 1, 0, 2) and isinstance(step.layer, Reshape) and len(step.inputs[0].shape) == 2:
        return _Heads(step.inputs[0], known(step.shape)[1], factor, is_rotary)
    if x.axes == (BATCH, 1, 0, ONE) and len(step.shape) == 2:  # as many as features
        return _Heads(step, known(step.shape)[1], factor, is_rotary)
    if x.axes == (BATCH, ONE, 0, 1) and len(step.shape) == 2:
        return _Heads(step, 1, factor, is_rotary)
    return None


def _unturned(end: Step) -> Step | None:
    """Return what was rotated by its positions; None where something else was done."""
    base = end.fork
    if base is None or None in end.shape or base.shape != end.shape or math.prod(known(end.shape)) > MOST_VALUES:
        return None
    length, *heads, size = known(end.shape)
    x = np.random.default_rng(0).standard_normal((1, length, *heads, size), dtype=np.float32)
    found = values_of(end, base, x, (Slice, Concatenate))
    by_heads = x.reshape(1, length, -1, size).transpose(0, 2, 1, 3)
    turned = rotary(by_heads).transpose(0, 2, 1, 3).reshape(x.shape) if size % 2 == 0 else None
    same = found is not None and turned is not None and found.shape == x.shape
    return base if same and np.abs(found - turned).max() <= 1e-5 * np.abs(turned).max() else None  # type: ignore[operator, arg-type]


def scaled_scores(node: Node, x: Signal, factor: HostArray) -> Signal | None:
    """Return scores times a number; None of something else."""
    scores = x.step.layer
    if not isinstance(scores, Scores) or scores.is_softmax or factor.size != 1:
        return None
    return _with(node, x, factor=scores.factor * float(factor.reshape(())))


def with_added_mask(node: Node, reader: Reader, x: Signal, added: HostArray) -> Signal | None:
    """Return scores with numbers added to those that do not count; None of something else."""
    if not isinstance(x.step.layer, Scores) or x.step.layer.is_softmax:
        return None
    if np.all((added == 0) | (added <= _NEVER)):
        return _masked(node, x, added == 0)
    raise Unmapped("it adds other numbers to scores than 0 and such that stand for those that do not count")


def where(node: Node, condition: Given, x: Given, y: Given) -> Signal | None:
    """Return scores, or probabilities, of those alone that count; None of something else."""
    if isinstance(x, np.ndarray) and isinstance(y, Signal) and isinstance(condition, np.ndarray):
        condition, x, y = ~condition.astype(bool), y, x
    if isinstance(condition, Signal) and isinstance(condition.step.layer, IsNaN):  # of queries that see no key
        same = isinstance(y, Signal) and condition.step.inputs == (y.step,)
        return y if same and isinstance(x, np.ndarray) and not np.any(x) else None  # type: ignore[return-value]
    if not (isinstance(x, Signal) and isinstance(y, np.ndarray) and isinstance(x.step.layer, Scores)):
        return None
    scores = x.step.layer
    if scores.is_softmax:
        again = _masked(node, x, condition)
        return x if not np.any(y) and _flags(again) == _flags(x) else None
    if not np.all(y <= _NEVER):
        return None
    return _masked(node, x, condition)


class IsNaN(Unfinished):
    """Probabilities of queries that see no key."""


def is_nan(node: Node, x: Signal) -> Signal:
    """Return where probabilities of an attention are no numbers."""
    if not (isinstance(x.step.layer, Scores) and x.step.layer.is_softmax):
        raise Unmapped("xpdl has no layer for it")
    return Signal(Step(node.outputs[0], IsNaN(node.label, x.step.name), x.step, shape=x.step.shape), x.axes)


def seen(node: Node, x: Signal, y: Given) -> Signal:
    """Return the keys that count by a mask and up to the query."""
    if isinstance(y, np.ndarray) and _is_mask(x) and _is_causal(y, y.shape[-2:]):
        return Signal(Step(node.outputs[0], Seen(node.label, x.step.name, True), x.step, shape=x.step.shape), x.axes)
    raise Unmapped("xpdl has no layer for it, other than of a mask of keys and those up to the query")


def _is_mask(x: Signal) -> bool:
    """Return whether a value is an input (N, S) that spreads over heads and queries."""
    return not x.step.inputs and x.axes == (BATCH, ONE, ONE, 0)


def _flags(x: Signal) -> tuple[Step | None, bool]:
    assert isinstance(x.step.layer, Scores)
    return x.step.layer.mask, x.step.layer.is_causal


def _masked(node: Node, x: Signal, condition: Given) -> Signal:
    """Return scores without those for which a condition does not hold."""
    _, queries, keys = known(x.step.shape)
    mask, _ = _flags(x)
    if isinstance(condition, Signal):
        is_seen = isinstance(condition.step.layer, Seen)
        of_keys = condition.step.inputs[0] if is_seen else condition.step if _is_mask(condition) else None
        if of_keys is not None and mask in (None, of_keys):
            return _with(node, x, mask=of_keys, **({"is_causal": True} if is_seen else {}))
    elif isinstance(condition, np.ndarray):
        if np.all(condition):
            return x
        if _is_causal(condition, (queries, keys)):
            return _with(node, x, is_causal=True)
    raise Unmapped("its mask is neither of keys, nor of those up to the query")


def _is_causal(condition: HostArray, shape: tuple[int, ...]) -> bool:
    if len(shape) != 2 or max(shape) > _LONGEST or condition.size != math.prod(shape):
        return False
    return np.array_equal(condition.reshape(shape).astype(bool), np.tri(*shape, shape[1] - shape[0], dtype=bool))


def softmax(node: Node, x: Signal) -> Signal:
    """Return the probabilities of scores."""
    return _with(node, x, is_softmax=True)


def _with(node: Node, x: Signal, **changes: object) -> Signal:
    assert isinstance(x.step.layer, Scores)
    part = dataclasses.replace(x.step.layer, node=node.label, **changes)  # type: ignore[arg-type]
    return Signal(Step(node.outputs[0], part, *x.step.inputs, shape=x.step.shape), x.axes)


def _joined(node: Node, p: Signal, values: _Heads | None) -> Signal:
    """Return the means of values by their probabilities, (N, heads, T, D) in the file."""
    scores = p.step.layer
    assert isinstance(scores, Scores)
    if (
        not scores.is_softmax
        or values is None
        or values.heads != scores.heads
        or values.is_rotary
        or values.factor != 1
    ):
        raise Unmapped("it multiplies scores with other values than those of an attention")
    queries, (_, width) = p.step.inputs[0], known(values.step.shape)
    part, shape = Joined(node.label, p.step.name, scores), (queries.shape[0], width)
    step = Step(node.outputs[0], part, *p.step.inputs, values.step, shape=shape)
    if scores.heads == 1:
        return Signal(step, (BATCH, ONE, 0, 1))
    heads = reshaped(node.outputs[0], step, (queries.shape[0], scores.heads, width // scores.heads))
    return Signal(heads, (BATCH, 1, 0, 2))


def operator(node: Node, reader: Reader, q: Given, k: Given, v: Given, mask: Given = None) -> Signal:
    """Return the result of the operator Attention of three sequences (N, T, E), or (N, heads, T, D)."""
    values = [x for x in (q, k, v) if isinstance(x, Signal)]
    if len(values) < 3 or isinstance(mask, Signal) or node.number("softcap", 0.0):
        raise Unmapped("it takes constants, a computed mask, or caps its scores")
    of_q, of_k, of_v = (_heads(x) or _beside(node, x) for x in values)
    if of_q.heads != of_k.heads or of_q.is_rotary != of_k.is_rotary:
        raise Unmapped("its queries and keys have other heads, or one of them alone is turned by its positions")
    factor = node.number("scale", 0.0) or 1.0 / math.sqrt(known(of_q.step.shape)[1] // of_q.heads)
    scores = Scores(node.label, values[0].step.name, of_q.heads, of_q.factor * of_k.factor * factor, of_q.is_rotary)
    scores.is_causal = bool(node.integer("is_causal", 0))
    if scores.is_causal and of_q.step.shape[0] != of_k.step.shape[0]:
        raise Unmapped("its queries are not as many as its keys, of which is_causal=1 lets them see the first")
    shape = (of_q.heads, of_q.step.shape[0], of_k.step.shape[0])
    found = Signal(Step(node.outputs[0], scores, of_q.step, of_k.step, shape=shape), (BATCH, 0, 1, 2))
    if mask is not None:
        found = _masked(node, found, _counting(constant(mask, "mask")))
    joined = _joined(node, softmax(node, found), of_v)
    return joined if len(values[0].axes) == 4 else Signal(_beside_each_other(joined.step), (BATCH, 0, 1))


def _beside_each_other(step: Step) -> Step:
    return step.inputs[0] if isinstance(step.layer, Reshape) else step


def _counting(mask: HostArray) -> HostArray:
    if mask.dtype == bool:
        return mask
    if not np.all((mask == 0) | (mask <= _NEVER)):
        raise Unmapped("its mask adds other numbers than 0 and such that stand for keys that do not count")
    return np.asarray(mask == 0)


def _beside(node: Node, x: Signal) -> _Heads:
    count = node.integer("q_num_heads", 0)
    if x.axes != (BATCH, 0, 1) or count < 1 or node.integer("kv_num_heads", count) != count:
        raise Unmapped(f"its heads are not those of sequences (N, T, E): rows are of shape {x.row}")
    return _Heads(x.step, count, 1.0, False)
