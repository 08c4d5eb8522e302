"""Every layer with parameters, frozen: no weight gradient, and that of the input bit for bit as without freezing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.harness import Backend
from tests.layers.op_results import count_of, record
from tests.layers.table import FIRST, ROWS, Row, wanted
from tests.pairs import as_tuple, cast
from xpdl.backends.random import Stream
from xpdl.layers.candidate_scores import CandidateScores
from xpdl.layers.tied_embedding import TiedEmbedding, TiedScores

_rng = np.random.default_rng
WITH_PARAMETERS = [row for row in ROWS if row.params]


def passes(backend: Backend, row: Row, *, frozen: bool, dtype: str) -> tuple[Any, Any, Any]:
    """Gradients of the inputs and of the parameters, and the layer, in evaluation: there, freezing changes no statistics."""
    arrays = [cast(a, dtype) for a in (*row.inputs, wanted(row).dout, *row.params.values(), *row.constants.values())]
    count, names, made = len(row.inputs), [*row.params, *row.constants], []

    def run(*arrays: Any) -> Any:
        layer = row.make(dict(zip(names, arrays[count + 1 :], strict=True)))
        layer.eval().trainable = not frozen
        made.append(layer)
        layer.forward(*arrays[:count])
        dinputs = as_tuple(layer.backward(arrays[count]))[: row.wrt]
        return dinputs, dict(layer.grads)

    dinputs, grads = backend.call(run, *map(backend.asarray, arrays))
    return [backend.to_numpy(one) for one in dinputs], grads, made[0]


def check_frozen(backend: Backend, row: Row, dtype: str, monkeypatch: Any) -> None:
    shapes = record(monkeypatch)
    plain, grads, layer = passes(backend, row, frozen=False, dtype=dtype)
    computed = count_of(shapes, row.params.values())
    assert grads.keys() == row.params.keys()
    shapes.clear()
    frozen, none, layer = passes(backend, row, frozen=True, dtype=dtype)
    assert none == {} and not layer.trainable
    # of a layer that is used twice there are two, and their sum
    assert count_of(shapes, row.params.values()) <= computed - len(row.params)
    for got, want in zip(frozen, plain, strict=True):
        np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("row", WITH_PARAMETERS, ids=lambda row: row.id)
@pytest.mark.backends("numpy", "torch", "cupy")
@pytest.mark.backends("plain")
def test_a_frozen_layer_computes_no_weight_gradient(backend: Backend, row: Row, monkeypatch: Any) -> None:
    check_frozen(backend, row, "float32", monkeypatch)


@pytest.mark.exhaustive
@pytest.mark.parametrize("row", WITH_PARAMETERS, ids=lambda row: row.id)
@pytest.mark.backends("numpy", "array_api_strict", "torch", "cupy")
@pytest.mark.backends("values")
def test_so_does_one_of_other_dtypes(backend: Backend, row: Row, monkeypatch: Any) -> None:
    check_frozen(backend, row, "float64" if backend.spec.float64 else "float32", monkeypatch)


@pytest.mark.exhaustive
@pytest.mark.parametrize("row", [row for row in FIRST if row.params], ids=lambda row: row.id)
@pytest.mark.backends("jit")
def test_so_does_one_that_is_traced(backend: Backend, row: Row, monkeypatch: Any) -> None:
    check_frozen(backend, row, "float32", monkeypatch)


def scores_of_candidates(frozen: bool) -> tuple[Any, Any]:
    layer = CandidateScores(7, 4)
    layer.build((4,), stream=Stream(0, "scores"))
    layer.trainable = not frozen
    layer.forward(_rng(0).standard_normal((3, 4)).astype("float32"), np.array([[0, 1], [6, 1], [2, 2]]))
    return layer, layer.backward(_rng(1).standard_normal((3, 2)).astype("float32"))


def tied_scores(frozen: bool) -> tuple[Any, Any]:
    layer = TiedScores(TiedEmbedding(7, 4), use_bias=True)
    layer.embedding.build((), stream=Stream(0, "embedding"))
    layer.build((3, 4), stream=Stream(0, "scores"))
    layer.embedding.trainable = layer.trainable = not frozen
    layer.forward(_rng(0).standard_normal((2, 3, 4)).astype("float32"))
    return layer, layer.backward(_rng(1).standard_normal((2, 3, 7)).astype("float32"))


@pytest.mark.parametrize(("passes", "count"), [(scores_of_candidates, 1), (tied_scores, 2)])
def test_so_does_a_layer_of_a_model(passes: Any, count: int, monkeypatch: Any) -> None:
    shapes = record(monkeypatch)
    (plain, want), table = passes(False), [(7, 4), (4, 7), (7,)]
    computed = sum(shape in table for shape in shapes)
    shapes.clear()
    frozen, got = passes(True)
    assert sum(shape in table for shape in shapes) == computed - count
    assert list(plain.grads) and frozen.grads == {}
    np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("frozen", ["scores", "embedding"])
def test_tied_scores_have_the_gradient_of_what_is_trained(frozen: str) -> None:
    layer, _ = tied_scores(False)
    (layer if frozen == "scores" else layer.embedding).trainable = False
    x, dout = _rng(0).standard_normal((2, 3, 4)).astype("float32"), _rng(1).standard_normal((2, 3, 7)).astype("float32")
    layer.embedding.dW_of_scores = None
    layer.forward(x)
    dx = layer.backward(dout)
    np.testing.assert_allclose(dx, dout @ layer.embedding.W, rtol=1e-5, atol=1e-6)
    assert list(layer.grads) == ([] if frozen == "scores" else ["b"])
    assert (layer.embedding.dW_of_scores is None) == (frozen == "embedding")
