"""Batches made by a thread: the same ones, never too many, and no thread left behind however it ends."""

import itertools
import multiprocessing
import os
import threading
import warnings

import numpy as np
import pytest

from tests.harness import nonempty
from xpdl import Batches, ChunkedBatches, Prefetch, ShapeError
from xpdl.data import augment

X, T = np.arange(14.0).reshape(7, 2), np.arange(7)


def threads():
    return [thread for thread in threading.enumerate() if thread.name == "xpdl.Prefetch"]


@pytest.fixture(autouse=True)
def no_thread_is_left():
    assert not threads()
    yield
    assert not threads()


@pytest.mark.backends("plain", "strict:nosync")
@pytest.mark.parametrize("ahead", [1, 2, 10])
def test_gives_the_same_batches_in_the_same_order(backend, ahead):
    x, t = backend.asarray(np.arange(7 * 8.0).reshape(7, 1, 2, 4)), backend.asarray(T)
    plain, ahead_of_time = (Batches(x, t, 3, seed=0, transform=[augment.Flip()]) for _ in range(2))
    prefetch = Prefetch(ahead_of_time, ahead)
    assert len(prefetch) == 3
    for epoch in range(2):
        assert prefetch.epoch == epoch
        for (x1, t1), (x2, t2) in zip(plain, prefetch, strict=True):
            backend.check(x2, backend.to_numpy(x1))
            backend.check(t2, backend.to_numpy(t1))
    prefetch.epoch = 0
    assert ahead_of_time.epoch == 0


def test_of_chunks_and_of_any_iterable():
    chunks = [(X[:4], T[:4]), (X[4:], T[4:])]
    found = [t.tolist() for _, t in Prefetch(ChunkedBatches(chunks, 3, shuffle=False))]
    assert found == [[0, 1, 2], [3, 4, 5], [6]]
    assert list(Prefetch(range(5))) == list(range(5))
    assert list(Prefetch([])) == []


def test_never_has_more_than_asked_for():
    made, wanted = [], threading.Semaphore(0)

    def batches():
        for number in range(10):
            made.append(number)
            wanted.release()
            yield number

    iterator = iter(Prefetch(batches(), 3))
    for taken in range(1, 5):
        assert next(iterator) == taken - 1
        for _ in range(4 if taken == 1 else 1):
            assert wanted.acquire(timeout=60)
        assert len(made) == taken + 3
    iterator.close()
    assert len(made) <= 8


def test_error_comes_after_the_batches_before_it_and_says_where_it_arose():
    def broken():
        yield from (1, 2)
        raise OSError("the disk is gone")

    seen = []
    with pytest.raises(OSError, match="the disk is gone") as error:
        seen.extend(Prefetch(broken(), 2))
    assert "broken" in [entry.name for entry in error.traceback]

    iterator = iter(Prefetch(broken(), 2))
    assert [next(iterator), next(iterator)] == [1, 2]
    with pytest.raises(OSError):
        next(iterator)


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, StopIteration])
def test_no_kind_of_error_is_lost(error):
    class Broken:
        def __iter__(self):
            return self

        def __next__(self):
            raise error

    if error is StopIteration:
        assert list(Prefetch(Broken())) == []
        return
    with pytest.raises(error):
        list(Prefetch(Broken()))


@pytest.mark.parametrize("taken", [1, 2, 3])
def test_loop_left_early_ends_the_thread_and_the_pass_counts(taken):
    plain, batches = Batches(X, T, 3, seed=0), Batches(X, T, 3, seed=0)
    prefetch = Prefetch(batches, 5)
    for number in range(3):
        found = [t.tolist() for _, t in itertools.islice(prefetch, taken)]
        assert not threads() and batches.epoch == prefetch.epoch == number + 1
        assert found == [t.tolist() for _, t in plain][:taken]


needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system forks no processes")


def _in_a_fork(function, seconds=30):
    """Call `function` in a forked process and return its result; an error if it hangs."""
    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()
    child = context.Process(target=lambda: queue.put(function()))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Python and JAX warn of forks beside threads
        child.start()
    child.join(seconds)
    try:
        assert child.exitcode == 0
        return queue.get()
    finally:
        child.kill()
        child.join()


@needs_fork
def test_a_fork_in_a_pass_begins_its_own_and_cannot_go_on_with_the_one_it_inherits():
    batches = Batches(X, T, 3, seed=0)
    prefetch = Prefetch(batches, 5)
    iterator = iter(prefetch)
    first = next(iterator)[1].tolist()

    def child():
        own = [t.tolist() for _, t in prefetch]
        with pytest.raises(RuntimeError, match="a forked process has no thread for this pass; begin a new one"):
            next(iterator)
        return own

    found = _in_a_fork(child)
    assert found == [t.tolist() for _, t in itertools.islice(_passes(2), 3, 6)]
    assert [first, *(t.tolist() for _, t in iterator)] == [t.tolist() for _, t in _passes(1)]


def _passes(count):
    batches = Batches(X, T, 3, seed=0)
    for _ in range(count):
        yield from batches


@needs_fork
def test_a_fork_with_all_locks_of_a_pass_taken_ends(monkeypatch):
    """As where the thread is just about to wait for a slot."""
    made = []
    real = threading.Semaphore
    monkeypatch.setattr(threading, "Semaphore", lambda count: made.append(real(count)) or made[-1])
    iterator = iter(Prefetch(Batches(X, T, 3, seed=0), 5))
    next(iterator)
    with made[0]._cond:
        assert _in_a_fork(lambda: iterator.close() or "closed") == "closed"
    assert len(list(iterator)) == 2


def test_error_in_the_loop_ends_the_thread():
    with pytest.raises(ZeroDivisionError):
        for _ in Prefetch(itertools.count()):
            _ = 1 / 0
    assert not threads()


def test_generator_is_closed_in_its_thread():
    closed = []

    def batches():
        try:
            yield from itertools.count()
        finally:
            closed.append(threading.current_thread().name)

    iterator = iter(Prefetch(batches()))
    next(iterator)
    iterator.close()
    assert closed == ["xpdl.Prefetch"]


@pytest.mark.parametrize("ahead", [0, -1, 1.5, None])
def test_ahead_is_a_positive_int(ahead):
    with pytest.raises(ShapeError, match="Prefetch: ahead"):
        Prefetch([], ahead)


class TestMappedFile:
    def test_far_larger_than_the_memory_is_read_by_rows(self, tmp_path):
        rows, columns = 200_000, 1 << 20  # 200 GB of bytes, of which the file has two
        path = tmp_path / "large"
        with path.open("wb") as file:
            file.seek(columns * 5)
            file.write(b"\x07")
            file.truncate(rows * columns)
        x = np.memmap(path, np.uint8, "r", shape=(rows, columns))
        t = np.arange(rows)
        for number, (part, labels) in enumerate(Prefetch(Batches(x, t, 4, seed=0))):
            assert type(part) is np.ndarray and part.shape == (4, columns) and not part.any()
            assert 5 not in labels
            if number == 2:
                break
        part, _ = next(iter(Batches(x, t, 8, shuffle=False)))
        assert type(part) is np.ndarray and part[5, 0] == 7 and np.count_nonzero(part) == 1

    @pytest.mark.backends("plain")
    def test_moves_batch_by_batch(self, backend, tmp_path):
        np.save(tmp_path / "x.npy", X.astype(np.float32))
        x = np.load(tmp_path / "x.npy", mmap_mode="r")
        with backend.use() as used:
            for part, t in nonempty(Prefetch(Batches(x, T, 3, seed=0, backend=used))):
                backend.check(part, X[backend.to_numpy(t)], dtype=backend.float)
