"""Streams: captured graphs are replayed; with HOSTCUDA_ASYNC=1 work runs as late as CUDA's rules allow."""

import numpy as np
import pytest

from tests.hostcuda.child import on_host

pytestmark = pytest.mark.needs("cupy")


@on_host()
def test_captured_graph_reads_what_is_there_when_it_is_launched():
    import cupy as cp

    x, stream = cp.arange(4.0), cp.cuda.Stream(non_blocking=True)
    with stream:
        x * 2 + 1  # compiled before the capture
        stream.begin_capture()
        y = x * 2
        y += 1
        graph = stream.end_capture()
    x += 10
    for _ in range(2):
        graph.launch(stream)
        np.testing.assert_array_equal(y.get(), np.arange(10, 14) * 2 + 1)
        x += 0


@pytest.mark.parametrize("forbidden", ["a.get()", "stream.synchronize()", "a @ a"])
@on_host()
def test_capture_refuses(forbidden):
    import cupy as cp

    a, stream = cp.ones((4, 4)), cp.cuda.Stream(non_blocking=True)
    with stream:
        stream.begin_capture()
        with pytest.raises(Exception, match=r"[Cc]aptur"):
            eval(forbidden)
        try:
            stream.end_capture()
        except cp.cuda.runtime.CUDARuntimeError as error:
            assert "Capture" in str(error)
    np.testing.assert_array_equal((a @ a).get(), np.full((4, 4), 4.0))


@on_host(HOSTCUDA_ASYNC="1")
def test_a_missing_synchronization_shows():
    import cupy as cp

    pinned = cp.cuda.alloc_pinned_memory(80)
    host = np.frombuffer(pinned, np.float64, 10)
    host[:] = -1
    with cp.cuda.Stream(non_blocking=True) as stream:
        a = cp.arange(10.0)
        a.get(out=host, blocking=False)
        assert (host == -1).all()
        stream.synchronize()
        np.testing.assert_array_equal(host, np.arange(10))


@on_host(HOSTCUDA_ASYNC="1")
def test_a_stream_waits_for_another_by_an_event_only():
    import cupy as cp

    one, two = (cp.cuda.Stream(non_blocking=True) for _ in range(2))
    a, b = cp.zeros(4), cp.zeros(4)
    cp.cuda.Device().synchronize()

    def run(ordered):
        with one:
            a.fill(0)
            one.synchronize()
            a.fill(7)
            event = one.record()
        with two:
            if ordered:
                two.wait_event(event)
            cp.copyto(b, a)
            result = b.get()
        one.synchronize()
        return result

    np.testing.assert_array_equal(run(ordered=False), np.zeros(4))
    np.testing.assert_array_equal(run(ordered=True), np.full(4, 7.0))


@on_host(HOSTCUDA_ASYNC="1")
def test_default_and_blocking_streams_wait_for_each_other():
    import cupy as cp

    stream, a = cp.cuda.Stream(), cp.zeros(4)
    a.fill(1)
    with stream:
        a *= 3
    a += 1
    np.testing.assert_array_equal(a.get(), np.full(4, 4.0))


@on_host(HOSTCUDA_ASYNC="1")
def test_an_event_is_done_when_its_work_is():
    import cupy as cp

    with cp.cuda.Stream(non_blocking=True) as stream:
        start, a = stream.record(), cp.arange(1000.0)
        end = stream.record()
        assert not end.done
        while not end.done:
            pass
        assert cp.cuda.get_elapsed_time(start, end) > 0
        np.testing.assert_array_equal(a.get(), np.arange(1000))


@on_host(HOSTCUDA_ASYNC="1")
def test_faults_of_queued_kernels_are_errors_of_the_wait():
    import cupy as cp

    a = cp.zeros(4, "int32")
    kernel = cp.RawKernel('extern "C" __global__ void f(int* a, int k) { a[0] = 7 / k; }', "f")
    kernel((1,), (1,), (a, np.int32(0)))
    with pytest.raises(cp.cuda.runtime.CUDARuntimeError, match="divided by zero"):
        cp.cuda.Device().synchronize()
    np.testing.assert_array_equal(a.get(), np.zeros(4))


@on_host(HOSTCUDA_ASYNC="1")
def test_products_sorts_and_graphs_are_queued_with_kernels():
    import cupy as cp

    rng = np.random.default_rng(0)
    host = rng.standard_normal((5, 5))
    a = cp.asarray(host)
    b = a @ a + 1
    b.sort(axis=0)
    np.testing.assert_allclose(b.get(), np.sort(host @ host + 1, axis=0), rtol=1e-12)
    stream = cp.cuda.Stream(non_blocking=True)
    with stream:
        x = cp.zeros(3)
        x + 1
        stream.begin_capture()
        x += 1
        graph = stream.end_capture()
        for _ in range(3):
            graph.launch(stream)
        del graph
        np.testing.assert_array_equal(x.get(), np.full(3, 3.0))


@on_host(HOSTCUDA_ASYNC="1")
def test_other_threads_ask_about_work_and_do_not_run_it():
    import threading

    import cupy as cp

    x = cp.arange(4.0)
    event = cp.cuda.get_current_stream().record()
    answers = []

    def ask():
        answers.extend(event.done for _ in range(3))

    thread = threading.Thread(target=ask)
    thread.start()
    thread.join()
    assert answers == [False] * 3
    assert not event.done and event.done  # the first question of this thread runs it
    np.testing.assert_array_equal(x.get(), np.arange(4.0))
