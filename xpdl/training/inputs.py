"""Checks of the inputs of a trainer, and their move to the backend of the network."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping
from types import NoneType
from typing import Any

from xpdl.backends import Backend, asnumpy, device_memory
from xpdl.backends.namespaces import Array, array_namespace
from xpdl.backends.random import next_stream
from xpdl.data import is_mapped, shuffle_dataset
from xpdl.data.batches import row_count
from xpdl.data.structure import arrays_of, is_structure, map_arrays, map_parts, rows_in, take_rows
from xpdl.distributed import Communicator
from xpdl.errors import ShapeError
from xpdl.layers.base import row_size
from xpdl.models.base import Model
from xpdl.models.sequential import Sequential
from xpdl.models.summary import layer_costs
from xpdl.ops.checks import number, positive_int
from xpdl.ops.targets import check_finite
from xpdl.optimizers import Adam
from xpdl.training.batch_source import is_source, joined
from xpdl.training.messages import warn
from xpdl.training.row_weights import check_rows_count, row_weights, weights_checksum, without_missing_targets

# at a time, which takes the memory of a few batches
_HASHED_ROWS = 4096


def check_network(network: Any, optimizer: Any, optimizer_param: Any) -> None:
    """Refuse what cannot be trained, and arguments of an optimizer that have no names."""
    if isinstance(network, type) or not (hasattr(network, "params") and hasattr(network, "gradient")):
        raise TypeError(f"Trainer: network must have params, gradient(x, t) and loss(x, t), got {network!r}")
    if isinstance(network, Model) and network.last_layer is None and type(network).gradient is Model.gradient:
        raise TypeError(
            f"Trainer: the network has no loss, got {type(network).__name__}(..., loss=None); make it with "
            "loss=SoftmaxWithLoss for classes or IdentityWithLoss for numbers, or set its last_layer to such a layer"
        )
    if optimizer_param is not None and not isinstance(optimizer_param, Mapping):
        raise TypeError(f"Trainer: optimizer_param must be a dict such as {{'lr': 0.01}}, got {optimizer_param!r}")
    if optimizer_param and not isinstance(optimizer, (str, type)):
        raise TypeError(
            f"Trainer: optimizer_param {dict(optimizer_param)} would not change {optimizer!r}, which exists already; give "
            "its arguments there, or pass its class or name"
        )


def held_out_sets(
    x_test: Any, t_test: Any, validation_data: Any, validation_split: float, network: Any
) -> dict[str, tuple[Any, Any]]:
    """Return the data sets that are measured and not trained with, those that there are: validation before test."""
    sets = {}
    if validation_data is not None:
        is_pair = isinstance(validation_data, (tuple, list)) and len(validation_data) == 2
        if isinstance(validation_data, list) and isinstance(network, Sequential):  # which takes one array
            is_pair = is_pair and not all(isinstance(one, tuple) for one in validation_data)
        if not is_pair and not is_source(validation_data, None):
            raise TypeError(
                f"Trainer: validation_data must be a pair of arrays (x, t), or batches of them, got "
                f"{type(validation_data).__name__}"
            )
        if validation_split:
            raise ValueError("Trainer: take validation_data or validation_split, not both")
        sets["val"] = (
            tuple(validation_data) if is_pair else joined(validation_data, "Trainer: validation_data", network)
        )
    if is_source(x_test, t_test, "x_test", "t_test") and x_test is not None:
        sets["test"] = joined(x_test, "Trainer: x_test", network)
    elif x_test is not None or t_test is not None:
        sets["test"] = (x_test, t_test)
    return sets


def optimizer_options(optimizer: Any, optimizer_param: Mapping[str, Any] | None) -> Mapping[str, Any]:
    """The arguments of an optimizer: where none are given, the rule's own, but for Adam the rate of the book's trainer."""
    if optimizer_param is None and (optimizer is Adam or str(optimizer).lower() == "adam"):
        return {"lr": 0.01}
    return optimizer_param or {}


def check_rows(which: str, x: Any, t: Any) -> None:
    """Require as many rows of `x` as of `t`, and at least one."""
    row_count(x, t, "Trainer", f"x_{which}", f"t_{which}")


def entered(x: Any, t: Any, network: Any, backend: Backend, which: str) -> tuple[Array, Array]:
    """A data set as the network wants it: on its device, in its dtype, with labels that it knows."""
    if isinstance(network, Model):
        map_parts(functools.partial(_check_ids, network), x, f"Trainer: x_{which}")
        out = network.output_shape(map_arrays(lambda a: tuple(a.shape[1:]), x))
        if network.last_layer is not None:
            network.last_layer.check_targets(t, out, f"Trainer: t_{which}")
    x = map_arrays(lambda a: a if is_mapped(a) or not device_memory.fits(backend, a) else backend.asarray(a), x)
    t = map_arrays(backend.asarray, t)
    for name, array in arrays_of(x, f"Trainer: x_{which}"):
        if not is_mapped(array):  # those are read batch by batch
            _check_rows_finite(array, name, which)
    for name, array in arrays_of(t, f"Trainer: t_{which}"):
        check_finite(array, name)
    return x, t


def _check_ids(network: Model, key: Any, x: Any, name: str) -> None:
    """Refuse ids, in an input that is given whole, that a layer does not know."""
    for taker in () if is_mapped(x) else network.takers_of_ids(key):
        taker.check_ids(x, name)


def enter(
    sets: Mapping[str, tuple[Any, Any]],
    sample_weight: Any,
    network: Any,
    backend: Backend,
    validation_split: float,
    seed: int | None,
) -> tuple[dict[str, tuple[Array, Array]], Array | None, dict[str, str | None]]:
    """Check data sets, move them to the network, and split off rows to validate with.

    Returns
    -------
    sets : dict of str to (x, t)
        ``"train"``, then ``"val"`` and ``"test"`` where there are such rows.
    weights : array or None
        Of the rows to train with.
    checksums : dict
        See `checksums`.
    """
    weights = row_weights(sample_weight, sets["train"][0], network, backend)
    x, t, weights = without_missing_targets(*sets["train"], weights)
    moved = {"train": entered(x, t, network, backend, "train")}
    digests = checksums(t, weights, backend.dtype)
    moved |= {which: entered(*pair, network, backend, which) for which, pair in sets.items() if which != "train"}
    if number(validation_split, "validation_split", "Trainer", "in [0, 1)"):
        x, t, x_val, t_val = split(*moved["train"], validation_split, seed)
        moved = {"train": (x, t), "val": (x_val, t_val), **{k: v for k, v in moved.items() if k != "train"}}
        # in the same order
        weights = None if weights is None else split(weights, weights, validation_split, seed)[0]
    for which, (x, t) in moved.items():
        check_rows_count(which, x, t, weights if which == "train" else None, network)
    return moved, weights, digests


def checksums(t: Any, sample_weight: Array | None, dtype: str) -> dict[str, str | None]:
    """Compute checksums that tell a data set from others of its size, by names for messages."""
    labels: str | None
    targets: str | None
    if is_structure(t):
        each = [labels_checksum(one) or targets_checksum(one, dtype) for _, one in arrays_of(t)]
        labels, targets = None, "+".join(map(str, each)) or None
    else:
        labels, targets = labels_checksum(t), targets_checksum(t, dtype)
    return {
        "checksum of the labels": labels,
        # of other targets alone, so that files of an earlier version with labels lack nothing
        **({} if targets is None else {"checksum of the targets": targets}),
        "checksum of sample_weight": weights_checksum(sample_weight),
    }


def _check_rows_finite(x: Array, name: str, which: str) -> None:
    try:
        check_finite(x, name)
    except ValueError as error:
        if which == "train":
            raise
        warn(f"{error}; until then, what is measured there may be NaN")


def labels_checksum(t: Any) -> str | None:
    """Compute a checksum of integer labels; None for other targets."""
    if not array_namespace(t).isdtype(t.dtype, "integral"):
        return None
    return hashlib.sha256(asnumpy(t).astype("<i8").tobytes()).hexdigest()[:16]


def targets_checksum(t: Any, dtype: str) -> str | None:
    """Compute a checksum of targets that are no integers, in the network's dtype; None for integers."""
    if array_namespace(t).isdtype(t.dtype, "integral"):
        return None
    digest = hashlib.sha256(repr(tuple(t.shape)).encode())
    for start in range(0, t.shape[0], _HASHED_ROWS):
        rows = asnumpy(t[start : start + _HASHED_ROWS, ...])
        digest.update(rows.astype("<f8" if dtype == "float64" else "<f4").tobytes())
    return digest.hexdigest()[:16]


