"""A loss given as a function, as the last layer of a model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from xpdl.backends.namespaces import Array, array_namespace, dtype_name, is_array
from xpdl.errors import DTypeError
from xpdl.layers.base import Layer
from xpdl.layers.losses import LossLayer
from xpdl.ops.checks import require_shape

Function = Callable[[Array, Array], tuple[Any, Array]]


class FunctionLoss(LossLayer):
    """The loss that a function computes with its gradient: ``Sequential(..., loss=function)``.

    It has no accuracy and takes no weights of rows, and files do not know it; derive a layer from `LossLayer` for these.

    Parameters
    ----------
    function : callable
        ``function(y, t)`` of the outputs and the targets of a batch -> ``(loss, dy)``: the mean loss of a row, a number or
        an array (), and its gradient, in the shape and dtype of `y`.

    Raises
    ------
    TypeError, ShapeError, DTypeError
        In `forward`, if the function returns something else.
    """

    classifies = False
    saved_names: ClassVar[tuple[str, ...]] = (*LossLayer.saved_names, "_dy")

    def __init__(self, function: Function) -> None:
        super().__init__()
        self.function = function
        self._dy: Array | None = None

    @property
    def title(self) -> str:
        """The name of the function."""
        return getattr(self.function, "__name__", type(self.function).__name__)

    def forward(self, x: Array, t: Any = None) -> Array:  # type: ignore[override]
        self.t, self.y = self._targets(x, t), x
        result = self.function(x, t)
        if not (isinstance(result, tuple) and len(result) == 2):
            raise TypeError(f"loss {self.title}: must return (loss, dy), got {type(result).__name__}")
        loss, dy = result
        self._check(loss, dy, x)
        self.loss, self._dy, self.weight = loss, dy, int(x.shape[0])
        return self.loss

    def backward(self, dout: Array | float = 1.0) -> Array:
        dy = self.require_saved(self._dy)
        return dy if isinstance(dout, float) and dout == 1.0 else dy * self._scale(dout, dy)

    def _check(self, loss: Any, dy: Any, y: Array) -> None:
        owner = f"loss {self.title}"
        is_number = tuple(loss.shape) == () if is_array(loss) else isinstance(loss, (int, float))
        if not is_number:
            got = f"an array of shape {tuple(loss.shape)}" if is_array(loss) else type(loss).__name__
            raise TypeError(f"{owner}: the loss must be one number, the mean over the rows, got {got}")
        if not is_array(dy):
            raise TypeError(f"{owner}: dy must be an array of the shape {tuple(y.shape)} of y, got {type(dy).__name__}")
        array_namespace(y, dy, owner=owner)
        require_shape(dy, tuple(y.shape), owner, "dy, the gradient by y,")
        if dy.dtype != y.dtype:
            raise DTypeError(f"{owner}: dy must have the dtype of y, {dtype_name(y.dtype)}, got {dtype_name(dy.dtype)}")

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.title})"


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
