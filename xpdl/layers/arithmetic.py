"""Addition and multiplication as nodes of a computational graph (the book's ch. 5)."""

from __future__ import annotations

from typing import Any


class AddLayer:
    """``x + y`` of numbers or arrays; the gradient passes to both sides unchanged.

    Examples
    --------
    >>> node = AddLayer()
    >>> node.forward(200, 450), node.backward(1.1)
    (650, (1.1, 1.1))
    """

    def forward(self, x: Any, y: Any) -> Any:
        """``x + y``."""
        return x + y

    def backward(self, dout: Any) -> tuple[Any, Any]:
        """``dx, dy``."""
        return dout, dout


class MulLayer:
    """``x * y`` of numbers or arrays; the gradient of each side is `dout` times the other side.

    Examples
    --------
    >>> node = MulLayer()
    >>> node.forward(100, 2), node.backward(1.1)
    (200, (2.2, 110.00000000000001))
    """

    def __init__(self) -> None:
        self.x: Any = None
        self.y: Any = None

    def forward(self, x: Any, y: Any) -> Any:
        """``x * y``."""
        self.x, self.y = x, y
        return x * y

    def backward(self, dout: Any) -> tuple[Any, Any]:
        """``dx, dy``."""
        if self.x is None:
            raise RuntimeError("MulLayer: backward needs a forward first")
        return dout * self.y, dout * self.x
