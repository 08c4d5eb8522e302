"""Batches cover every row once, repeat by seed and epoch, and stay on their device."""

import numpy as np
import pytest

import xpdl
from tests.harness import nonempty
from xpdl import Batches, ChunkedBatches, LabelError, Prefetch, ShapeError, shuffle_dataset

X, T = np.arange(14.0).reshape(7, 2), np.arange(7)
ARRAYS = pytest.mark.backends("values")


def labels(batches):
    return [t.tolist() for _, t in batches]


@ARRAYS
@pytest.mark.skip_backend("jit", reason="iteration is not traced")
class TestOnEveryBackend:
    def test_pass_covers_every_row_once(self, backend):
        x, t = backend.asarray(X), backend.asarray(T)
        with backend.rules():
            found = list(Batches(x, t, 3, seed=0))
        assert [part.shape[0] for part, _ in found] == [3, 3, 1]
        order = np.concatenate([backend.to_numpy(part) for _, part in found])
        assert sorted(order) == list(range(7))
        for part_x, part_t in found:
            backend.check(part_x, X[backend.to_numpy(part_t)])

    def test_order_is_the_same_everywhere(self, backend):
        found = [backend.to_numpy(t).tolist() for _, t in Batches(backend.asarray(X), backend.asarray(T), 3, seed=0)]
        assert found == labels(Batches(X, T, 3, seed=0))

    @pytest.mark.parametrize("shape", [(7,), (7, 2), (7, 1, 2), (7, 1, 2, 1)])
    def test_shuffle_takes_any_rank(self, backend, shape):
        x = np.resize(np.arange(7.0), (np.prod(shape[1:], dtype=int), 7)).T.reshape(shape)
        shuffled, t = shuffle_dataset(backend.asarray(x), backend.asarray(T), seed=3)
        backend.check(shuffled, x[backend.to_numpy(t)])
        assert sorted(backend.to_numpy(t)) == list(range(7))


class TestOrder:
    def test_differs_from_epoch_to_epoch_and_repeats_by_seed(self):
        one, other = Batches(X, T, 3, seed=0), Batches(X, T, 3, seed=0)
        passes = [labels(one) for _ in range(3)]
        assert passes == [labels(other) for _ in range(3)]
        assert passes[0] != passes[1] != passes[2]
        assert labels(Batches(X, T, 3, seed=1)) != passes[0]

    def test_depends_on_seed_and_epoch_alone(self):
        batches = Batches(X, T, 3, seed=0)
        passes = [labels(batches) for _ in range(3)]
        batches.epoch = 1
        assert labels(batches) == passes[1] and batches.epoch == 2

    def test_a_pass_that_is_left_early_counts(self):
        batches, whole = Batches(X, T, 3, seed=0), Batches(X, T, 3, seed=0)
        passes = [labels(whole) for _ in range(4)]
        for number, expected in enumerate(passes):
            assert batches.epoch == number
            iterator = iter(batches)
            assert batches.epoch == number  # until a batch is asked for
            assert next(iterator)[1].tolist() == expected[0] and batches.epoch == number + 1
            batches.epoch = number
            assert labels(batches) == expected

    def test_one_goes_on_where_it_was_left(self):
        batches, whole = Batches(X, T, 3, seed=0), labels(Batches(X, T, 3, seed=0))
        next(iter(batches))
        batches.epoch, batches.first_batch = 0, 1
        assert labels(batches) == whole[1:] and len(batches) == len(whole)

    def test_without_a_seed_follows_xpdl_seed(self):
        found = []
        for n in (1, 1, 2):
            xpdl.seed(n)
            found.append((labels(Batches(X, T, 3)), shuffle_dataset(X, T)[1].tolist()))
        assert found[0] == found[1] != found[2]

    def test_without_shuffling_gives_slices(self):
        found = list(Batches(X, T, 3, shuffle=False))
        assert labels(found) == [[0, 1, 2], [3, 4, 5], [6]]
        assert all(np.shares_memory(x, X) for x, _ in found)


def test_drop_last_leaves_out_what_is_too_small():
    batches = Batches(X, T, 3, drop_last=True)
    assert len(batches) == len(list(batches)) == 2
    assert len(Batches(X, T, 7, drop_last=True)) == 1
    assert len(Batches(X, T, 100)) == 1


def test_transform_sees_each_batch_and_a_stream_of_its_own():
    def noisy(x, stream):
        return x + stream.generator("noise").normal(size=x.shape)

    first, second = (list(Batches(X, T, 3, seed=0, transform=noisy)) for _ in range(2))
    for (x, t), (again, _) in zip(first, second, strict=True):
        np.testing.assert_array_equal(x, again)
        assert not np.array_equal(x, X[t])
    assert not np.array_equal((first[0][0] - X[first[0][1]]), (first[1][0] - X[first[1][1]]))
    doubled = list(Batches(X, T, 3, seed=0, transform=lambda x: 2 * x))
    np.testing.assert_array_equal(doubled[0][0], 2 * X[doubled[0][1]])


