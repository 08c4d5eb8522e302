"""The hinge loss layer."""

from __future__ import annotations

from typing import Any

from xpdl.backends.namespaces import Array
from xpdl.layers.loss_layer import LossLayer, correct_classes
from xpdl.ops import hinge as ops
from xpdl.ops.checks import label_rows, number, require_labels_before_compiling
from xpdl.ops.losses import total_weight
from xpdl.ops.targets import check_labels


class Hinge(LossLayer):
    """Hinge loss of several classes (Weston and Watkins 1999): scores that are not ahead of all others by a margin cost.

    A row costs ``sum(max(0, margin + x_k - x_t))`` over the classes k other than its class t; the loss is the mean over the
    batch. PyTorch's ``MultiMarginLoss`` divides it by the number of classes.

    Parameters
    ----------
    margin : float

    Notes
    -----
    `forward` takes scores `x` (N, K) and `t`, labels (N,) or (N, 1) or one-hot rows (N, K). With ``sample_weight`` r, an
    array (N,), rows are weighted by it. There are no probabilities, so that metrics of decisions fit: ``accuracy
    top_2_accuracy precision recall f1``.

    Examples
    --------
    >>> layer = Hinge()
    >>> float(layer.forward(np.array([[2.0, 1.5, 0.0]]), np.array([0])))
    0.5
    >>> layer.backward()
    array([[-1.,  1.,  0.]])
    """

    def __init__(self, margin: float = 1.0) -> None:
        super().__init__()
        self.margin = number(margin, "margin", self.name, "positive")

    def forward(self, x: Array, t: Any = None, sample_weight: Array | None = None) -> Array:
        self.t = label_rows(self._targets(x, t), x)
        rows = self._weights_of(sample_weight)
        require_labels_before_compiling(x, self.t, self.name)
        self.loss = ops.hinge(x, self.t, self.margin, rows)
        self.y, self.weight = x, total_weight(x, x, None, rows, self.name)
        return self.loss

    def backward(self, dout: Array | float = 1.0) -> Array:
        x = self.require_saved(self.y)
        return ops.hinge_backward(x, self.t, self._scale(dout, x), self.margin, self._sample_weight)

    def check_targets(self, t: Array, output_shape: tuple[int, ...], owner: str) -> None:
        check_labels(t, output_shape[-1], owner)

    def correct(self, x: Array, t: Array) -> Array:
        return correct_classes(x, t, self.name)

    def __repr__(self) -> str:
        return f"Hinge({'' if self.margin == 1.0 else self.margin})"
