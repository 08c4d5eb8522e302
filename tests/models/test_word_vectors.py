"""CBOW and SkipGram: losses and gradients word by word, draws, training and files."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import xpdl
from tests.harness import nonempty
from xpdl import CBOW, SkipGram
from xpdl.data import create_contexts_target

RNG = np.random.default_rng(0)
V, H, WINDOW = 7, 4, 2
CORPUS = np.concatenate([np.arange(V), RNG.integers(0, V, 30)])
CONTEXTS, TARGET = create_contexts_target(CORPUS, WINDOW)
MODELS = pytest.mark.parametrize("model", [CBOW, SkipGram])


def rows(model: Any, n: int | None = None) -> tuple[Any, Any]:
    return (CONTEXTS[:n], TARGET[:n]) if model is CBOW else (TARGET[:n], CONTEXTS[:n])


def made(model: Any, **options: Any) -> Any:
    """A net in float64 with vectors of size 1."""
    with xpdl.use("numpy", dtype="float64"):
        net = model(V, H, WINDOW, CORPUS, **{"seed": 0, **options})
    for name in net.params:
        net.params[name] = np.random.default_rng(len(name)).standard_normal((V, H))
    return net


def loss_by_words(net: Any, x: Any, candidates: Any) -> float:
    """The mean of -log sigmoid(right) - sum log sigmoid(-others), one product at a time."""
    costs = []
    for words, drawn in zip(x, candidates, strict=True):
        hidden = np.mean([net.params["W_in"][word] for word in np.ravel(words)], axis=0)
        for row in np.reshape(drawn, (-1, np.shape(drawn)[-1])):
            scores = [float(hidden @ net.params["W_out"][word]) for word in row]
            costs.append(math.log1p(math.exp(-scores[0])) + sum(math.log1p(math.exp(s)) for s in scores[1:]))
    return sum(costs) / len(costs)


@MODELS
def test_loss_is_that_of_word_by_word(model):
    net, (x, t) = made(model), rows(model)
    candidates = net.candidates(t, False)
    assert candidates.shape == (*t.shape, 6)
    np.testing.assert_array_equal(candidates[..., 0], t)
    assert float(net.loss(x, t)) == pytest.approx(loss_by_words(net, x, candidates), rel=1e-12)
    scores = net.predict((x, candidates))
    assert scores.shape == candidates.shape


@MODELS
def test_gradients_are_numerical_ones(model):
    net, (x, t) = made(model), rows(model, 5)
    expected = net.numerical_gradient(x, t)
    found = net.gradient(x, t)
    assert set(found) == {"W_in", "W_out"}
    for name, value in nonempty(expected.items()):
        np.testing.assert_allclose(found[name], value, atol=1e-8)


@MODELS
def test_weights_of_rows(model):
    net, (x, t) = made(model), rows(model, 6)
    weights = np.array([2.0, 0.0, 0.5, 1.0, 0.0, 0.0])
    candidates = net.candidates(t, False)
    alone = [loss_by_words(net, x[k : k + 1], candidates[k : k + 1]) for k in range(6)]
    assert float(net.loss(x, t, sample_weight=weights)) == pytest.approx(np.average(alone, weights=weights))


@pytest.mark.exhaustive
@pytest.mark.backends("values")
@pytest.mark.skip_backend("jit", reason="words are drawn on the host")
@MODELS
def test_step_is_the_same_on_every_backend(backend, model):
    x, t = rows(model, 8)
    with xpdl.use("numpy", dtype=backend.float):
        net = model(V, H, WINDOW, CORPUS, seed=0)
    expected = net.gradient(x, t)
    with backend.use():
        there = model(V, H, WINDOW, backend.asarray(CORPUS), seed=0)
        found = there.gradient(backend.asarray(x), backend.asarray(t))
    backend.check(there.last_loss, net.last_loss)
    for name, value in nonempty(expected.items()):
        backend.check(found[name], value)


@MODELS
class TestDraws:
    def test_words_are_others_and_new_in_each_step(self, model):
        net, (_, t) = made(model), rows(model)
        first, second = (net.candidates(t, True) for _ in range(2))
        assert (first[..., 1:] != t[..., None]).all() and (first != second).any()
        np.testing.assert_array_equal(net.candidates(t, False), net.candidates(t, False))

    def test_follow_the_seed(self, model):
        _, t = rows(model)
        one, same, other = (made(model, seed=seed).candidates(t, True) for seed in (0, 0, 1))
        np.testing.assert_array_equal(one, same)
        assert (one != other).any()

    def test_follow_the_frequencies(self, model):
        corpus = np.array([0] * 90 + [1] * 10 + [2])
        net = model(4, H, WINDOW, corpus, sample_size=2000, power=1.0, seed=0)
        target = np.full((1,) if model is CBOW else (1, 4), 2)
        drawn = net.candidates(target, True)[..., 1:]
        assert np.mean(drawn == 0) == pytest.approx(0.9, abs=0.03) and not (drawn == 3).any()

    def test_are_all_alike_without_a_text(self, model):
        net = model(4, H, WINDOW, sample_size=2000, seed=0)
        target = np.full((1,) if model is CBOW else (1, 4), 2)
        shares = np.bincount(net.candidates(target, True)[..., 1:].ravel(), minlength=4) / 2000 / target.size
        np.testing.assert_allclose(shares, [1 / 3, 1 / 3, 0, 1 / 3], atol=0.04)


@pytest.mark.exhaustive
@MODELS
class TestTraining:
    def test_words_of_one_topic_come_together(self, model):
        rng = np.random.default_rng(1)
        corpus = np.concatenate([rng.integers(0, 5, 20) + 5 * (k % 2) for k in range(100)])
        contexts, target = create_contexts_target(corpus, 1)
        x, t = (contexts, target) if model is CBOW else (target, contexts)
        net = model(10, 8, 1, corpus, seed=0)
        options = {"optimizer": xpdl.Adam(lr=0.01), "seed": 0, "verbose": False}
        history = xpdl.Trainer(net, x, t, x, t, epochs=10, mini_batch_size=50, **options).train()
        assert history.epoch_loss_list[-1] < history.epoch_loss_list[0] - 0.3 and not history.train_acc_list
        assert history.test_loss_list[-1] < history.test_loss_list[0]
        vectors = net.word_vecs / np.linalg.norm(net.word_vecs, axis=1, keepdims=True)
        near = vectors @ vectors.T
        assert near[:5, :5].mean() > near[:5, 5:].mean() + 0.5

    def test_interrupted_training_goes_on_bitwise(self, model, tmp_path):
        class Stop(xpdl.Callback):
            def on_batch_end(self, trainer, step):
                if step == 5:
                    raise KeyboardInterrupt

        def trained(folder, **options):
            net = model(V, H, WINDOW, CORPUS, seed=0)
            options |= {"checkpoint": folder / "run.ckpt", "checkpoint_every": 2, "seed": 0, "verbose": False}
            xpdl.Trainer(net, *rows(model), epochs=3, mini_batch_size=10, optimizer="adam", **options).train()
            return net.params

        (tmp_path / "whole").mkdir()
        whole = trained(tmp_path / "whole")
        with pytest.raises(KeyboardInterrupt):
            trained(tmp_path, callbacks=[Stop()])
        again = trained(tmp_path)
        for name, value in nonempty(whole.items()):
            np.testing.assert_array_equal(again[name], value)

    def test_half_precision_beside(self, model):
        net = model(V, H, WINDOW, CORPUS, seed=0)
        options = {"epochs": 1, "mini_batch_size": 10, "precision": "float16", "seed": 0, "verbose": False}
        history = xpdl.Trainer(net, *rows(model), **options).train()
        assert np.isfinite(history.train_loss_list).all() and net.params["W_in"].dtype == np.float32


@pytest.mark.exhaustive
@MODELS
class TestFiles:
    def test_saved_model_goes_on_with_the_same_words(self, model, tmp_path):
        net, (x, t) = model(V, H, WINDOW, CORPUS, sample_size=3, power=0.5, seed=0), rows(model)
        net.gradient(x, t)
        net.save(tmp_path / "net.safetensors")
        again = xpdl.load_model(tmp_path / "net.safetensors")
        assert type(again) is model and repr(again) == repr(net)
        np.testing.assert_array_equal(again.word_vecs, net.word_vecs)
        np.testing.assert_array_equal(again.candidates(t, False), net.candidates(t, False))
        assert float(again.loss(x, t)) == float(net.loss(x, t))

    def test_names_of_parameters(self, model):
        net = model(V, H, WINDOW, CORPUS, seed=0)
        assert {name: value.shape for name, value in net.params.items()} == {"W_in": (V, H), "W_out": (V, H)}
        assert net.word_vecs is net.params["W_in"]


@pytest.mark.parametrize(
    ("x", "t", "error", "message"),
    [
        (CONTEXTS[:, :3], TARGET, xpdl.ShapeError, r"contexts: expected ids of words \(N, 4\), got shape \(33, 3\)"),
        (CONTEXTS, TARGET[:, None], xpdl.ShapeError, r"t: expected ids of words \(N\), got shape \(33, 1\)"),
        (CONTEXTS, TARGET / 2, xpdl.DTypeError, "t: expected ids of words, got float64"),
        (CONTEXTS + V, TARGET, xpdl.LabelError, "is not a row of the table of 7"),
        (CONTEXTS, TARGET + V, xpdl.LabelError, "is not one of the 7 classes"),
        (CONTEXTS.tolist(), TARGET, TypeError, "list"),
    ],
)
def test_words_that_do_not_fit_are_an_error(x, t, error, message):
    net = CBOW(V, H, WINDOW, CORPUS, seed=0)
    with pytest.raises(error, match=message):
        net.gradient(x, t)


@MODELS
def test_there_is_no_accuracy(model):
    with pytest.raises(TypeError, match="words have no accuracy"):
        made(model).accuracy(*rows(model))


@MODELS
def test_one_word_alone_is_an_error(model):
    with pytest.raises(ValueError, match="fewer than two different words"):
        model(V, H, WINDOW, np.array([3, 3]))


@MODELS
def test_trainer_refuses_other_targets(model):
    x, t = rows(model)
    with pytest.raises(xpdl.LabelError):
        xpdl.Trainer(model(V, H, WINDOW, CORPUS, seed=0), x, t + V, verbose=False)
