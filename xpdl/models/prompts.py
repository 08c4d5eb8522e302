"""Prompts of generators of text: one, several of one length in an array, or several of different lengths."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from xpdl.backends import Backend, asnumpy, tables
from xpdl.backends.arrays import NDArray
from xpdl.backends.namespaces import Array, array_namespace, dtype_name, is_array
from xpdl.errors import DTypeError, ShapeError


def prompts_of(ids: Any, lengths: Any, check: Callable[[Any, str], None], name: str) -> tuple[list[NDArray], str]:
    """Return prompts as int64 arrays (T,) on the host, and in which form they were given.

    Parameters
    ----------
    ids : array (T,) or (N, T) of integers, list, or list of prompts of different lengths
    lengths : array (N,) or list of integers, or None
        Tokens of each row of `ids` (N, T) that are part of its prompt; what is behind them is padding.
    check : callable
        ``check(ids, name)`` refuses what are no ids of the model.
    name : str
        For messages.

    Returns
    -------
    prompts : list of arrays
    form : "one", "rows" or "list"
        The last where prompts may differ in length.
    """
    if lengths is None and _differ_in_length(ids):
        prompts = [asnumpy(tables.as_numbers(one, f"{name}[{row}]")) for row, one in enumerate(ids)]
        form = "list"
    else:
        array = tables.as_numbers(ids, name)
        if array.ndim not in (1, 2) or 0 in array.shape:
            raise ShapeError(
                f"{name} must be a prompt (T,), prompts (N, T) of one length, or a list of prompts, of at least one token, "
                f"got shape {tuple(array.shape)}"
            )
        prompts = list(asnumpy(array).reshape((-1, array.shape[-1])))
        form = "one" if array.ndim == 1 else "rows"
    for prompt in prompts:
        if prompt.ndim != 1 or not prompt.size:
            raise ShapeError(f"{name} must be prompts of at least one token, got one of shape {tuple(prompt.shape)}")
        check(prompt, name)
    if lengths is not None:
        sizes = _checked_lengths(lengths, prompts, form, name)
        prompts, form = [prompt[:size] for prompt, size in zip(prompts, sizes, strict=True)], "list"
    return [prompt.astype(np.int64) for prompt in prompts], form


def in_form_of(ids: Any, texts: list[NDArray], form: str, count: int) -> Any:
    """Return texts in the form and library of the prompts, and in their dtype, if that has all `count` tokens."""
    values: Any = texts[0] if form == "one" else np.stack(texts) if form == "rows" else texts
    first = ids[0] if isinstance(ids, (list, tuple)) else ids
    if not is_array(first):
        return values
    xp = array_namespace(first)
    dtype = dtype_name(first.dtype if xp.iinfo(first.dtype).max >= count - 1 else xp.arange(1).dtype)
    backend = Backend.of(first)
    moved: Array = (
        [backend.asarray(text, dtype) for text in values] if form == "list" else backend.asarray(values, dtype)
    )
    return moved


def _differ_in_length(ids: Any) -> bool:
    if not isinstance(ids, (list, tuple)) or not all(isinstance(one, (list, tuple)) or is_array(one) for one in ids):
        return False
    sizes = {one.shape[0] if is_array(one) and one.ndim else len(one) for one in ids if not is_array(one) or one.ndim}
    return len(sizes) > 1


def _checked_lengths(lengths: Any, prompts: list[NDArray], form: str, name: str) -> list[int]:
    values = asnumpy(tables.as_numbers(list(lengths) if isinstance(lengths, tuple) else lengths, f"{name}: lengths"))
    if values.dtype.kind not in "iu":
        raise DTypeError(f"{name}: lengths must be integers, got {values.dtype}")
    if form != "rows" or values.shape != (len(prompts),):
        raise ShapeError(
            f"{name}: lengths must be one for each row of prompts (N, T), got shape {values.shape} beside "
            f"{'one prompt' if form == 'one' else f'{len(prompts)} of them'}"
        )
    wrong = [row for row, size in enumerate(values.tolist()) if not 1 <= size <= len(prompts[row])]
    if wrong:
        raise ValueError(
            f"{name}: lengths must be from 1 to {len(prompts[0])}, the width of the rows, got {values[wrong[0]]} in row "
            f"{wrong[0]}"
        )
    sizes: list[int] = values.tolist()
    return sizes
