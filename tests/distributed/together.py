"""Claims about several ranks, checked by all: ``mpiexec -n 3 python -m tests.distributed.together FOLDER [NAME...]``."""

from __future__ import annotations

import copy
import errno
import importlib
import itertools
import os
import platform
import sys
import time
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import xpdl
from tests import pages
from tests.distributed import sharded, states
from tests.distributed.equal_to_one_process import T, X, everything, rows_net, uneven_rows
from tests.selection import installed
from xpdl.backends.registry import without
from xpdl.distributed import RankError
from xpdl.distributed import shared_memory as memory
from xpdl.distributed.shared_memory import shared_memory
from xpdl.layers import Affine, BatchNormalization, Relu, SoftmaxWithLoss, Tanh
from xpdl.models import Sequential
from xpdl.training import Callback, CSVLogger, ModelCheckpoint, StepLR, Trainer

Check = Callable[[Any, Path], None]
CHECKS: dict[str, Check] = {}


def claim(check: Check) -> Check:
    CHECKS[check.__name__] = check
    return check


def claim_on_linux(check: Check) -> Check:
    return check if pages.MISSING else claim(check)


def refused(kind: type[Exception], call: Callable[[], object]) -> str:
    """Return the message of an error."""
    try:
        call()
    except kind as error:
        return str(error)
    raise AssertionError("no error")


def trainer(
    communicator: Any, network: Any = None, x: Any = X, t: Any = T, x_test: Any = X[:7], **options: Any
) -> Trainer:
    options = {"mini_batch_size": 10, "epochs": 2, "seed": 3, "verbose": False, "optimizer": "adam", **options}
    return Trainer(network or rows_net(), x, t, x_test, T[:7], communicator=communicator, **options)


def streamed(communicator: Any, source: Any, **options: Any) -> Trainer:
    options = {"epochs": 1, "seed": 3, "verbose": False, "optimizer": "adam", **options}
    return Trainer(rows_net(), source, None, X[:7], T[:7], communicator=communicator, **options)


def named_statistics(network: Any) -> list[tuple[str, Any, str]]:
    return [(name, owner, key) for name, owner, key in network.named_state() if isinstance(owner[key], np.ndarray)]


def parameters(network: Any) -> dict[str, bytes]:
    return {name: xpdl.asnumpy(p).tobytes() for name, p in network.params.items()}


@claim
def sums_are_in_the_order_of_the_ranks(ranks: Any, folder: Path) -> None:
    for size in (1, 5, 40_001):  # by one message and by two
        for dtype in ("float64", "float32", "float16", "int32"):
            terms = [np.random.default_rng(rank).normal(size=size) * 100 for rank in range(ranks.size)]
            terms = [term.astype(dtype) for term in terms]
            total = terms[0].astype("float32") if dtype == "float16" else terms[0].copy()
            for term in terms[1:]:
                total = total + term
            (found,) = ranks.allreduce([terms[ranks.rank]])
            assert found.dtype == dtype
            np.testing.assert_array_equal(found, total.astype(dtype))


