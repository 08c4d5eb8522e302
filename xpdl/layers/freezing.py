"""Frozen layers: their parameters stay as they are, and the backward pass goes no further than it must."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, ClassVar

from xpdl.ops.checks import flag


class Freezable:
    """The attribute ``trainable`` of a layer."""

    name: str
    children: Callable[[], Iterator[tuple[str, Any]]]
    tree: Callable[[], Iterator[Any]]
    own: Callable[[str], dict[str, Any]]
    is_leaf: ClassVar[bool]
    _frozen = False

    @property
    def trainable(self) -> bool:
        """True if the layer, or one inside, may be trained; assigning a bool sets it for all of them.

        False freezes the layer: it has no gradients, optimizers leave its parameters alone, and where nothing before it is
        trained, a backward pass ends behind it. `BatchNormalization` then normalises by its running statistics in training,
        too, and keeps them. State dicts and files hold what is frozen as well, but not that it is.
        """
        inside = [layer.trainable for _, layer in self.children()]
        return any(inside) if inside else not self._frozen

    @trainable.setter
    def trainable(self, value: bool) -> None:
        self._frozen = not flag(value, "trainable", self.name)
        for _, layer in self.children():
            layer.trainable = value

    @property
    def trains(self) -> bool:
        """True if a backward pass has a gradient of parameters to compute here."""
        if self.is_leaf:
            return bool(self.own("params")) and not self._frozen
        for layer in self.tree():  # noqa: SIM110 - a generator takes twice as long, in every step
            if layer.own("params") and not layer._frozen:
                return True
        return False


def in_training(layer: Any, train_flg: bool | None) -> bool:
    """Return whether a pass takes statistics from the batch: in training, unless the layer is frozen."""
    return bool(layer.trainable and (layer.training if train_flg is None else train_flg))
