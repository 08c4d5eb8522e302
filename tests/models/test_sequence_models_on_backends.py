"""Models of sequences and words train on every library as on NumPy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import xpdl
from xpdl import CBOW, GPT, Adam, AttentionSeq2seq, PeekySeq2seq, RnnLm, Seq2seq, SkipGram

V, ROWS, STEPS = 7, 6, 3
_rng = np.random.default_rng(0)
WORDS, NEXT, ANSWERS = (_rng.integers(0, V, (ROWS, length)) for length in (5, 5, 4))
CENTRES, CONTEXTS = _rng.integers(0, V, ROWS), _rng.integers(0, V, (ROWS, 2))
CORPUS = _rng.integers(0, V, 40)

#: the model, its inputs and its targets
MODELS: dict[str, tuple[Callable[[], Any], Any, Any]] = {
    "RnnLm": (lambda: RnnLm(V, 4, 4, 0.2, seed=0), WORDS, NEXT),
    "Seq2seq": (lambda: Seq2seq(V, 3, 4, seed=0), WORDS, ANSWERS),
    "PeekySeq2seq": (lambda: PeekySeq2seq(V, 3, 4, seed=0), WORDS, ANSWERS),
    "AttentionSeq2seq": (lambda: AttentionSeq2seq(V, 3, 4, seed=0), WORDS, ANSWERS),
    "GPT": (lambda: GPT(V, 5, 4, 2, 1, dropout=0.1, seed=0), WORDS, NEXT),
    "GPT with rotary positions": (lambda: GPT(V, 5, 4, 2, 1, rotary=True, tied=False, seed=0), WORDS, NEXT),
    "CBOW": (lambda: CBOW(V, 4, 1, CORPUS, seed=0), CONTEXTS, CENTRES),
    "SkipGram": (lambda: SkipGram(V, 4, 1, CORPUS, seed=0), CENTRES, CONTEXTS),
}
#: compiled as others are
RARELY = ("Seq2seq", "PeekySeq2seq", "GPT with rotary positions")


def losses(library: str, model: str, compiled: bool = False) -> tuple[list[float], dict[str, Any]]:
    """Losses of some steps in float64, and the parameters after them."""
    make, x, t = MODELS[model]
    with xpdl.use(library, dtype="float64"):
        network, optimizer = make(), Adam(0.01)
        x, t = xpdl.asarray(x), xpdl.asarray(t)
        if not network.built:
            network.build_for(x)
        step = network.compiled_step(optimizer) if compiled else None
        found = []
        for _ in range(STEPS):
            if step is None:
                optimizer.update(network.params, network.gradient(x, t))
            else:
                step(x, t)
            found.append(float(network.last_loss))
        assert step is None or (step.problem, step.compilations) == (None, 1)
        return found, {name: xpdl.asnumpy(p) for name, p in network.params.items()}


@pytest.mark.exhaustive
@pytest.mark.parametrize("model", [pytest.param(one, marks=[pytest.mark.slow] * (one in RARELY)) for one in MODELS])
@pytest.mark.parametrize(
    "library",
    [pytest.param("torch", marks=pytest.mark.needs("torch")), pytest.param("jax", marks=pytest.mark.needs("jax"))],
)
def test_trains_as_on_numpy(model: str, library: str) -> None:
    """On JAX by compiled steps, but for models whose negative words are drawn on the host."""
    expected, parameters = losses("numpy", model)
    found, others = losses(library, model, library == "jax" and model not in ("CBOW", "SkipGram"))
    np.testing.assert_allclose(found, expected, rtol=1e-8)
    assert expected[-1] != expected[0]
    for name, p in parameters.items():
        np.testing.assert_allclose(others[name], p, rtol=1e-6, atol=1e-7, err_msg=name)
