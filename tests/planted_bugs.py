"""Layers whose forward is right and whose backward is not, to test the gradient check with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tests.pairs import distinct, sample
from xpdl.layers import Affine, BatchNormalization, Convolution, Relu, Softmax, SoftmaxWithLoss, Tanh

_RNG = np.random.default_rng(0)
ROWS = sample(_RNG, 5, 4)
IMAGES = distinct(_RNG, 2, 3, 4, 4)
LABELS = np.array([0, 2, 1, 3, 3])


class ZeroSoftmax(Softmax):
    """With an upstream gradient of ones this is even right: the outputs sum to 1."""

    def backward(self, dout: Any) -> Any:
        return super().backward(dout) * 0.0


class SoftmaxWithoutItsSum(Softmax):
    def backward(self, dout: Any) -> Any:
        return self.out * dout


class ZeroBatchNormalization(BatchNormalization):
    """With an upstream gradient of ones this is right, too: a shift of all rows cancels."""

    def backward(self, dout: Any) -> Any:
        return super().backward(dout) * 0.0


class BatchNormalizationOfConstants(BatchNormalization):
    """Takes the batch's mean and variance for numbers that do not depend on the input."""

    def backward(self, dout: Any) -> Any:
        super().backward(dout)
        return dout * self.gamma * self.saved[2]


class WrongSign(Tanh):
    def backward(self, dout: Any) -> Any:
        return -super().backward(dout)


class WrongScale(Tanh):
    def backward(self, dout: Any) -> Any:
        return super().backward(dout) * 1.001


class ReluOfTheGradient(Relu):
    """Masks by the sign of `dout` instead of the input."""

    def backward(self, dout: Any) -> Any:
        return np.maximum(dout, 0.0)


class MissingRow(Affine):
    """Forgets the last row's part of dW."""

    def backward(self, dout: Any) -> Any:
        dx = super().backward(dout)
        self.grads["W"] = self.x[:-1].T @ dout[:-1]
        return dx


class WrongBias(Affine):
    def backward(self, dout: Any) -> Any:
        dx = super().backward(dout)
        self.grads["b"] = dout.mean(axis=0)
        return dx


class TransposedGradient(Affine):
    def backward(self, dout: Any) -> Any:
        dx = super().backward(dout)
        self.grads["W"] = self.grads["W"].T
        return dx


class StaleInput(Affine):
    """Keeps the input of the first forward for ever, and computes dW from that."""

    first: Any = None

    def forward(self, x: Any) -> Any:
        self.first = np.zeros_like(x) if self.first is None else self.first
        return super().forward(x)

    def backward(self, dout: Any) -> Any:
        dx = super().backward(dout)
        self.grads["W"] = self.first.T @ dout
        return dx


class NotANumber(Tanh):
    def backward(self, dout: Any) -> Any:
        return super().backward(dout) * np.nan


class FirstWindowOnly(Convolution):
    """Counts only the first image in dW."""

    def backward(self, dout: Any) -> Any:
        dx = super().backward(dout)
        only = Convolution(self.W, self.b, self.stride, self.pad)
        only.forward(IMAGES[:1])
        only.backward(dout[:1])
        self.grads["W"] = only.dW
        return dx


class ForgetsTheBatch(SoftmaxWithLoss):
    """Does not divide by the number of rows."""

    def backward(self, dout: Any = 1.0) -> Any:
        return super().backward(dout) * len(ROWS)


# class -> (how to make one, x, t, which gradient is wrong)
BUGS: dict[type, tuple[Callable[[], Any], Any, Any, str]] = {
    ZeroSoftmax: (ZeroSoftmax, ROWS, None, "x"),
    SoftmaxWithoutItsSum: (SoftmaxWithoutItsSum, ROWS, None, "x"),
    ZeroBatchNormalization: (ZeroBatchNormalization, ROWS, None, "x"),
    BatchNormalizationOfConstants: (BatchNormalizationOfConstants, ROWS, None, "x"),
    WrongSign: (WrongSign, ROWS, None, "x"),
    WrongScale: (WrongScale, ROWS, None, "x"),
    ReluOfTheGradient: (ReluOfTheGradient, ROWS, None, "x"),
    MissingRow: (lambda: MissingRow(units=3), ROWS, None, "W"),
    WrongBias: (lambda: WrongBias(units=3), ROWS, None, "b"),
    TransposedGradient: (lambda: TransposedGradient(units=3), ROWS, None, "W"),
    StaleInput: (lambda: StaleInput(units=3), ROWS, None, "W"),
    NotANumber: (NotANumber, ROWS, None, "x"),
    FirstWindowOnly: (lambda: FirstWindowOnly(filters=2, size=2), IMAGES, None, "W"),
    ForgetsTheBatch: (ForgetsTheBatch, ROWS, LABELS, "x"),
}
