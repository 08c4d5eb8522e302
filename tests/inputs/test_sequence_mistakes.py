"""First mistakes with texts and sequences: each is one error that names what came, what was expected, and the cure."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import xpdl
from xpdl import data
from xpdl.errors import LabelError, ShapeError
from xpdl.second_volume import NAMES

IDS = np.arange(60) % 5
ROWS, NEXT = IDS[:40].reshape(10, 4), IDS[1:41].reshape(10, 4)
SEQUENCES = np.random.default_rng(0).normal(size=(2, 3, 4)).astype("float32")
CONTEXTS, WORDS = data.create_contexts_target(IDS, 2)
VOCABULARY = xpdl.Vocabulary.characters("abcde")


def gpt() -> Any:
    return xpdl.GPT(5, context=8, width=8, heads=2, depth=1, seed=0)


def rnn_lm() -> Any:
    return xpdl.RnnLm(5, 4, 4, dropout_ratio=0.0, seed=0)


def seq2seq() -> Any:
    return xpdl.Seq2seq(5, 4, 4, seed=0)


def skip_gram() -> Any:
    return xpdl.SkipGram(5, 4, 2, IDS, seed=0)


def cbow() -> Any:
    return xpdl.CBOW(5, 4, 2, IDS, seed=0)


def built(layer: Any) -> Any:
    layer.build((3, 4))
    return layer


def training(net: Any, *rows: Any) -> Any:
    return xpdl.Trainer(net, *rows, epochs=1, verbose=False, seed=0).train()


_TEXT = "; encode a text with xpdl.Vocabulary"
_BATCH = "; x[None] makes a batch of one sequence"
_ORDER = "CBOW takes contexts, then the word to tell, SkipGram the word, then its contexts"

LETTERS = np.array([["a", "b", "c", "d"]])

#: what somebody does -> the error
MISTAKES: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    "a text for GPT": (lambda: gpt().predict("abc"), TypeError, _TEXT),
    "a text for GPT.generate": (lambda: gpt().generate("abc", 3), TypeError, _TEXT),
    "a text for RnnLm.generate": (lambda: rnn_lm().generate("abc"), TypeError, f"start_id must be ids, got 'abc'{_TEXT}"),
    "a text for RnnLm.perplexity": (lambda: rnn_lm().perplexity("abc"), TypeError, f"ids must be ids, got 'abc'{_TEXT}"),
    "a text for Seq2seq.generate": (lambda: seq2seq().generate("1+1", 0, 2), TypeError, _TEXT),
    "a text to train with": (lambda: training(gpt(), "abc", "abc"), TypeError, _TEXT),
    "a text in windows": (lambda: data.RandomWindows("abcdefgh", 2, 3), TypeError, _TEXT),
    "a text in contiguous windows": (lambda: data.ContiguousWindows("abcdefgh", 2, 3), TypeError, _TEXT),
    "a text for contexts": (lambda: data.create_contexts_target("abcdefgh", 2), TypeError, _TEXT),
    "a text for CBOW": (lambda: xpdl.CBOW(5, 4, 2, "a b c"), TypeError, _TEXT),
    "a text for an embedding": (lambda: xpdl.Embedding(5, 4).forward("abc"), TypeError, _TEXT),
    **{
        f"strings for {name}": (mistake, TypeError, "texts with xpdl.Vocabulary")
        for name, mistake in {
            "GPT.predict": lambda: gpt().predict(LETTERS),
            "GPT.predict, a list": lambda: gpt().predict(LETTERS.tolist()),
            "GPT.generate": lambda: gpt().generate(LETTERS, 3),
            "GPT.generate, of different lengths": lambda: gpt().generate([["a"], ["b", "c"]], 3),
            "RnnLm.generate": lambda: rnn_lm().generate(LETTERS),
            "RnnLm.perplexity": lambda: rnn_lm().perplexity(LETTERS[0]),
            "Seq2seq.generate": lambda: seq2seq().generate(LETTERS, 0, 2),
            "Seq2seq.loss": lambda: seq2seq().loss(LETTERS, ROWS[:1]),
            "Embedding": lambda: xpdl.Embedding(5, 4).forward(LETTERS),
            "CBOW": lambda: xpdl.CBOW(5, 4, 2).loss(LETTERS, np.array([1])),
            "SkipGram": lambda: xpdl.SkipGram(5, 4, 2).loss(LETTERS[0], ROWS[:4]),
            "SkipGram, contexts": lambda: xpdl.SkipGram(5, 4, 2).loss(np.array([1]), LETTERS),
            "the text of CBOW": lambda: xpdl.CBOW(5, 4, 2, LETTERS[0]),
            "windows": lambda: data.RandomWindows(LETTERS[0], 2, 3),
            "contiguous windows": lambda: data.ContiguousWindows(LETTERS[0], 2, 3),
            "contexts": lambda: data.create_contexts_target(LETTERS[0], 1),
            "a Trainer": lambda: training(gpt(), LETTERS, ROWS),
        }.items()
    },
    "a list for an embedding": (
        lambda: xpdl.Embedding(5, 4).forward([[1]]),
        TypeError,
        "expected an array of ids, got list; make one with xpdl.asarray(...)",
    ),
    "batches of prompts for RnnLm": (
        lambda: rnn_lm().generate(ROWS[None]),
        ShapeError,
        "RnnLm.generate: start_id must be a prompt (T,), prompts (N, T) of one length, or a list of prompts, of at least "
        "one token, got shape (1, 10, 4)",
    ),
    "rows for a perplexity": (
        lambda: rnn_lm().perplexity(ROWS),
        ShapeError,
        "RnnLm.perplexity: ids must be one text (T,), got shape (10, 4)",
    ),
    "two counts": (
        lambda: rnn_lm().generate([1, 2], 3, 4),
        TypeError,
        "RnnLm.generate: sample_size stands for count, got 3 and 4; pass one of them",
    ),
    "ids to skip twice": (
        lambda: rnn_lm().generate([1, 2], [3], skip_ids=[4]),
        TypeError,
        "RnnLm.generate: got skip_ids twice, [3] and [4]; pass the number of words as count",
    ),
    "a count that is no int": (
        lambda: rnn_lm().generate([1, 2], 2.5),
        ShapeError,
        "RnnLm.generate: count must be an int of at least 1, got 2.5",
    ),
    "a stop beyond the tokens": (
        lambda: gpt().generate([1], 3, stop=9),
        LabelError,
        "GPT.generate: stop: id 9 is not a row of the table of 5, whose ids are 0 to 4",
    ),
    "a negative stop": (lambda: gpt().generate([1], 3, stop=[2, -1]), LabelError, "GPT.generate: stop: id -1 is not"),
    "ids in one row": (
        lambda: training(gpt(), IDS[:-1], IDS[1:]),
        ShapeError,
        "the context, got rows of shape (); cut a text into windows by xpdl.data.RandomWindows",
    ),
    "ids in one row for RnnLm": (lambda: rnn_lm().predict(IDS), ShapeError, f"rows of shape (4,){_BATCH}"),
    "windows longer than the context": (
        lambda: training(gpt(), data.RandomWindows(IDS, 2, 10, seed=0)),
        ShapeError,
        "at most 8 tokens, the context, got rows of shape (10,); cut",
    ),
    "a question": (
        lambda: seq2seq().generate(ROWS[0], 0, 2),
        ShapeError,
        "Seq2seq.generate: x must be questions (N, T), got shape (4,); x[None] makes a batch of one",
    ),
    "questions of other rows": (
        lambda: seq2seq().loss(ROWS, NEXT[:3]),
        ShapeError,
        "Seq2seq: expected questions (N, T) and answers (N, S), got shapes (10, 4) and (3, 3)",
    ),
    "one question to train with": (
        lambda: seq2seq().gradient(ROWS[0], NEXT),
        ShapeError,
        "Seq2seq: expected questions (N, T) and answers (N, S), got shapes (4,) and (10, 3)",
    ),
    "contexts first": (
        lambda: skip_gram().gradient(CONTEXTS, WORDS),
        ShapeError,
        f"SkipGram: t: expected ids of words (N, 4), got shape (56,); {_ORDER}",
    ),
    "contexts first for a Trainer": (
        lambda: training(skip_gram(), CONTEXTS, WORDS),
        ShapeError,
        f"Trainer: t_train: expected ids of words (N, 4), got shape (56,); {_ORDER}",
    ),
    "the word first": (
        lambda: training(cbow(), WORDS, CONTEXTS),
        ShapeError,
        f"expected ids of words (N), got shape (56, 4); {_ORDER}",
    ),
    "padded targets without ignore_label": (
        lambda: gpt().loss(ROWS, NEXT - 1),
        LabelError,
        "labels count from 0, and there is an output for each class; SoftmaxWithLoss(ignore_label=-1) leaves padding out",
    ),
    "scores to decode": (
        lambda: VOCABULARY.decode(np.ones((3, 5))),
        TypeError,
        "Vocabulary.decode: ids must be integers in one row, got float64 of shape (3, 5); decode rows one by one, and take "
        "ids of scores by argmax",
    ),
    "an empty text": (
        lambda: xpdl.Vocabulary.characters(""),
        ValueError,
        "Vocabulary: there are no tokens, got []; give a text that is not empty, or lower min_count",
    ),
    "an array of sequences": (
        lambda: data.PaddedBatches(ROWS, NEXT, 2),
        TypeError,
        "PaddedBatches: x must be a list of sequences of ids, got ndarray; pass list(...) of its rows",
    ),
    **{
        f"a sequence for {type(layer).__name__}": (
            lambda layer=layer: built(layer).forward(SEQUENCES[0]),
            ShapeError,
            f"{type(layer).__name__}: expected sequences (N, T, ",
        )
        for layer in (
            xpdl.RNN(4),
            xpdl.LSTM(4),
            xpdl.GRU(4),
            xpdl.MultiHeadAttention(2),
            xpdl.LearnedPositions(3),
            xpdl.SinusoidalPositions(),
        )
    },
}  # fmt: skip


@pytest.mark.parametrize("name", MISTAKES)
def test_one_clear_error(name):
    mistake, error, message = MISTAKES[name]
    with pytest.raises(error, match=re.escape(message)) as raised:
        mistake()
    if name.startswith("a sequence for"):
        message = _BATCH
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("name", NAMES)
def test_names_of_the_second_volume(name):
    cure = NAMES[name]
    with pytest.raises(
        AttributeError, match=re.escape(f"module 'xpdl' has no attribute '{name}'; {cure} stands for it")
    ):
        getattr(xpdl, name)
    for path in re.findall(r"xpdl\.([\w.]+)", cure):
        assert callable(operator.attrgetter(path)(xpdl))


@pytest.mark.parametrize("temperature", [1e-320, 1e-12])
def test_a_temperature_near_zero_takes_the_likeliest(temperature):
    found = gpt().generate(ROWS, 4, temperature=temperature, seed=0)
    np.testing.assert_array_equal(found, gpt().generate(ROWS, 4, temperature=0))
