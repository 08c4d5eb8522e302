"""Seq2seq and its relatives: beside the same nets in PyTorch, in training, generation and files."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest

import xpdl
from tests.harness import Backend, nonempty
from tests.models import torch_sequences
from xpdl import AttentionSeq2seq, LabelError, PeekySeq2seq, Seq2seq, ShapeError, Trainer
from xpdl.models.attention_seq2seq import Attention

MODELS = (Seq2seq, PeekySeq2seq, AttentionSeq2seq)
RNG = np.random.default_rng(0)
V = 9
X, T = RNG.integers(0, V, (6, 5)), RNG.integers(0, V, (6, 4))

each = pytest.mark.parametrize("model", MODELS)


def moved_net(model: Any, seed: int = 0, sizes: tuple[int, int, int] = (V, 4, 6)) -> Any:
    """A net in float64 with parameters that are not those it begins with."""
    rng = np.random.default_rng(seed)
    with xpdl.use("numpy", dtype="float64"):
        net = model(*sizes, seed=seed)
    for name, value in net.params.items():
        net.params[name] = value + 0.5 * rng.standard_normal(value.shape)
    return net


@each
@pytest.mark.needs("torch")
@pytest.mark.quick(lambda seed: seed == 0)
@pytest.mark.parametrize("seed", range(4))
def test_loss_and_gradients_are_those_of_pytorch(model: Any, seed: int) -> None:
    import torch

    rng = np.random.default_rng(seed)
    n, t, s, v, d, h = (int(rng.integers(2, 7)) for _ in range(6))
    net = moved_net(model, seed, (v, d, h))
    x, answers = rng.integers(0, v, (n, t)), rng.integers(0, v, (n, s))
    grads = net.gradient(x, answers)
    params = {name: torch.tensor(value, requires_grad=True) for name, value in net.params.items()}
    there_x, there_t = torch.tensor(x), torch.tensor(answers)
    scores = torch_sequences.seq2seq(torch, params, there_x, there_t, model.__name__)
    loss = torch.nn.functional.cross_entropy(scores.reshape(-1, v), there_t[:, 1:].reshape(-1))
    loss.backward()
    assert float(net.last_loss) == pytest.approx(loss.item(), rel=1e-12)
    np.testing.assert_allclose(net.predict((x, answers[:, :-1])), scores.detach().numpy(), rtol=0, atol=1e-12)
    assert grads.keys() == params.keys()
    for name, tensor in params.items():
        np.testing.assert_allclose(grads[name], tensor.grad.numpy(), rtol=0, atol=1e-9, err_msg=name)


@each
def test_gradients_are_those_of_differences(model: Any) -> None:
    net = moved_net(model)
    report = xpdl.check_gradients(net, X, T)
    assert report.passed and set(report.errors) == set(net.params)


@each
def test_sample_weight_of_rows_and_of_ids(model: Any) -> None:
    net, weights = moved_net(model), np.asarray([1.0, 0.0, 2.0, 1.0, 0.5, 1.0])
    each_row = [float(net.loss(X[k : k + 1], T[k : k + 1])) for k in range(6)]
    loss = net.loss(X, T, sample_weight=weights)
    assert float(loss) == pytest.approx(np.average(each_row, weights=weights))
    of_ids = np.repeat(weights[:, None], T.shape[1] - 1, axis=1)
    assert float(net.loss(X, T, sample_weight=of_ids)) == pytest.approx(float(loss))


@each
def test_generates_the_id_of_the_highest_score_after_those_before(model: Any) -> None:
    net = moved_net(model)
    answers = net.generate(X, 3, 4)
    assert answers.shape == (6, 4) and answers.dtype.kind == "i"
    so_far = np.concatenate([np.full((6, 1), 3), answers], axis=1)
    np.testing.assert_array_equal(net.predict((X, so_far[:, :-1])).argmax(axis=-1), answers)
    one_by_one = np.concatenate([net.generate(X[k : k + 1], 3, 4) for k in range(6)])
    np.testing.assert_array_equal(one_by_one, answers)
    np.testing.assert_array_equal(net.generate(X, np.full(6, 3), 4), answers)
    np.testing.assert_array_equal(net.generate(X.tolist(), 3, 4), answers)


@each
def test_generation_changes_nothing_of_the_training(model: Any) -> None:
    net, other = moved_net(model), moved_net(model)
    net.generate(X, 3, 4)
    grads = net.gradient(X, T)
    for name, value in nonempty(other.gradient(X, T).items()):
        np.testing.assert_array_equal(grads[name], value)


@each
def test_accuracy_is_the_share_of_answers_without_a_fault(model: Any) -> None:
    net = moved_net(model)
    t = np.concatenate([T[:, :1], net.generate(X, T[:, 0], 3)], axis=1)
    assert net.accuracy(X, t) == 1.0
    t[1, 2] = (t[1, 2] + 1) % V
    t[4, 1:] = (t[4, 1:] + 1) % V
    assert net.accuracy(X, t) == pytest.approx(4 / 6) == net.accuracy(X, t, batch_size=4)


@each
def test_many_rows_are_generated_in_parts(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    net = moved_net(model)
    want = net.generate(X, np.arange(6), 3)
    monkeypatch.setattr("xpdl.models.seq2seq._GENERATED_ROWS", 4)
    np.testing.assert_array_equal(net.generate(X, np.arange(6), 3), want)


def reversed_copies(rows: int) -> tuple[Any, Any]:
    """Questions of three digits, and answers that are the same after a start id 9."""
    x = np.random.default_rng(1).integers(0, 3, (rows, 3))
    return x, np.concatenate([np.full((rows, 1), 3), x], axis=1)


OPTIONS: Any = {"optimizer": "Adam", "optimizer_param": {"lr": 0.03}, "verbose": False, "mini_batch_size": 16}


@each
@pytest.mark.quick(lambda model: model is AttentionSeq2seq)
def test_learns_to_copy_with_a_trainer(model: Any) -> None:
    x, t = reversed_copies(64)
    net = model(4, 8, 16, seed=0)
    trainer = Trainer(net, x, t, x, t, epochs=25, seed=0, **OPTIONS)
    history = trainer.train()
    assert history.test_acc_list[-1] == 1.0
    assert history.test_loss_list[-1] == pytest.approx(float(net.loss(x, t)), rel=1e-5)


@each
@pytest.mark.exhaustive
@pytest.mark.backends("eager")
@pytest.mark.skip_backend("meta", reason="has no values")
@pytest.mark.skip_backend("nosync", reason="training reads its losses")
# JAX compiles every operation for every shape: one net is enough
@pytest.mark.applies(lambda backend, model: backend.library != "jax" or model is AttentionSeq2seq)
def test_trains_alike_on_every_backend(backend: Backend, model: Any) -> None:
    x, t = reversed_copies(8)

    def losses() -> Any:
        net = model(4, 3, 5, seed=0)
        trainer = Trainer(net, x.astype(np.int32), t.astype(np.int32), x, t, epochs=2, seed=0, **OPTIONS)
        history = trainer.train()
        return history.train_loss_list + history.test_loss_list, net.generate(x, 3, 4)

    want, answers = losses()
    with backend.use("float32"):
        found, there = losses()
    np.testing.assert_allclose(found, want, rtol=1e-4)
    assert type(there) is np.ndarray
    np.testing.assert_array_equal(there, answers)


@each
def test_files_make_an_equal_model(model: Any, tmp_path: Any) -> None:
    net, path = model(V, 4, 6, seed=1), tmp_path / "net.safetensors"
    net.save(path)
    again = xpdl.load_model(path)
    assert type(again) is model and repr(again) == repr(net)
    np.testing.assert_array_equal(again.generate(X, 3, 4), net.generate(X, 3, 4))
    other = model(V, 4, 6, seed=2)
    other.load_state_dict(net.state_dict())
    np.testing.assert_array_equal(other.predict((X, T)), net.predict((X, T)))


@each
@pytest.mark.quick(lambda model: model is AttentionSeq2seq)
def test_a_run_goes_on_from_a_checkpoint(model: Any, tmp_path: Any) -> None:
    x, t = reversed_copies(32)

    def run(epochs: int, **options: Any) -> Any:
        net = model(4, 3, 5, seed=0)
        return net, Trainer(net, x, t, epochs=epochs, seed=0, **OPTIONS, **options).train()

    whole, history = run(3)
    run(1, checkpoint=tmp_path / "run")
    net, resumed = run(3, checkpoint=tmp_path / "run")
    assert resumed.train_loss_list == history.train_loss_list
    for name, value in nonempty(whole.params.items()):
        np.testing.assert_array_equal(net.params[name], value)


@each
@pytest.mark.exhaustive
def test_trains_in_half_precision(model: Any) -> None:
    x, t = reversed_copies(64)
    net = model(4, 8, 16, seed=0)
    history = Trainer(net, x, t, x, t, epochs=25, seed=0, precision="float16", **OPTIONS).train()
    assert history.test_acc_list[-1] == 1.0 and net.params["Decoder.LSTM.Wx"].dtype == np.float32


@each
def test_one_seed_is_one_net(model: Any) -> None:
    one, other = model(V, 4, 6, seed=5), model(V, 4, 6, seed=5)
    assert all(np.array_equal(one.params[name], other.params[name]) for name in nonempty(one.params))
    assert not np.array_equal(one.params["Decoder.LSTM.Wx"], model(V, 4, 6, seed=6).params["Decoder.LSTM.Wx"])
    assert not np.array_equal(one.params["Encoder.Embedding.W"], one.params["Decoder.Embedding.W"])


def test_attention_weights_are_those_of_the_last_pass() -> None:
    net = moved_net(AttentionSeq2seq)
    assert net.attention_weights is None
    answers = net.generate(X, 3, 4)
    generated = net.attention_weights
    assert generated.shape == (6, 4, 5)
    np.testing.assert_allclose(generated.sum(axis=-1), 1.0)
    net.predict((X, np.concatenate([np.full((6, 1), 3), answers[:, :-1]], axis=1)))
    np.testing.assert_allclose(net.attention_weights, generated, rtol=1e-12)
    copied = copy.deepcopy(net)
    assert copied.attention_weights is None


def test_attention_by_hand() -> None:
    layer, rng = Attention(), np.random.default_rng(2)
    q, hs = rng.standard_normal((1, 2, 3)), rng.standard_normal((1, 4, 3))
    y = layer.forward(q, hs)
    for s in range(2):
        weights = [np.exp(sum(q[0, s, k] * hs[0, t, k] for k in range(3))) for t in range(4)]
        want = sum(w * hs[0, t] for t, w in enumerate(weights)) / sum(weights)
        np.testing.assert_allclose(y[0, s], want, rtol=1e-12)


@each
class TestErrors:
    def test_wrong_ids(self, model: Any) -> None:
        net = model(V, 4, 6, seed=0)
        with pytest.raises(LabelError, match="id 9 is not a row of the table of 9"):
            net.generate(X, 9, 2)
        wrong = np.array(T)
        wrong[2, 3] = V
        with pytest.raises(LabelError, match="Trainer: t_train"):
            Trainer(net, X, wrong, verbose=False)
        with pytest.raises(LabelError, match="Trainer: x_train"):
            Trainer(net, X + 5, T, verbose=False)

    @pytest.mark.parametrize("t", [T[:, :1], T[:, 0], T[..., None]])
    def test_answers_of_another_shape(self, model: Any, t: Any) -> None:
        net = model(V, 4, 6, seed=0)
        for call in (net.loss, net.gradient, net.accuracy, lambda x, t: Trainer(net, x, t, verbose=False)):
            with pytest.raises(
                ShapeError, match=r"expected answers \(N, S\), a start id and the ids after it, got shape"
            ):
                call(X, t)

    def test_questions_alone_have_no_scores(self, model: Any) -> None:
        net = model(V, 4, 6, seed=0)
        with pytest.raises(TypeError, match="expected a pair, questions and answers so far"):
            net.predict(X)


@each
def test_a_loss_that_becomes_nan_is_explained(model: Any) -> None:
    net = model(V, 4, 6, seed=0)
    net.params["Decoder.Affine.b"] = net.params["Decoder.Affine.b"] + np.float32("nan")
    with pytest.raises(FloatingPointError, match=r"of the parameters, Decoder\.Affine\.b holds NaN"):
        Trainer(net, X, T, verbose=False).train()


@each
@pytest.mark.quick(lambda model: model is AttentionSeq2seq)
@pytest.mark.needs("torch")
def test_backends_compute_the_same_step(model: Any, capsys: pytest.CaptureFixture[str]) -> None:
    net = moved_net(model)
    rows = xpdl.compare_backends(net, (X, T[:, :-1]), T[:, 1:], ["numpy", "torch"])
    assert {row.what for row in rows} >= {"output", "dDecoder.LSTM.Wx", "dEncoder.Embedding.W"}
    assert max(row.differences["torch"] for row in rows) < 1e-12
    assert "AnswerLoss" in capsys.readouterr().out


@each
def test_summary_counts_all_parameters(model: Any, capsys: pytest.CaptureFixture[str]) -> None:
    net = model(V, 4, 6, seed=0)
    net.summary()
    total = sum(value.size for value in net.params.values())
    assert f" {total:,} " in capsys.readouterr().out.splitlines()[-1]