@claim_on_linux
def sums_in_shared_memory_are_those_of_messages(ranks: Any, folder: Path) -> None:
    transport = ranks.transport_of(xpdl.get_backend())
    assert transport.describe() == "added up in memory that all ranks share"
    for size, dtype in itertools.product((1, 5, 40_001), ("float64", "float32", "float16", "int32")):
        shared = transport.buffer(size, dtype)
        for attempt in range(3):  # the memory is written again
            rng = np.random.default_rng(10 * attempt + ranks.rank)
            shared.values[:] = (rng.normal(size=size) * 100).astype(dtype)
            if dtype != "int32" and attempt == 1:
                shared.values[0] = np.inf * (1 - 2 * ranks.rank)  # without a warning
            expected = ranks.sum_in_order(shared.values)
            length = -(-size // ranks.size)
            whole = np.zeros(length * ranks.size, dtype)
            whole[:size] = expected
            np.testing.assert_array_equal(transport.start_sum(shared.values)(), expected)
            assert shared.is_finite == np.isfinite(expected).all()
            own = whole[ranks.rank * length :][:length]
            np.testing.assert_array_equal(transport.start_sum(shared.values, scattered=True)(), own)


@claim_on_linux
def ranks_of_which_one_cannot_map_memory_send_messages(ranks: Any, folder: Path) -> None:
    at_once, size = shared_memory(ranks, 5000), 5000
    assert at_once is not None and at_once[:size] == bytes(size)
    ranks.barrier()
    at_once[ranks.rank] = 1
    ranks.barrier()
    assert at_once[: ranks.size + 1] == b"\1" * ranks.size + b"\0"
    open_files = len(os.listdir("/proc/self/fd"))
    assert shared_memory(ranks, size) is not None
    assert len(os.listdir("/proc/self/fd")) == open_files
    refuse = pytest.MonkeyPatch()
    elsewhere = memory._mapped  # with another file of this name
    for failing in (0, 1):
        with refuse.context() as patch:
            if ranks.rank == failing:
                patch.setattr(memory, "_mapped", lambda path, token: elsewhere(path, bytes(len(token))))
            assert shared_memory(ranks, size) is None
    for name in ("memfd_create", "posix_fallocate"):
        with refuse.context() as patch:
            patch.setattr(os, name, full)
            assert shared_memory(ranks, size) is None and not memory.can_share(ranks)
            network = parameters_of_two_epochs(ranks)
        assert network == parameters_of_two_epochs(ranks)


def full(*arguments: Any) -> None:
    raise OSError(errno.ENOSPC, "no space left")


def parameters_of_two_epochs(ranks: Any) -> dict[str, bytes]:
    run = trainer(ranks)
    run.train()
    return parameters(run.network)


@claim
def sums_that_are_under_way_together_do_not_mix(ranks: Any, folder: Path) -> None:
    rng = np.random.default_rng(ranks.rank)
    for _ in range(5):
        sizes = [3, 40_001, 0, 5_000, 1, 100_000]
        values = [rng.normal(size=size) for size in sizes]
        waits = []
        for number, vector in enumerate(values):
            time.sleep(0.002 * ((ranks.rank + number) % ranks.size))  # ranks are never at the same place
            waits.append(ranks.start_sum(vector))
            (between,) = ranks.allreduce([np.full(3_000 * number, float(ranks.rank))])
            assert between.tolist() == [float(sum(range(ranks.size)))] * (3_000 * number)
        for vector, wait in zip(values, waits, strict=True):
            np.testing.assert_array_equal(wait(), ranks.sum_in_order(vector))


@claim
def sums_are_waited_for_in_any_order(ranks: Any, folder: Path) -> None:
    values = [np.full(size, 1.0 + ranks.rank) for size in (9_000, 3, 20_000)]
    waits = [ranks.start_sum(vector) for vector in values]
    total = float(sum(range(1, ranks.size + 1)))
    for place in (2, 0, 1):
        assert waits[place]().tolist() == [total] * len(values[place])


@claim
def errors_of_all_ranks_during_a_backward_pass_leave_no_messages_behind(ranks: Any, folder: Path) -> None:
    network = Sequential(Affine(units=4), Tanh(), Affine(units=3), loss=SoftmaxWithLoss, seed=0)
    run = trainer(ranks, network)
    backward, calls = Affine.backward_parameters, []

    def fails(dout: Any) -> None:
        calls.append(1)
        if len(calls) == 4:
            raise OverflowError
        backward(first, dout)

    network.build((6,))
    first: Any = network.layers["Affine1"]
    first.backward_parameters = fails
    refused(OverflowError, run.train)
    run.train()
    assert len({str(text) for text in ranks.allgather(parameters(network))}) == 1


@claim
def arrays_of_all_libraries_come_back_where_they_were(ranks: Any, folder: Path) -> None:
    makers: list[Callable[[Any], Any]] = [np.asarray]
    if installed("torch"):
        torch = importlib.import_module("torch")
        makers += [lambda a: torch.asarray(a), lambda a: torch.asarray(a, dtype=torch.bfloat16)]
    if installed("jax"):
        makers.append(importlib.import_module("jax.numpy").asarray)
    for make in makers:
        a, b, c = make(np.full((2, 3), float(ranks.rank))), make(np.ones((), np.float32)), make(np.zeros((0, 4)))
        sums = ranks.allreduce([a, b, c])
        assert [type(s) for s in sums] == [type(a)] * 3
        assert [(s.shape, s.dtype) for s in sums] == [(s.shape, s.dtype) for s in (a, b, c)]
        assert float(sums[0][1, 2]) == sum(range(ranks.size)) and float(sums[1]) == ranks.size


@claim
def values_of_all_ranks_are_gathered(ranks: Any, folder: Path) -> None:
    assert ranks.allgather({"rank": ranks.rank}) == [{"rank": rank} for rank in range(ranks.size)]
    assert ranks.allgather("x" * 10 ** (ranks.rank + 1)) == ["x" * 10 ** (rank + 1) for rank in range(ranks.size)]
    assert ranks.bcast(f"of {ranks.rank}") == "of 0"
    ranks.barrier()
    assert ranks.local_rank == ranks.rank and [len(p) for p in ranks.processes] == [2] * ranks.size


@claim
def streams_without_a_seed_are_those_of_rank_0(ranks: Any, folder: Path) -> None:
    assert len(set(ranks.allgather(xpdl.Batches(X, T, 5).seed))) == 1


@claim
def ranks_begin_with_the_weights_of_rank_0(ranks: Any, folder: Path) -> None:
    networks = [
        Sequential(Affine(units=4), Relu(), Affine(units=3), loss=SoftmaxWithLoss, seed=seed)
        for seed in (0, ranks.rank)
    ]
    for network, communicator in zip(networks, (ranks, ranks), strict=True):
        trainer(communicator, network).train()
    assert parameters(networks[0]) == parameters(networks[1])


@claim
def running_statistics_are_the_mean_of_those_of_the_ranks(ranks: Any, folder: Path) -> None:
    layers = [(Affine(units=6, use_bias=False), BatchNormalization(), Relu()) for _ in range(2)]
    network = Sequential(*itertools.chain(*layers), Affine(units=3), loss=SoftmaxWithLoss, seed=1)
    network.build((6,))
    made = trainer(ranks, network, epochs=1, mini_batch_size=len(T))
    alone, (x, t) = copy.deepcopy(network), next(iter(copy.deepcopy(made.batches)))
    alone.gradient(x, t)
    of_ranks = ranks.allgather([owner[key] * len(t) / len(T) for _, owner, key in named_statistics(alone)])
    made.train()
    found = [owner[key] for _, owner, key in named_statistics(network)]
    assert len(found) == 4
    for statistic, parts in zip(found, zip(*of_ranks, strict=True), strict=True):
        np.testing.assert_allclose(statistic, sum(parts), rtol=1e-12)


@claim
def ranks_that_differ_are_refused_before_the_first_step(ranks: Any, folder: Path) -> None:
    other = ranks.rank == 1
    changed = X.copy()
    changed[33, 2] += 1e-9 * other
    for options, text in (
        ({"mini_batch_size": 11 if other else 10}, "rank 1 has batch size 11, rank 0 10"),
        ({"optimizer_param": {"lr": 0.1 if other else 0.2}}, "rank 1 has optimizer Adam(lr=0.1, "),
        ({"epochs": 4 if other else 3}, "rank 1 has epochs 4, rank 0 3"),
        ({"seed": int(other)}, "rank 1 has seed 1, rank 0 0"),
        ({"x": changed}, "rank 1 has x_train (47, 6) float64 "),
        ({"check_ranks_every": 2 if other else None}, "rank 1 has check_ranks_every 2, rank 0 None"),
        ({"checkpoint": folder / "run" if other else None}, "rank 1 has checkpoint True, rank 0 False"),
        ({"checkpoint": folder / "run", "checkpoint_every": 3 if other else 2}, "has checkpoint_every 3, rank 0 2"),
    ):
        network = rows_net()
        network.build((6,))
        before = parameters(network)
        message = refused(ValueError, trainer(ranks, network, **options).train)
        assert text in message and "rank 2" not in message, message
        assert parameters(network) == before
    message = refused(ValueError, lambda: trainer(ranks).train(1 if other else None))
    assert "rank 1 has epochs of this call 1, rank 0 None" in message, message


@claim
def ranks_of_other_versions_networks_and_measures_are_refused(ranks: Any, folder: Path) -> None:
    other, labels = ranks.rank == 1, T.copy()
    labels[5] = (labels[5] + other) % 3
    units = 9 if other else 8
    network = Sequential(Affine(units=units), Relu(), Affine(units=3), loss=SoftmaxWithLoss, seed=1)
    for changes, options, text in (
        ({"xpdl.version.__version__": "9.9"}, {}, f"rank 1 has xpdl 9.9, rank 0 {xpdl.__version__}"),
        ({"platform.python_version": lambda: "9.9"}, {}, f"rank 1 has Python 9.9, rank 0 {platform.python_version()}"),
        ({"numpy.__version__": "9.9"}, {}, f"rank 1 has array library numpy 9.9, rank 0 numpy {np.__version__}"),
        ({"xpdl.training.agreement.planned": lambda library: "none"}, {}, "rank 1 has kernels none, rank 0 "),
        ({}, {"network": network}, "rank 1 has Affine1.W [6, 9], rank 0 [6, 8]"),
        ({}, {"t": labels}, "rank 1 has checksum of the labels "),
        ({}, {"x_test": X[:7] + 1e-9 * other}, "rank 1 has x_test (7, 6) float64 "),
        ({}, {"metrics": ["f1"] if other else []}, "rank 1 has metrics ['f1'], rank 0 []"),
        ({}, {"precision": "float16" if other else None}, "rank 1 has precision MixedPrecision"),
        ({}, {"callbacks": [StepLR(2)] if other else []}, "rank 1 has schedules ['StepLR'], rank 0 []"),
    ):
        made = trainer(ranks, **options)
        with pytest.MonkeyPatch.context() as patch:
            for name, value in changes.items() if other else ():
                patch.setattr(name, value)
            message = refused(ValueError, made.train)
        assert text in message and "rank 2" not in message and made.current_iter == 0, message


@claim
def a_nan_is_found_by_its_rank_and_told_by_all(ranks: Any, folder: Path) -> None:
    network = rows_net()
    network.build((6,))

    class Spoil(Callback):
        def on_batch_begin(self, trainer: Any, step: int) -> None:
            if step == 3 and ranks.rank == 1:
                network.params["Affine1.W"][0, 0] = np.nan

    message = refused(FloatingPointError, trainer(ranks, network, callbacks=[Spoil()]).train)
    assert "at step 3: on rank 1, the parameter W of layer Affine1" in message, message


@claim
def parameters_that_go_apart_are_noticed(ranks: Any, folder: Path) -> None:
    network = rows_net()

    class Change(Callback):
        def on_batch_begin(self, trainer: Any, step: int) -> None:
            if step == 2 and ranks.rank == 1:
                network.params["Affine2.b"][0] += 1e-12

    message = refused(RankError, trainer(ranks, network, callbacks=[Change()], check_ranks_every=4).train)
    assert "after step 4, parameters of rank 1 differ from those of rank 0" in message, message


@claim
def steps_that_were_to_be_compiled_are_eager_and_rank_0_warns(ranks: Any, folder: Path) -> None:
    runs = []
    for options in ({}, {"compile": True}):
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            runs.append(trainer(ranks, **options))
        expected = ["Trainer: compile=True with several ranks makes eager steps"] * (bool(options) and ranks.is_first)
        assert [str(one.message).split(",")[0] for one in warned] == expected
        runs[-1].train()
    assert parameters(runs[0].network) == parameters(runs[1].network)


@claim
def one_rank_stops_all_of_them(ranks: Any, folder: Path) -> None:
    class Stop(Callback):
        def on_epoch_end(self, trainer: Any, epoch: int) -> None:
            trainer.stop_training = ranks.rank == 1

    assert len(trainer(ranks, epochs=5, callbacks=[Stop()]).train().seconds) == 1


@claim
def rank_0_alone_prints_and_writes(ranks: Any, folder: Path) -> None:
    own = folder / f"rank{ranks.rank}"
    own.mkdir()
    callbacks = [CSVLogger(own / "log.csv"), ModelCheckpoint(own / "net.safetensors")]
    run = trainer(ranks, callbacks=callbacks, checkpoint=own / "run.checkpoint", verbose=True)
    assert run.verbose == (ranks.rank == 0)
    run.train()
    expected = {"log.csv", "net.safetensors", "run.checkpoint", "run.checkpoint.1"} if ranks.rank == 0 else set()
    assert {path.name for path in own.iterdir() if not path.name.startswith(".")} == expected


@claim
def all_ranks_resume_bitwise_identical(ranks: Any, folder: Path) -> None:
    def run(path: Path, epochs: int, every: int | None = None) -> Trainer:
        options = {**everything("Adam"), "checkpoint": path, "checkpoint_every": every}
        made = trainer(ranks, options.pop("network"), epochs=epochs, **options)
        made.train()
        return made

    class Leave(Exception):
        pass

    def leave(*_: Any) -> None:
        raise Leave

    whole = run(folder / "whole", 3)
    broken = trainer(ranks, **everything("Adam"), epochs=3, checkpoint=folder / "broken", checkpoint_every=2)
    broken.callbacks.callbacks.append(type("At5", (), {"on_batch_begin": lambda self, t, s: s == 7 and leave()})())
    refused(Leave, broken.train)
    again = run(folder / "broken", 3, 2)
    assert parameters(again.network) == parameters(whole.network)
    assert again.train_loss_list == whole.train_loss_list and again.test_acc_list == whole.test_acc_list


@claim_on_linux
def rows_of_a_mapped_file_are_read_by_one_rank(ranks: Any, folder: Path) -> None:
    """Of training rows, each rank reads its share of every batch; of those to measure, all ranks together read each once."""
    mapped = [pages.mapped_rows(folder / f"{name}{ranks.rank}", len(T)) for name in ("train", "test")]
    read: dict[str, list[set[int]]] = {}

    class Read(Callback):
        def on_epoch_begin(self, trainer: Any, epoch: int) -> None:
            for one in mapped:  # the agreement reads rows of both, one at a time
                pages.forget(one)

        def on_test_begin(self, trainer: Any, epoch: int) -> None:
            read["steps"] = [*map(pages.rows_touched, mapped)]
            pages.forget(mapped[0])

        def on_epoch_end(self, trainer: Any, epoch: int) -> None:
            read["measurements"] = [*map(pages.rows_touched, mapped)]

    network = Sequential(Affine(units=3), loss=SoftmaxWithLoss, seed=1)
    options = {"mini_batch_size": 10, "seed": 3, "verbose": False, "metrics": ["f1"], "callbacks": [Read()]}
    Trainer(network, mapped[0], T, mapped[1], T, 1, communicator=ranks, **options).train()
    assert read["steps"][1] == set()
    for rows in (read["steps"][0], *read["measurements"]):
        every = ranks.allgather(rows)
        assert sorted(row for own in every for row in own) == list(range(len(T))), every
        assert max(map(len, every)) <= len(T) // ranks.size + 5, every


@claim_on_linux
def rows_of_mapped_pieces_are_read_by_one_rank(ranks: Any, folder: Path) -> None:
    mapped = pages.mapped_rows(folder / f"rank{ranks.rank}", len(T))
    pieces = [(mapped[begin : begin + 9], T[begin : begin + 9]) for begin in range(0, len(T), 9)]
    network = Sequential(Affine(units=3), loss=SoftmaxWithLoss, seed=1)
    network.build((pages.ROW_VALUES,))
    batches = xpdl.ChunkedBatches(pieces, 11, seed=4)
    Trainer(network, batches, None, epochs=1, seed=0, verbose=False, communicator=ranks).train()
    every = ranks.allgather(pages.rows_touched(mapped))
    assert sorted(row for own in every for row in own) == list(range(len(T))), every


@claim
def batches_that_differ_between_ranks_are_refused(ranks: Any, folder: Path) -> None:
    other = ranks.rank == 1
    per_rank = xpdl.Batches(X, T, 10, seed=5 + other)

    def fewer() -> Any:
        return itertools.islice(xpdl.Batches(X, T, 10, seed=5), 4 - other)

    for source, batch in (
        (per_rank, 1),
        (lambda: iter(per_rank), 1),
        (xpdl.Batches(X, T, 11 if other else 10, seed=5), 1),
        (xpdl.Batches(X[:46] if other else X, T[:46] if other else T, 24, seed=5), 1),
        (fewer, 4),
    ):
        message = refused(RankError, streamed(ranks, source).train)
        assert f"x_train, batch {batch} of epoch 1: rank 1 has another one than rank 0; give" in message, message
    message = refused(ValueError, lambda: streamed(ranks, xpdl.Batches(X, T, 10, shard=(ranks.rank, ranks.size + 1))))
    assert f"rank {ranks.rank} has batches with shard=({ranks.rank}, {ranks.size + 1}); leave it out" in message
    streamed(ranks, xpdl.Batches(X, T, 10, seed=0, shard=(ranks.rank, ranks.size))).train()


@claim
def augmented_rows_of_a_sharded_function_draw_other_numbers_on_each_rank(ranks: Any, folder: Path) -> None:
    drawn: list[float] = []

    def draw(x: Any, stream: Any) -> Any:
        drawn.append(stream.generator("noise").normal())
        return x

    streamed(ranks, uneven_rows, augment=draw).train()
    assert len(drawn) == 5 and len({*itertools.chain(*ranks.allgather(drawn))}) == 5 * ranks.size


@claim
def streamed_trainings_resume_bitwise_identical(ranks: Any, folder: Path) -> None:
    class Leave(Exception):
        pass

    class At(Callback):
        def on_batch_begin(self, trainer: Any, step: int) -> None:
            if step == 9:
                raise Leave

    for name, source in (
        ("pieces", xpdl.ChunkedBatches([(X[:20], T[:20]), (X[20:], T[20:])], 11, seed=2)),
        ("function", uneven_rows),
        ("generator", lambda epoch: iter([*xpdl.Batches(X, T, 10, seed=epoch)])),
    ):
        whole = streamed(ranks, source, epochs=3)
        whole.train()
        options = {"epochs": 3, "checkpoint": folder / name, "checkpoint_every": 2}
        refused(Leave, streamed(ranks, source, callbacks=[At()], **options).train)
        again = streamed(ranks, source, **options)
        again.train()
        assert parameters(again.network) == parameters(whole.network), name
        assert again.train_loss_list == whole.train_loss_list, name


for check in (*sharded.CHECKS, *states.CHECKS):
    claim(check)


def main(folder: Path, names: list[str]) -> int:
    xpdl.use("numpy", dtype="float64")
    ranks = xpdl.distributed.mpi(timeout=60, bucket_bytes=64)
    failed = 0
    for name in names or CHECKS:
        own, problem = folder / name, ""
        own.mkdir(exist_ok=True)
        try:
            with without("numba"):
                CHECKS[name](ranks, own)
        except Exception:
            problem = f"{name}, rank {ranks.rank}:\n{traceback.format_exc()}"
        problems = list(filter(None, ranks.allgather(problem)))
        failed += bool(problems)
        if ranks.is_first:
            print(*problems, f"{name}: {'failed' if problems else 'ok'}", sep="\n", flush=True)
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
