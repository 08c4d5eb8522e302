"""The threads behind the kernels: all tasks done, errors raised, BLAS as it was, results independent of their number."""

import hashlib
import os
import subprocess
import sys
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import threadpoolctl

import xpdl
from xpdl.backends.cpu import thread_pool


@pytest.fixture(params=[1, 2, 5])
def count(request, monkeypatch):
    monkeypatch.setenv("XPDL_NUM_THREADS", str(request.param))
    # found again: tests before this one may have loaded other BLAS libraries than NumPy's
    monkeypatch.setattr(thread_pool, "_blas", None)
    return request.param


def blas_threads():
    return [library["num_threads"] for library in threadpoolctl.threadpool_info() if library["user_api"] == "blas"]


def test_every_task_runs_once(count):
    done = []
    thread_pool.run([lambda k=k: done.append(k) for k in range(50)])
    assert sorted(done) == list(range(50))
    thread_pool.run([])


def test_as_many_threads_as_asked_for_work(count):
    seen = set()
    barrier = threading.Barrier(count)

    def task():
        seen.add(threading.get_ident())
        barrier.wait(timeout=30)

    thread_pool.run([task] * count)
    assert len(seen) == count


def test_blas_has_one_thread_inside_and_what_it_had_outside(count):
    with threadpoolctl.threadpool_limits(2, "blas"):
        inside = []
        thread_pool.run([lambda: inside.append(blas_threads())] * 3)
        assert all(set(found) == {1} for found in inside)
        assert set(blas_threads()) == {2}
        with pytest.raises(ZeroDivisionError):
            thread_pool.run([lambda: 1 / 0] * 3)
        assert set(blas_threads()) == {2}


def test_tasks_see_the_errstate_of_the_caller(count):
    seen = []
    barrier = threading.Barrier(count)

    def task():
        seen.append(np.geterr()["over"])
        barrier.wait(timeout=30)

    with np.errstate(over="raise"):
        thread_pool.run([task] * count)
    assert seen == ["raise"] * count


def test_arrays_are_let_go_of(count):
    array = np.zeros(3)
    thread_pool.run([lambda array=array: None] * 3)
    reference = weakref.ref(array)
    del array
    for _ in range(100):
        if reference() is None:
            break
        time.sleep(0.01)
    assert reference() is None


def test_error_is_raised_after_all_have_ended(count):
    running = []

    def slow():
        running.append(1)
        time.sleep(0.05)
        running.pop()

    def fail():
        raise RuntimeError("on purpose")

    with pytest.raises(RuntimeError, match="on purpose"):
        thread_pool.run([slow, fail, slow, slow])
    assert not running


def test_tasks_may_run_tasks(count):
    done = []
    thread_pool.run([lambda: thread_pool.run([lambda: done.append(1)] * 3)] * 4)
    assert len(done) == 12


def test_several_callers_at_once(count):
    results = []

    def caller(k):
        mine = []
        for _ in range(20):
            thread_pool.run([lambda: mine.append(k)] * 4)
        results.append(len(mine))

    callers = [threading.Thread(target=caller, args=(k,)) for k in range(4)]
    for caller_thread in callers:
        caller_thread.start()
    for caller_thread in callers:
        caller_thread.join(timeout=60)
    assert results == [80] * 4


def test_threads_wait_awake_where_that_is_compiled(code, monkeypatch):
    monkeypatch.setenv("XPDL_NUM_THREADS", "2")
    waiting, calls = thread_pool._waiting(), []
    assert (waiting is not None) == (code.name == "compiled" and hasattr(os, "sched_yield"))

    class Watched:
        posted = staticmethod(lambda *args: calls.append("posted") or waiting.posted(*args))
        all_away = staticmethod(lambda away: calls.append("all_away") or waiting.all_away(away))

    monkeypatch.setattr(thread_pool, "_waiting", lambda: waiting and Watched)
    for _ in range(3):
        barrier = threading.Barrier(2)
        thread_pool.run([lambda barrier=barrier: barrier.wait(timeout=30)] * 2)
    assert calls.count("all_away") == (3 if waiting else 0)
    # the other thread has yet to get there, perhaps
    for _ in range(100):
        if not waiting or "posted" in calls:
            break
        time.sleep(0.01)
    assert ("posted" in calls) == (waiting is not None)


@pytest.mark.skipif(not hasattr(os, "sched_yield"), reason="this system has no sched_yield")
def test_waiting_ends_with_what_is_waited_for_or_before_long(code):
    if code.name == "pure":
        assert thread_pool._waiting() is None
        return
    waiting, count, away = thread_pool._waiting(), np.zeros(1, np.int64), np.zeros(2, np.bool_)
    assert not waiting.posted(count, 0, away, 1)
    assert away.tolist() == [False, True]
    count[0] = 5
    assert waiting.posted(count, 0, away, 1)
    waiting.all_away(away)
    assert away.tolist() == [False, True]


