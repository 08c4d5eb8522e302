"""The loss of negative sampling."""

from __future__ import annotations

from typing import Any

from xpdl.backends.namespaces import Array, array_namespace
from xpdl.layers.loss_layer import LossLayer, correct_classes
from xpdl.ops import losses as ops
from xpdl.ops import positions
from xpdl.ops.checks import label_rows
from xpdl.ops.targets import check_positions


class NegativeSampling(LossLayer):
    """Negative sampling: the right one of a few candidates is to be told from the others, which are drawn (arXiv:1310.4546).

    A row costs ``-log(sigmoid(x_t)) - sum(log(sigmoid(-x_k)))`` over its candidates k other than the right one t; the loss
    is the mean over the batch. It replaces softmax where there are too many classes to score them all (the second
    volume's ch. 4.2).

    Notes
    -----
    `forward` takes scores `x` (N, K) of K candidates, or (N, ..., K), and `t`, the places of the right ones, (N,) or
    (N, ...), or one-hot rows in the shape of `x`. ``dx = (sigmoid(x) - onehot(t)) dout / N``, where N counts all positions.
    With ``sample_weight`` r, an array (N,), positions are weighted by it. Metrics of decisions fit, ``accuracy`` and
    ``top_2_accuracy`` of K candidates: compare rows with the same number.

    Examples
    --------
    >>> layer = NegativeSampling()
    >>> round(float(layer.forward(np.array([[2.0, 0.0, 0.0]]), np.array([0]))), 6)
    1.513222
    >>> layer.backward().round(6)
    array([[-0.119203,  0.5     ,  0.5     ]])
    """

    def forward(self, x: Array, t: Any = None, sample_weight: Array | None = None) -> Array:
        t, weights = self._targets(x, t), self._weights_of(sample_weight)
        self.t = t = label_rows(t, x)
        rows, t, self._sample_weight = positions.flattened(x, t, weights, None, self.name)
        self._rows = ops.target_rows(rows, t, self.name)
        self.loss, y = ops.sigmoid_with_loss(rows, self._rows, self._sample_weight)
        self.weight = ops.total_weight(rows, self._rows, None, self._sample_weight, self.name)
        self.y, self._shape = y, tuple(x.shape)
        return self.loss

    def backward(self, dout: Array | float = 1.0) -> Array:
        y = self.require_saved(self.y)
        dx = ops.sigmoid_with_loss_backward(y, self._rows, self._scale(dout, y), self._sample_weight)
        return array_namespace(dx).reshape(dx, self._shape)

    def check_targets(self, t: Array, output_shape: tuple[int, ...], owner: str) -> None:
        check_positions(t, output_shape, owner, None)

    def correct(self, x: Array, t: Array) -> Array:
        return correct_classes(x, label_rows(t, x), self.name)
