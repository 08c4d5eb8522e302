"""HyperParameter-parameters: numbers that are checked when they are set, at construction or by a schedule later."""

from __future__ import annotations

from typing import Any

from xpdl.ops.checks import number


class HyperParameter:
    """An attribute that is a plain float, checked whenever it is assigned.

    NumPy's own floats become Python's here: one of them in a formula would turn float32 arrays into float64.
    """

    def __init__(self, bounds: str, *, optional: bool = False) -> None:
        self.bounds = bounds
        self.optional = optional

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, instance: Any, owner: type) -> Any:
        if instance is None:
            return self
        try:
            return instance.__dict__[self.name]
        except KeyError:
            raise AttributeError(
                f"{type(instance).__name__}: has no {self.name}; set self.{self.name} in __init__, after "
                "super().__init__(**options)"
            ) from None

    def __set__(self, instance: Any, value: Any) -> None:
        instance.__dict__[self.name] = self.checked(value, type(instance).__name__)

    def checked(self, value: Any, owner: str) -> float | None:
        """`value` as a float; `ValueError` when it is no number or out of bounds."""
        if value is None and self.optional:
            return None
        return number(value, self.name, owner, self.bounds, optional=self.optional)


def set_hyper_parameters(instance: Any) -> dict[str, HyperParameter]:
    """Return the `hyper_parameters` that an instance has; a rule of one's own may do without a learning rate."""
    return {name: hyper for name, hyper in hyper_parameters(type(instance)).items() if name in vars(instance)}


def hyper_parameters(cls: type) -> dict[str, HyperParameter]:
    """Name -> hyper-parameter of a class and its bases, those of the bases first."""
    return {
        name: value
        for base in reversed(cls.__mro__)
        for name, value in vars(base).items()
        if isinstance(value, HyperParameter)
    }
