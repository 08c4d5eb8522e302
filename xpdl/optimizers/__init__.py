"""Rules that change parameters by their gradients: the book's (ch. 6.1) and their successors."""

from __future__ import annotations

import difflib
from typing import Any

from xpdl.optimizers.ada_delta import AdaDelta
from xpdl.optimizers.ada_grad import AdaGrad
from xpdl.optimizers.adam import Adam
from xpdl.optimizers.adam_w import AdamW
from xpdl.optimizers.base import Optimizer
from xpdl.optimizers.momentum import Momentum
from xpdl.optimizers.nesterov import Nesterov
from xpdl.optimizers.rmsprop import RMSprop
from xpdl.optimizers.sgd import SGD

# without `get`: these are the names that the package's top level takes over
__all__ = ["SGD", "AdaDelta", "AdaGrad", "Adam", "AdamW", "Momentum", "Nesterov", "Optimizer", "RMSprop"]

_RULES: tuple[type[Optimizer], ...] = (SGD, Momentum, Nesterov, AdaGrad, RMSprop, AdaDelta, Adam, AdamW)


def get(optimizer: Any, **params: Any) -> Optimizer:
    """An optimizer from its name, its class, or itself.

    Parameters
    ----------
    optimizer : str, class, Optimizer or object
        Upper and lower case of a name are alike: ``"adam"``, ``"AdaGrad"``. Or any object with ``update(params, grads)``, or
        its class: as the book's, it changes the arrays of the dict `params` by those of the same names in `grads`.
    **params
        For the constructor. An optimizer that exists already takes none.

    Raises
    ------
    ValueError
        If there is no such name, or a hyper-parameter is out of bounds.
    TypeError
        If a parameter is not one of that optimizer's, or `optimizer` is something else.

    Examples
    --------
    >>> get("sgd", lr=0.1)
    SGD(lr=0.1)
    """
    if isinstance(optimizer, Optimizer):
        if params:
            raise TypeError(f"optimizer: {optimizer!r} exists already and takes no parameters, got {sorted(params)}")
        return optimizer
    if isinstance(optimizer, str):
        by_name = {rule.__name__.lower(): rule for rule in _RULES}
        if optimizer.lower() not in by_name:
            near = difflib.get_close_matches(optimizer.lower(), by_name, n=1)
            nearest = f"the nearest is {by_name[near[0]].__name__}, and " if near else ""
            known = ", ".join(rule.__name__ for rule in _RULES)
            raise ValueError(f"optimizer: there is none called {optimizer!r}; {nearest}there are {known}")
        return by_name[optimizer.lower()](**params)
    if isinstance(optimizer, type) and issubclass(optimizer, Optimizer):
        return optimizer(**params)
    is_dict = isinstance(optimizer, dict) or (isinstance(optimizer, type) and issubclass(optimizer, dict))
    if callable(getattr(optimizer, "update", None)) and not is_dict:
        if params and not isinstance(optimizer, type):
            raise TypeError(f"optimizer: {optimizer!r} exists already and takes no parameters, got {sorted(params)}")
        own: Optimizer = optimizer(**params) if isinstance(optimizer, type) else optimizer
        return own
    raise TypeError(
        f"optimizer: expected its name or class, an Optimizer, or an object with update(params, grads), got {optimizer!r}"
    )
