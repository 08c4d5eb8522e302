"""Time of one row, in `TwoLayerNet` and in a net written as in the book: ``python scripts/measure_single_row.py``.

The rounds of both alternate, so that other programs on the machine slow both down; each number is the best of its rounds.
"""

from __future__ import annotations

import timeit
from collections.abc import Callable
from typing import Any

import numpy as np

from xpdl import TwoLayerNet

ROUNDS, CALLS = 15, 300


class Relu:
    """The book's."""

    def forward(self, x: Any) -> Any:
        self.mask = x <= 0
        out = x.copy()
        out[self.mask] = 0
        return out

    def backward(self, dout: Any) -> Any:
        dout[self.mask] = 0
        return dout


class Affine:
    """The book's."""

    def __init__(self, W: Any, b: Any) -> None:
        self.W, self.b = W, b

    def forward(self, x: Any) -> Any:
        self.original_x_shape = x.shape
        self.x = x.reshape(x.shape[0], -1)
        return np.dot(self.x, self.W) + self.b

    def backward(self, dout: Any) -> Any:
        dx = np.dot(dout, self.W.T)
        self.dW = np.dot(self.x.T, dout)
        self.db = np.sum(dout, axis=0)
        return dx.reshape(*self.original_x_shape)


class SoftmaxWithLoss:
    """The book's."""

    def forward(self, x: Any, t: Any) -> Any:
        x = x - np.max(x, axis=-1, keepdims=True)
        self.y, self.t = np.exp(x) / np.sum(np.exp(x), axis=-1, keepdims=True), t
        return -np.sum(np.log(self.y[np.arange(len(t)), t] + 1e-7)) / len(t)

    def backward(self) -> Any:
        dx = self.y.copy()
        dx[np.arange(len(self.t)), self.t] -= 1
        return dx / len(self.t)


class BookNet:
    """The book's two-layer net, with the parameters of another; the book draws them in float64."""

    def __init__(self, params: Any, dtype: str) -> None:
        p = {name: np.array(value, dtype) for name, value in params.items()}
        self.layers = {"1": Affine(p["W1"], p["b1"]), "relu": Relu(), "2": Affine(p["W2"], p["b2"])}
        self.last_layer = SoftmaxWithLoss()

    def loss(self, x: Any, t: Any) -> Any:
        for layer in self.layers.values():
            x = layer.forward(x)
        return self.last_layer.forward(x, t)

    def gradient(self, x: Any, t: Any) -> dict[str, Any]:
        self.loss(x, t)
        dout = self.last_layer.backward()
        for layer in reversed(list(self.layers.values())):
            dout = layer.backward(dout)
        affines = {"1": self.layers["1"], "2": self.layers["2"]}
        return {f"{key}{name}": getattr(one, f"d{key}") for name, one in affines.items() for key in ("W", "b")}


def main() -> None:
    """Print the table."""
    rng = np.random.default_rng(0)
    net = TwoLayerNet(784, 50, 10, seed=0)
    books = [BookNet(net.params, dtype) for dtype in ("float64", "float32")]
    print("| rows | call | book, us | book in float32, us | xpdl, us |\n|---|---|---|---|---|")
    for rows in (1, 100):
        x, t = rng.random((rows, 784), dtype="float32"), rng.integers(0, 10, rows)
        for book in books:
            np.testing.assert_allclose(net.gradient(x, t)["W1"], book.gradient(x, t)["W1"], rtol=1e-3, atol=1e-6)
        for call in ("loss", "gradient"):
            functions: list[Callable[..., Any]] = [getattr(one, call) for one in (*books, net)]
            taken = [[timeit.timeit(lambda: f(x, t), number=CALLS) for f in functions] for _ in range(ROUNDS)]  # noqa: B023
            best = [f"{1e6 * min(column) / CALLS:.0f}" for column in zip(*taken, strict=True)]
            print(f"| {rows} | `{call}` | {' | '.join(best)} |")


if __name__ == "__main__":
    main()
