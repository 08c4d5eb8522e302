"""Attributes under the names that other libraries have for them: one error that says how it is done here.

An assignment to an attribute that means nothing here would be silent. Classes of others may have attributes of these names.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

FREEZE = "layer.trainable = False freezes a layer or a model, and True trains it again"
_TRAINED = "xpdl.Trainer(net, x, t, epochs=10).train() trains a network"
_MOVE = "net.to(...) moves a network, and xpdl.use(...) chooses where new ones are made"

#: read from layers and models, which have no such method or attribute
OF_LAYER: Mapping[str, str] = {
    **dict.fromkeys(("requires_grad_", "freeze", "unfreeze"), FREEZE),
    **dict.fromkeys(("fit", "compile"), _TRAINED),
    **dict.fromkeys(("cuda", "cpu", "device"), _MOVE),
    **dict.fromkeys(
        ("parameters", "named_parameters", "trainable_variables", "weights"), "arrays by name are in params"
    ),
    **dict.fromkeys(("get_weights", "set_weights"), "state_dict() gives copies, and load_state_dict(...) sets them"),
    "zero_grad": "each backward pass makes gradients anew; leave it out",
    **dict.fromkeys(("weight", "kernel"), "the weights of most layers are W, and all arrays by name are in params"),
    "bias": "the bias is b, and all arrays by name are in params",
    "evaluate": "accuracy(x, t) and loss(x, t) measure a network",
    "add": "layers are passed to the constructor: xpdl.Sequential(layer, layer, loss=...)",
}


class Misnomer:
    """A name that an attribute has elsewhere: to read or assign it is an error, but in classes that are not of xpdl."""

    def __init__(self, cure: str) -> None:
        self.cure, self.name = cure, ""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        if instance is None:
            return self
        if self.name in vars(instance):
            return vars(instance)[self.name]
        raise missing(instance, self.name, self.cure)

    def __set__(self, instance: Any, value: Any) -> None:
        if type(instance).__module__.startswith("xpdl."):
            raise missing(instance, self.name, self.cure)
        vars(instance)[self.name] = value

    def __delete__(self, instance: Any) -> None:
        vars(instance).pop(self.name, None)


def missing(instance: Any, name: str, cure: str) -> AttributeError:
    """Return the error for an attribute that an object of xpdl does not have."""
    return AttributeError(f"{type(instance).__name__}: there is no attribute {name!r}; {cure}", name=name, obj=instance)
