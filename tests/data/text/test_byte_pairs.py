"""Byte pairs: pieces, training and splitting."""

from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
import pytest

from xpdl.data.text import byte_pairs


def test_pieces_are_words_with_the_blank_before_them():
    assert byte_pairs.pieces("Oh dear!  I'm\n\n  late") == [
        *(b"Oh", b" dear", b"!", b" ", b" I", b"'", b"m", b"\n\n ", b" late")
    ]


def test_bytes_that_are_no_text_are_replaced():
    assert byte_pairs.text_of(b"a\xffb") == "a�b"


def test_most_frequent_pair_is_learnt_first():
    # ab 3 + 2, then abc 3 (before de, 2 times), then de
    tokens = byte_pairs.learn({b"abc": 3, b"ab": 2, b"de": 2, b"f": 9}, 300)
    assert tokens[:256] == [bytes([value]) for value in range(256)]
    assert tokens[256:] == [b"ab", b"abc", b"de"]


@pytest.mark.parametrize("pieces", [[b"cd", b"ab"], [b"ab", b"cd"]])
def test_ties_do_not_depend_on_the_order_of_pieces(pieces):
    assert byte_pairs.learn(dict.fromkeys(pieces, 2), 300)[256:] == [b"ab", b"cd"]


def test_size_is_a_limit():
    assert byte_pairs.learn({b"abc": 3}, 257)[256:] == [b"ab"]


def test_pairs_that_occur_once_are_not_learnt():
    assert byte_pairs.learn({b"abc": 1}, 300) == byte_pairs.SINGLE_BYTES


def test_repeated_bytes_are_joined_from_left_to_right():
    assert byte_pairs.join([b"a"] * 5, b"aa") == [b"aa", b"aa", b"a"]


def test_earlier_tokens_are_joined_first():
    ranks = {token: rank for rank, token in enumerate([b"bc", b"ab"])}
    assert byte_pairs.split(b"abc", ranks) == [b"a", b"bc"]


def learned_naively(counts, size):
    """Count all pairs anew for each token."""
    tokens = [bytes([value]) for value in range(256)]
    while len(tokens) < size:
        pairs = Counter()
        for piece, count in counts.items():
            parts = split_naively(piece, tokens)
            for i in range(len(parts) - 1):
                pairs[parts[i] + parts[i + 1]] += count
        if not pairs or max(pairs.values()) < 2:
            break
        tokens.append(sorted(pairs.items(), key=lambda item: (-item[1], item[0]))[0][0])
    return tokens


def split_naively(piece, tokens):
    parts = [piece[i : i + 1] for i in range(len(piece))]
    while True:
        ranked = [(tokens.index(a + b), i) for i, (a, b) in enumerate(itertools.pairwise(parts)) if a + b in tokens]
        if not ranked:
            return parts
        i = min(ranked)[1]  # one pair at a time
        parts[i : i + 2] = [parts[i] + parts[i + 1]]


@pytest.mark.parametrize("seed", range(12))
def test_equals_training_that_counts_everything_anew(seed):
    rng = np.random.default_rng(seed)
    words = ["".join(rng.choice(list("abc"), rng.integers(1, 9))).encode() for _ in range(40)]
    counts = Counter(words)
    tokens = byte_pairs.learn(counts, 300)
    assert len(tokens) > 260 and tokens == learned_naively(counts, 300)
    ranks = {token: rank for rank, token in enumerate(tokens)}
    for word in ["".join(rng.choice(list("abcd"), 12)).encode() for _ in range(20)]:
        assert byte_pairs.split(word, ranks) == split_naively(word, tokens)
