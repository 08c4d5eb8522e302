"""Adam."""

from __future__ import annotations

import math
from typing import Any, ClassVar, Unpack

from xpdl.backends.dispatch import op
from xpdl.backends.namespaces import Array, array_namespace
from xpdl.optimizers.base import Optimizer, Options
from xpdl.optimizers.hyper_parameter import HyperParameter


@op
def adam_step(
    p: Array, g: Array, m: Array, v: Array, *, lr: float, beta1: float, beta2: float, eps: float
) -> tuple[Array, Array, Array]:
    """New means `m` of gradients and `v` of their squares, and ``p - lr (m / (sqrt(v) + eps))``; as `p`, `m`, `v`.

    `lr` has the bias correction in it.
    """
    m = beta1 * m + (1.0 - beta1) * g
    v = beta2 * v + (1.0 - beta2) * (g * g)
    return p - lr * (m / (array_namespace(p).sqrt(v) + eps)), m, v


@op
def corrected_rate(skipped_steps: Array, updates: int, *, lr: float, beta1: float, beta2: float) -> Array:
    """Compute `lr`, in the dtype of `skipped_steps` (), with the bias correction of update ``updates - skipped_steps``."""
    t = updates - skipped_steps
    xp = array_namespace(t)
    return lr * xp.sqrt(_one_minus_power(beta2, t)) / _one_minus_power(beta1, t)


class Adam(Optimizer):
    """Adam (arXiv:1412.6980, in the form at the end of its section 2; the book's ch. 6.1.6).

    ``m = beta1 m + (1 - beta1) g``, ``v = beta2 v + (1 - beta2) g^2``,
    ``p -= lr sqrt(1 - beta2^t) / (1 - beta1^t) m / (sqrt(v) + eps)`` at update number t, counted from 1.

    Parameters
    ----------
    lr : float
    beta1, beta2 : float
        Shares of the old means that are kept, in [0, 1).
    eps : float
        Outside the root, and beside the uncorrected `v`, as in the book. PyTorch and the paper's algorithm 1 add it to
        the root of the corrected one: their eps is ``eps sqrt(1 - beta2^t)`` in this formula.
    weight_decay, max_norm, clip_norm : optional
        See `xpdl.optimizers.base.Optimizer`.

    Attributes
    ----------
    m, v : dict
        The running means of each parameter's gradients and of their squares, without bias correction.
    iter : int
        The t of the last update. It counts updates of the optimizer, not of single parameters.
    """

    elementwise = True
    rule: ClassVar[Any] = staticmethod(adam_step)
    state_names = ("m", "v")
    beta1 = HyperParameter("in [0, 1)")
    beta2 = HyperParameter("in [0, 1)")
    eps = HyperParameter("positive")
    m: dict[str, Array]
    v: dict[str, Array]

    def __init__(
        self,
        lr: float = 0.001,
        beta1: float = 0.9,
        beta2: float = 0.999,
        *,
        eps: float = 1e-7,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(**options)
        self.lr, self.beta1, self.beta2, self.eps = lr, beta1, beta2, eps

    @property
    def corrected_lr(self) -> float | Array:
        """`lr` with the bias correction of the current update; an array () where a device alone knows its number."""
        if self._skipped_steps is not None:
            return corrected_rate(self._skipped_steps, self.iter, lr=self.lr, beta1=self.beta1, beta2=self.beta2)
        t = max(self.iter, 1)  # before the first update, it is the one to come
        return float(self.lr * math.sqrt(1.0 - self.beta2**t) / (1.0 - self.beta1**t))

    def scalars(self) -> dict[str, Any]:
        return {"lr": self.corrected_lr, "beta1": self.beta1, "beta2": self.beta2, "eps": self.eps}


def _one_minus_power(beta: float, t: Array) -> Array:
    """``1 - beta^t`` without what float32 loses in the difference."""
    xp = array_namespace(t)
    return -xp.expm1(t * math.log(beta)) if beta else xp.ones_like(t)
