"""Data sets as people have them, tables, lists and named labels, as arrays for a network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from xpdl.backends import tables
from xpdl.backends.namespaces import is_array
from xpdl.data.structure import arrays_of, is_structure, map_parts
from xpdl.errors import LabelError, ShapeError
from xpdl.models.base import Model
from xpdl.models.sequential import Sequential
from xpdl.training.measures import kind_of

Pair = tuple[Any, Any]


def as_arrays(
    sets: Mapping[str, Pair], network: Any, names: list[str] | None = None
) -> tuple[dict[str, Pair], list[str] | None]:
    """Return data sets as arrays, and the names of classes where labels are strings or booleans.

    Parameters
    ----------
    sets : mapping of str to (x, t)
        ``"train"`` first, by which the names are made unless `network` has `class_names`. Each x and t is an array, a list,
        a table, or a tuple or dict of such.
    network
    names : list of str, optional
        Of the classes, where they are known already.

    Returns
    -------
    sets : dict of str to (x, t)
        Labels of names are integers, places in `names`.
    names : list of str or None

    Raises
    ------
    TypeError
        If something holds no numbers, or a `Sequential` gets several inputs.
    LabelError
        If a label is missing or none of the classes, or a network that tells no classes apart gets names.
    ShapeError
        If two tables have their rows in different orders.
    """
    converted: dict[str, Pair] = {}
    for which, (x, t) in sets.items():
        x_name, t_name = f"Trainer: x_{which}", f"Trainer: t_{which}"
        tables.require_aligned(x, t, x_name, t_name)
        try:
            inputs, targets = features(x, network, x_name), targets_of(t, t_name)
        except (TypeError, ShapeError) as error:
            if not (_holds_arrays(x) and _holds_arrays(t)):
                raise
            raise type(error)(
                f"{error}; pass batches as one list of pairs, Trainer(net, [(x, t), ...]), and rows to test with as "
                "Trainer(net, x_train, t_train, x_test, t_test)"
            ) from None
        if not is_structure(targets) and tables.has_names(targets) and stand_for_classes(targets, network, t_name):
            names = names or getattr(network, "class_names", None) or tables.class_names(t, t_name)
            targets = tables.class_numbers(t, names, t_name)
        for name, array in arrays_of(targets, t_name):
            tables.require_numbers(array, name)
        converted[which] = inputs, targets
    return converted, names


def targets_of(t: Any, name: str) -> Any:
    """Return targets as arrays; names of classes stay such, also in a tuple, in which loaders collect them."""
    if isinstance(t, tuple) and t and all(isinstance(one, (str, bool)) for one in t):
        t = list(t)
    return _converted(t, name, tables.as_array)


def features(x: Any, network: Any, name: str) -> Any:
    """Return inputs as arrays of numbers; for models of xpdl, whole numbers of a table or list as floats, unless ids."""
    if isinstance(network, Sequential) and is_structure(x):
        raise TypeError(
            f"{name}: {type(network).__name__} takes one array, got a {type(x).__name__} of {len(x)}; several inputs are "
            "for a Graph, or a network of your own, with params, gradient(x, t) and loss(x, t)"
        )
    if not (is_array(x) or is_structure(x) or tables.is_table(x) or isinstance(x, (str, list))) and (
        hasattr(x, "__getitem__") and hasattr(x, "__len__")
    ):
        raise TypeError(
            f"{name}: a {type(x).__name__} gives single rows; pass something that gives batches of them, such as "
            "a DataLoader of PyTorch makes"
        )

    def convert(key: Any, one: Any, name: str) -> Any:
        floats = isinstance(network, Model) and not network.takers_of_ids(key)
        return _converted(one, name, tables.as_features if floats else tables.as_numbers)

    return map_parts(convert, x, name)


def _holds_arrays(value: Any) -> bool:
    """Return whether `value` is a list or tuple of arrays, or of pairs of them, rather than of numbers."""
    return isinstance(value, (list, tuple)) and any(is_array(one) or isinstance(one, (list, tuple)) for one in value)


def check_outputs(network: Any, names: list[str] | None) -> None:
    """Require as many outputs of a built `Sequential` as there are names of classes.

    Raises
    ------
    ShapeError
        If they differ.
    """
    if names is None or not isinstance(network, Model) or network.input_shape is None:
        return
    *_, outputs = network.output_shape(network.input_shape)
    if outputs != len(names):
        raise ShapeError(
            f"Trainer: t_train has {len(names)} classes ({', '.join(names)}), but {type(network).__name__} has {outputs} "
            f"outputs; give its last layer {len(names)} units"
        )


def _converted(value: Any, name: str, convert: Any) -> Any:
    if not is_structure(value):
        return convert(value, name)
    return map_parts(lambda _, one, name: _converted(one, name, convert), value, name)


def stand_for_classes(targets: Any, network: Any, name: str) -> bool:
    """Return whether names are to be numbered; booleans may also be targets of yes or no."""
    kind = kind_of(network)
    if kind == "classes":
        return True
    if is_array(targets) and not tables.is_words(targets):
        return False
    loss = type(getattr(network, "last_layer", None)).__name__
    raise LabelError(f"{name}: names of classes are for SoftmaxWithLoss, and {loss} takes numbers")
