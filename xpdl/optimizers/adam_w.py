"""AdamW."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from xpdl.backends.dispatch import op
from xpdl.backends.namespaces import Array
from xpdl.optimizers.adam import Adam, adam_step
from xpdl.optimizers.groups import Decay, checked_decay
from xpdl.optimizers.hyper_parameter import HyperParameter
from xpdl.option_names import OF_OPTIMIZER, known_options


@op
def adam_w_step(
    p: Array, g: Array, m: Array, v: Array, *, keep: float, lr: float, beta1: float, beta2: float, eps: float
) -> tuple[Array, Array, Array]:
    """`adam_step` from ``keep p``."""
    return adam_step(keep * p, g, m, v, lr=lr, beta1=beta1, beta2=beta2, eps=eps)


class AdamW(Adam):
    """Adam with weight decay beside the gradient, not in it (arXiv:1711.05101).

    ``p -= lr weight_decay p``, then Adam's step with the gradient as it came: PyTorch's order. As there, the decay is
    multiplied by `lr`; the paper has another factor for its schedule.

    Parameters
    ----------
    lr, beta1, beta2, eps : float
        As in `Adam`.
    weight_decay : float
        A number, unlike the other optimizers' dict. It decays every parameter, biases too, unless `decay` says otherwise.
    decay, lr_groups, max_norm, clip_norm : optional
        See `xpdl.optimizers.base.Optimizer`.

    Attributes
    ----------
    m, v, iter
        As in `Adam`.
    """

    weight_decay = HyperParameter("at least 0")
    decay_names = ("l1", "l2", "weight_decay")

    @known_options(OF_OPTIMIZER)
    def __init__(
        self,
        lr: float = 0.001,
        beta1: float = 0.9,
        beta2: float = 0.999,
        weight_decay: float = 0.01,
        *,
        eps: float = 1e-7,
        decay: Decay | None = None,
        lr_groups: Mapping[str, float] | None = None,
        max_norm: float | None = None,
        clip_norm: float | None = None,
    ) -> None:
        super().__init__(lr, beta1, beta2, eps=eps, lr_groups=lr_groups, max_norm=max_norm, clip_norm=clip_norm)
        self.decay = checked_decay(decay, weight_decay, type(self).__name__)
        self.weight_decay = weight_decay

    elementwise = True
    rule = staticmethod(adam_w_step)

    def scalars(self) -> dict[str, Any]:
        return {"keep": 1.0 - self.lr * self.weight_decay, **super().scalars()}
