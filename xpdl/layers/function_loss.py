"""A loss given as a function, as the last layer of a model."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection
from typing import Any, ClassVar

from xpdl.backends.namespaces import Array, array_namespace, dtype_name, is_array
from xpdl.errors import DTypeError, ShapeError
from xpdl.layers.base import Layer
from xpdl.layers.loss_layer import LossLayer, correct_classes
from xpdl.ops.checks import flag, require_labels, require_shape
from xpdl.ops.losses import total_weight
from xpdl.ops.targets import check_labels

Function = Callable[..., tuple[Any, Array]]


class FunctionLoss(LossLayer):
    """The loss that a function computes with its gradient: ``Sequential(..., loss=function)``.

    `Sequential.save` does not know it, and the weights of classes are its own affair; derive a layer from `LossLayer` for
    these.

    Parameters
    ----------
    function : callable
        ``function(y, t)`` of the outputs and the targets of a batch -> ``(loss, dy)``: the mean loss of a row, a number or
        an array (), and its gradient, in the shape and dtype of `y`. With a parameter ``sample_weight`` it gets the weights
        of the rows (N,), or None, and returns the mean that is weighted by them. With an attribute ``classifies = True``,
        `y` are scores (N, K) of classes and `t` labels or one-hot rows, of which there is an accuracy.

    Raises
    ------
    TypeError, ShapeError, DTypeError
        In `forward`, if the function returns something else.
    """

    saved_names: ClassVar[tuple[str, ...]] = (*LossLayer.saved_names, "_dy")

    def __init__(self, function: Function) -> None:
        super().__init__()
        self.function = function
        self.classifies = flag(getattr(function, "classifies", False), f"{self.title}.classifies", "loss")
        self.takes_weights = "sample_weight" in _parameters(function)
        self._dy: Array | None = None

    @property
    def title(self) -> str:
        """The name of the function."""
        return getattr(self.function, "__name__", type(self.function).__name__)

    def forward(self, x: Array, t: Any = None, sample_weight: Array | None = None) -> Array:
        self.t, self.y = self._targets(x, t), x
        if self.classifies and t.ndim < x.ndim:
            require_labels(t, x.shape[-1], f"loss {self.title}")
        if sample_weight is not None:
            self.require_weights()
        weights = {"sample_weight": self._weights_of(sample_weight)} if self.takes_weights else {}
        result = self.function(x, t, **weights)
        if not (isinstance(result, tuple) and len(result) == 2):
            raise TypeError(f"loss {self.title}: must return (loss, dy), got {type(result).__name__}")
        loss, dy = result
        self._check(loss, dy, x, t)
        self.loss, self._dy, self.weight = loss, dy, total_weight(x, t, None, sample_weight, f"loss {self.title}")
        return self.loss

    def backward(self, dout: Array | float = 1.0) -> Array:
        dy = self.require_saved(self._dy)
        return dy if isinstance(dout, float) and dout == 1.0 else dy * self._scale(dout, dy)

    def require_weights(self) -> None:
        """Raise `TypeError` if the function takes no weights of rows."""
        if not self.takes_weights:
            raise TypeError(
                f"loss {self.title}: takes no weights of rows, got sample_weight; give the function a parameter "
                "sample_weight, and return the mean that is weighted by it"
            )

    def check_targets(self, t: Array, output_shape: tuple[int, ...], owner: str) -> None:
        if self.classifies:
            check_labels(t, output_shape[0], owner)
        else:
            super().check_targets(t, output_shape, owner)

    def correct(self, x: Array, t: Array) -> Array:
        if not self.classifies:
            raise TypeError(
                f"loss {self.title}: accuracy is for classification; where the outputs are scores of classes, set "
                f"{self.title}.classifies = True before the model is made"
            )
        return correct_classes(x, t, self.name)

    def _check(self, loss: Any, dy: Any, y: Array, t: Any) -> None:
        owner = f"loss {self.title}"
        is_number = tuple(loss.shape) == () if is_array(loss) else isinstance(loss, (int, float))
        if not is_number:
            got = f"an array of shape {tuple(loss.shape)}" if is_array(loss) else type(loss).__name__
            raise TypeError(f"{owner}: the loss must be one number, the mean over the rows, got {got}")
        if not is_array(dy):
            raise TypeError(f"{owner}: dy must be an array of the shape {tuple(y.shape)} of y, got {type(dy).__name__}")
        array_namespace(y, dy, owner=owner)
        shape = tuple(getattr(t, "shape", y.shape))
        if dy.shape != y.shape and len(shape) < y.ndim:
            raise ShapeError(
                f"{owner}: dy must have the shape of y, {tuple(y.shape)}, got {tuple(dy.shape)}; t has the shape {shape}, "
                "which NumPy repeats along other axes: use t.reshape(y.shape)"
            )
        require_shape(dy, tuple(y.shape), owner, "dy, the gradient by y,")
        if dy.dtype != y.dtype:
            raise DTypeError(f"{owner}: dy must have the dtype of y, {dtype_name(y.dtype)}, got {dtype_name(dy.dtype)}")

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.title})"


def _parameters(function: Any) -> Collection[str]:
    try:
        return inspect.signature(function).parameters
    except (TypeError, ValueError):  # of some functions written in C
        return ()


def last_layer(loss: Any, owner: str) -> LossLayer | None:
    """The last layer of what a model was given as its loss."""
    if isinstance(loss, type) and issubclass(loss, LossLayer):
        return loss()
    if loss is None or isinstance(loss, LossLayer):
        return loss
    if isinstance(loss, (type, Layer)) or not callable(loss):
        raise TypeError(
            f"{owner}: loss must be a loss layer such as SoftmaxWithLoss, or a function (y, t) -> (loss, dy), got {loss!r}"
        )
    return FunctionLoss(loss)
