"""AdaDelta."""

from __future__ import annotations

from typing import Unpack

from xpdl.backends.dispatch import op
from xpdl.backends.namespaces import Array, array_namespace
from xpdl.optimizers.base import Optimizer, Options
from xpdl.optimizers.hyper_parameter import HyperParameter


@op
def ada_delta_step(
    p: Array, g: Array, h: Array, s: Array, *, lr: float, rho: float, eps: float
) -> tuple[Array, Array, Array]:
    """One step with `h` and `s`, the running means of the squares of gradients and of steps; the new `p`, `h`, `s`."""
    xp = array_namespace(p)
    h = rho * h + (1.0 - rho) * (g * g)
    d = xp.sqrt(s + eps) / xp.sqrt(h + eps) * g
    return p - lr * d, h, rho * s + (1.0 - rho) * (d * d)


class AdaDelta(Optimizer):
    """AdaDelta, which scales each step by the steps before it (arXiv:1212.5701, algorithm 1).

    ``h = rho h + (1 - rho) g^2``, ``d = sqrt(s + eps) / sqrt(h + eps) g``, ``s = rho s + (1 - rho) d^2``,
    ``p -= lr d``.

    Parameters
    ----------
    lr : float
        The paper has none; 1.0 is its rule.
    rho : float
        Share of the old means that is kept, in [0, 1).
    eps : float
        Inside the roots, as in the paper.
    weight_decay, max_norm, clip_norm : optional
        See `xpdl.optimizers.base.Optimizer`.

    Attributes
    ----------
    h, s : dict
        The running means of the squares of gradients, and of steps before `lr`.
    """

    elementwise = True
    rule = staticmethod(ada_delta_step)
    state_names = ("h", "s")
    rho = HyperParameter("in [0, 1)")
    eps = HyperParameter("positive")
    h: dict[str, Array]
    s: dict[str, Array]

    def __init__(self, lr: float = 1.0, rho: float = 0.95, eps: float = 1e-6, **options: Unpack[Options]) -> None:
        super().__init__(**options)
        self.lr, self.rho, self.eps = lr, rho, eps

    def scalars(self) -> dict[str, float]:
        return {"lr": self.lr, "rho": self.rho, "eps": self.eps}
