"""Names of members of `Optimizer`: deprecated ones work for one minor release, those of other libraries are errors."""

from __future__ import annotations

from typing import Any, ClassVar

from xpdl.attribute_names import Misnomer
from xpdl.deprecation import warn_renamed

_RENAMED = {"memory": "state_names", "numbers": "scalars"}


class OldNames:
    """``memory`` and ``numbers``, now `state_names` and `scalars`: in subclasses, and on instances."""

    state_names: ClassVar[tuple[str, ...]]
    learning_rate = Misnomer("the learning rate is lr")
    clipnorm, grad_clip, max_grad_norm = (
        Misnomer("the limit of the norm of all gradients is clip_norm") for _ in range(3)
    )
    epsilon, betas = Misnomer("it is called eps"), Misnomer("they are beta1 and beta2")
    param_groups = Misnomer("the learning rate is lr, and lr_groups={'Affine1.*': 0.1} scales that of some parameters")

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        for old in _RENAMED.keys() & vars(cls).keys():
            warn_renamed(f"{cls.__name__}.{old}", _RENAMED[old], stacklevel=3)
            setattr(cls, _RENAMED[old], vars(cls)[old])

    @property
    def memory(self) -> tuple[str, ...]:
        """Return `state_names`."""
        warn_renamed(f"{type(self).__name__}.memory", "state_names")
        return self.state_names

    def numbers(self) -> dict[str, Any]:
        """Return `scalars`; in ``super().scalars()``, those of the next class that defines them by that name."""
        warn_renamed(f"{type(self).__name__}.numbers", "scalars")
        defined = (vars(cls) for cls in type(self).__mro__ if "scalars" in vars(cls))
        scalars: dict[str, Any] = next(own["scalars"] for own in defined if own.get("numbers") is not own["scalars"])(
            self
        )
        return scalars
