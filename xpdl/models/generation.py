"""Generation of texts: tokens are drawn on the host, one after the other, from the scores of a language model."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import numpy as np

from xpdl.backends import Backend, asnumpy, get_backend, tables
from xpdl.backends.arrays import NDArray
from xpdl.backends.namespaces import Array, array_namespace, dtype_name, is_array
from xpdl.errors import ShapeError
from xpdl.models.key_value_cache import KeyValueCache
from xpdl.models.row_pass import RowPass, fits
from xpdl.models.sampling import Sampler
from xpdl.ops.checks import positive_int


def generate(
    model: Any,
    ids: Any,
    count: int,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    seed: int | None = None,
    stop: int | Sequence[int] | None = None,
) -> Array:
    """Go on with texts by a `GPT`, whose `generate` says what the arguments are."""
    owner = f"{model.name}.generate"
    count = positive_int(count, "count", owner)
    draw = Sampler(temperature, seed, owner, top_k=top_k, top_p=top_p)
    ends = _stop_tokens(model, stop, owner)
    prompts = _prompts(model, ids, owner)
    texts = np.concatenate([prompts, np.zeros((len(prompts), count), prompts.dtype)], axis=1)
    ended = np.zeros(len(texts), bool)
    backend, cache, start = model.backend or get_backend(), KeyValueCache(model.context), 0
    row = RowPass(model) if fits(model) else None
    for end in range(prompts.shape[1], texts.shape[1]):
        if end - start > model.context:  # the last half, computed anew
            start, cache = end - max(model.context // 2, 1), KeyValueCache(model.context)
        seen = texts[:, start + cache.length : end]
        tokens = backend.asarray(seen, "int32")
        is_next = cache.length > 0 and seen.shape[1] == 1
        scores = row(tokens[:, 0], cache) if row and is_next else model.forward_next(tokens, cache)
        texts[:, end] = np.where(ended, texts[:, end - 1], draw(asnumpy(scores)))
        if ends:
            ended |= np.isin(texts[:, end], ends)
            if ended.all():
                texts = texts[:, : end + 1]
                break
    return _like(ids, texts, model)


def _prompts(model: Any, ids: Any, owner: str) -> NDArray:
    """Return prompts as (N, T) on the host."""
    array = tables.as_numbers(ids, f"{owner}: ids")
    if array.ndim not in (1, 2) or 0 in array.shape:
        raise ShapeError(
            f"{owner}: ids must be a prompt (T,), or prompts (N, T) of one length, of at least one token, got shape "
            f"{tuple(array.shape)}"
        )
    prompts = asnumpy(array).reshape((-1, array.shape[-1]))
    for taker in model.takers_of_ids(None):
        taker.check_ids(prompts, f"{owner}: ids")
    return prompts.astype(np.int64)


def _stop_tokens(model: Any, stop: Any, owner: str) -> list[int]:
    if stop is None:
        return []
    try:
        ends = [operator.index(one) for one in (stop if isinstance(stop, (list, tuple, set)) else [stop])]
    except TypeError:
        raise TypeError(f"{owner}: stop must be a token, or a list of tokens, as ints, got {stop!r}") from None
    for taker in model.takers_of_ids(None):
        taker.check_ids(np.asarray(ends, np.int64), f"{owner}: stop")
    return ends


def _like(ids: Any, texts: NDArray, model: Any) -> Array:
    """Return texts in the form and library of the prompts, and in their dtype, if that has all tokens of the net."""
    if not is_array(ids):
        return texts if tables.as_array(ids, "ids").ndim == 2 else texts[0]
    xp = array_namespace(ids)
    dtype = ids.dtype if xp.iinfo(ids.dtype).max >= model.config["vocab"] - 1 else xp.arange(1).dtype
    return Backend.of(ids).asarray(texts if ids.ndim == 2 else texts[0], dtype_name(dtype))
