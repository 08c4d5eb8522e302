"""Windows over a long text."""

from __future__ import annotations

import numpy as np
import pytest

import xpdl
from tests.harness import nonempty
from xpdl.backends import Backend
from xpdl.backends.random import Stream
from xpdl.data import ContiguousWindows, PaddedBatches, RandomWindows, is_mapped
from xpdl.errors import DTypeError, ShapeError

IDS = np.arange(100) * 3
EACH = pytest.mark.parametrize("windows", [ContiguousWindows, RandomWindows])


@EACH
def test_targets_are_the_next_ids(windows):
    for x, t in nonempty(windows(IDS, 4, 5)):
        np.testing.assert_array_equal(t, x + 3)
        np.testing.assert_array_equal(np.diff(x, axis=1), 3)


@EACH
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32])
def test_small_integers_become_the_library_s_own(windows, dtype):
    for pair in nonempty(windows(np.arange(50, dtype=dtype), 2, 3)):
        assert {a.dtype for a in pair} == {np.dtype("int64")}


@pytest.mark.backends("values")
@pytest.mark.skip_backend("jit", reason="nothing to trace")
@EACH
def test_batches_are_of_the_library_of_the_ids(backend, windows):
    expected = [*windows(IDS, 4, 5, **({"seed": 0} if windows is RandomWindows else {}))]
    made = [*windows(backend.asarray(IDS), 4, 5, **({"seed": 0} if windows is RandomWindows else {}))]
    assert len(made) == len(expected)
    for batch, other in zip(made, expected, strict=True):
        for one, reference in zip(batch, other, strict=True):
            backend.check(one, reference, dtype=str(one.dtype).rpartition(".")[2])


@pytest.mark.backends("values")
@pytest.mark.skip_backend("jit", reason="nothing to trace")
@pytest.mark.parametrize("source", ["contiguous", "random", "padded"])
def test_batches_move_to_a_backend(backend, source):
    with backend.use():
        (x, t), *_ = made(source, backend=xpdl.get_backend())
    for one, reference in zip((x, t), next(iter(made(source))), strict=True):
        backend.check(one, reference)


@EACH
def test_mapped_file_is_not_loaded(windows, tmp_path):
    """64 GB, most of which are a hole in the file."""
    ids = np.memmap(tmp_path / "ids", mode="w+", dtype=np.uint16, shape=(2**35,))
    ids[:100] = IDS
    made = windows(ids, 4, 5)
    x, t = next(iter(made))
    assert not is_mapped((x, t)) and x.shape == t.shape == (4, 5)
    if windows is ContiguousWindows:
        assert x[0].tolist() == IDS[:5].tolist() and t[0].tolist() == IDS[1:6].tolist()


@EACH
@pytest.mark.parametrize(
    ("ids", "error", "message"),
    [
        (np.zeros((3, 3), int), ShapeError, r"expected ids \(N,\), an array of rank 1, got shape \(3, 3\)"),
        (np.zeros(9), DTypeError, "ids must be integers, got float64"),
        ("text", TypeError, "expected arrays, got str"),
        (np.zeros(3, int), ShapeError, "3 ids do not fill"),
    ],
)
def test_ids_that_do_not_fit_are_an_error(windows, ids, error, message):
    with pytest.raises(error, match=message):
        windows(ids, 4, 5)


@EACH
@pytest.mark.parametrize("ranks", [2, 3, 5])
def test_ranks_share_each_batch(windows, ranks):
    options = {"seed": 0} if windows is RandomWindows else {}
    whole = [*windows(IDS, 4, 5, **options)]
    of_ranks = [[*windows(IDS, 4, 5, **options).of_rank(rank, ranks)] for rank in range(ranks)]
    for number, batch in enumerate(nonempty(whole)):
        for part, array in enumerate(nonempty(batch)):
            np.testing.assert_array_equal(np.concatenate([own[number][part] for own in of_ranks]), array)