def test_transform_that_can_do_without_a_stream_gets_none():
    def cubed(x, power=3):
        return x**power

    for transform in (np.negative, np.flip, cubed):  # each has a second parameter of its own
        (x, t), *_ = Batches(X, T, 3, seed=0, transform=transform)
        np.testing.assert_array_equal(x, transform(X[t]))


@pytest.mark.parametrize(
    "wrong, message", [(3, "got 3"), (dict, r"make one: dict\(\)"), ([np.negative, 3], "1: .*got 3")]
)
def test_transform_must_be_callable(wrong, message):
    with pytest.raises(TypeError, match=message):
        Batches(X, T, 2, transform=wrong)


def test_labels_are_checked_once_on_entry():
    x, t = X.copy(), T.copy()
    assert len(Batches(x, t, 3, classes=7)) == 3
    with pytest.raises(LabelError, match="Batches: label 6 of row 6 is not one of the 6 classes"):
        Batches(x, t, 3, classes=6)


@pytest.mark.backends("plain")
def test_batches_move_to_a_backend_before_they_are_transformed(backend):
    with backend.use() as used:
        for x, t in nonempty(Batches(X.astype(np.float32), T, 3, seed=0, backend=used, transform=lambda x: x + x)):
            backend.check(x, 2 * X[backend.to_numpy(t)], dtype=backend.float)
            backend.check(t, backend.to_numpy(t), dtype="int64")


@pytest.mark.parametrize("x, t", [(X.tolist(), T), (X, T.tolist())])
def test_list_is_told_to_become_an_array(x, t):
    for make in (lambda: Batches(x, t, 2), lambda: shuffle_dataset(x, t)):
        with pytest.raises(TypeError, match=r"expected arrays, got list; make one with xpdl\.asarray"):
            make()


@pytest.mark.parametrize("x, t", [(X, T[:6]), (X[:0], T[:0]), (np.asarray(1.0), T)])
def test_rows_must_fit_together(x, t):
    for make in (lambda: Batches(x, t, 2), lambda: shuffle_dataset(x, t)):
        with pytest.raises(ShapeError, match="same number of rows"):
            make()


@pytest.mark.parametrize("size", [0, -1, 1.5, True, None])
def test_batch_size_is_a_positive_int(size):
    with pytest.raises(ShapeError, match="batch_size"):
        Batches(X, T, size)


def test_no_whole_batch_is_an_error():
    with pytest.raises(ShapeError, match="do not fill one batch"):
        Batches(X, T, 8, drop_last=True)


@pytest.mark.parametrize("of", ["rows", "chunks", "prefetched"])
def test_a_pass_may_begin_with_a_later_batch(of):
    x = np.arange(14.0).reshape(7, 2)
    t = np.arange(7)

    def made():
        def noisy(x, stream):
            return x + stream.generator("noise").random(x.shape)

        if of == "chunks":
            return ChunkedBatches([(x[:5], t[:5]), (x[5:], t[5:])], 2, seed=0, transform=noisy)
        batches = Batches(x, t, 2, seed=0, transform=noisy)
        return Prefetch(batches) if of == "prefetched" else batches

    whole = made()
    first, second = list(whole), list(whole)
    for start in range(5):
        batches = made()
        batches.first_batch = start
        for expected in (first[start:], second):
            found = list(batches)
            assert len(found) == len(expected) and batches.first_batch == 0
            for one, other in zip(found, expected, strict=True):
                np.testing.assert_array_equal(one[0], other[0])
                np.testing.assert_array_equal(one[1], other[1])


def in_place(x):
    x *= 2.0
    return x


class Given:
    """Batches of somebody else's."""

    def __init__(self, x, t):
        self.rows = [(x[:4], t[:4]), (x[4:], t[4:])]

    def __iter__(self):
        return iter(self.rows)


@ARRAYS
@pytest.mark.skip_backend("jit", reason="iteration is not traced")
@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("kind", ["batches", "chunks"])
def test_transform_that_writes_into_its_rows_leaves_the_data_set_as_it_is(backend, kind, shuffle):
    x, t = backend.asarray(X), backend.asarray(T)
    options = {"shuffle": shuffle, "seed": 0, "transform": in_place}
    batches = Batches(x, t, 3, **options) if kind == "batches" else ChunkedBatches([(x, t)], 3, **options)
    for _ in range(2):
        for rows, labels in nonempty(list(batches)):
            backend.check(rows, 2 * X[backend.to_numpy(labels)])
    backend.check(x, X)


@pytest.mark.parametrize("given", [Given, lambda x, t: Prefetch(Given(x, t)), lambda x, t: Given(x, t).rows])
def test_augmentation_that_writes_into_its_rows_leaves_batches_of_somebody_else_as_they_are(given):
    x, t = X.astype("float32"), T % 3
    net = xpdl.Sequential(xpdl.Affine(units=3), loss=xpdl.SoftmaxWithLoss, seed=0)
    xpdl.Trainer(net, given(x, t), epochs=3, augment=in_place, seed=0, verbose=False).train()
    np.testing.assert_array_equal(x, X)
