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
from xpdl.ops.activations import sigmoid, softmax
from xpdl.ops.checks import class_weights_of, label_rows, number
from xpdl.ops.targets import check_labels, check_numbers, check_shares


class SoftmaxWithLoss(LossLayer):
    """Softmax and the mean cross entropy over the batch.

    Parameters
    ----------
    label_smoothing : float
        ``s`` in [0, 1): a share of each target that all K classes get alike, ``q = (1 - s) t + s / K`` (Szegedy et al. 2016,
        arXiv:1512.00567, sec. 7).
    class_weights : sequence or array (K,) of numbers, optional
        ``w``, at least 0 and not all 0, that the terms of the classes are multiplied with: for classes of unequal size.

    Notes
    -----
    The loss is ``-sum(w q log(y)) / D``. D is N, but for labels with `class_weights` the sum of ``w[t]`` over the batch: the
    mean is weighted. That is ``torch.nn.CrossEntropyLoss``, but where D is 0: loss and gradient are 0 then, and NaN there.
    Integer one-hot rows, which that refuses, count as rows. With ``sample_weight`` r, an array (N,) given to `forward`,
    each row's terms and its part of D are multiplied by r.

    `forward` takes scores `x` (N, K), or (K,) for one sample, and `t`: integer labels (N,) or (N, 1), or one-hot rows
    (N, K), whose values may be any weights over the classes. The loss comes from log-softmax and does not saturate, unlike
    the book's, which adds 1e-7 to a probability and stops at 16.118. ``dx = (y - t) dout / N``; the book ignores `dout`.

    NaN among the scores is no error: the loss is NaN then, and `dx` in the rows that hold it. A `Trainer` stops at it.

    Raises
    ------
    ShapeError
        If `t` fits neither form.
    LabelError
        If a label on the host is not one of the K classes.
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

    def __init__(self, label_smoothing: float = 0.0, class_weights: Iterable[float] | Array | None = None) -> None:
        super().__init__()
        self.label_smoothing = number(label_smoothing, "label_smoothing", self.name, "in [0, 1)")
        # on the host: they are moved to where the scores are, which may be somewhere else each time
        values = asnumpy(class_weights).tolist() if is_array(class_weights) else class_weights
        self.class_weights = None if values is None else class_weights_of(values, self.name)
        self._weights: Array | None = None

    def forward(self, x: Array, t: Any = None, sample_weight: Array | None = None) -> Array:
        t, rows = self._targets(x, t), self._weights_of(sample_weight)
        if x.ndim not in (1, 2):
            raise ShapeError(f"{self.name}: expected scores (N, K) or (K,), got shape {tuple(x.shape)}")
        t = label_rows(t, x)
        self.t, self._one = t, x.ndim == 1
        xp = array_namespace(x)
        if self._one:
            x, t = xp.expand_dims(x, axis=0), xp.expand_dims(t, axis=0)
            self._sample_weight = rows = None if rows is None else xp.expand_dims(rows, axis=0)
        self._weights = self._class_weights_beside(x)
        self.loss, y = ops.softmax_with_loss(x, t, self._weights, self.label_smoothing, rows)
        self.weight = ops.total_weight(x, t, self._weights, rows, self.name)
        self.y, self._rows = y[0, ...] if self._one else y, t
        return self.loss

    def backward(self, dout: Array | float = 1.0) -> Array:
        y = self.require_saved(self.y)
        y = array_namespace(y).expand_dims(y, axis=0) if self._one else y
        dx = ops.softmax_with_loss_backward(
            y, self._rows, self._scale(dout, y), self._weights, self.label_smoothing, self._sample_weight
        )
        return dx[0, ...] if self._one else dx

    def activation(self, x: Array) -> Array:
        return softmax(x)

    def check_targets(self, t: Array, output_shape: tuple[int, ...], owner: str) -> None:
        check_labels(t, output_shape[0], owner)

    def correct(self, x: Array, t: Array) -> Array:
        return correct_classes(x, t, self.name)

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
        self.t, rows = _like(x, self._targets(x, t), self.name), self._weights_of(sample_weight)
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
        t = _like(x, t, self.name)
        with on_device_of(x):
            right = (x > 0) == (t > 0.5)
        if self.accuracy == "label" or right.ndim == 1:
            return right
        return array_namespace(right).all(right, axis=tuple(range(1, right.ndim)))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({'' if self.accuracy == 'label' else repr(self.accuracy)})"


class IdentityWithLoss(LossLayer):
    """The identity and half the sum of squared errors over a row's outputs, mean over the batch: regression.

    Notes
    -----
    `x` and `t` have the same shape (N, ...). ``dx = (x - t) dout / N``; with ``sample_weight`` r, an array (N,) given to
    `forward`, ``r (x - t) dout / sum(r)``.
    """

    classifies = False

    def forward(self, x: Array, t: Any = None, sample_weight: Array | None = None) -> Array:
        self.t, self.y = _like(x, self._targets(x, t), self.name), x
        rows = self._weights_of(sample_weight)
        self.loss = ops.identity_with_loss(x, self.t, rows)
        self.weight = ops.total_weight(x, self.t, None, rows, self.name)
        return self.loss

    def check_targets(self, t: Array, output_shape: tuple[int, ...], owner: str) -> None:
        check_numbers(t, output_shape, owner)

    def mean_over_outputs(self, loss: float) -> tuple[str, float] | None:
        count = self._outputs()
        return ("mse", 2.0 * loss / count) if count > 1 else None

    def backward(self, dout: Array | float = 1.0) -> Array:
        y = self.require_saved(self.y)
        return ops.identity_with_loss_backward(y, self.t, self._scale(dout, y), self._sample_weight)


def _like(x: Array, t: Array, owner: str) -> Array:
    """`t` in the shape and dtype of `x`."""
    if t.ndim + 1 == x.ndim and x.shape[-1] == 1:
        t = array_namespace(t).expand_dims(t, axis=-1)
    return ops.targets(x, t, owner)
