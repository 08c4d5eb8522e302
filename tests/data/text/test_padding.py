"""Sequences of different lengths."""

from __future__ import annotations

import numpy as np
import pytest

import xpdl
from tests.harness import nonempty
from xpdl.data import PaddedBatches, pad_sequences
from xpdl.errors import DTypeError, ShapeError

LENGTHS = np.random.default_rng(0).integers(1, 30, 200)
X = [np.arange(length) + 10 * row for row, length in enumerate(LENGTHS)]
T = np.arange(200)


class TestPad:
    @pytest.mark.backends("values")
    @pytest.mark.skip_backend("jit", reason="nothing to trace")
    def test_is_of_the_backend_in_use(self, backend):
        with backend.use():
            ids, mask = pad_sequences([backend.asarray(np.asarray([3, 4, 5])), [6]], padding=9)
        backend.check(ids, np.asarray([[3, 4, 5], [6, 9, 9]]))
        backend.check(mask, np.asarray([[True, True, True], [True, False, False]]))

    def test_length(self):
        ids, mask = pad_sequences([[1], [2, 3], []], length=4)
        assert ids.tolist() == [[1, 0, 0, 0], [2, 3, 0, 0], [0, 0, 0, 0]] and mask.sum(axis=1).tolist() == [1, 2, 0]
        with pytest.raises(ShapeError, match="a sequence of 2 ids is longer than length=1; cut it, or raise that"):
            pad_sequences([[2, 3]], length=1)

    @pytest.mark.parametrize(
        ("sequences", "error", "message"),
        [
            ([], ShapeError, "has no sequence"),
            ([[[1]]], ShapeError, "expected integers in one row"),
            ([[1, [2]]], ShapeError, "expected integers in one row"),
            ([[0.5]], DTypeError, "expected integers in one row"),
            (["ab"], TypeError, "expected integers in one row, got 'ab'"),
            ([3], TypeError, "expected integers in one row, got 3"),
            (3, TypeError, "must be a list of sequences of ids, got int"),
            ("ab", TypeError, "must be a list of sequences of ids, got str"),
        ],
    )
    def test_what_is_no_sequence_of_ids_is_an_error(self, sequences, error, message):
        for function in (pad_sequences, lambda rows: PaddedBatches(rows, T, 2)):
            with pytest.raises(error, match=message):
                function(sequences)


class TestBatches:
    def test_each_row_comes_once_with_its_target(self):
        rows = []
        for x, t in PaddedBatches(X, T, 16, padding=-7, seed=0):
            for ids, row in zip(x, t, strict=True):
                np.testing.assert_array_equal(ids[: LENGTHS[row]], X[row])
                assert (ids[LENGTHS[row] :] == -7).all()
            assert x.shape[1] == LENGTHS[t].max()
            rows += t.tolist()
        assert sorted(rows) == T.tolist() and rows != sorted(rows, key=LENGTHS.__getitem__)

    def test_lengths_of_a_batch_are_similar(self):
        def padding(pool):
            return sum(x.size - LENGTHS[t].sum() for x, t in PaddedBatches(X, T, 16, pool=pool, seed=0))

        assert padding(50) < padding(4) / 2 < padding(1) / 2

    def test_mask(self):
        for (ids, mask), t in nonempty(PaddedBatches(X, T, 16, mask=True)):
            np.testing.assert_array_equal(mask, np.arange(ids.shape[1]) < LENGTHS[t][:, None])
            assert mask.dtype == bool

    def test_targets_that_are_sequences(self):
        for x, t in nonempty(PaddedBatches(X, [row[:-1] for row in X], 16, target_padding=-1, padding=-2)):
            assert t.shape == (len(x), max(x.shape[1] - 1, 0))
            np.testing.assert_array_equal(t == -1, (x == -2)[:, 1:])
            np.testing.assert_array_equal(t[t != -1], x[:, :-1][t != -1])

    def test_without_shuffle_every_pass_is_the_same(self):
        batches = PaddedBatches(X, T, 16, shuffle=False)
        first, again = ([t.tolist() for _, t in batches] for _ in range(2))
        assert first == again and [row for rows in first for row in rows] == sorted(T.tolist(), key=LENGTHS.__getitem__)

    def test_follows_its_seed_and_the_epoch(self):
        one, other = (PaddedBatches(X, T, 16, seed=0) for _ in range(2))
        first, second = ([t.tolist() for _, t in one] for _ in range(2))
        assert first != second and first == [t.tolist() for _, t in other]
        other.epoch, other.first_batch = 1, 3
        assert second[3:] == [t.tolist() for _, t in other]

    def test_drop_last_takes_rows_of_any_length(self):
        dropped = []
        batches = PaddedBatches(X, T, 15, drop_last=True, seed=0)
        for _ in range(20):
            kept = [row for _, t in batches for row in t.tolist()]
            assert len(kept) == 195
            dropped += set(T.tolist()) - set(kept)
        assert LENGTHS[dropped].mean() < LENGTHS.mean() + 3
        with pytest.raises(ShapeError, match="200 sequences do not fill one batch of 201"):
            PaddedBatches(X, T, 201, drop_last=True)

    @pytest.mark.parametrize("ranks", [2, 3, 20])
    def test_ranks_share_each_batch(self, ranks):
        whole = [*PaddedBatches(X, T, 16, seed=0)]
        of_ranks = [[*PaddedBatches(X, T, 16, seed=0).of_rank(rank, ranks)] for rank in range(ranks)]
        for number, batch in enumerate(nonempty(whole)):
            for part, array in enumerate(nonempty(batch)):
                np.testing.assert_array_equal(np.concatenate([own[number][part] for own in of_ranks]), array)

    def test_as_many_targets_as_sequences(self):
        with pytest.raises(ShapeError, match="200 sequences x have 3 targets t; give one for each"):
            PaddedBatches(X, [0, 1, 2], 16)

    def test_padding_changes_no_state_under_its_mask(self):
        table = np.random.default_rng(0).standard_normal((3000, 2))
        layer = xpdl.LSTM(3, return_sequences=False)
        for (ids, mask), t in nonempty(PaddedBatches(X, T, 16, mask=True)):
            states = layer.forward(table[ids], mask)
            alone = [layer.forward(table[X[row]][np.newaxis])[0] for row in t]
            np.testing.assert_allclose(states, alone, rtol=1e-12, atol=1e-14)
