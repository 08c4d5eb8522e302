"""Addition and multiplication as nodes of a computational graph (the book's ch. 5)."""

from __future__ import annotations

from typing import Any, ClassVar

from xpdl.backends.graphs import on_values
from xpdl.backends.namespaces import array_namespace, is_array
from xpdl.layers.passes import backward_pass, forward_pass
from xpdl.layers.saved import SavedForBackward


class AddLayer:
    """``x + y`` of numbers or arrays; the gradient passes to both sides unchanged.

    Examples
    --------
    >>> node = AddLayer()
    >>> node.forward(200, 450), node.backward(1.1)
    (650, (1.1, 1.1))
    """

    @on_values
    def forward(self, x: Any, y: Any) -> Any:
        """``x + y``."""
        return _add(x, y)

    @on_values
    def backward(self, dout: Any) -> tuple[Any, Any]:
        """``dx, dy``."""
        return dout, dout


class MulLayer(SavedForBackward):
    """``x * y`` of numbers or arrays; the gradient of each side is `dout` times the other side.

    Examples
    --------
    >>> node = MulLayer()
    >>> node.forward(100, 2), node.backward(1.1)
    (200, (2.2, 110.00000000000001))
    """

    name = "MulLayer"

    saved_names: ClassVar[tuple[str, ...]] = ("x", "y")

    def __init__(self) -> None:
        self.x: Any = None
        self.y: Any = None

    @forward_pass
    def forward(self, x: Any, y: Any) -> Any:
        """``x * y``."""
        self.x, self.y = x, y
        return _multiply(x, y)

    @backward_pass
    def backward(self, dout: Any) -> tuple[Any, Any]:
        """``dx, dy``."""
        x = self.require_saved(self.x)
        return _multiply(dout, self.y), _multiply(dout, x)


def _add(x: Any, y: Any) -> Any:
    # not by the operator: arrays decide about device and dtype
    return array_namespace(x, y, owner="AddLayer").add(x, y) if is_array(x) or is_array(y) else x + y


def _multiply(x: Any, y: Any) -> Any:
    return array_namespace(x, y, owner="MulLayer").multiply(x, y) if is_array(x) or is_array(y) else x * y
