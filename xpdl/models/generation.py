"""Generation of texts: tokens are drawn on the host, one after the other, from the scores of a language model."""

from __future__ import annotations

import functools
import operator
from collections.abc import Sequence
from typing import Any

import numpy as np

from xpdl.backends import Backend, asnumpy, get_backend
from xpdl.backends.arrays import NDArray
from xpdl.backends.namespaces import Array
from xpdl.models.key_value_cache import KeyValueCache
from xpdl.models.prompts import in_form_of, prompts_of
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
    lengths: Any = None,
) -> Any:
    """Go on with texts by a `GPT`, whose `generate` says what the arguments are.

    All texts end in the same column of one array, the shorter ones after padding that nothing looks at, so that a step is
    one pass over the next token of all of them. Each has its own first token that the net sees.
    """
    owner = f"{model.name}.generate"
    count = positive_int(count, "count", owner)
    draw = Sampler(temperature, seed, owner, top_k=top_k, top_p=top_p)
    ends = stop_tokens(model, stop, owner)
    prompts, form = prompts_of(ids, lengths, functools.partial(check_tokens, model), f"{owner}: ids")
    longest = max(map(len, prompts))
    texts = np.zeros((len(prompts), longest + count), np.int64)
    for text, prompt in zip(texts, prompts, strict=True):
        text[longest - len(prompt) : longest] = prompt
    first = np.asarray([longest - len(prompt) for prompt in prompts])
    seen_from, after_last = first.copy(), np.full(len(texts), longest + count)
    backend, cache = model.backend or get_backend(), None
    row = RowPass(model) if fits(model) else None
    for end in range(longest, texts.shape[1]):
        too_long = end - seen_from > model.context
        if cache is None or too_long.any():
            seen_from[too_long] = end - max(model.context // 2, 1)  # the last half, computed anew
            begin = int(seen_from.min())
            cache = KeyValueCache(model.context, _padding(seen_from - begin, backend))
        seen = texts[:, begin + cache.length : end]
        tokens = backend.asarray(seen, "int32")
        is_next = cache.length > 0 and seen.shape[1] == 1
        scores = row(tokens[:, 0], cache) if row and is_next else model.forward_next(tokens, cache)
        ended = after_last <= end
        texts[:, end] = np.where(ended, texts[:, end - 1], draw(asnumpy(scores)))
        after_last[~ended & np.isin(texts[:, end], ends)] = end + 1
        if (after_last <= end + 1).all():
            break
    if form != "list":  # rows of one array
        after_last[:] = after_last.max()
    written = [text[start:stop] for text, start, stop in zip(texts, first, after_last, strict=True)]
    return in_form_of(ids, written, form, model.config["vocab"])


def _padding(sizes: NDArray, backend: Backend) -> Array | None:
    return backend.asarray(sizes, "int32") if sizes.any() else None


def check_tokens(model: Any, ids: Any, name: str) -> None:
    """Refuse what are no tokens of a model."""
    for taker in model.takers_of_ids(None):
        taker.check_ids(ids, name)


def stop_tokens(model: Any, stop: Any, owner: str) -> list[int]:
    """Return the tokens that end a text as a list."""
    if stop is None:
        return []
    try:
        ends = [operator.index(one) for one in (stop if isinstance(stop, (list, tuple, set)) else [stop])]
    except TypeError:
        raise TypeError(f"{owner}: stop must be a token, or a list of tokens, as ints, got {stop!r}") from None
    check_tokens(model, np.asarray(ends, np.int64), f"{owner}: stop")
    return ends
