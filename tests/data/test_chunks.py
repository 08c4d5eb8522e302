"""Batches over pieces: every row once, whole batches across their borders, and labels looked at on the way in."""

import itertools

import numpy as np
import pytest

from tests.harness import nonempty
from xpdl import Batches, ChunkedBatches, LabelError, MixedArraysError, ShapeError
from xpdl.backends.random import Stream

SIZES = (4, 1, 7, 3)
X, T = np.arange(30.0).reshape(15, 2), np.arange(15)
BORDERS = np.cumsum((0, *SIZES))
CHUNKS = [(X[a:b], T[a:b]) for a, b in itertools.pairwise(BORDERS)]


def labels(batches):
    return [t.tolist() for _, t in batches]


def in_order(batches):
    return np.concatenate([t for _, t in batches])


def passes():
    yield from CHUNKS


@pytest.mark.backends("values")
@pytest.mark.skip_backend("jit", reason="iteration is not traced")
@pytest.mark.parametrize("shuffle", [False, True])
def test_every_row_once_on_every_backend(backend, shuffle):
    chunks = [(backend.asarray(x), backend.asarray(t)) for x, t in CHUNKS]
    with backend.rules():
        found = list(ChunkedBatches(chunks, 4, shuffle=shuffle, seed=0))
    expected = list(ChunkedBatches(CHUNKS, 4, shuffle=shuffle, seed=0))
    assert [t.shape[0] for _, t in found] == [4, 4, 4, 3]
    for (x, t), (expected_x, expected_t) in zip(found, expected, strict=True):
        backend.check(t, expected_t)
        backend.check(x, X[expected_t])
        np.testing.assert_array_equal(expected_x, X[expected_t])
    assert sorted(in_order(expected)) == list(range(15))


@pytest.mark.parametrize("chunks", [CHUNKS, tuple(CHUNKS), passes, lambda: CHUNKS])
@pytest.mark.parametrize("size", [1, 2, 5, 15, 100])
def test_without_shuffling_they_are_those_of_the_whole(chunks, size):
    assert labels(ChunkedBatches(chunks, size, shuffle=False)) == labels(Batches(X, T, size, shuffle=False))


def test_last_one_is_dropped_if_asked():
    assert labels(ChunkedBatches(CHUNKS, 4, shuffle=False, drop_last=True)) == np.arange(12).reshape(3, 4).tolist()


class TestOrder:
    def test_depends_on_seed_and_epoch(self):
        one, other = ChunkedBatches(CHUNKS, 4, seed=0), ChunkedBatches(CHUNKS, 4, seed=0)
        first, second = labels(one), labels(one)
        other.epoch = 1
        assert labels(other) == second != first and one.epoch == other.epoch == 2
        assert labels(ChunkedBatches(CHUNKS, 4, seed=1)) != first

    def test_a_pass_that_is_left_early_counts(self):
        one, whole = ChunkedBatches(CHUNKS, 4, seed=0), ChunkedBatches(CHUNKS, 4, seed=0)
        passes = [labels(whole) for _ in range(3)]
        assert [next(iter(one))[1].tolist() for _ in range(3)] == [batches[0] for batches in passes] and one.epoch == 3

    def test_of_pieces_changes_and_so_do_rows_within(self):
        orders = set()
        inside = set()
        batches = ChunkedBatches(CHUNKS, 15, seed=0)
        for _ in range(20):
            (order,) = labels(batches)
            piece = np.searchsorted(BORDERS, order, side="right") - 1
            found = [int(p) for p, before in zip(piece, [-1, *piece[:-1]], strict=True) if p != before]
            assert sorted(found) == [0, 1, 2, 3]  # pieces stay together
            orders.add(tuple(found))
            inside.add(tuple(t for t in order if 5 <= t < 12))
        assert len(orders) > 5 and len(inside) > 15

    def test_of_what_a_function_gives_stays(self):
        piece = np.searchsorted(BORDERS, in_order(ChunkedBatches(passes, 4, seed=0)), side="right") - 1
        assert piece.tolist() == [0] * 4 + [1] + [2] * 7 + [3] * 3


def test_one_piece_is_asked_for_at_a_time():
    asked = []

    def pieces():
        for number, chunk in enumerate(CHUNKS):
            asked.append(number)
            yield chunk

    batches = iter(ChunkedBatches(pieces, 4, shuffle=False))
    next(batches)
    assert asked == [0]
    next(batches)
    assert asked == [0, 1, 2]


def test_transform_draws_as_for_batches():
    def noisy(x, stream):
        return x + stream.generator("noise").normal(size=x.shape)

    found = list(ChunkedBatches(CHUNKS, 4, shuffle=False, seed=3, transform=[noisy, np.negative]))
    for number, (x, t) in nonempty(enumerate(found)):
        stream = Stream(3, "epoch 0").child(f"batch {number}").child("transform 0")
        np.testing.assert_array_equal(x, -noisy(X[t], stream))


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("size", [2, 5, 15, 40])
def test_tuples_and_dicts_of_arrays_go_over_the_borders_of_pieces(size, shuffle):
    keys = itertools.cycle([("a", "b"), ("b", "a")])  # in the order of one's own in each piece
    pieces = [((x, {key: {"a": x[:, :1], "b": -x}[key] for key in next(keys)}), (t, 2 * t)) for x, t in CHUNKS]
    seen = []
    for (x, named), (t, twice) in ChunkedBatches(pieces, size, shuffle=shuffle, seed=0):
        np.testing.assert_array_equal(x, X[t])
        np.testing.assert_array_equal(named["a"], X[t][:, :1])
        np.testing.assert_array_equal(named["b"], -X[t])
        np.testing.assert_array_equal(twice, 2 * t)
        seen += t.tolist()
    assert sorted(seen) == T.tolist()


class TestWrong:
    def test_generator_is_used_up(self):
        with pytest.raises(TypeError, match="a generator is used up after one pass; pass the function that makes it"):
            ChunkedBatches(passes(), 4)

    @pytest.mark.parametrize("chunks", [None, 3, iter(CHUNKS)])
    def test_chunks(self, chunks):
        with pytest.raises(TypeError, match="expected a sequence of pairs"):
            ChunkedBatches(chunks, 4)

    def test_sizes(self):
        with pytest.raises(ShapeError, match="ChunkedBatches: batch_size"):
            ChunkedBatches(CHUNKS, 0)

    @pytest.mark.parametrize(
        "chunk, error, message",
        [
            (X, TypeError, r"chunk 1: expected a pair \(x, t\), got ndarray"),
            (None, TypeError, r"chunk 1: expected a pair \(x, t\), got NoneType"),
            ((X[:2], T[:3]), ShapeError, "chunk 1: x and t must have the same number of rows"),
            ((X[:2].tolist(), T[:2]), TypeError, "chunk 1: expected arrays, got list"),
            ((X[:2], np.array([0, 15])), LabelError, "chunk 1: label 15 of row 1 is not one of the 15 classes"),
        ],
    )
    def test_piece_is_named(self, chunk, error, message):
        batches = iter(ChunkedBatches([CHUNKS[0], chunk], 4, shuffle=False, classes=15))
        next(batches)
        with pytest.raises(error, match=f"ChunkedBatches: {message}"):
            next(batches)

    def test_pieces_of_two_libraries_do_not_mix(self):
        import array_api_strict as strict

        chunks = [CHUNKS[1], (strict.asarray(X[:4]), strict.asarray(T[:4]))]
        with pytest.raises(MixedArraysError, match="ChunkedBatches: arrays of array_api_strict and numpy are mixed"):
            list(ChunkedBatches(chunks, 4, shuffle=False))
