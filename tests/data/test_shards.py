"""Batches of one rank: with those of the other ranks they are the whole batch, and no other rows are read."""

import itertools

import numpy as np
import pytest

from tests import pages
from xpdl.data import Batches, ChunkedBatches, Prefetch

X, T = np.arange(46.0).reshape(23, 2), np.arange(23)
BORDERS = 0, 4, 5, 12, 15, 23


def pieces(x, t):
    return [(x[a:b], t[a:b]) for a, b in itertools.pairwise(BORDERS)]


MAKERS = {
    "rows": lambda x, t, size, **options: Batches(x, t, size, **options),
    "pieces": lambda x, t, size, **options: ChunkedBatches(pieces(x, t), size, **options),
    "function of pieces": lambda x, t, size, **options: ChunkedBatches(lambda: iter(pieces(x, t)), size, **options),
    "prefetched": lambda x, t, size, **options: Prefetch(ChunkedBatches(pieces(x, t), size, **options)),
}
OPTIONS = {
    "in order": {"shuffle": False},
    "shuffled": {},
    "drop_last": {"drop_last": True},
    "transformed": {"transform": lambda x, stream: x + stream.generator("noise").normal(size=x.shape)},
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
@pytest.mark.parametrize(("size", "ranks"), [(7, 2), (7, 3), (10, 4), (23, 3), (23, 1), (2, 2)])
def test_ranks_share_the_rows_of_each_batch_in_their_order(make, options, size, ranks):
    whole = [*make(X, T, size, seed=3, **options)]
    of_ranks = [[*make(X, T, size, seed=3, shard=(rank, ranks), **options)] for rank in range(ranks)]
    assert {len(batches) for batches in of_ranks} == {len(whole)} and whole
    for batch, parts in zip(whole, zip(*of_ranks, strict=True), strict=True):
        counts = [len(t) for _, t in parts]
        if len(batch[1]) >= ranks:
            assert sum(counts) == len(batch[1]) and max(counts) - min(counts) <= 1 and sorted(counts)[::-1] == counts
            for array, shares in zip(batch, zip(*parts, strict=True), strict=True):
                np.testing.assert_array_equal(np.concatenate(shares), array)
        else:  # a rank without rows computes with the first
            assert counts == [1] * ranks
            assert [t[0] for _, t in parts[len(batch[1]) :]] == [batch[1][0]] * (ranks - len(batch[1]))


@pytest.mark.skipif(bool(pages.MISSING), reason=str(pages.MISSING))
@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("name", MAKERS)
def test_a_rank_reads_its_rows_of_a_mapped_file_alone(tmp_path, name, shuffle):
    x = pages.mapped_rows(tmp_path / "x", 23)
    read = []
    for rank in range(3):
        pages.forget(x)
        labels = [t for _, t in MAKERS[name](x, T, 8, shuffle=shuffle, seed=1, shard=(rank, 3))]
        assert pages.rows_touched(x) == set(np.concatenate(labels).tolist())
        read.append(pages.rows_touched(x))
    assert sorted(itertools.chain(*read)) == list(range(23))


@pytest.mark.skipif(bool(pages.MISSING), reason=str(pages.MISSING))
def test_skipped_batches_are_not_read(tmp_path):
    x = pages.mapped_rows(tmp_path / "x", 23)
    for make in MAKERS.values():
        pages.forget(x)
        batches = make(x, T, 8, shuffle=False)
        batches.first_batch = 2
        assert [t.tolist() for _, t in batches] == [[*range(16, 23)]]
        assert pages.rows_touched(x) == set(range(16, 23))
