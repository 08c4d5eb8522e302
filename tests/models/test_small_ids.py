"""Ids of small and unsigned integers, as files have them: models compute and write what they do for int64."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import xpdl
from xpdl import data

COUNT = 300  # more than uint8 has
RNG = np.random.default_rng(0)
X, T = (RNG.integers(0, 128, (6, 4)) for _ in range(2))
X[0, :2] = T[0, :2] = 0
CONTEXTS, WORDS = data.create_contexts_target(X.ravel(), 1)

Rows = tuple[Any, Any]
#: what is done with rows -> what it gives, a list of arrays
USES: dict[str, tuple[Callable[[Any, Any], Any], Rows]] = {
    "GPT": (lambda x, t: gradients(xpdl.GPT(COUNT, 8, 8, 2, 1, seed=0), x, t), (X, T)),
    "RnnLm": (lambda x, t: gradients(xpdl.RnnLm(COUNT, 4, 4, seed=0), x, t), (X, T)),
    "Seq2seq": (lambda x, t: gradients(xpdl.Seq2seq(COUNT, 4, 4, seed=0), x, t), (X, T)),
    "AttentionSeq2seq": (lambda x, t: gradients(xpdl.AttentionSeq2seq(COUNT, 4, 4, seed=0), x, t), (X, T)),
    "CBOW": (lambda x, t: gradients(xpdl.CBOW(COUNT, 4, 1, seed=0), x, t), (CONTEXTS, WORDS)),
    "SkipGram": (lambda x, t: gradients(xpdl.SkipGram(COUNT, 4, 1, seed=0), t, x), (CONTEXTS, WORDS)),
    "GPT.generate": (lambda x, t: xpdl.GPT(COUNT, 8, 8, 2, 1, seed=0).generate(x, 20, seed=0, temperature=5.0), (X, T)),
    "Seq2seq.generate": (lambda x, t: xpdl.Seq2seq(COUNT, 4, 4, seed=0).generate(x, COUNT - 1, 9), (X, T)),
    "RnnLm.generate": (lambda x, t: xpdl.RnnLm(COUNT, 4, 4, seed=0).generate(x[0], sample_size=9, seed=0), (X, T)),
    "UnigramSampler": (lambda x, t: data.UnigramSampler(x.ravel(), seed=0).get_negative_sample(t), (X, X)),
}  # fmt: skip


def gradients(net: Any, x: Any, t: Any) -> Any:
    return np.concatenate([np.ravel(value) for value in net.gradient(x, t).values()])


@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint64"])
@pytest.mark.parametrize("use", USES)
def test_small_ids_are_as_others(use: str, dtype: str) -> None:
    run, (x, t) = USES[use]
    np.testing.assert_array_equal(run(x.astype(dtype), t.astype(dtype)), run(x, t))


def test_prompts_keep_a_dtype_that_has_all_tokens() -> None:
    net = xpdl.GPT(5, 8, 8, 2, 1, seed=0)
    assert net.generate(np.array([1], "uint8"), 3, seed=0).dtype == "uint8"


def test_a_corpus_of_negative_ids() -> None:
    with pytest.raises(
        xpdl.errors.LabelError, match=r"UnigramSampler: corpus has the id -1; ids of words count from 0"
    ):
        data.UnigramSampler(np.array([-1, 2]))