def checked_sample(rows: Any) -> int | None:
    """Return the number of rows to measure on, None for all."""
    return None if rows is None else positive_int(rows, "evaluate_sample_num_per_epoch", "Trainer")


def checked_communicator(communicator: Any) -> Communicator:
    """Return the communicator of a trainer, a world of one rank by default; `TypeError` for anything else."""
    if not isinstance(communicator, (Communicator, NoneType)):
        raise TypeError(
            f"Trainer: communicator must be what xpdl.distributed.mpi() returned, got {type(communicator).__name__}"
        )
    return communicator or Communicator()


def check_last_batch(network: Any, x: Array, batch_size: int, drop_last: bool, ranks: int = 1) -> None:
    """Refuse batches, or shares of ranks, of one row in which a batch normalization would see one value per feature."""
    rows = rows_in(x)
    last = batch_size if drop_last else rows % batch_size or batch_size
    if not isinstance(network, Model) or last // ranks > 1:
        return
    synced = {leaf.name for leaf in network.leaves() if getattr(leaf, "sync", False)}
    for cost in layer_costs(network, map_arrays(lambda a: tuple(a.shape[1:]), x)):
        # gamma and beta have one value for each activation, or there is one position
        if cost.kind != "BatchNormalization" or cost.parameters != 2 * row_size(cost.output_shape or ()):
            continue
        if last == 1:
            raise ShapeError(
                f"Trainer: the last of the batches of {batch_size} that {rows} rows make is one row, which has no variance "
                f"for {cost.path} to normalise by; pass drop_last=True or another mini_batch_size"
            )
        if cost.path not in synced:
            raise ShapeError(
                f"Trainer: of batches of {batch_size}, the last of {last}, one of {ranks} ranks has one row, which "
                f"has no variance for {cost.path} to normalise by; pass BatchNormalization(sync=True), drop_last=True or "
                "another mini_batch_size"
            )


def split(x: Array, t: Array, share: float, seed: int | None) -> tuple[Array, Array, Array, Array]:
    """Rows to train with, and a share of them, drawn at random, to validate with: x, t, x_val, t_val."""
    rows = rows_in(x)
    count = round(rows * share)
    if not 0 < count < rows:
        raise ShapeError(
            f"Trainer: validation_split {share} of {rows} rows leaves none to train or none to validate with"
        )
    if is_mapped(x):
        raise TypeError("Trainer: validation_split would read a mapped file whole; split it into two files")
    x, t = shuffle_dataset(x, t, seed=next_stream("Trainer", seed).words("validation")[0])
    return *take_rows((x, t), count, rows), *take_rows((x, t), 0, count)
