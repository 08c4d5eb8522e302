"""RnnLm: beside the same net in PyTorch, states from batch to batch, texts that it writes, and files."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import xpdl
from tests.harness import Backend, nonempty
from tests.models import torch_sequences
from xpdl import SGD, LabelError, RnnLm, ShapeError, Trainer
from xpdl.distributed import Communicator
from xpdl.models.sampling import Sampler
from xpdl.training.batch_source import is_in_order
from xpdl.training.streamed_data import streamed

RNG = np.random.default_rng(0)
V = 7
X, T = RNG.integers(0, V, (3, 5)), RNG.integers(0, V, (3, 5))


def moved_net(seed: int = 0, sizes: tuple[int, int, int] = (V, 4, 4), **options: Any) -> Any:
    """A net in float64 with parameters that are not those it begins with."""
    rng = np.random.default_rng(seed)
    with xpdl.use("numpy", dtype="float64"):
        net = RnnLm(*sizes, seed=seed, **options)
    for name, value in net.params.items():
        net.params[name] = value + 0.3 * rng.standard_normal(value.shape)
    return net


def dropout_factors(net: Any, ratio: float) -> list[Any]:
    """The factors of the last pass in training, of each dropout layer."""
    masks = [layer.mask for name, layer in net.layers.items() if name.startswith("Dropout")]
    return [mask / (1.0 - ratio) for mask in masks]


@pytest.mark.needs("torch")
@pytest.mark.quick(lambda seed: seed == 0)
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    "options",
    [{}, {"tie_weights": False, "depth": 1, "dropout_ratio": 0.0}, {"depth": 3, "stateful": False}],
    ids=["better", "first", "deep"],
)
def test_losses_and_gradients_of_two_batches_are_those_of_pytorch(seed: int, options: dict[str, Any]) -> None:
    import torch

    rng, ratio = np.random.default_rng(seed), options.get("dropout_ratio", 0.5)
    n, t, v, d, h = (int(rng.integers(2, 7)) for _ in range(5))
    net = moved_net(seed, (v, d, h if "tie_weights" in options else d), **options)
    states: list[Any] = [(None, None)] * options.get("depth", 2)
    for _ in range(2):
        x, targets = rng.integers(0, v, (n, t)), rng.integers(0, v, (n, t))
        grads = net.gradient(x, targets)
        params = {name: torch.tensor(value, requires_grad=True) for name, value in net.params.items()}
        masks = [torch.tensor(factor) for factor in dropout_factors(net, ratio)] if ratio else []
        if not options.get("stateful", True):
            states = [(None, None)] * len(states)
        scores, states = torch_sequences.rnn_lm(torch, params, torch.tensor(x), states, masks)
        loss = torch.nn.functional.cross_entropy(scores.reshape(-1, v), torch.tensor(targets).reshape(-1))
        loss.backward()
        states = [tuple(one.detach() for one in state) for state in states]
        assert float(net.last_loss) == pytest.approx(loss.item(), rel=1e-12)
        assert grads.keys() == params.keys()
        for name, tensor in params.items():
            np.testing.assert_allclose(grads[name], tensor.grad.numpy(), rtol=0, atol=1e-9, err_msg=name)


@pytest.mark.parametrize("options", [{}, {"tie_weights": False}, {"stateful": False}])
def test_gradients_are_those_of_differences(options: dict[str, Any]) -> None:
    report = xpdl.check_gradients(moved_net(**options), X, T)
    assert report.passed and set(report.errors) == set(moved_net(**options).params)


def test_gradients_are_checked_from_zeros_and_states_left_alone() -> None:
    net, fresh = (moved_net(depth=1, sizes=(V, 2, 2), dropout_ratio=0.0) for _ in range(2))
    net.predict(np.concatenate([X, X]))
    kept = net.layers["LSTM1"].c
    assert xpdl.check_gradients(net, X, T).passed
    want = fresh.gradient(X, T)
    for name, grad in nonempty(net.numerical_gradient(X, T).items()):
        np.testing.assert_allclose(grad, want[name], atol=1e-7)
    assert net.layers["LSTM1"].c is kept and net.layers["LSTM1"].stateful


class TestStates:
    def test_two_halves_are_one_text(self) -> None:
        net = moved_net()
        whole = net.predict(X)
        net.reset_state()
        halves = [net.predict(X[:, :2]), net.predict(X[:, 2:])]
        np.testing.assert_allclose(np.concatenate(halves, axis=1), whole, rtol=1e-12)
        assert not np.allclose(net.predict(X), whole)

    def test_without_them_each_batch_is_by_itself(self) -> None:
        net = moved_net(stateful=False)
        np.testing.assert_array_equal(net.predict(X), net.predict(X))
        assert float(net.loss(X, T)) == float(net.loss(X, T))

    def test_a_batch_of_another_size_is_explained(self) -> None:
        net = moved_net()
        net.predict(X)
        with pytest.raises(ShapeError, match=r"LSTM1: .* call reset_state\(\) before batches of another size"):
            net.predict(X[:2])

    def test_measurements_begin_with_zeros_and_leave_them_alone(self) -> None:
        net, fresh = moved_net(), moved_net()
        net.predict(X)
        kept = net.layers["LSTM1"].h
        many, labels = np.concatenate([X, X, X[:1]]), np.concatenate([T, T, T[:1]])
        assert net.accuracy(many, labels, batch_size=3) == fresh.accuracy(many, labels)
        assert net.perplexity(X.reshape(-1), 2, 3) == fresh.perplexity(X.reshape(-1), 2, 3)
        scores = net.predict(many, batch_size=3)
        np.testing.assert_allclose(scores, fresh.predict(many), rtol=1e-12)
        assert net.layers["LSTM1"].h is kept


class Corpus:
    """A text as batches in order, as truncated backpropagation takes them."""

    def __init__(self, ids: Any, rows: int, steps: int) -> None:
        self.ids, self.rows, self.steps = ids, rows, steps

    def __len__(self) -> int:
        return (len(self.ids) - 1) // self.rows // self.steps

    def __iter__(self) -> Any:
        length = len(self) * self.steps
        x, t = (self.ids[k : k + self.rows * length].reshape(self.rows, length) for k in (0, 1))
        for start in range(0, length, self.steps):
            yield x[:, start : start + self.steps], t[:, start : start + self.steps]


TEXT = np.random.default_rng(3).integers(0, V, 91)
OPTIONS: Any = {"optimizer": "SGD", "optimizer_param": {"lr": 0.5, "clip_norm": 0.25}, "verbose": False, "seed": 0}


class TestTrainer:
    def test_batches_in_order_go_on_within_an_epoch(self) -> None:
        net, by_hand, sgd = RnnLm(V, 4, 4, seed=0), RnnLm(V, 4, 4, seed=0), SGD(lr=0.5, clip_norm=0.25)
        history = Trainer(net, Corpus(TEXT, 3, 5), epochs=2, **OPTIONS).train()
        losses = []
        for _ in range(2):
            by_hand.reset_state()
            for x, t in Corpus(TEXT, 3, 5):
                sgd.update(by_hand.params, by_hand.gradient(x, t))
                losses.append(float(by_hand.last_loss))
        assert history.train_loss_list == losses
        assert net.layers["LSTM1"].h is None

    def test_rows_of_arrays_begin_with_zeros(self) -> None:
        x, t = np.concatenate([X, X[:2]]), np.concatenate([T, T[:2]])
        runs = []
        for stateful in (True, False):
            net = RnnLm(V, 4, 4, stateful=stateful, seed=0)
            trainer = Trainer(net, x, t, x, t, epochs=2, mini_batch_size=2, **OPTIONS)
            history = trainer.train()
            runs.append((history.train_loss_list, history.test_loss_list, history.test_acc_list))
        assert runs[0] == runs[1]

    def test_a_run_goes_on_from_a_checkpoint_within_an_epoch(self, tmp_path: Any) -> None:
        class Stop(xpdl.Callback):
            def on_batch_begin(self, trainer: Any, step: int) -> None:
                if step == 9:
                    raise KeyboardInterrupt

        def run(path: Any, *callbacks: Any) -> Any:
            net = RnnLm(V, 4, 4, seed=0)
            options = {"checkpoint": path, "checkpoint_every": 4, "callbacks": callbacks}
            return net, Trainer(net, Corpus(TEXT, 3, 5), epochs=2, **OPTIONS, **options)

        whole, trainer = run(tmp_path / "whole")
        history = trainer.train()
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "run", Stop())[1].train()
        net, trainer = run(tmp_path / "run")
        assert trainer.train().train_loss_list == history.train_loss_list
        for name, value in nonempty(whole.params.items()):
            np.testing.assert_array_equal(net.params[name], value)

    def test_perplexity_is_the_exponential_of_the_loss(self) -> None:
        net = RnnLm(V, 4, 4, seed=0)
        history = Trainer(net, X, T, X, T, epochs=2, metrics=["perplexity"], **OPTIONS).train()
        found = history.metrics["test_perplexity"]
        assert found == pytest.approx([math.exp(loss) for loss in history.test_loss_list], rel=1e-5)

    @pytest.mark.exhaustive
    def test_half_precision(self) -> None:
        net = RnnLm(V, 8, 8, dropout_ratio=0.0, seed=0)
        text = np.arange(91) % V
        options = {**OPTIONS, "optimizer": "Adam", "optimizer_param": None, "precision": "float16"}
        trainer = Trainer(net, Corpus(text, 3, 5), epochs=30, **options)
        assert trainer.train().epoch_loss_list[-1] < 0.1

    @pytest.mark.exhaustive
    @pytest.mark.backends("precompiled")
    @pytest.mark.skip_backend("meta", reason="has no values")
    @pytest.mark.skip_backend("nosync", reason="training reads its losses")
    def test_trains_and_writes_alike_on_every_backend(self, backend: Backend) -> None:
        def run() -> Any:
            net = RnnLm(V, 4, 4, seed=0)
            history = Trainer(net, Corpus(TEXT.astype(np.int32), 3, 5), epochs=1, **OPTIONS).train()
            return history.train_loss_list, net.generate([1, 2], sample_size=5, seed=0)

        want, text = run()
        with backend.use("float32"):
            found, there = run()
        np.testing.assert_allclose(found, want, rtol=1e-4)
        assert there == text


class TestGenerate:
    def test_draws_by_the_probabilities_after_the_words_before(self) -> None:
        net = moved_net()
        text = net.generate([3, 1], sample_size=4, seed=2)
        assert text[:2] == [3, 1] and len(text) == 6
        net.reset_state()
        draw = Sampler(1.0, 2, "test")
        scores = net.predict(np.asarray([text]))[0]
        assert [int(draw(scores[k : k + 1])[0]) for k in range(1, 5)] == text[2:]

    def test_one_seed_is_one_text_and_another_another(self) -> None:
        net, texts = moved_net(), []
        for seed in (0, 0, 1):
            net.reset_state()
            texts.append(net.generate(3, sample_size=20, seed=seed))
        assert texts[0] == texts[1] != texts[2]

    def test_goes_on_from_its_states(self) -> None:
        net = moved_net()
        whole = net.generate(3, sample_size=6, temperature=0)
        net.reset_state()
        first = net.generate(3, sample_size=2, temperature=0)
        assert [*first[:-1], *net.generate(first[-1], sample_size=4, temperature=0)] == whole

    def test_begins_with_zeros_after_a_training_batch(self) -> None:
        net, fresh = moved_net(), moved_net()
        net.predict(X)
        assert net.generate(3, sample_size=5, seed=0) == fresh.generate(3, sample_size=5, seed=0)

    def test_nets_that_keep_no_states_do_while_they_write(self) -> None:
        net, other = moved_net(stateful=False), moved_net()
        for _ in range(2):
            other.reset_state()
            assert net.generate([3, 2], sample_size=6, seed=0) == other.generate([3, 2], sample_size=6, seed=0)
        assert not net.layers["LSTM1"].stateful and net.layers["LSTM1"].h is None

    @pytest.mark.parametrize("options", [{}, {"stateful": False}, {"depth": 1, "tie_weights": False}])
    def test_texts_of_a_batch_are_those_of_each_alone(self, options: dict[str, Any]) -> None:
        net, prompts = moved_net(**options), [[3], [1, 2, 5, 0], [6, 6], [0, 1, 2, 3, 4, 5, 6, 0, 1]]
        found = net.generate(prompts, sample_size=12, temperature=0)
        for text, prompt in nonempty(list(zip(found, prompts, strict=True))):
            net.reset_state()
            assert net.generate(prompt, sample_size=12, temperature=0) == text
        rows = np.zeros((4, 11), int)
        for row, prompt in zip(rows, prompts, strict=True):
            row[: len(prompt)] = prompt
        assert net.generate(rows, sample_size=12, temperature=0, lengths=list(map(len, prompts))) == found

    def test_several_texts_leave_the_states_as_they_are(self) -> None:
        net = moved_net()
        whole = net.generate([2, 4], sample_size=7, temperature=0)
        net.reset_state()
        first = net.generate([2, 4], sample_size=3, temperature=0)
        net.generate([[1], [2, 3]], sample_size=5)
        assert [*first[:-1], *net.generate(first[-1], sample_size=4, temperature=0)] == whole

    def test_scores_of_a_batch_are_those_of_each_alone(self, monkeypatch: pytest.MonkeyPatch) -> None:
        net, prompts, seen, draw = moved_net(), [[3], [1, 2, 5, 0]], [], Sampler.__call__
        monkeypatch.setattr(Sampler, "__call__", lambda self, s: (seen.append(s.copy()), draw(self, s))[1])
        net.generate(prompts, sample_size=5, temperature=0)
        together = np.stack(seen)
        for row, prompt in nonempty(list(enumerate(prompts))):
            seen.clear()
            net.reset_state()
            net.generate(prompt, sample_size=5, temperature=0)
            first = len(prompt) - 1
            np.testing.assert_allclose(together[first : first + 5, row], np.stack(seen)[:, 0], rtol=1e-12)

    def test_each_text_ends_with_its_stop_word(self) -> None:
        net, prompts = moved_net(), [[3], [1, 2, 5, 0], [6, 6]]
        whole = net.generate(prompts, sample_size=40, seed=1)
        stop = whole[0][4]
        found = net.generate(prompts, sample_size=40, seed=1, stop=stop)
        cut = [text[: text.index(stop, len(prompt)) + 1] for text, prompt in zip(whole, prompts, strict=True)]
        assert found == cut and len({len(text) for text in found}) > 1

    def test_draws_among_the_likeliest(self) -> None:
        net = moved_net()
        likeliest = net.generate(3, sample_size=9, temperature=0)
        net.reset_state()
        assert net.generate(3, sample_size=9, top_k=1, seed=0) == likeliest
        net.reset_state()
        assert net.generate(3, sample_size=9, top_p=1e-9, seed=0) == likeliest

    def test_skipped_ids_are_not_drawn(self) -> None:
        text = moved_net().generate(3, [0, 1, 2, 4, 5], sample_size=60, seed=0)
        assert set(text[1:]) == {3, 6}

    @pytest.mark.parametrize(
        ("first", "second"),
        [
            (((), {"count": 9}), ((9,), {})),
            (((9,), {}), ((None, 9), {})),
            (((9,), {}), ((), {"sample_size": 9})),
            (((9,), {"skip_ids": [0, 2]}), (([0, 2], 9), {})),
            (((9,), {"skip_ids": [0, 2]}), ((np.asarray([0, 2]),), {"sample_size": 9})),
            (((100,), {"skip_ids": [0, 2]}), (([0, 2],), {})),
            (((100,), {}), ((), {})),
        ],
    )
    def test_takes_the_order_of_gpt_and_that_of_the_second_volume(self, first: Any, second: Any) -> None:
        net = moved_net()
        texts = []
        for order, options in (first, second):
            net.reset_state()
            texts.append(net.generate(3, *order, seed=0, **options))
        assert texts[0] == texts[1]
        assert len(texts[0]) == 1 + (first[0] or (9,))[0]

    @pytest.mark.parametrize(
        ("arguments", "error"),
        [
            ({"start_id": V}, LabelError),
            ({"start_id": []}, ShapeError),
            ({"start_id": 1.5}, xpdl.DTypeError),
            ({"start_id": 0, "skip_ids": [-1]}, LabelError),
            ({"start_id": 0, "skip_ids": range(V)}, ShapeError),
            ({"start_id": 0, "temperature": -1.0}, ValueError),
            ({"start_id": 0, "sample_size": 0}, ShapeError),
            ({"start_id": 0, "seed": "a"}, TypeError),
            ({"start_id": [[1, 2], []]}, ShapeError),
            ({"start_id": [[1, 2], [V]]}, LabelError),
            ({"start_id": [[1, 2]], "lengths": [3]}, ValueError),
            ({"start_id": 0, "stop": V}, LabelError),
            ({"start_id": 0, "top_p": 2.0}, ValueError),
        ],
    )
    def test_wrong_arguments(self, arguments: dict[str, Any], error: Any) -> None:
        with pytest.raises(error, match=r"RnnLm\.generate|generate"):
            moved_net().generate(**arguments)


class TestSampler:
    def test_shares_are_the_probabilities(self) -> None:
        scores = np.log(np.asarray([0.5, 0.3, 0.2]))
        for temperature in (1.0, 2.0):
            draws = Sampler(temperature, 0, "test")(np.tile(scores, (20000, 1)))
            want = np.exp(scores / temperature) / np.exp(scores / temperature).sum()
            np.testing.assert_allclose(np.bincount(draws) / 20000, want, atol=0.015)

    def test_rows_are_drawn_by_themselves(self) -> None:
        scores = np.full((4, 3), -np.inf)
        scores[np.arange(4), [2, 0, 1, 2]] = 0.0
        assert Sampler(1.0, 0, "test")(scores).tolist() == [2, 0, 1, 2]

    def test_nan_is_an_error(self) -> None:
        with pytest.raises(ValueError, match="test: scores of the net are NaN"):
            Sampler(1.0, 0, "test")(np.asarray([[np.nan, 0.0]]))


@pytest.mark.parametrize(
    ("batches", "in_order"),
    [
        (lambda: xpdl.data.ContiguousWindows(TEXT, 2, 3), True),
        (lambda: xpdl.data.Prefetch(xpdl.data.ContiguousWindows(TEXT, 2, 3)), True),
        (lambda: [*xpdl.data.RandomWindows(TEXT, 2, 3, batches=4, seed=0)], True),  # of somebody else
        (lambda: xpdl.data.Batches(X, T, 1, shuffle=False), True),
        (lambda: xpdl.data.Batches(X, T, 1, seed=0), False),
        (lambda: xpdl.data.RandomWindows(TEXT, 2, 3, batches=4, seed=0), False),
        (lambda: xpdl.data.Prefetch(xpdl.data.RandomWindows(TEXT, 2, 3, batches=4, seed=0)), False),
        (lambda: xpdl.data.PaddedBatches(list(X), list(T), 1, seed=0), False),
    ],
)
def test_batches_that_are_drawn_or_shuffled_begin_with_states_of_zeros(batches: Any, in_order: bool) -> None:
    found = []
    for stateful in (True, False):
        net = RnnLm(V, 4, 4, dropout_ratio=0.0, stateful=stateful, seed=0)
        xpdl.Trainer(net, batches(), epochs=2, optimizer=SGD(1.0), verbose=False, seed=0).train()
        found.append(np.concatenate([np.ravel(value) for value in net.params.values()]))
    assert np.array_equal(*found) is not in_order


def test_states_that_go_on_are_refused_where_ranks_give_rows_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    communicator = Communicator()
    monkeypatch.setattr(communicator, "size", 2)
    net = RnnLm(V, 4, 4, seed=0)

    def own_rows(epoch: int, rank: int, ranks: int) -> Any:
        return iter(xpdl.data.ContiguousWindows(TEXT[rank::ranks], 2, 3))

    message = "LSTM1 goes on with the states of the batch before, and a checkpoint does not know the rows that a rank"
    with pytest.raises(ValueError, match=message):
        streamed(own_rows, net, 0, None, {}, communicator)
    assert is_in_order(streamed(xpdl.data.ContiguousWindows(TEXT, 2, 3), net, 0, None, {}, communicator))
    drawn = streamed(xpdl.data.RandomWindows(TEXT, 2, 3, seed=0), net, 0, None, {}, communicator)
    assert not is_in_order(drawn)


def test_perplexity_of_a_text_by_hand() -> None:
    net, ids = moved_net(), TEXT[:23]
    rows = ids[:-1].reshape(2, 11), ids[1:].reshape(2, 11)
    net.reset_state()
    scores = net.predict(rows[0])
    y = np.exp(scores) / np.exp(scores).sum(axis=-1, keepdims=True)
    want = np.exp(-np.log(np.take_along_axis(y, rows[1][..., None], axis=-1)).mean())
    assert net.perplexity(ids, 2, 4) == pytest.approx(want, rel=1e-12) == net.perplexity(ids.tolist(), 2, 100)
    with pytest.raises(ShapeError, match="30 rows need more than 30 words, got 23"):
        net.perplexity(ids, 30)
    next(iter(net.layers.values())).W[...] *= 1e6  # a loss beyond 709
    assert net.perplexity(ids, 2, 4) == math.inf


def test_perplexity_of_probabilities() -> None:
    y = np.asarray([[[0.5, 0.5], [0.1, 0.9]], [[1.0, 0.0], [0.25, 0.75]]])
    t = np.asarray([[0, 0], [0, 1]])
    want = (0.5 * 0.1 * 1.0 * 0.75) ** (-1 / 4)
    assert xpdl.metrics.perplexity(y, t) == pytest.approx(want)
    assert xpdl.metrics.perplexity(y, np.eye(2)[t]) == pytest.approx(want)
    assert xpdl.metrics.perplexity(y, np.asarray([[0, 0], [1, 1]])) == math.inf
    ignored = np.asarray([[0, -1], [-1, 1]])
    assert xpdl.metrics.perplexity(y, ignored, ignore_label=-1) == pytest.approx((0.5 * 0.75) ** (-1 / 2))
    assert math.isnan(xpdl.metrics.perplexity(y, np.full((2, 2), -1), ignore_label=-1))
    with pytest.raises(ShapeError, match="perplexity"):
        xpdl.metrics.perplexity(y, t[:, :1])


def test_files_make_an_equal_model(tmp_path: Any) -> None:
    for options in ({}, {"tie_weights": False, "depth": 1, "dropout_ratio": 0.0, "stateful": False}):
        net, path = RnnLm(V, 4, 4, seed=1, **options), tmp_path / "net.safetensors"
        net.save(path)
        again = xpdl.load_model(path)
        assert type(again) is RnnLm and repr(again) == repr(net)
        assert again.generate(3, sample_size=9, seed=0) == net.generate(3, sample_size=9, seed=0)


def test_tied_weights_are_one_array() -> None:
    net = RnnLm(V, 4, 4, seed=0)
    assert "Affine.W" not in net.params and RnnLm(V, 4, 5, seed=0).params["Affine.W"].shape == (5, V)
    with pytest.raises(
        ShapeError, match="wordvec_size=4 and hidden_size=5; make them equal, or pass tie_weights=False"
    ):
        RnnLm(V, 4, 5, tie_weights=True)
    frozen = RnnLm(V, 4, 4, seed=0)
    frozen.layers["Embedding"].trainable = False
    assert frozen.gradient(X, T).keys() == net.gradient(X, T).keys() - {"Embedding.W"}
    frozen.layers["Affine"].trainable = False
    frozen.reset_state()
    assert "Affine.b" not in frozen.gradient(X, T)


def test_steps_that_keep_states_are_not_recorded_as_cuda_graphs(monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = SimpleNamespace(warm_up=0, traces_steps=False)
    monkeypatch.setattr("xpdl.models.compiled_step.compiler_for", lambda backend, owner: recorder)
    monkeypatch.setattr("xpdl.models.compiled_step.RecordedStep", lambda *args: "recorded")
    net, other = RnnLm(V, 4, 4, seed=0), RnnLm(V, 4, 4, stateful=False, seed=0)
    assert other.compiled_step(SGD(0.1))._compiled((X, T), True) == "recorded"
    with pytest.raises(RuntimeError, match="LSTM1 goes on with the states of the batch before"):
        net.compiled_step(SGD(0.1))._compiled((X, T), True)
    step = net.compiled_step(SGD(0.1))
    with pytest.warns(UserWarning, match="all are made eagerly: LSTM1 goes on"):
        assert step.replay(X, T) is None
