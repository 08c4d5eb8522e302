"""Nesterov's accelerated gradient."""

from __future__ import annotations

from typing import Unpack

from xpdl.backends.dispatch import op
from xpdl.backends.namespaces import Array
from xpdl.optimizers.base import Optimizer, Options
from xpdl.optimizers.hyper_parameter import HyperParameter


@op
def nesterov_step(p: Array, g: Array, v: Array, *, lr: float, momentum: float) -> tuple[Array, Array]:
    """``p + momentum^2 v - (1 + momentum) lr g`` with the old `v`, and ``v = momentum v - lr g``."""
    return p + momentum * momentum * v - ((1.0 + momentum) * lr) * g, momentum * v - lr * g


class Nesterov(Optimizer):
    """Nesterov's accelerated gradient, as arXiv:1212.0901 writes it.

    ``p += momentum^2 v - (1 + momentum) lr g`` with the *old* velocity, then ``v = momentum v - lr g``. The parameters
    seen between steps are the points at which the gradient is to be taken: the position plus ``momentum v``.

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
        The velocity of each parameter.

    Notes
    -----
    An early printing of the book's code updates `v` first and then uses the new one, which is another rule.
    """

    elementwise = True
    rule = staticmethod(nesterov_step)
    state_names = ("v",)
    momentum = HyperParameter("in [0, 1)")
    v: dict[str, Array]

    def __init__(self, lr: float = 0.01, momentum: float = 0.9, **options: Unpack[Options]) -> None:
        super().__init__(**options)
        self.lr, self.momentum = lr, momentum

    def scalars(self) -> dict[str, float]:
        return {"lr": self.lr, "momentum": self.momentum}
