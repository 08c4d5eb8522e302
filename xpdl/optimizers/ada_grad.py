"""AdaGrad."""

from __future__ import annotations

from typing import Unpack

from xpdl.backends.dispatch import op
from xpdl.backends.namespaces import Array, array_namespace
from xpdl.optimizers.base import Optimizer, Options
from xpdl.optimizers.hyper_parameter import HyperParameter


@op
def ada_grad_step(p: Array, g: Array, h: Array, *, lr: float, eps: float) -> tuple[Array, Array]:
    """``h = h + g^2``, then ``p - lr (g / (sqrt(h) + eps))``."""
    h = h + g * g
    return p - lr * (g / (array_namespace(p).sqrt(h) + eps)), h


class AdaGrad(Optimizer):
    """AdaGrad: ``h += g^2``, ``p -= lr g / (sqrt(h) + eps)`` (Duchi et al., JMLR 12, 2011; the book's ch. 6.1.5).

    Parameters
    ----------
    lr : float
    eps : float
        Outside the root, as in the book; the paper has it inside.
    weight_decay, max_norm, clip_norm : optional
        See `xpdl.optimizers.base.Optimizer`.

    Attributes
    ----------
    h : dict
        The sum of squared gradients of each parameter.
    """

    elementwise = True
    rule = staticmethod(ada_grad_step)
    state_names = ("h",)
    eps = HyperParameter("positive")
    h: dict[str, Array]

    def __init__(self, lr: float = 0.01, *, eps: float = 1e-7, **options: Unpack[Options]) -> None:
        super().__init__(**options)
        self.lr, self.eps = lr, eps

    def scalars(self) -> dict[str, float]:
        return {"lr": self.lr, "eps": self.eps}
