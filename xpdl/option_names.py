"""Options under the names that other libraries have for them: one error that gives the name, or the place, of this one."""

from __future__ import annotations

import difflib
import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

Function = TypeVar("Function", bound=Callable[..., Any])

_OF_OPTIMIZER = "it belongs to the optimizer: optimizer=xpdl.Adam({}), or optimizer_param={{{!r}: ...}}"
_OF_LOSS = "it belongs to the loss of the network: loss=xpdl.SoftmaxWithLoss({}=...)"
#: name of an option elsewhere -> the cure; what is one word is the name here
OF_TRAINER: Mapping[str, str] = {
    **dict.fromkeys(("lr", "learning_rate", "rate"), _OF_OPTIMIZER.format("lr=0.001", "lr")),
    "momentum": "it belongs to the optimizer: optimizer=xpdl.Momentum(momentum=0.9)",
    **{name: _OF_OPTIMIZER.format(f"{name}=...", name) for name in ("weight_decay", "clip_norm", "max_norm")},
    **dict.fromkeys(("class_weight", "class_weights"), _OF_LOSS.format("class_weights")),
    "label_smoothing": _OF_LOSS.format("label_smoothing"),
    **dict.fromkeys(("loss", "loss_fn", "criterion"), "it belongs to the network: xpdl.Sequential(..., loss=...)"),
    **dict.fromkeys(("batch_size", "batch", "minibatch_size"), "mini_batch_size"),
    **dict.fromkeys(("n_epochs", "num_epochs", "max_epochs", "iterations"), "epochs"),
    **dict.fromkeys(("model", "net"), "network"),
    **dict.fromkeys(("x", "X", "train_data", "train_loader", "dataset", "data"), "x_train"),
    **dict.fromkeys(("y", "t", "y_train", "labels", "targets"), "t_train"),
    **dict.fromkeys(("y_test",), "t_test"),
    **dict.fromkeys(
        ("x_val", "t_val", "y_val", "val_data", "val_loader", "validation"), "it is validation_data=(x_val, t_val)"
    ),
    **dict.fromkeys(("random_state", "random_seed"), "seed"),
    **dict.fromkeys(("scheduler", "lr_scheduler"), "schedules are callbacks: callbacks=[xpdl.CosineLR()]"),
    **dict.fromkeys(("patience", "early_stopping"), "it is a callback: callbacks=[xpdl.EarlyStopping(patience=3)]"),
    "shuffle": "rows are shuffled by seed; batches in their own order are passed as x_train",
    "device": "it is that of the network: net.to(...), or xpdl.use(...) before it is made",
    "dtype": "it is that of the network; precision='float16' computes the passes in half precision",
}
OF_OPTIMIZER: Mapping[str, str] = {
    **dict.fromkeys(("learning_rate", "rate", "alpha", "eta"), "lr"),
    "betas": "they are beta1 and beta2",
    "epsilon": "eps",
    **dict.fromkeys(("clipnorm", "grad_clip", "max_grad_norm", "gradient_clip_norm"), "clip_norm"),
    **dict.fromkeys(("l1", "l2"), "it is set by weight_decay"),
}


def known_options(cures: Mapping[str, str]) -> Callable[[Function], Function]:
    """Let a constructor refuse keyword options that it does not have by an error with the right name.

    Parameters
    ----------
    cures : mapping
        Of common names, see `OF_TRAINER`.

    Raises
    ------
    TypeError
        By the constructor, also where a subclass passes on to it what it does not know.
    """

    def decorate(function: Function) -> Function:
        own = inspect.signature(function).parameters

        @functools.wraps(function)
        def wrapper(self: Any, *args: Any, **options: Any) -> Any:
            for name in options:
                if name not in own:
                    known = {**inspect.signature(type(self)).parameters, **own}
                    raise TypeError(f"{type(self).__name__}: there is no option {name!r}; {_cure(name, known, cures)}")
            return function(self, *args, **options)

        return wrapper  # type: ignore[return-value]

    return decorate


def _cure(name: str, known: Mapping[str, inspect.Parameter], cures: Mapping[str, str]) -> str:
    if name in cures:
        return cures[name] if " " in cures[name] else f"it is called {cures[name]}"
    names = [one for one, parameter in known.items() if one != "self" and parameter.kind is not parameter.VAR_KEYWORD]
    near = difflib.get_close_matches(name, names, n=1)
    return f"the nearest is {near[0]}" if near else f"there are {', '.join(names)}"
