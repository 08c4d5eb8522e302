"""State dicts of PyTorch in safetensors files: names and layouts there, arrays of a model here."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any, Literal

import numpy as np

from xpdl.backends.conversion import to_numpy
from xpdl.backends.namespaces import is_array
from xpdl.integrations import gpt2
from xpdl.integrations.pytorch_arrays import Group, groups_of, short_name
from xpdl.io import tensors
from xpdl.layers.affine import Affine
from xpdl.layers.base import Layer
from xpdl.layers.bidirectional import Bidirectional
from xpdl.layers.chain import Chain
from xpdl.models.base import Model
from xpdl.models.gpt import GPT
from xpdl.models.state_dict import Differences, fill, state_of

__all__ = ["load_pytorch", "save_pytorch"]

Names = Literal["short", "index"] | Mapping[str, str]

# a counter that its batch normalization keeps beside the statistics
_COUNTER = "num_batches_tracked"


def save_pytorch(model: Model, path: str | os.PathLike[str], names: Names = "short") -> None:
    """Write a model's arrays to a safetensors file that PyTorch's ``load_state_dict`` takes.

    Parameters
    ----------
    model : Sequential or Graph
    path : path
    names : "short", "index" or mapping
        What layers are called there. "short": ``conv1 conv2 fc1 bn1 ln1 emb1 lstm1 attn1``, numbered by kind through the
        model.
        "index": places in nested ``nn.Sequential``, ``0 3 7``, with an ``nn.Flatten`` before an `Affine` that takes images.
        A mapping gives a name, such as ``features.0``, for each layer with parameters, by its name here. A `GPT` has the
        names of GPT-2, ``transformer.h.0.attn.c_attn.weight`` (see ``xpdl.integrations.gpt2``), and takes no others.

    Raises
    ------
    ShapeError
        If the model has no parameters yet.
    TypeError
        If a layer with parameters has no counterpart in PyTorch.
    ValueError
        If `names` is none of these, leaves out a layer, or names two alike.
    OSError
        If the file cannot be written.

    Notes
    -----
    The weights of `Affine` are transposed to (out, in); its input order after images is NCHW there as here. Batch
    normalisation in PyTorch has eps 1e-5, here 1e-6, and a running variance that is unbiased: files keep arrays only, so
    give both nets one eps. There is no counterpart of its form with a gamma per activation for images.

    `RNN`, `LSTM` and `GRU` are modules of one layer with ``batch_first=True``, `Bidirectional` is one that is bidirectional.
    Of their two biases there, that of the inputs is written, and the other is 0 but for `bh` of a `GRU`; they are added up
    when read. `MultiHeadAttention` is ``nn.MultiheadAttention(E, heads, batch_first=True)``, which rotates nothing, with
    masks that are True at keys to leave out. `LearnedPositions` is an ``nn.Embedding``.

    Examples
    --------
    >>> net = Sequential(Convolution(filters=2, size=3), Relu(), Affine(units=3))
    >>> net.build((1, 5, 5))
    (3,)
    >>> import tempfile, pathlib
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_pytorch(net, pathlib.Path(folder) / "net.safetensors")
    ...     load_pytorch(net, pathlib.Path(folder) / "net.safetensors")
    Differences(missing=[], unexpected=[])
    """
    own = state_of(model)
    if isinstance(model, GPT):
        _refuse_other_names(names)
        own = {name: to_numpy(array) for name, array in own.items()}
        tensors.write_plain_tensors(path, gpt2.to_gpt2(own, model.tied), {"format": "pt"})
        return
    arrays: dict[str, Any] = {}
    for group in _groups(model, names):
        arrays.update(zip(group.there, group.forth(*(to_numpy(own[name]) for name in group.here)), strict=True))
    counters = [name.removesuffix("running_mean") + _COUNTER for name in arrays if name.endswith(".running_mean")]
    arrays.update(dict.fromkeys(counters, np.asarray(0)))
    tensors.write_plain_tensors(path, arrays, {"format": "pt"})


def load_pytorch(
    model: Model, path: str | os.PathLike[str] | Mapping[str, Any], names: Names = "short", *, strict: bool = True
) -> Differences:
    """Copy a state dict of PyTorch, or a safetensors file with one, into a model: all of it, or none and an error.

    Parameters
    ----------
    model : Sequential or Graph
        It has parameters already: call ``build(input_shape)`` first.
    path : path or mapping of str to array
        A file, or what ``module.state_dict()`` returned.
    names
        As in `save_pytorch`. With "index", numbers of an ``nn.Sequential`` that has more or fewer layers without parameters,
        such as activations, are taken in their order.
    strict : bool
        Whether arrays that only one side has are an error; a wrong shape always is one.

    Returns
    -------
    missing, unexpected : list of str
        The model's names that the file lacks, and the file's that the model lacks.

    Raises
    ------
    ValueError
        If the file is damaged or does not fit, with the list of all that does not; the model is then as it was.
    OSError
        If it cannot be read.
    ShapeError, TypeError
        As in `save_pytorch`.

    Notes
    -----
    Floats of any width, bfloat16 too, are rounded to the model's dtype.
    """
    own = state_of(model)
    arrays, source = _arrays_of(path)
    if isinstance(model, GPT):
        _refuse_other_names(names)
        found = gpt2.from_gpt2(arrays, model.tied, source)
        return fill(model, found, source, strict=strict)
    groups = list(_groups(model, names))
    if names == "index":
        groups = _renumbered(arrays, groups)
    found = {}
    for group in groups:
        if all(name in arrays for name in group.there):
            parts = [arrays.pop(name) for name in group.there]
            found.update(zip(group.here, _back(group, parts, source), strict=True))
    for name, array in arrays.items():
        if not name.endswith(f".{_COUNTER}"):
            # under a name that cannot be one of the model's own
            found[name if name not in own else f"{name} (of the file)"] = array
    return fill(model, found, source, strict=strict)


def _arrays_of(path: str | os.PathLike[str] | Mapping[str, Any]) -> tuple[dict[str, Any], str]:
    """Return the arrays of a file or a state dict, and what messages call it."""
    if isinstance(path, Mapping):
        return {str(name): to_numpy(array) for name, array in path.items() if is_array(array)}, "load_pytorch"
    if not isinstance(path, (str, os.PathLike)):
        raise TypeError(
            f"load_pytorch: expected a path or a state dict, got {type(path).__name__}; pass module.state_dict()"
        )
    return tensors.load_arrays(path)[0], os.fspath(path)


def _refuse_other_names(names: Names) -> None:
    if names != "short":
        raise ValueError(f"names: a GPT has those of GPT-2, got {names!r}; leave it out")


def _back(group: Group, parts: list[Any], path: str) -> Any:
    try:
        return group.back(*parts)
    except ValueError as error:
        raise ValueError(f"{path}: {' and '.join(group.there)} {error}") from None


def _groups(model: Model, names: Names) -> Iterator[Group]:
    """The arrays of all layers, by their names in the model and in the file."""
    if not (names in ("short", "index") if isinstance(names, str) else isinstance(names, Mapping)):
        raise ValueError(f"names must be 'short', 'index' or a mapping of layer names, got {names!r}")
    counts: dict[str, int] = {}
    taken: dict[str, str] = {}
    for place, index, layer in _layers(model, "", "", model.input_shape):
        try:
            groups = groups_of(layer)
        except TypeError as error:
            raise TypeError(f"{place}: {error}") from None
        if not groups:
            continue
        short = str(short_name(layer))
        counts[short] = counts.get(short, 0) + 1
        if isinstance(names, Mapping):
            if place not in names:
                raise ValueError(f"names: has no name for {place}, got {dict(names)!r}")
            module: Any = names[place]
        else:
            module = f"{short}{counts[short]}" if names == "short" else index
        if module in taken:
            raise ValueError(f"names: {taken[module]} and {place} are both called {module!r}")
        taken[module] = place
        for group in groups:
            paths = [f"{place}.{key}" for key in group.here]
            here = tuple(model.aliases.get(path, path) for path in paths)
            yield group._replace(here=here, there=tuple(f"{module}.{key}" for key in group.there))


def _layers(layer: Layer, place: str, index: str, shape: tuple[int, ...] | None) -> Iterator[tuple[str, str, Layer]]:
    """(name here, place in nested sequences, layer) of all layers; `shape` is that of a row of the input, where known."""
    chain = isinstance(layer, Chain)
    if not chain:
        yield place, index, layer
    if isinstance(layer, Bidirectional):  # one module there
        return
    if layer.holds_layers and not chain:
        shape = None
    number = 0
    for name, child in layer.children():
        # nn.Linear takes no images: a Flatten of its own is before it there
        number += chain and isinstance(child, Affine) and child.axis == 1 and shape is not None and len(shape) > 1
        step = str(number) if chain else name
        yield from _layers(child, f"{place}.{name}" if place else name, f"{index}.{step}" if index else step, shape)
        if chain and shape is not None:
            shape = child.output_shape(shape)
        number += 1


def _renumbered(arrays: Mapping[str, Any], groups: list[Group]) -> list[Group]:
    """`groups` under the numbers of a file's ``nn.Sequential``, where other layers without parameters are between."""
    ours = list(dict.fromkeys(_module(group.there[0]) for group in groups))
    theirs = {_module(name) for name in arrays}
    if theirs == set(ours) or len(theirs) != len(ours) or not all(module.isdecimal() for module in (*theirs, *ours)):
        return groups
    number = dict(zip(ours, sorted(theirs, key=int), strict=True))
    return [
        group._replace(there=tuple(number[_module(name)] + name.removeprefix(_module(name)) for name in group.there))
        for group in groups
    ]


def _module(name: str) -> str:
    """The module that an array belongs to; attention there has a linear map inside."""
    return name.rpartition(".")[0].removesuffix(".out_proj")