@pytest.mark.parametrize("value", ["0", "-1", "two"])
def test_wrong_number_is_named(monkeypatch, value):
    monkeypatch.setenv("XPDL_NUM_THREADS", value)
    with pytest.raises(ValueError, match="XPDL_NUM_THREADS must be a positive int"):
        thread_pool.run([lambda: None] * 2)


def test_use_chooses_the_number_until_the_end_of_the_block(monkeypatch):
    monkeypatch.setenv("XPDL_NUM_THREADS", "2")
    with xpdl.use("numpy", threads=3):
        assert thread_pool.thread_count() == 3
        with xpdl.use("numpy"), xpdl.use("numpy", threads=1):
            assert thread_pool.thread_count() == 1
        assert thread_pool.thread_count() == 3
    assert thread_pool.thread_count() == 2


@pytest.mark.parametrize("value", [0, -1, 1.5, True, "two"])
def test_use_names_a_wrong_number_and_changes_nothing(value):
    before = xpdl.get_backend(), thread_pool.thread_count()
    with pytest.raises(ValueError, match=r"use: threads must be a positive int, got"):
        xpdl.use("numpy", dtype="float64", threads=value)
    assert (xpdl.get_backend(), thread_pool.thread_count()) == before


def test_blas_is_held_and_set_free_by_any_thread_of_the_caller(count):
    def work():
        with ThreadPoolExecutor(1) as caller:
            caller.submit(thread_pool.run, [lambda: inside.append(blas_threads())] * 3).result()

    inside = []
    with threadpoolctl.threadpool_limits(2, "blas"):
        thread_pool.run([lambda: None] * 2)
        work()
        # one thread begins to hold it, and another one stops last
        entered, left = threading.Event(), threading.Event()
        first = threading.Thread(target=thread_pool.run, args=([lambda: (entered.set(), left.wait(30))],))
        first.start()
        assert entered.wait(30)
        thread_pool.run([left.set])
        first.join(30)
        assert all(set(found) == {1} for found in inside) and len(inside) == 3
        assert set(blas_threads()) == {2}


def test_a_job_does_not_wait_for_threads_that_find_no_time_for_it(monkeypatch):
    monkeypatch.setenv("XPDL_NUM_THREADS", "2")
    busy, free = threading.Event(), threading.Event()
    other = threading.Thread(target=thread_pool.run, args=([lambda: (busy.set(), free.wait(30))] * 2,))
    other.start()
    assert busy.wait(30)
    done = []
    thread_pool.run([lambda: done.append(1)] * 5)
    assert len(done) == 5 and other.is_alive()
    free.set()
    other.join(30)


@pytest.mark.exhaustive
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_child_of_a_fork_has_threads_of_its_own(monkeypatch):
    program = (
        "import os\nfrom xpdl.backends.cpu import thread_pool\n"
        "done = []\n"
        "thread_pool.run([lambda: done.append(1)] * 4)\n"
        "child = os.fork()\n"
        "thread_pool.run([lambda: done.append(1)] * 4)\n"
        "if child == 0: os._exit(0 if len(done) == 8 else 1)\n"
        "assert os.waitpid(child, 0)[1] == 0 and len(done) == 8\n"
    )
    monkeypatch.setenv("XPDL_NUM_THREADS", "2")
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", program], timeout=60, check=False)
    assert done.returncode == 0


def test_results_are_bitwise_identical_for_any_number_of_threads(code):
    program = (
        "import hashlib, numpy as np, xpdl\n"
        "rng = np.random.default_rng(0)\n"
        "x = rng.random((30, 1, 28, 28), np.float32)\n"
        "def train():\n"
        "    digest = hashlib.sha256()\n"
        "    for net in xpdl.DeepConvNet(seed=0), xpdl.MultiLayerNet(784, [700, 1000], 10, seed=0):\n"
        "        adam = xpdl.Adam()\n"
        "        for _ in range(2): adam.update(net.params, net.gradient(x, np.arange(30) % 10))\n"
        "        for p in net.params.values(): digest.update(p.tobytes())\n"
        "    print(digest.hexdigest())\n"
        "for count in 1, 2, 3, 7:\n"
        "    with xpdl.use('numpy', threads=count): train()\n"
        "train()\n"
    )
    # the number of the environment last
    environment = {**os.environ, "XPDL_NUM_THREADS": "2", "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    found = done.stdout.split()
    assert len(found) == 5 and len(set(found)) == 1 and len(found[0]) == hashlib.sha256().digest_size * 2


def test_arrays_of_the_caller_are_whole_after_an_interrupt():
    out = np.zeros(4)

    def task(k):
        time.sleep(0.02)
        out[k] = 1

    def interrupt():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        thread_pool.run([lambda: task(0), interrupt, lambda: task(2), lambda: task(3)])
    before = out.copy()
    time.sleep(0.1)
    np.testing.assert_array_equal(out, before)