class TestContiguous:
    def test_rows_go_on_in_the_next_batch(self):
        batches = [*ContiguousWindows(IDS, 3, 4)]
        rows = np.concatenate([x for x, _ in batches], axis=1)
        np.testing.assert_array_equal(rows, IDS[:99].reshape(3, 33))
        np.testing.assert_array_equal(np.concatenate([t for _, t in batches], axis=1), IDS[1:].reshape(3, 33))

    def test_last_windows(self):
        assert [x.shape[1] for x, _ in ContiguousWindows(IDS, 3, 10)] == [10, 10, 10, 3]
        assert [x.shape[1] for x, _ in ContiguousWindows(IDS, 3, 10, drop_last=True)] == [10, 10, 10]
        assert len(ContiguousWindows(IDS, 3, 11)) == len(ContiguousWindows(IDS, 3, 11, drop_last=True)) == 3

    def test_every_pass_is_the_same_and_may_begin_later(self):
        batches = ContiguousWindows(IDS, 3, 10)
        first, again = [*batches], [*batches]
        batches.first_batch = 2
        for one, other in nonempty(zip([*first, *first[2:]], [*again, *batches], strict=True)):
            np.testing.assert_array_equal(one, other)

    def test_drop_last_may_leave_nothing(self):
        with pytest.raises(ShapeError, match="100 ids do not fill 4 windows of 30 and the id after"):
            ContiguousWindows(IDS, 4, 30, drop_last=True)

    def test_stateful_layer_sees_one_text(self):
        table = np.random.default_rng(0).standard_normal((300, 2))
        layer, whole = xpdl.RNN(3, stateful=True), xpdl.RNN(3)
        for one in (layer, whole):
            one.build((33, 2), stream=Stream(0), backend=Backend.of(table))
        in_pieces = [layer.forward(table[x]) for x, _ in ContiguousWindows(IDS, 3, 10)]
        expected = whole.forward(table[IDS[:99].reshape(3, 33)])
        np.testing.assert_allclose(np.concatenate(in_pieces, axis=1), expected, rtol=1e-12)


class TestRandom:
    def test_follows_its_seed_and_the_epoch(self):
        one, other = (RandomWindows(IDS, 4, 5, seed=0) for _ in range(2))
        first, second = [*one], [*one]
        assert not np.array_equal(first, second)
        np.testing.assert_array_equal(first, [*other])
        other.epoch, other.first_batch = 1, 2
        np.testing.assert_array_equal(second[2:], [*other])
        assert not np.array_equal(first, [*RandomWindows(IDS, 4, 5, seed=1)])

    def test_windows_begin_everywhere(self):
        begins = np.concatenate([x[:, 0] for x, _ in RandomWindows(np.arange(12), 50, 3, batches=20, seed=0)])
        assert set(begins.tolist()) == set(range(9))
        assert np.bincount(begins).min() > 70  # of 111

    def test_number_of_batches(self):
        assert len(RandomWindows(IDS, 4, 5)) == 99 // 20 == len([*RandomWindows(IDS, 4, 5)])
        assert len(RandomWindows(IDS, 40, 50)) == 1 and len(RandomWindows(IDS, 4, 5, batches=7)) == 7


PADDED = [np.random.default_rng(row).integers(0, 300, 2 + row % 7) for row in range(30)]


def made(source, **options):
    if source == "contiguous":
        return ContiguousWindows(IDS, 4, 5, **options)
    if source == "random":
        return RandomWindows(IDS, 4, 5, seed=0, **options)
    return PaddedBatches([row[:-1] for row in PADDED], [row[1:] for row in PADDED], 6, seed=0, **options)


class Stop(xpdl.Callback):
    def on_batch_end(self, trainer, step):
        if step == 6:
            raise KeyboardInterrupt


def trained(source, folder, **options):
    layers = [xpdl.Embedding(300, 4), xpdl.Affine(units=300, axis=-1)]
    net = xpdl.Sequential(*layers, loss=xpdl.SoftmaxWithLoss(ignore_label=-1), seed=0)
    options |= {"checkpoint": folder / "run.ckpt", "checkpoint_every": 2, "optimizer": "adam", "seed": 0}
    xpdl.Trainer(net, made(source), epochs=3, verbose=False, **options).train()
    return net.params


@pytest.mark.exhaustive
@pytest.mark.parametrize("source", ["contiguous", "random", "padded"])
def test_interrupted_training_goes_on_bitwise(source, tmp_path):
    (tmp_path / "whole").mkdir()
    whole = trained(source, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        trained(source, tmp_path, callbacks=[Stop()])
    again = trained(source, tmp_path)
    for name, value in nonempty(whole.items()):
        np.testing.assert_array_equal(again[name], value)
