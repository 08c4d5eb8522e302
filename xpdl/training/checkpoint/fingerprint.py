"""Fingerprint of a run: the settings that must be equal for a checkpoint to resume bitwise identically."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from typing import Any

from xpdl.backends import Backend
from xpdl.backends.namespaces import is_array
from xpdl.io import json_text
from xpdl.layers.base import Layer
from xpdl.models.base import Model
from xpdl.training.callbacks import state as callback_state
from xpdl.training.callbacks.schedules import LearningRateSchedule
from xpdl.training.messages import warn
from xpdl.training.network_state import named_arrays
from xpdl.training.stable_repr import arguments, words

# Names of options in files of earlier versions.
_RENAMED = {"accumulate": "accumulate_grad_batches", "capture": "compile"}
# Options that came later.
_ADDED = ("drop_last", "metrics", "checksum of sample_weight", "frozen layers")


def identity(
    network: Any, optimizer: str, callbacks: list[Any], epochs: int, options: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the fingerprint as plain JSON: it is saved with a run and compared when the run is resumed.

    Parameters
    ----------
    network
    optimizer : str
        As it was asked for: a schedule may have changed its rate since.
    callbacks : list
    epochs : int
    options : mapping
        Name -> value of the options that change the training.
    """
    callbacks = [one for one in callbacks if getattr(one, "changes_training", False)]
    schedules = [one for one in callbacks if isinstance(one, LearningRateSchedule)]
    ours = isinstance(network, Model)
    return {
        "network": type(network).__name__,
        "layers": [type(layer).__name__ for _, layer in network.children()] if ours else [],
        "arrays": {name: list(owner[key].shape) for name, owner, key in named_arrays(network)},
        "dtype": Backend.of(next(filter(is_array, network.params.values()))).dtype,
        "frozen layers": [path for path, layer in _inside(network) if not layer.trainable] if ours else [],
        "loss": _loss_words(network.last_layer) if ours else None,
        "optimizer": optimizer,
        # of other callbacks, those whose state is written must be there again
        "schedules": [type(one).__name__ for one in schedules],
        "callbacks": [type(one).__name__ for one in callbacks],
        "epochs of the schedules": epochs if any(one.spans_training for one in schedules) else None,
        "arguments": dict(_arguments(network, callbacks)),
        **options,
    }


def _loss_words(loss: Any) -> str:
    """A loss as version 0.1.0 wrote it: with its arguments where its class says how."""
    kind: Any = type(loss)
    return f"{kind.__name__}()" if kind.__repr__ is Layer.__repr__ else repr(loss)


def require_same(path: str | os.PathLike[str], text: str, settings: Mapping[str, Any]) -> None:
    """Compare the fingerprint in a file with that of the run that asks.

    What an earlier version of xpdl did not write cannot be compared, which is a warning; nor can arguments that only one of
    two versions knows.

    Raises
    ------
    ValueError
        If they differ, with the list of all that does.
    """
    written, asked = json_text.loads(text), json.loads(json.dumps(dict(settings)))
    written = {_RENAMED.get(name, name): value for name, value in written.items()}
    # of options that there were not, the default is what an earlier version did
    unknown = [name for name in asked if name not in written and (name not in _ADDED or asked[name])]
    differing = [line for name in asked if name in written for line in _differences(name, written[name], asked[name])]
    if differing:
        raise ValueError(
            f"{path}: belongs to another run ({'; '.join(differing)}); give what it began with, or remove it, or name "
            "another file"
        )
    if unknown:
        warn(
            f"{path}: was written by an earlier version of xpdl, which did not keep {', '.join(unknown)}: see to it "
            "yourself that these are as they were"
        )


def _differences(name: str, written: Any, asked: Any) -> Iterator[str]:
    if name == "arguments":
        for key in written.keys() & asked.keys():
            yield from _differences(key, written[key], asked[key])
    elif written != asked:
        yield f"{name} {written} there, {asked} here"


def _arguments(network: Any, callbacks: list[Any]) -> Iterator[tuple[str, str]]:
    """(place and name, value) of the arguments of network, layers and callbacks."""
    config: dict[str, Any] = getattr(network, "config", None) or {}
    own = {**arguments(network), **{name: words(value) for name, value in config.items()}}
    # the seed of initial weights and masks: both are in the file
    own.pop("seed", None)
    yield from ((f"{type(network).__name__}.{name}", value) for name, value in own.items())
    if isinstance(network, Layer):
        for path, layer in _inside(network):
            yield from ((f"{path}.{name}", value) for name, value in arguments(layer).items())
    for path, callback in callback_state.named(callbacks):
        yield from ((f"{path}.{name}", value) for name, value in arguments(callback).items())


def _inside(network: Layer) -> Iterator[tuple[str, Layer]]:
    """(path, layer) of all that is in it, at any depth."""
    for name, layer in network.children():
        yield name, layer
        yield from ((f"{name}.{path}", deeper) for path, deeper in _inside(layer))
