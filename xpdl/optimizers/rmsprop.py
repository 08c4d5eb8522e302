"""RMSprop."""

from __future__ import annotations

from typing import Unpack

from xpdl.backends.dispatch import op
from xpdl.backends.namespaces import Array, array_namespace
from xpdl.optimizers.base import Optimizer, Options
from xpdl.optimizers.hyper_parameter import HyperParameter


@op
def rmsprop_step(p: Array, g: Array, h: Array, *, lr: float, decay_rate: float, eps: float) -> tuple[Array, Array]:
    """``h = decay_rate h + (1 - decay_rate) g^2``, then ``p - lr (g / (sqrt(h) + eps))``."""
    h = decay_rate * h + (1.0 - decay_rate) * (g * g)
    return p - lr * (g / (array_namespace(p).sqrt(h) + eps)), h


class RMSprop(Optimizer):
    """RMSprop: AdaGrad with a running mean of squares (T. Tieleman and G. Hinton, Coursera lecture 6.5, 2012).

    ``h = decay_rate h + (1 - decay_rate) g^2``, ``p -= lr g / (sqrt(h) + eps)``.

    Parameters
    ----------
    lr : float
    decay_rate : float
        Share of the old mean that is kept, in [0, 1).
    eps : float
        Outside the root.
    weight_decay, max_norm, clip_norm : optional
        See `xpdl.optimizers.base.Optimizer`.

    Attributes
    ----------
    h : dict
        The running mean of squared gradients of each parameter.
    """

    elementwise = True
    rule = staticmethod(rmsprop_step)
    state_names = ("h",)
    decay_rate = HyperParameter("in [0, 1)")
    eps = HyperParameter("positive")
    h: dict[str, Array]

    def __init__(
        self, lr: float = 0.01, decay_rate: float = 0.99, *, eps: float = 1e-7, **options: Unpack[Options]
    ) -> None:
        super().__init__(**options)
        self.lr, self.decay_rate, self.eps = lr, decay_rate, eps

    def scalars(self) -> dict[str, float]:
        return {"lr": self.lr, "decay_rate": self.decay_rate, "eps": self.eps}
