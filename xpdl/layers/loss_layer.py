"""Base of loss layers: what they keep of a batch, its rows' weights, and what a training asks of them."""

from __future__ import annotations

import math
from typing import Any, ClassVar

from xpdl.backends.namespaces import Array, array_namespace, is_array, is_floating_beside, wide_dtype
from xpdl.backends.readable import is_readable
from xpdl.layers.base import Layer
from xpdl.ops.checks import as_floating, label_rows, require_floating, require_labels, require_shape
from xpdl.ops.targets import check_finite


class LossLayer(Layer):
    """A last layer: ``forward(x, t)`` gives the loss, a scalar that stays on the device, and `backward` starts here.

    Attributes
    ----------
    y, t : array
        The outputs, after the activation, and the targets of the last forward.
    loss : array ()
        The last loss, in float32 for outputs in half precision.
    weight : int, array () or None
        The divisor of that mean: the rows of the batch, or what their weights add up to.
    """

    #: True if `correct` is defined
    classifies = True
    repeatable_backward: ClassVar[bool] = True  # the book calls it twice
    saved_names: ClassVar[tuple[str, ...]] = ("y", "t", "_rows", "_sample_weight")

    def __init__(self) -> None:
        super().__init__()
        self.y: Array | None = None
        self.t: Array | None = None
        self.loss: Array | None = None
        self.weight: Array | int | None = None
        self._sample_weight: Array | None = None

    def forward(self, x: Array, t: Any = None, sample_weight: Array | None = None) -> Array:
        """The loss of outputs `x` before the activation, against targets `t`; `sample_weight` (N,) weighs the rows."""
        raise NotImplementedError(f"{type(self).__name__} has no forward")

    def backward(self, dout: Array | float = 1.0) -> Array:
        """``dx`` in the shape of `x`, scaled by `dout`, a number or an array ()."""
        raise NotImplementedError(f"{type(self).__name__} has no backward")

    def check_targets(self, t: Array, output_shape: tuple[int, ...], owner: str) -> None:
        """Refuse targets (N, ...) that do not suit outputs of this shape; reads them on the host, once for a data set."""
        check_finite(t, owner)

    def check_labels(self, t: Any, output_shape: Any, owner: str) -> None:
        """As `check_targets`, of integers alone, and of these where reading them waits for no device."""
        if is_array(t) and is_readable(t) and array_namespace(t).isdtype(t.dtype, "integral"):
            self.check_targets(t, output_shape, owner)

    def activation(self, x: Array) -> Array:
        """The outputs `y` for scores `x`: probabilities in classification; `x` itself unless a loss says otherwise."""
        return x

    def mean_over_outputs(self, loss: float) -> tuple[str, float] | None:
        """Name and value of `loss` as a mean over the several outputs of a row; None where it is no sum over them."""
        return None

    def _outputs(self) -> int:
        """The outputs of a row of the last forward; 1 without one."""
        return 1 if self.y is None else math.prod(self.y.shape[1:])

    def correct(self, x: Array, t: Array) -> Array:
        """For each decision, a row or one label of it, whether the outputs `x` decide for what `t` names."""
        raise TypeError(f"{self.name}: accuracy is for classification; a regression has none")

    def counted(self, x: Array, t: Array) -> Array | None:
        """Decisions of `correct` that count, as booleans; None where all do."""
        return None

    def _targets(self, x: Array, t: Any) -> Array:
        if is_floating_beside(x, t) and t is not None:
            return t
        if t is None:
            raise TypeError(f"{self.name}: forward(x, t) needs the targets t")
        for array in (x, t):
            if not is_array(array):
                raise TypeError(
                    f"{self.name}: expected arrays, got {type(array).__name__}; make one with xpdl.asarray(...)"
                )
        require_floating(x, self.name)
        array_namespace(t, owner=self.name)
        array_namespace(x, t, owner=self.name)
        return t

    def _weights_of(self, sample_weight: Array | None) -> Array | None:
        if sample_weight is not None and not is_array(sample_weight):
            raise TypeError(
                f"{self.name}: sample_weight must be an array (N,), got {type(sample_weight).__name__}; make one with "
                "xpdl.asarray(...)"
            )
        self._sample_weight = sample_weight
        return sample_weight

    def _scale(self, dout: Any, y: Array) -> Array | float:
        """`dout` as a number that leaves the dtype of `y` alone: a Python one, or an array () that it is computed with."""
        if isinstance(dout, (int, float)):
            return float(dout)
        owner = f"{self.name}.backward"
        array_namespace(dout, owner=owner)
        xp = array_namespace(dout, y, owner=owner)
        require_shape(dout, (), owner, "dout")
        return xp.astype(as_floating(dout, owner), wide_dtype(y))


def correct_classes(x: Array, t: Array, owner: str) -> Array:
    """For each row, whether the class of the highest score of `x` (..., K) is that of labels or one-hot rows `t`.

    A row that holds NaN is wrong.
    """
    xp = array_namespace(x, t, owner=owner)
    t = label_rows(t, x)
    highest = xp.argmax(x, axis=-1)
    decided = xp.logical_not(xp.any(xp.isnan(x), axis=-1))
    if t.ndim == x.ndim:
        require_shape(t, x.shape, owner, "one-hot t")
        return xp.logical_and(xp.equal(highest, xp.argmax(t, axis=-1)), decided)
    require_shape(t, x.shape[:-1], owner, "t")
    require_labels(t, x.shape[-1], owner)
    return xp.logical_and(xp.equal(highest, xp.astype(t, highest.dtype)), decided)
