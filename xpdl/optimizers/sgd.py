"""Stochastic gradient descent."""

from __future__ import annotations

from typing import Unpack

from xpdl.backends.dispatch import op
from xpdl.backends.namespaces import Array
from xpdl.optimizers.base import Optimizer, Options


@op
def sgd_step(p: Array, g: Array, *, lr: float) -> tuple[Array]:
    """``p - lr g``."""
    return (p - lr * g,)


class SGD(Optimizer):
    """Stochastic gradient descent, ``p -= lr g`` (the book's ch. 6.1.2).

    Parameters
    ----------
    lr : float
    weight_decay, max_norm, clip_norm : optional
        See `xpdl.optimizers.base.Optimizer`.

    Examples
    --------
    >>> params = {"W": np.array([1.0, 2.0])}
    >>> SGD(lr=0.1).update(params, {"W": np.array([1.0, -1.0])})
    >>> params["W"]
    array([0.9, 2.1])
    """

    def __init__(self, lr: float = 0.01, **options: Unpack[Options]) -> None:
        super().__init__(**options)
        self.lr = lr

    elementwise = True
    rule = staticmethod(sgd_step)

    def scalars(self) -> dict[str, float]:
        return {"lr": self.lr}
