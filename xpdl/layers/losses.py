"""Loss layers: the output activation and the loss in one, as the book's last layer (ch. 5.6.3)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from xpdl.backends import Backend, asnumpy
from xpdl.backends.namespaces import Array, array_namespace, is_array, on_device_of, same_device
from xpdl.errors import ShapeError
from xpdl.layers.loss_layer import LossLayer as LossLayer
from xpdl.layers.loss_layer import correct_classes
from xpdl.ops import losses as ops
from xpdl.ops import positions
from xpdl.ops.activations import sigmoid, softmax
from xpdl.ops.checks import class_weights_of, integer, label_rows, number, require_labels_before_compiling
from xpdl.ops.targets import check_positions, check_shares


class SoftmaxWithLoss(LossLayer):
    """Softmax and the mean cross entropy over the batch.

    Parameters
    ----------
    label_smoothing : float
        ``s`` in [0, 1): a share of each target that all K classes get alike, ``q = (1 - s) t + s / K`` (Szegedy et al. 2016,
        arXiv:1512.00567, sec. 7).
    class_weights : sequence or array (K,) of numbers, optional
        ``w``, at least 0 and not all 0, that the terms of the classes are multiplied with: for classes of unequal size.
    ignore_label : int, optional
        Positions with this label, of padding for example, count neither for the loss nor for an accuracy.

    Notes
    -----
    The loss is ``-sum(w q log(y)) / D``. D is N, but for labels with `class_weights` the sum of ``w[t]`` over the batch: the
    mean is weighted. That is ``torch.nn.CrossEntropyLoss``, but where D is 0: loss and gradient are 0 then, and NaN there.
    Integer one-hot rows, which that refuses, count as rows. With ``sample_weight`` r, an array (N,) given to `forward`,
    each row's terms and its part of D are multiplied by r.

    `forward` takes scores `x` (N, K), or (K,) for one sample, and `t`: integer labels (N,) or (N, 1), or one-hot rows
    (N, K), whose values may be any weights over the classes. The loss comes from log-softmax and does not saturate, unlike
    the book's, which adds 1e-7 to a probability and stops at 16.118. ``dx = (y - t) dout / N``; the book ignores `dout`.

    Scores of sequences (N, T, K), or with further axes, take labels (N, T) or rows (N, T, K), and `sample_weight` (N,) or
    (N, T), such as a mask with 0 for padding; the mean is over all positions that count. Metrics: the accuracy, which is the
    share of such positions; with scores (N, K), all metrics for classes.

    NaN among the scores is no error: the loss is NaN then, and `dx` in the rows that hold it. A `Trainer` stops at it.

    Raises
    ------
    ShapeError
        If `t` fits neither form.
    LabelError
        If a label is not one of the K classes. On a GPU, where nobody waits for labels, the loss is wrong then.
    DTypeError
        If labels are not integers.

    Examples
    --------
    >>> layer = SoftmaxWithLoss()
    >>> round(float(layer.forward(np.array([[0.0, 0.0]]), np.array([1]))), 6)
    0.693147
    >>> layer.backward()
    array([[ 0.5, -0.5]])
    """

    def __init__(
        self,
        label_smoothing: float = 0.0,
        class_weights: Iterable[float] | Array | None = None,
        ignore_label: int | None = None,
    ) -> None:
        super().__init__()
        self.label_smoothing = number(label_smoothing, "label_smoothing", self.name, "in [0, 1)")
        # on the host: they are moved to where the scores are, which may be somewhere else each time
        values = asnumpy(class_weights).tolist() if is_array(class_weights) else class_weights
        self.class_weights = None if values is None else class_weights_of(values, self.name)
        self.ignore_label = None if ignore_label is None else integer(ignore_label, "ignore_label", self.name)
        self._weights: Array | None = None

    def forward(self, x: Array, t: Any = None, sample_weight: Array | None = None) -> Array:
        t, weights = self._targets(x, t), self._weights_of(sample_weight)
        if x.ndim == 0:
            raise ShapeError(f"{self.name}: expected scores (N, K), (N, T, K) or (K,), got shape {tuple(x.shape)}")
        self.t = t = label_rows(t, x)
        rows, t, self._sample_weight = positions.flattened(x, t, weights, self.ignore_label, self.name)
        require_labels_before_compiling(rows, t, self.name)
        self._weights = self._class_weights_beside(x)
        self.loss, y = ops.softmax_with_loss(rows, t, self._weights, self.label_smoothing, self._sample_weight)
        self.weight = ops.total_weight(rows, t, self._weights, self._sample_weight, self.name)
        self.y, self._rows = _reshaped(y, x.shape), t
        return self.loss

    def backward(self, dout: Array | float = 1.0) -> Array:
        y = self.require_saved(self.y)
        rows = y if y.ndim == 2 else positions.rows_of(y)
        dx = ops.softmax_with_loss_backward(
            rows, self._rows, self._scale(dout, y), self._weights, self.label_smoothing, self._sample_weight
        )
        return _reshaped(dx, y.shape)

    def activation(self, x: Array) -> Array:
        return softmax(x)

    def check_targets(self, t: Array, output_shape: tuple[int, ...], owner: str) -> None:
        check_positions(t, output_shape, owner, self.ignore_label)

    def correct(self, x: Array, t: Array) -> Array:
        t = label_rows(t, x)
        if self.ignore_label is not None and t.ndim < x.ndim:
            xp = array_namespace(t)
            return correct_classes(x, xp.where(positions.is_label(t, self.ignore_label), 0, t), self.name)
        return correct_classes(x, t, self.name)

    def counted(self, x: Array, t: Array) -> Array | None:
        t = label_rows(t, x)
        if self.ignore_label is None or t.ndim == x.ndim:
            return None
        return array_namespace(t).logical_not(positions.is_label(t, self.ignore_label))

    def _class_weights_beside(self, x: Array) -> Array | None:
        """`class_weights` as an array where `x` is, in its dtype: moved once, not in each step."""
        if self.class_weights is None:
            return None
        moved = self._weights
        if moved is None or not same_device(moved, x) or moved.dtype != x.dtype:
            moved = Backend.of(x).asarray(self.class_weights)
        return moved

    def __repr__(self) -> str:
        given = [f"label_smoothing={self.label_smoothing}"] if self.label_smoothing else []
        given += [] if self.class_weights is None else [f"class_weights={self.class_weights}"]
        given += [] if self.ignore_label is None else [f"ignore_label={self.ignore_label}"]
        return f"{type(self).__name__}({', '.join(given)})"


class SigmoidWithLoss(LossLayer):
    """Sigmoid and binary cross entropy, summed over a row's outputs, mean over the batch.

    Parameters
    ----------
    accuracy : {"label", "row"}
        The decisions that an accuracy counts for K outputs: each label by itself, or whole rows, right where all their
        labels are.

    Notes
    -----
    `forward` takes scores `x` (N,) or (N, K) and targets `t` of the same shape with values in [0, 1]; t (N,) also goes with
    x (N, 1). Computed from the scores, so that it is finite for any of them. ``dx = (y - t) dout / N``; with
    ``sample_weight`` r, an array (N,) given to `forward`, ``r (y - t) dout / sum(r)``.
    """

    def __init__(self, accuracy: str = "label") -> None:
        super().__init__()
        if accuracy not in ("label", "row"):
            raise ValueError(f"{self.name}: accuracy must be 'label' or 'row', got {accuracy!r}")
        self.accuracy = accuracy

    def forward(self, x: Array, t: Any = None, sample_weight: Array | None = None) -> Array:
        self.t, rows = targets_like(x, self._targets(x, t), self.name), self._weights_of(sample_weight)
        self.loss, self.y = ops.sigmoid_with_loss(x, self.t, rows)
        self.weight = ops.total_weight(x, self.t, None, rows, self.name)
        return self.loss

    def backward(self, dout: Array | float = 1.0) -> Array:
        y = self.require_saved(self.y)
        return ops.sigmoid_with_loss_backward(y, self.t, self._scale(dout, y), self._sample_weight)

    def activation(self, x: Array) -> Array:
        return sigmoid(x)

    def check_targets(self, t: Array, output_shape: tuple[int, ...], owner: str) -> None:
        check_shares(t, output_shape, owner)

    def mean_over_outputs(self, loss: float) -> tuple[str, float] | None:
        count = self._outputs()
        return (f"mean over {count} outputs", loss / count) if count > 1 else None

    def correct(self, x: Array, t: Array) -> Array:
        t = targets_like(x, t, self.name)
        with on_device_of(x):
            # a score that is NaN decides neither way
            right = array_namespace(x, t).where(t > 0.5, x > 0, x <= 0)
        if self.accuracy == "label" or right.ndim == 1:
            return right
        return array_namespace(right).all(right, axis=tuple(range(1, right.ndim)))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({'' if self.accuracy == 'label' else repr(self.accuracy)})"


def targets_like(x: Array, t: Array, owner: str) -> Array:
    """`t` in the shape and dtype of `x`; (N,) also goes with (N, 1)."""
    if t.ndim + 1 == x.ndim and x.shape[-1] == 1:
        t = array_namespace(t).expand_dims(t, axis=-1)
    return ops.targets(x, t, owner)


def _reshaped(a: Array, shape: tuple[int, ...]) -> Array:
    """`a` in another shape of as many values, or itself where it has that."""
    return a if a.shape == shape else array_namespace(a).reshape(a, shape)
