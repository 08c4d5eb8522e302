"""GPT: sizes, initial weights, training in all its ways, files."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import xpdl
from tests.harness import Backend, nonempty
from xpdl import GPT, ShapeError

IDS = np.random.default_rng(0).integers(0, 7, (40, 6))
OPTIONS: Any = {
    "optimizer": "AdamW",
    "optimizer_param": {"lr": 0.01},
    "verbose": False,
    "seed": 0,
    "mini_batch_size": 8,
}
FORMS: dict[str, dict[str, Any]] = {
    "learned positions": {},
    "rotary": {"rotary": True},
    "a head of its own": {"tied": False},
    "dropout": {"dropout": 0.1},
}


def net(**options: Any) -> GPT:
    return GPT(7, 6, 8, 2, 2, **{"seed": 0, **options})


def text(rows: int = 40) -> Any:
    """Ids that count up, from a random one: the next is certain."""
    return (np.random.default_rng(0).integers(0, 7, (rows, 1)) + np.arange(7)) % 7


@pytest.mark.quick(lambda form: form == "rotary")
@pytest.mark.parametrize("form", FORMS)
def test_gradients_are_those_of_differences(form: str) -> None:
    report = xpdl.check_gradients(net(**FORMS[form]), IDS[:3], (IDS[:3] + 1) % 7)
    assert report.passed, report
    assert ("tokens.W" in report.errors) and ("head.W" in report.errors) == (form == "a head of its own")


def test_initial_weights_are_drawn_as_in_gpt2() -> None:
    model = GPT(500, 100, 64, 4, 8, seed=0)
    last = (".Wo", "project.W")
    for name, value in nonempty(model.params.items()):
        if name.endswith(("W", "Wq", "Wk", "Wv", "Wo")):
            std = 0.02 / 4 if name.endswith(last) else 0.02
            assert np.std(value) == pytest.approx(std, rel=0.05), name
        else:
            np.testing.assert_array_equal(value, 1.0 if name.endswith("gamma") else 0.0, err_msg=name)
    assert sum(name.endswith(last) for name in model.params) == 16


def test_one_seed_gives_one_net() -> None:
    first, again, other = net(), net(), net(seed=1)
    assert all(np.array_equal(value, again.params[name]) for name, value in first.params.items())
    assert not np.array_equal(first.params["tokens.W"], other.params["tokens.W"])


def test_a_position_sees_none_that_follow() -> None:
    model = net()
    changed = np.array(IDS)
    changed[:, 4:] = (changed[:, 4:] + 1) % 7
    before, after = model.predict(IDS), model.predict(changed)
    np.testing.assert_array_equal(before[:, :4], after[:, :4])
    assert np.abs(before[:, 4:] - after[:, 4:]).max() > 1e-3


def test_a_tied_head_has_no_parameters_of_its_own() -> None:
    tied, free = net(), net(tied=False)
    assert set(free.params) - set(tied.params) == {"head.W"}
    tied.layers["tokens"].W *= 2  # and the scores follow
    assert np.abs(tied.predict(IDS) - net().predict(IDS)).max() > 1e-3


@pytest.mark.quick(lambda form: form == "learned positions")
@pytest.mark.parametrize("form", FORMS)
def test_learns_what_follows(form: str) -> None:
    rows, model = text(), net(**FORMS[form])
    history = xpdl.Trainer(model, rows[:, :-1], rows[:, 1:], epochs=15, **OPTIONS).train()
    assert history.train_acc_list[-1] > 0.9


def test_a_frozen_embedding_stays_as_it_is() -> None:
    model, rows = net(), text()
    model.layers["tokens"].trainable = False
    before = model.params["tokens.W"].copy()
    xpdl.Trainer(model, rows[:, :-1], rows[:, 1:], epochs=1, **OPTIONS).train()
    np.testing.assert_array_equal(model.params["tokens.W"], before)
    assert "tokens.W" not in model.grads and "positions.W" in model.grads


@pytest.mark.exhaustive
@pytest.mark.backends("eager")
@pytest.mark.skip_backend("meta", reason="has no values")
@pytest.mark.skip_backend("nosync", reason="training reads its losses")
@pytest.mark.parametrize("form", ["learned positions", "rotary"])
def test_trains_and_generates_on_every_backend(backend: Backend, form: str) -> None:
    rows = text(8)
    with backend.use("float32"):
        model = net(**FORMS[form])
        x, t = backend.asarray(rows[:, :-1].astype(np.int32)), backend.asarray(rows[:, 1:].astype(np.int32))
        model.gradient(x, t)
        grads = {name: xpdl.asnumpy(value) for name, value in model.grads.items()}
        losses = xpdl.Trainer(model, x, t, epochs=1, **OPTIONS).train().train_loss_list
        texts = model.generate(x[:2, :3], 8, seed=0)
    reference = net(**FORMS[form])
    reference.gradient(rows[:, :-1], rows[:, 1:])
    for name, value in nonempty(reference.grads.items()):
        np.testing.assert_allclose(grads[name], value, rtol=1e-3, atol=2e-6, err_msg=name)
    history = xpdl.Trainer(reference, rows[:, :-1], rows[:, 1:], epochs=1, **OPTIONS).train()
    np.testing.assert_allclose(losses, history.train_loss_list, rtol=1e-4)
    np.testing.assert_array_equal(xpdl.asnumpy(texts), reference.generate(rows[:2, :3], 8, seed=0))


@pytest.mark.exhaustive
@pytest.mark.parametrize("dtype", ["float16", pytest.param("bfloat16", marks=pytest.mark.needs("torch"))])
def test_trains_in_mixed_precision(dtype: str) -> None:
    rows, model = text(), net()
    if dtype == "bfloat16":
        model.to("torch")
    history = xpdl.Trainer(model, rows[:, :-1], rows[:, 1:], epochs=15, precision=dtype, **OPTIONS).train()
    assert history.train_acc_list[-1] > 0.9


@pytest.mark.exhaustive
@pytest.mark.needs("jax")
def test_a_compiled_step_is_an_eager_one() -> None:
    rows = text(16)
    found = []
    for compile_ in (True, False):
        with xpdl.use("jax"):
            model = GPT(7, 6, 8, 2, 1, dropout=0.1, seed=0)
            x, t = xpdl.asarray(rows[:, :-1], "int32"), xpdl.asarray(rows[:, 1:], "int32")
            xpdl.Trainer(model, x, t, epochs=2, compile=compile_, **OPTIONS).train()
        found.append({name: xpdl.asnumpy(value) for name, value in model.params.items()})
    for name, value in nonempty(found[0].items()):
        np.testing.assert_allclose(value, found[1][name], rtol=1e-3, atol=1e-4, err_msg=name)


@pytest.mark.exhaustive
def test_a_checkpoint_goes_on(tmp_path: Path) -> None:
    rows = text()
    whole, parts = net(dropout=0.1), net(dropout=0.1)
    xpdl.Trainer(whole, rows[:, :-1], rows[:, 1:], epochs=4, **OPTIONS).train()
    path = tmp_path / "run"
    xpdl.Trainer(parts, rows[:, :-1], rows[:, 1:], epochs=2, checkpoint=path, **OPTIONS).train()
    again = net(dropout=0.1)
    xpdl.Trainer(again, rows[:, :-1], rows[:, 1:], epochs=4, checkpoint=path, **OPTIONS).train()
    for name, value in nonempty(whole.params.items()):
        np.testing.assert_array_equal(again.params[name], value, err_msg=name)


@pytest.mark.parametrize("form", FORMS)
def test_files_bring_back_the_net(form: str, tmp_path: Path) -> None:
    model = net(**FORMS[form])
    model.save(tmp_path / "net.safetensors")
    again = xpdl.load_model(tmp_path / "net.safetensors")
    assert type(again) is GPT and again.config == model.config
    np.testing.assert_array_equal(again.predict(IDS), model.predict(IDS))
    if model.tied:  # the table is shared again
        again.layers["tokens"].W *= 2
        assert np.abs(again.predict(IDS) - model.predict(IDS)).max() > 1e-3


def test_pickles_bring_back_the_net() -> None:
    model = net()
    model.gradient(IDS, IDS)
    again = pickle.loads(pickle.dumps(model))
    again.layers["tokens"].W *= 2
    model.layers["tokens"].W *= 2
    np.testing.assert_array_equal(again.predict(IDS), model.predict(IDS))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"heads": 3}, "8 values cannot be cut into 3 heads; choose other heads"),
        ({"heads": 8, "rotary": True}, "8 values cannot be cut into 8 heads of an even size"),
        ({"gelu": "exact"}, "GPT: gelu must be 'tanh' or 'none', got 'exact'"),
        ({"dropout": 1.0}, r"GPT: dropout must be a finite number in \[0, 1\), got 1.0"),
        ({"depth": 0}, "GPT: depth must be an int of at least 1, got 0"),
    ],
)
def test_wrong_sizes_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises((ShapeError, ValueError), match=message):
        GPT(**{"vocab": 7, "context": 6, "width": 8, "heads": 2, "depth": 1, **options})


@pytest.mark.parametrize("rotary", [False, True])
def test_longer_texts_than_the_context_are_refused(rotary: bool) -> None:
    model = net(rotary=rotary)
    message = r"GPT: expected ids \(N, T\) of at most 6 tokens, the context, got rows of shape \(7,\)"
    with pytest.raises(ShapeError, match=message):
        model.predict(text())
    with pytest.raises(ShapeError, match=message):
        xpdl.Trainer(model, text(), text(), verbose=False)


def test_the_summary_counts_the_products() -> None:
    from xpdl.models.summary import layer_costs

    costs = {cost.path: cost for cost in layer_costs(net(), (6,))}
    assert costs["head"].flop == 2 * 6 * 8 * 7 and costs["head"].parameters == 0
    assert costs["block2.mlp.body.expand"].flop == 2 * 6 * 8 * 32
    assert all(cost.flop is not None for cost in costs.values())
