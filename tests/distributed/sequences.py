"""Cases of `equal_to_one_process` with words and sequences: options of a `Trainer`, by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import xpdl

_rng = np.random.default_rng(4)
LETTERS = np.arange(60) ** 2 % 5
WORDS = _rng.integers(0, 9, 50)
CONTEXTS, TARGETS = xpdl.data.create_contexts_target(WORDS, window_size=2)
QUESTIONS = _rng.integers(1, 7, (23, 5))
ANSWERS = np.concatenate([np.zeros((23, 1), int), QUESTIONS[:, ::-2]], axis=1)
SENTENCES = [_rng.integers(1, 5, length) for length in _rng.integers(3, 8, 31)]


def rows(network: Any, x: Any, t: Any, tested: int = 11, **options: Any) -> dict[str, Any]:
    x_test, t_test = (np.resize(a, (tested, *a.shape[1:])) for a in (x, t))
    return {"network": network, "x_train": x, "t_train": t, "x_test": x_test, "t_test": t_test, **options}


def text(network: Any, batches: Any, **options: Any) -> dict[str, Any]:
    tested = {"x_test": LETTERS[:40].reshape(10, 4), "t_test": LETTERS[1:41].reshape(10, 4)}
    return {"network": network, "x_train": batches, **tested, **options}


def rnn_lm() -> xpdl.RnnLm:
    return xpdl.RnnLm(5, 6, 6, dropout_ratio=0.3, seed=1)


def ignoring_padding() -> xpdl.Sequential:
    layers = xpdl.Embedding(5, 6), xpdl.LSTM(units=6), xpdl.Affine(units=5, axis=-1)
    return xpdl.Sequential(*layers, loss=xpdl.SoftmaxWithLoss(ignore_label=-1), seed=1)


def gpt(**options: Any) -> xpdl.GPT:
    return xpdl.GPT(5, context=8, width=8, heads=2, depth=2, dropout=0.2, seed=1, **options)


def padded() -> xpdl.data.PaddedBatches:
    """Sentences of several lengths: ranks have other numbers of targets, as padding is none."""
    return xpdl.data.PaddedBatches([ids[:-1] for ids in SENTENCES], [ids[1:] for ids in SENTENCES], 7, seed=2)


def seq2seq(kind: Any, **options: Any) -> dict[str, Any]:
    return rows(kind(7, 5, 6, seed=1), QUESTIONS, ANSWERS, mini_batch_size=7, **options)


CASES: dict[str, Callable[[], dict[str, Any]]] = {
    # measured in passes of 200 rows, of which ranks have parts
    "CBOW": lambda: rows(xpdl.CBOW(9, 5, 2, WORDS, seed=1), CONTEXTS, TARGETS, tested=450),
    "SkipGram": lambda: rows(xpdl.SkipGram(9, 5, 2, WORDS, seed=1), TARGETS, CONTEXTS, accumulate_grad_batches=2),
    "SkipGram, fewer rows than ranks": lambda: rows(
        xpdl.SkipGram(9, 5, 2, WORDS, sample_size=3, seed=1), TARGETS, CONTEXTS, mini_batch_size=3
    ),
    "sharded CBOW": lambda: rows(
        xpdl.CBOW(9, 5, 2, WORDS, seed=1), CONTEXTS, TARGETS, optimizer="Adam", shard_optimizer=True
    ),
    "windows of a text, states of zeros": lambda: text(
        rnn_lm(), xpdl.data.RandomWindows(LETTERS, 7, 4, batches=5, seed=2)
    ),
    # each rank has rows of its own, and their states
    "a text in order": lambda: text(rnn_lm(), xpdl.data.ContiguousWindows(LETTERS, 5, 3)),
    "a text in fewer rows than ranks": lambda: text(
        rnn_lm(), xpdl.data.ContiguousWindows(LETTERS, 2, 6), accumulate_grad_batches=2
    ),
    "a text in order, of a generator": lambda: text(
        rnn_lm(), lambda: iter(xpdl.data.ContiguousWindows(LETTERS, 5, 3)), optimizer=xpdl.Adam(clip_norm=0.1)
    ),
    "sentences of several lengths": lambda: text(ignoring_padding(), padded()),
    "GPT": lambda: text(gpt(), xpdl.data.RandomWindows(LETTERS, 7, 8, batches=5, seed=2), optimizer="AdamW"),
    "GPT, rotary": lambda: text(
        gpt(rotary=True, tied=False), xpdl.data.RandomWindows(LETTERS, 7, 8, batches=5, seed=2)
    ),
    "Seq2seq": lambda: seq2seq(xpdl.Seq2seq),
    "PeekySeq2seq": lambda: seq2seq(xpdl.PeekySeq2seq, optimizer="Adam"),
    "AttentionSeq2seq": lambda: seq2seq(xpdl.AttentionSeq2seq, accumulate_grad_batches=2),
    "Seq2seq, sharded": lambda: seq2seq(xpdl.Seq2seq, optimizer="Adam", shard_optimizer=True),
}
