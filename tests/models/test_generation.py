"""Generation: the same tokens as without the cache, drawing, prompts in a batch, ends of texts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import xpdl
from tests.harness import nonempty
from xpdl import GPT, DTypeError, LabelError, ShapeError
from xpdl.models.key_value_cache import KeyValueCache
from xpdl.models.row_pass import RowPass, fits
from xpdl.models.sampling import Sampler

PROMPTS = np.random.default_rng(0).integers(0, 9, (3, 4))


def net(context: int = 8, dtype: str = "float64", **options: Any) -> GPT:
    """A net whose scores are far apart."""
    with xpdl.use("numpy", dtype=dtype):
        model = GPT(9, context, 8, 2, 2, seed=0, **options)
    rng = np.random.default_rng(1)
    for value in model.params.values():
        value += 0.5 * rng.standard_normal(value.shape)
    return model


def without_cache(model: GPT, prompts: Any, count: int, draw: Sampler) -> Any:
    """The rule of the documentation: past the context, the last half is seen, and from there on up to the context."""
    texts, start = prompts, 0
    for _ in range(count):
        if texts.shape[1] - start > model.context:
            start = texts.shape[1] - max(model.context // 2, 1)
        scores = model.predict(texts[:, start:])[:, -1]
        texts = np.concatenate([texts, draw(scores)[:, None]], axis=1)
    return texts


FORMS: list[dict[str, Any]] = [{}, {"rotary": True}, {"tied": False, "dropout": 0.5}, {"gelu": "none"}]


@pytest.mark.parametrize("options", FORMS)
@pytest.mark.parametrize("context", [1, 5, 8, 40])
def test_tokens_are_those_without_the_cache(options: dict[str, Any], context: int) -> None:
    model = net(context, **options)
    found = model.generate(PROMPTS, 30, seed=5)
    np.testing.assert_array_equal(found, without_cache(model, PROMPTS, 30, Sampler(1.0, 5, "")))
    assert len(set(map(tuple, found))) == 3


@pytest.mark.parametrize("rotary", [False, True])
def test_scores_are_those_without_the_cache(rotary: bool) -> None:
    model, cache = net(rotary=rotary), KeyValueCache(8)
    rows = np.random.default_rng(2).integers(0, 9, (2, 8))
    found = [model.forward_next(part, cache) for part in (rows[:, :3], rows[:, 3:4], rows[:, 4:6], rows[:, 6:])]
    np.testing.assert_allclose(found, model.predict(rows)[:, [2, 3, 5, 7]].swapaxes(0, 1), rtol=1e-12)
    assert cache.length == 8


class TestRowPass:
    """The pass over one token for each text: as by the layers, and left to them where it does not fit."""

    @pytest.mark.parametrize("options", FORMS)
    def test_scores_are_those_of_the_layers(self, options: dict[str, Any]) -> None:
        model, cache, other = net(**options), KeyValueCache(8), KeyValueCache(8)
        assert fits(model)
        row, rows = RowPass(model), np.random.default_rng(2).integers(0, 9, (2, 8))
        for one in (cache, other):
            model.forward_next(rows[:, :2], one)
        for place in nonempty(range(2, 8)):
            expected = model.forward_next(rows[:, place : place + 1], other)
            np.testing.assert_allclose(row(rows[:, place], cache), expected, rtol=1e-12, atol=1e-12)
        assert cache.length == other.length == 8

    def test_generation_goes_through_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        model, calls = net(), []
        run = RowPass.__call__
        monkeypatch.setattr(
            RowPass, "__call__", lambda self, ids, cache: (calls.append(ids.shape), run(self, ids, cache))[1]
        )
        model.generate(PROMPTS, 5)
        assert calls == [(3,)] * 4

    @pytest.mark.parametrize(
        "change",
        [
            lambda model: model.layers["block1"].layers["mlp"].body.layers.update(gelu=xpdl.Relu()),
            lambda model: model.layers["block2"].layers["mlp"].body.layers.update(more=xpdl.Gelu()),
            lambda model: model.layers.update(block1=xpdl.Gelu()),
        ],
    )
    def test_other_layers_are_left_to_themselves(self, change: Any) -> None:
        model = net(40)
        change(model)
        assert not fits(model)
        expected = without_cache(model, PROMPTS, 20, Sampler(1.0, 5, ""))
        np.testing.assert_array_equal(model.generate(PROMPTS, 20, seed=5), expected)

    def test_half_precision_is_left_to_the_layers(self) -> None:
        with xpdl.use("numpy", dtype="float16"):
            model = GPT(9, 8, 8, 2, 2, seed=0)
        assert not fits(model)
        assert model.generate(PROMPTS, 6).shape == (3, 10)


def test_a_token_costs_one_row() -> None:
    class Counting(KeyValueCache):
        rows: list[int]

        def forward(self, layer: Any, x: Any) -> Any:
            if layer is model.layers["tokens"]:
                seen.append(x.shape)
            return super().forward(layer, x)

    model, seen = net(), []
    cache = Counting(8)
    for part in (PROMPTS, PROMPTS[:, :1], PROMPTS[:, 1:2]):
        model.forward_next(part, cache)
    assert seen == [(3, 4), (3, 1), (3, 1)]


def test_rows_of_a_batch_do_not_touch_each_other() -> None:
    model = net()
    together = model.generate(PROMPTS, 20, temperature=0)
    for row, prompt in nonempty(zip(together, PROMPTS, strict=True)):
        np.testing.assert_array_equal(model.generate(prompt, 20, temperature=0), row)


def test_results_have_the_form_of_the_prompts() -> None:
    model = net()
    expected = model.generate(PROMPTS, 5, seed=0)
    assert expected.dtype == PROMPTS.dtype and expected.shape == (3, 9)
    np.testing.assert_array_equal(expected[:, :4], PROMPTS)
    for rows in (PROMPTS.tolist(), [*PROMPTS], [tuple(row) for row in PROMPTS.tolist()]):
        np.testing.assert_array_equal(model.generate(rows, 5, seed=0), expected)
    one = model.generate(PROMPTS[0].tolist(), 5, seed=0)
    assert one.shape == (9,)
    np.testing.assert_array_equal(model.generate(PROMPTS[0].astype("int16"), 5, seed=0), one)
    assert model.generate(PROMPTS.astype("int16"), 5).dtype == np.int16


@pytest.mark.needs("torch")
def test_prompts_of_another_library_come_back_there() -> None:
    import torch

    model = net()
    found = model.generate(torch.tensor(PROMPTS), 20, seed=0)
    assert found.dtype == torch.int64
    np.testing.assert_array_equal(found.numpy(), model.generate(PROMPTS, 20, seed=0))


def test_seeds_repeat_a_text() -> None:
    model = net()
    first, second = model.generate(PROMPTS, 20, seed=0), model.generate(PROMPTS, 20, seed=1)
    np.testing.assert_array_equal(model.generate(PROMPTS, 20, seed=0), first)
    assert (first != second).any()
    with xpdl.backends.random.seeded(3):
        first, second = model.generate(PROMPTS, 20), model.generate(PROMPTS, 20)
    with xpdl.backends.random.seeded(3):
        np.testing.assert_array_equal(model.generate(PROMPTS, 20), first)
    assert (first != second).any()


#: of the prompts in `RAGGED`
SIZES = (1, 7, 3, 12)
RAGGED = [np.random.default_rng(size).integers(0, 9, size).tolist() for size in SIZES]


def padded() -> Any:
    """The prompts in one array; what is behind them would be seen if it were not for the lengths."""
    rows = np.full((len(RAGGED), max(SIZES) + 2), 8)
    for row, prompt in zip(rows, RAGGED, strict=True):
        row[: len(prompt)] = prompt
    return rows


def traced_scores(model: GPT, monkeypatch: pytest.MonkeyPatch, *args: Any, **options: Any) -> Any:
    """The scores that tokens are drawn from, (steps, N, K)."""
    seen, draw = [], Sampler.__call__
    with monkeypatch.context() as patch:
        patch.setattr(Sampler, "__call__", lambda self, scores: (seen.append(scores.copy()), draw(self, scores))[1])
        model.generate(*args, **options)
    return np.stack(seen)


class TestPromptsOfDifferentLengths:
    """In one batch they give what they give one by one."""

    @pytest.mark.exhaustive
    @pytest.mark.parametrize("by_layers", [False, True])
    @pytest.mark.parametrize("options", FORMS[:2])
    @pytest.mark.parametrize("context", [1, 5, 12, 80])
    def test_texts_and_scores_are_those_of_each_alone(
        self, options: Any, context: int, by_layers: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        model = net(context, **options)
        if by_layers:
            monkeypatch.setattr("xpdl.models.generation.fits", lambda model: False)
        together = model.generate(RAGGED, 20, temperature=0)
        scores = traced_scores(model, monkeypatch, RAGGED, 20, temperature=0)
        for row, prompt in nonempty(list(enumerate(RAGGED))):
            alone = model.generate(prompt, 20, temperature=0)
            assert together[row].tolist() == alone.tolist()
            expected = traced_scores(model, monkeypatch, prompt, 20, temperature=0)
            np.testing.assert_allclose(scores[:, row], expected[:, 0], rtol=1e-9, atol=1e-9)

    def test_rows_with_lengths_are_such_prompts(self) -> None:
        model = net()
        expected = model.generate(RAGGED, 9, seed=0)
        found = model.generate(padded(), 9, seed=0, lengths=SIZES)
        assert [text.tolist() for text in found] == [text.tolist() for text in expected]
        assert [text.dtype for text in found] == [np.dtype("int64")] * 4
        of_one_length = model.generate(PROMPTS, 5, seed=0, lengths=[4, 4, 4])
        np.testing.assert_array_equal(np.stack(of_one_length), model.generate(PROMPTS, 5, seed=0))

    def test_each_ends_with_its_stop_token(self) -> None:
        model = net()
        whole = [model.generate(prompt, 40, temperature=0).tolist() for prompt in RAGGED]
        stops = [whole[0][5], whole[3][20]]
        found = model.generate(RAGGED, 40, temperature=0, stop=stops)
        ends = [
            next((k for k in range(len(prompt), len(text)) if text[k] in stops), len(text) - 1)
            for text, prompt in zip(whole, RAGGED, strict=True)
        ]
        assert [text.tolist() for text in found] == [text[: end + 1] for text, end in zip(whole, ends, strict=True)]
        assert len({end - len(prompt) for end, prompt in zip(ends, RAGGED, strict=True)}) > 1

    @pytest.mark.exhaustive
    @pytest.mark.parametrize(
        "library", [pytest.param(name, marks=pytest.mark.needs(name)) for name in ("torch", "jax")]
    )
    def test_other_libraries(self, library: str) -> None:
        few = RAGGED[:3:2]
        expected = [net(6, "float32").generate(prompt, 3, temperature=0).tolist() for prompt in few]
        with xpdl.use(library):
            model, prompts = net(6, "float32").to(library), [xpdl.asarray(prompt) for prompt in few]
            found = model.generate(prompts, 3, temperature=0)
        assert [xpdl.asnumpy(text).tolist() for text in found] == expected
        assert {type(text) for text in found} == {type(prompts[0])}


class TestStopping:
    def test_a_text_ends_with_its_stop_token(self) -> None:
        model = net()
        whole = model.generate(PROMPTS[0], 40, seed=0)
        stop = int(whole[9])
        end = 4 + whole[4:].tolist().index(stop)
        np.testing.assert_array_equal(model.generate(PROMPTS[0], 40, seed=0, stop=stop), whole[: end + 1])

    def test_stop_tokens_of_the_prompt_end_nothing(self) -> None:
        model = net()
        prompt = [3, 3, 3]
        found = model.generate(prompt, 10, temperature=0, stop=3)
        assert len(found) > 3

    def test_rows_that_have_ended_repeat_their_last_token(self) -> None:
        model = net()
        whole = model.generate(PROMPTS, 60, seed=0)
        stops = {int(whole[0, 5]), int(whole[1, 20])}
        found = model.generate(PROMPTS, 60, seed=0, stop=sorted(stops))
        ends = [next((k for k in range(4, 64) if row[k] in stops), 63) for row in whole]
        assert len(set(ends)) > 1 and found.shape == (3, max(ends) + 1)
        for row, full, end in nonempty(zip(found, whole, ends, strict=True)):
            np.testing.assert_array_equal(row[: end + 1], full[: end + 1])
            assert (row[end:] == row[end]).all()


class TestSampler:
    """Shares of many draws, against the probabilities by their definition."""

    scores = np.log(np.array([0.4, 0.1, 0.3, 0.15, 0.05]))

    def shares(self, temperature: float, top_k: int | None, top_p: float | None, count: int = 40000) -> Any:
        tokens = Sampler(temperature, 0, "", top_k=top_k, top_p=top_p)(np.broadcast_to(self.scores, (count, 5)))
        return np.bincount(tokens, minlength=5) / count

    @pytest.mark.parametrize(
        ("options", "expected"),
        [
            ((1.0, None, None), [0.4, 0.1, 0.3, 0.15, 0.05]),
            ((0.5, None, None), np.array([0.16, 0.01, 0.09, 0.0225, 0.0025]) / 0.285),
            ((1.0, 2, None), [4 / 7, 0, 3 / 7, 0, 0]),
            ((1.0, 99, None), [0.4, 0.1, 0.3, 0.15, 0.05]),
            ((1.0, None, 0.71), [0.4 / 0.85, 0, 0.3 / 0.85, 0.15 / 0.85, 0]),
            ((1.0, None, 1e-9), [1, 0, 0, 0, 0]),
            ((1.0, None, 1.0), [0.4, 0.1, 0.3, 0.15, 0.05]),
            ((1.0, 3, 0.4), [1, 0, 0, 0, 0]),  # of the three, 0.4 / 0.85 is more than that
            ((0.0, None, None), [1, 0, 0, 0, 0]),
            ((1e-300, None, None), [1, 0, 0, 0, 0]),
        ],
    )
    def test_draws_by_the_probabilities(self, options: Any, expected: Any) -> None:
        found, expected = self.shares(*options), np.asarray(expected)
        np.testing.assert_allclose(found, expected, atol=0.01)
        assert (found[expected == 0] == 0).all()

    def test_of_equal_scores_the_first_are_kept(self) -> None:
        tokens = Sampler(1.0, 0, "", top_k=2)(np.zeros((1000, 5)))
        assert set(tokens.tolist()) == {0, 1}

    def test_never_draws_what_has_no_probability(self) -> None:
        draw = Sampler(1.0, 0, "")
        draw.generator = type("Largest", (), {"random": staticmethod(lambda size: np.full(size, 1 - 2.0**-53))})()
        assert draw(np.array([[0.0, 0.0, -1e9], [-3.7, 0.3, -np.inf]])).tolist() == [1, 1]

    def test_scores_that_are_nan_are_refused(self) -> None:
        model = net()
        model.layers["norm"].gamma[0] = np.nan
        with pytest.raises(ValueError, match=r"GPT\.generate: scores of the net are NaN; train it anew"):
            model.generate(PROMPTS, 2)

    @pytest.mark.parametrize("options", [{}, {"top_k": 2}, {"top_p": 0.5}], ids=str)
    @pytest.mark.parametrize("temperature", [0.0, 1.0])
    @pytest.mark.parametrize("row", [[0.0, np.inf, 1.0], [np.inf, np.inf, 0.0], [-np.inf, -np.inf, -np.inf]])
    def test_highest_scores_that_are_infinite_are_refused(self, row: Any, temperature: float, options: Any) -> None:
        """As of a net whose sums overflow: differences of such scores are NaN."""
        draw = Sampler(temperature, 0, "RnnLm.generate", **options)
        with pytest.raises(ValueError, match=r"RnnLm\.generate: scores of the net are infinite; train it anew"):
            draw(np.array([[1.0, 2.0, 3.0], row]))


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"ids": []}, ShapeError, r"ids must be a prompt \(T,\), prompts \(N, T\) of one length, or a list of"),
        (
            {"ids": np.zeros((1, 2, 3), int)},
            ShapeError,
            r"a list of prompts, of at least one token, got shape \(1, 2, 3\)",
        ),
        ({"ids": [[1, 2], []]}, ShapeError, r"ids must be prompts of at least one token, got one of shape \(0,\)"),
        ({"ids": [[1, 2], [9]]}, LabelError, r"GPT\.generate: ids: id 9 is not a row of the table of 9"),
        ({"ids": [[1, 2], [[3]]]}, ShapeError, r"GPT\.generate: ids"),
        (
            {"lengths": [2]},
            ShapeError,
            r"lengths must be one for each row of prompts \(N, T\), got shape \(1,\) beside one",
        ),
        ({"ids": PROMPTS, "lengths": [2, 1]}, ShapeError, r"got shape \(2,\) beside 3 of them"),
        ({"ids": PROMPTS, "lengths": [2, 0, 1]}, ValueError, "lengths must be from 1 to 4, .* got 0 in row 1"),
        ({"ids": PROMPTS, "lengths": [2, 4, 5]}, ValueError, "lengths must be from 1 to 4, .* got 5 in row 2"),
        ({"ids": PROMPTS, "lengths": [2.0, 1, 1]}, DTypeError, "lengths must be integers, got float64"),
        ({"ids": [0, 9]}, LabelError, r"GPT\.generate: ids: id 9 is not a row of the table of 9"),
        ({"ids": [0.0, 1.0]}, DTypeError, r"GPT\.generate: ids: ids must be integers, got float64"),
        ({"ids": "text"}, TypeError, "GPT.generate: ids must be an array of rows, a list"),
        ({"count": 0}, ShapeError, r"GPT\.generate: count must be an int of at least 1, got 0"),
        ({"temperature": -1}, ValueError, r"GPT\.generate: temperature must be a finite number at least 0, got -1"),
        ({"top_k": 0}, ShapeError, r"GPT\.generate: top_k must be an int of at least 1, got 0"),
        ({"top_p": 0}, ValueError, r"GPT\.generate: top_p must be a"),
        ({"top_p": 1.5}, ValueError, r"GPT\.generate: top_p must be a probability in \(0, 1\], got 1.5"),
        ({"seed": "a"}, TypeError, "seed must be an int, got 'a'"),
        ({"stop": "a"}, TypeError, r"GPT\.generate: stop must be a token, or a list of tokens, as ints, got 'a'"),
    ],
)
def test_wrong_arguments_are_refused(options: dict[str, Any], kind: Any, message: str) -> None:
    with pytest.raises(kind, match=message):
        net().generate(**{"ids": [0, 1], "count": 2, **options})
