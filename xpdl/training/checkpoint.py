"""A training run in a file, complete enough to go on with the same bits."""

from __future__ import annotations

import dataclasses
import json
import os
import re
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from xpdl import storage
from xpdl.backends import Backend, asnumpy
from xpdl.backends.namespaces import Array, is_array
from xpdl.models.sequential import Sequential
from xpdl.training import callback_state
from xpdl.training.history import History
from xpdl.training.schedules import LearningRateSchedule

if TYPE_CHECKING:
    from xpdl.training.trainer import Trainer


def save(trainer: Trainer, path: str | os.PathLike[str], before_replacing: Callable[[], None] | None = None) -> None:
    """Write all that a run needs to go on, between two steps, atomically; see `xpdl.storage.write_atomically`.

    What is drawn at random is a function of the seed, the step and the counters that dropout keeps, which are written.
    """
    arrays = {f"network.{name}": asnumpy(owner[key]) for name, owner, key in _slots(trainer) if is_array(owner[key])}
    optimizer: dict[str, Any] = {}
    for name, value in trainer.optimizer.state_dict().items():
        if isinstance(value, dict):
            arrays.update({f"optimizer.{name}.{key}": asnumpy(array) for key, array in value.items()})
        else:
            optimizer[name] = value
    for name, values in dataclasses.asdict(trainer.history).items():
        arrays[f"history.{name}"] = np.asarray(values, dtype=np.float64)
    callbacks, remembered = callback_state.to_file(trainer.callbacks.callbacks, _backend(trainer))
    arrays.update(remembered)
    metadata = {
        "kind": "checkpoint",
        "architecture": json.dumps(_architecture(trainer)),
        "run": json.dumps(_run(trainer)),
        "position": json.dumps(_position(trainer)),
        "optimizer": json.dumps(optimizer),
        "callbacks": callbacks,
        "counters": json.dumps({name: owner[key] for name, owner, key in _slots(trainer) if not is_array(owner[key])}),
    }
    storage.write_tensors(path, arrays, metadata, before_replacing)


def load(trainer: Trainer, path: str | os.PathLike[str]) -> None:
    """Bring `trainer` into the state that `save` wrote.

    Raises
    ------
    OSError
        If the file cannot be read.
    ValueError
        If it is damaged, is no checkpoint, or is one of another run; the trainer is then as it was.
    """
    arrays, metadata = storage.load_arrays(path)
    if metadata.get("kind") != "checkpoint":
        raise ValueError(f"{path}: is not a checkpoint of a training run")
    written, asked = json.loads(metadata["run"]), json.loads(json.dumps(_run(trainer)))
    differing = [
        f"{name} {written.get(name)} there, {asked[name]} here" for name in asked if asked[name] != written.get(name)
    ]
    if differing:
        raise ValueError(f"{path}: belongs to another run ({'; '.join(differing)}); remove it or name another file")
    backend = _backend(trainer)
    try:
        counters, state = json.loads(metadata["counters"]), json.loads(metadata["optimizer"])
        position = json.loads(metadata["position"])
        epoch, step, spent = int(position["epoch"]), int(position["step"]), float(position["seconds"])
        stopped = bool(position["stopped"])
        history = History(**{name: array.tolist() for name, array in _under(arrays, "history.")})
        values = [
            backend.asarray(arrays[f"network.{name}"]) if is_array(owner[key]) else counters[name]
            for name, owner, key in _slots(trainer)
        ]
        callbacks = callback_state.from_file(metadata["callbacks"], arrays, trainer.callbacks.callbacks, backend)
        for kind in trainer.optimizer.memory:
            state[kind] = {name: backend.asarray(array) for name, array in _under(arrays, f"optimizer.{kind}.")}
        trainer.optimizer.load_state_dict(state)
    except (KeyError, TypeError) as error:
        raise storage.DamagedFileError(f"{path}: is not a whole checkpoint ({error!r})") from error
    for (_, owner, key), value in zip(_slots(trainer), values, strict=True):
        owner[key] = value
    trainer.history, trainer.current_epoch, trainer.current_iter = history, epoch, step
    trainer.seconds_in_epoch, trainer.stop_training = spent, stopped
    for callback, remembered in callbacks:
        callback.load_state_dict(remembered)


def _position(trainer: Trainer) -> dict[str, Any]:
    """How far a run is: whole epochs, steps, of which some may be of the next epoch, and the time that these took."""
    return {
        "epoch": trainer.current_epoch,
        "step": trainer.current_iter,
        "seconds": trainer.seconds_in_epoch,
        "stopped": trainer.stop_training,
    }


def _run(trainer: Trainer) -> dict[str, Any]:
    """What makes it the same run: with another of these, it would not go on as it began."""
    network = trainer.network
    return {
        "network": type(network).__name__,
        "layers": [type(layer).__name__ for layer in network.layers.values()]
        if isinstance(network, Sequential)
        else [],
        "arrays": {name: list(owner[key].shape) for name, owner, key in _slots(trainer) if is_array(owner[key])},
        "dtype": _backend(trainer).dtype,
        "loss": repr(network.last_layer) if isinstance(network, Sequential) else None,
        # as it was asked for: a schedule may have changed its rate since
        "optimizer": trainer.optimizer_at_start,
        # of other callbacks, those whose state is written must be there again
        "schedules": [
            type(callback).__name__
            for callback in trainer.callbacks.callbacks
            if isinstance(callback, LearningRateSchedule)
        ],
        # without the addresses of functions, which are others in each process
        "augment": re.sub(" at 0x[0-9a-fA-F]+", "", repr(trainer.augment)),
        # without those for validation: another share of them is another number of these
        "rows": int(trainer.x_train.shape[0]),
        "batch size": trainer.batch_size,
        "accumulate": trainer.accumulate,
        "seed": trainer.seed,
    }


def _architecture(trainer: Trainer) -> dict[str, Any]:
    """What the network is like, for whoever finds the file."""
    network = trainer.network
    found: dict[str, Any] = {"model": type(network).__name__}
    if isinstance(network, Sequential):
        found.update(input_shape=network.input_shape, config=network.config, loss=type(network.last_layer).__name__)
        found["layers"] = {name: repr(layer) for name, layer in network.layers.items()}
    return found


def _backend(trainer: Trainer) -> Backend:
    return Backend.of(next(filter(is_array, trainer.network.params.values())))


def _slots(trainer: Trainer) -> Iterator[tuple[str, Any, str]]:
    """(name, dict, key) of everything the network changes in training; of other libraries' networks, the parameters."""
    network = trainer.network
    if hasattr(network, "slots"):
        yield from network.slots("params")
        yield from network.slots("state")
    else:
        yield from ((name, network.params, name) for name in network.params)


def _under(arrays: dict[str, Any], prefix: str) -> Iterator[tuple[str, Array]]:
    return ((name.removeprefix(prefix), array) for name, array in arrays.items() if name.startswith(prefix))
