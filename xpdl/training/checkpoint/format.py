"""Checkpoints: a training run in a file, resumed bitwise identically."""

from __future__ import annotations

import copy
import json
import math
import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from xpdl.backends import Backend, asnumpy
from xpdl.backends.namespaces import Array, is_array
from xpdl.io import json_text, tensors
from xpdl.models.base import Model
from xpdl.optimizers import Optimizer
from xpdl.training import own_optimizer, ownership
from xpdl.training.callbacks import state as callback_state
from xpdl.training.checkpoint.fingerprint import require_same
from xpdl.training.history import History
from xpdl.training.network_state import named_arrays, named_state, recurrent_states, restore_states
from xpdl.training.run_state import Run, RunState
from xpdl.training.weighted_mean import WeightedMean


def save(
    run: Run,
    state: RunState,
    path: str | os.PathLike[str],
    before_replacing: Callable[[], None] | None = None,
    notes: Mapping[str, Any] | None = None,
) -> None:
    """Write all that a run needs to go on, between two steps, atomically; see `xpdl.io.atomic.write_atomically`.

    `notes` are plain values of the caller.
    """
    tensors.write_tensors(path, *snapshot(run, state, notes), before_replacing)


def snapshot(
    run: Run, state: RunState, notes: Mapping[str, Any] | None = None
) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the arrays, on the host, and the metadata that a run needs to go on, between two steps.

    Random draws are functions of the seed, the step and what dropout keeps in its state, which are there.
    """
    arrays = {f"network.{name}": asnumpy(owner[key]) for name, owner, key in named_arrays(run.network)}
    arrays |= {f"recurrent.{name}": asnumpy(value) for name, value in recurrent_states(run.network).items()}
    optimizer: dict[str, Any] = {}
    ours = isinstance(run.optimizer, Optimizer)
    for name, value in run.optimizer.state_dict().items() if ours else ():
        if isinstance(value, dict):
            arrays.update({f"optimizer.{name}.{key}": asnumpy(array) for key, array in value.items()})
        else:
            optimizer[name] = value
    for name, values in state.history.lists().items():
        arrays[f"history.{name}"] = np.asarray(values, dtype=np.float64)
    stateful = [*run.callbacks, *own_optimizer.stateful(run.optimizer)]
    callbacks, callback_arrays = callback_state.to_file(stateful, _backend(run.network))
    arrays.update(callback_arrays)
    metadata = {
        "kind": "checkpoint",
        "architecture": json.dumps(_architecture(run.network)),
        "run": json.dumps(run.fingerprint()),
        "position": json.dumps(_position(state)),
        "optimizer": json.dumps(optimizer),
        "callbacks": callbacks,
        "notes": json.dumps(dict(notes or {})),
        "precision": json.dumps(None if run.precision is None else run.precision.loss_scale.state_dict()),
        "counters": json.dumps(
            {name: owner[key] for name, owner, key in named_state(run.network) if not is_array(owner[key])}
        ),
    }
    return arrays, metadata


def load(run: Run, state: RunState, path: str | os.PathLike[str]) -> None:
    """Bring the objects of `run`, and `state`, to what `save` wrote.

    Raises
    ------
    OSError
        If the file cannot be read.
    ValueError
        If it is damaged, is no checkpoint, or is one of another run; everything is then as it was.
    """
    arrays, metadata = tensors.load_arrays(path)
    if metadata.get("kind") != "checkpoint":
        raise ValueError(f"{path}: is not a checkpoint of a training run")
    restore(run, state, path, arrays, metadata)


def restore(
    run: Run, state: RunState, path: str | os.PathLike[str], arrays: dict[str, Any], metadata: dict[str, str]
) -> None:
    """Bring the objects of `run`, and `state`, to a `snapshot`, which came from `path`; raises as `load`."""
    backend = _backend(run.network)
    try:
        require_same(path, metadata["run"], run.fingerprint())
        counters, optimizer = json_text.loads(metadata["counters"]), json_text.loads(metadata["optimizer"])
        # earlier versions did not write it
        counters = {
            **{name: owner[key] for name, owner, key in named_state(run.network) if key in ("stream", "rows")},
            **counters,
        }
        position = json_text.loads(metadata["position"])
        epoch, step, spent = int(position["epoch"]), int(position["step"]), float(position["seconds"])
        # earlier versions did not write it
        first_step = int(position.get("first_step", epoch * (run.steps_per_epoch or 0)))
        stopped, ranks = bool(position["stopped"]), int(position.get("ranks", 1))
        history = History.from_lists({name: array.tolist() for name, array in _under(arrays, "history.")})
        mean_loss = _mean_loss(run, history, position)
        values = [
            (
                owner,
                key,
                _alike(backend, arrays[f"network.{name}"], owner[key]) if is_array(owner[key]) else counters[name],
            )
            for name, owner, key in named_state(run.network)
        ]
        scaling = json_text.loads(metadata.get("precision", "null"))
        stateful = [*run.callbacks, *own_optimizer.stateful(run.optimizer)]
        callbacks = callback_state.from_file(metadata["callbacks"], arrays, stateful, backend, str(path))
        before: list[tuple[Any, Any]] = []
        if isinstance(run.optimizer, Optimizer):
            before = [(run.optimizer, run.optimizer.state_dict())]
            for kind in run.optimizer.state_names:
                # in their own dtype, which is wider than that of a network in half precision
                optimizer[kind] = {
                    name: backend.asarray(a, a.dtype.name) for name, a in _under(arrays, f"optimizer.{kind}.")
                }
            run.optimizer.load_state_dict(optimizer)
    except (KeyError, TypeError, AttributeError, json.JSONDecodeError) as error:
        raise tensors.DamagedFileError(f"{path}: is not a whole checkpoint ({error!r})") from error
    ownership.begin(run, resumed=True)
    scales = [] if run.precision is None else [(run.precision.loss_scale, scaling)]
    _load_states([*scales, *callbacks], path, before)
    for owner, key, value in values:
        owner[key] = value
    restore_states(run.network, dict(_under(arrays, "recurrent.")), backend)
    state.history, state.epoch, state.step, state.first_step = history, epoch, step, first_step
    state.in_memory = False
    state.seconds, state.stopped, state.epoch_loss, state.ranks = spent, stopped, mean_loss, ranks


def _load_states(states: list[tuple[Any, Any]], path: str | os.PathLike[str], before: list[tuple[Any, Any]]) -> None:
    """Give each object its state; where one does not take it, those before it have again what they had `before`."""
    for one, saved in states:
        try:
            own = copy.deepcopy(one.state_dict())
            one.load_state_dict(saved)
        except Exception as error:
            for other, state in before:
                other.load_state_dict(state)
            name = type(one).__name__
            raise ValueError(
                f"{path}: load_state_dict of {name} does not take the state that is there ({error!r}); give the {name} "
                "that the run began with, or remove the file, or name another one"
            ) from error
        before.append((one, own))


def _position(state: RunState) -> dict[str, Any]:
    """Position of a run: whole epochs, steps, of which some may be of the next epoch, and the time that these took."""
    return {
        "epoch": state.epoch,
        "step": state.step,
        "first_step": state.first_step,
        "seconds": state.seconds,
        "stopped": state.stopped,
        "ranks": state.ranks,
        "loss": [state.epoch_loss.total, state.epoch_loss.weight],
    }


def _mean_loss(run: Run, history: History, position: dict[str, Any]) -> WeightedMean:
    """The mean loss of the epoch that a run is in.

    Earlier versions kept the losses of steps alone, of which all but the last of an epoch have as many rows.
    """
    if "loss" in position:
        return WeightedMean(*map(float, position["loss"]))
    steps, losses = run.steps_per_epoch or 1, history.train_loss_list
    for epoch in range(int(position["epoch"])):
        of_epoch = losses[epoch * steps : (epoch + 1) * steps]
        history.epoch_loss_list.append(math.fsum(of_epoch) / len(of_epoch))
    mean, begun = WeightedMean(), losses[int(position["epoch"]) * steps :]
    mean.add(begun, [run.batch_size] * len(begun))
    return mean


def _architecture(network: Any) -> dict[str, Any]:
    """Describe the network for the reader of the file."""
    found: dict[str, Any] = {"model": type(network).__name__}
    if isinstance(network, Model):
        found.update(input_shape=network.input_shape, config=network.config, loss=type(network.last_layer).__name__)
        found["layers"] = {name: repr(layer) for name, layer in network.children()}
    return found


def _alike(backend: Backend, array: Array, own: Array) -> Array:
    """`array` in the dtype of `own`: statistics have a wider one than parameters in half precision."""
    return backend.asarray(array, own.dtype)


def _backend(network: Any) -> Backend:
    return Backend.of(next(filter(is_array, network.params.values())))


def _under(arrays: dict[str, Any], prefix: str) -> Iterator[tuple[str, Array]]:
    return ((name.removeprefix(prefix), array) for name, array in arrays.items() if name.startswith(prefix))
