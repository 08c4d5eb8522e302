"""Gradient descent with momentum."""

from __future__ import annotations

from typing import Unpack

from xpdl.backends.dispatch import op
from xpdl.backends.namespaces import Array
from xpdl.optimizers.base import Optimizer, Options
from xpdl.optimizers.hyper_parameter import HyperParameter


@op
def momentum_step(p: Array, g: Array, v: Array, *, lr: float, momentum: float) -> tuple[Array, Array]:
    """``v = momentum v - lr g``, then ``p + v``."""
    v = momentum * v - lr * g
    return p + v, v


class Momentum(Optimizer):
    """Gradient descent with momentum: ``v = momentum v - lr g``, ``p += v`` (the book's ch. 6.1.4).

    Parameters
    ----------
    lr : float
    momentum : float
        Share of the velocity that is kept, in [0, 1).
    weight_decay, max_norm, clip_norm : optional
        See `xpdl.optimizers.base.Optimizer`.

    Attributes
    ----------
    v : dict
        The velocity of each parameter. It holds `lr` already: unlike in PyTorch, a change of `lr` does not rescale it.
    """

    elementwise = True
    rule = staticmethod(momentum_step)
    state_names = ("v",)
    momentum = HyperParameter("in [0, 1)")
    v: dict[str, Array]

    def __init__(self, lr: float = 0.01, momentum: float = 0.9, **options: Unpack[Options]) -> None:
        super().__init__(**options)
        self.lr, self.momentum = lr, momentum

    def scalars(self) -> dict[str, float]:
        return {"lr": self.lr, "momentum": self.momentum}
