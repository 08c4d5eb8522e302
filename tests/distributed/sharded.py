"""Claims about sharded optimizers and compressed gradients of several ranks, for ``tests.distributed.together``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

import xpdl
from tests.distributed.equal_to_one_process import T, X, everything, rows_net
from xpdl.distributed import Communicator
from xpdl.layers import Affine, Relu, SoftmaxWithLoss, Tanh
from xpdl.models import Sequential
from xpdl.training import MixedPrecision, Trainer


def run(ranks: Any, network: Any = None, **options: Any) -> Trainer:
    options = {"mini_batch_size": 10, "epochs": 2, "seed": 3, "verbose": False, "optimizer": "adam", **options}
    made = Trainer(network or rows_net(), X, T, X[:7], T[:7], communicator=ranks, **options)
    made.train()
    return made


def values(network: Any) -> dict[str, np.ndarray]:
    return {name: np.array(p) for name, p in network.params.items()}


def error_of(call: Any) -> str:
    try:
        call()
    except (TypeError, ValueError, FloatingPointError) as error:
        return str(error)
    raise AssertionError("no error")


def a_rank_keeps_its_share_of_the_state_alone(ranks: Any, folder: Path) -> None:
    network = Sequential(Affine(units=50), Relu(), Affine(units=3), loss=SoftmaxWithLoss, seed=0)
    optimizer = run(ranks, network, shard_optimizer=True).optimizer
    total = sum(p.size for p in network.params.values())
    for state in (optimizer.m, optimizer.v):
        sizes = ranks.allgather(sum(a.size for a in state.values()))
        assert sum(sizes) == total and max(sizes) <= total / ranks.size + 10, sizes


def checkpoints_go_on_with_and_without_shards(ranks: Any, folder: Path) -> None:
    def trained(path: Path, epochs: int, sharded: bool, communicator: Any = ranks) -> Any:
        options = {**everything("Adam"), "checkpoint": path, "epochs": epochs, "shard_optimizer": sharded}
        return run(communicator, options.pop("network"), **options)

    whole = {sharded: trained(folder / f"whole{sharded}", 4, sharded) for sharded in (True, False)}
    for first in (True, False):
        for then in (True, False):
            path = folder / f"{first}{then}"
            trained(path, 2, first)
            again = trained(path, 4, then)
            for name, p in values(again.network).items():
                np.testing.assert_allclose(p, values(whole[then].network)[name], rtol=1e-11, atol=1e-13, err_msg=name)
                if first == then:  # bitwise
                    np.testing.assert_array_equal(p, values(whole[then].network)[name], err_msg=name)
    # by one process, from the file of rank 0
    trained(folder / "alone", 2, True)
    if ranks.is_first:
        alone = trained(folder / "alone", 4, True, Communicator())
        assert alone.current_epoch == 4
        for name, p in values(alone.network).items():
            np.testing.assert_allclose(p, values(whole[True].network)[name], rtol=1e-10, atol=1e-12, err_msg=name)
    ranks.barrier()


def layers_are_frozen_and_thawed_between_calls_of_train(ranks: Any, folder: Path) -> None:
    layers = "Affine1", "Affine2", "Affine3"

    def trained(communicator: Any, sharded: bool, calls: list[list[str]]) -> dict[str, np.ndarray]:
        network = rows_net(Tanh(), Affine(units=5))
        network.build((6,))
        options = {"mini_batch_size": 10, "seed": 3, "verbose": False, "optimizer": "adam"}
        # a file has the whole state
        path = folder / f"{ranks.rank} {communicator.size} {sharded} {calls}"
        made = Trainer(
            network, X, T, epochs=3, communicator=communicator, checkpoint=path, shard_optimizer=sharded, **options
        )
        for frozen in calls:
            for name in layers:
                network.layers[name].trainable = name not in frozen
            made.train(1)
        return values(network)

    for calls in ([["Affine1"], []], [[], ["Affine1"]], [[], ["Affine2"], []], [[*layers]]):
        expected = trained(Communicator(), False, calls)
        for sharded in (False, True):
            for name, p in trained(ranks, sharded, calls).items():
                np.testing.assert_allclose(p, expected[name], rtol=1e-11, atol=1e-13, err_msg=f"{calls} {name}")


def a_second_call_of_train_goes_on_with_the_shards(ranks: Any, folder: Path) -> None:
    options = everything("Adam")
    network = options.pop("network")
    twice = Trainer(network, X, T, epochs=4, seed=3, verbose=False, communicator=ranks, shard_optimizer=True, **options)
    twice.train(2)
    twice.train()
    options = everything("Adam")
    once = run(ranks, options.pop("network"), epochs=4, shard_optimizer=True, **options)
    for name, p in values(once.network).items():
        np.testing.assert_array_equal(p, values(twice.network)[name], err_msg=name)


def updates_by_pieces_with_infinity_are_skipped_by_all(ranks: Any, folder: Path) -> None:
    network, mixed = rows_net(), MixedPrecision("float16", scale=2.0**60)
    run(ranks, network, precision=mixed, shard_optimizer=True, epochs=12)
    assert mixed.skipped_steps > 5 and len(set(ranks.allgather((mixed.scale, mixed.skipped_steps)))) == 1
    assert len(set(ranks.allgather(b"".join(p.tobytes() for p in values(network).values())))) == 1
    assert all(np.isfinite(p).all() for p in network.params.values())


def a_gradient_of_nan_in_one_shard_is_told_by_all(ranks: Any, folder: Path) -> None:
    network, calls = rows_net(), []
    network.build((6,))
    first: Any = network.layers["Affine1"]
    backward = first.backward_parameters

    def spoiled(dout: Any) -> None:
        backward(dout)
        calls.append(1)
        if len(calls) == 3 and ranks.rank == 1:
            first.grads["W"][0, 0] = np.nan  # the loss is finite, and so are all other pieces

    first.backward_parameters = spoiled
    said = error_of(lambda: run(ranks, network, shard_optimizer=True))
    assert "a gradient became NaN or infinite" in said and "at step 3" in said, said
    assert all(np.isfinite(p).all() for p in network.params.values())


def optimizers_with_steps_of_whole_arrays_are_refused(ranks: Any, folder: Path) -> None:
    class Whole(xpdl.Optimizer):
        lr = 0.1

        def step(self, p: Any, g: Any) -> Any:
            return (p - 0.1 * g / abs(g).max(),)

    said = error_of(lambda: run(ranks, optimizer=Whole(), shard_optimizer=True))
    assert "takes an optimizer of xpdl with an elementwise step, got Whole" in said, said


def ranks_with_other_messages_are_refused(ranks: Any, folder: Path) -> None:
    said = error_of(lambda: run(ranks, shard_optimizer=ranks.rank == 1))
    assert "rank 1 has shard_optimizer True, rank 0 False" in said, said
    other = xpdl.distributed.mpi(timeout=62, transport="staged" if ranks.rank == 1 else "auto")
    said = error_of(lambda: run(other))
    assert "rank 1 has transport staged, rank 0 auto" in said, said


def compressed_gradients_are_those_of_the_bound_on_all_ranks(ranks: Any, folder: Path) -> None:
    compressing = xpdl.distributed.mpi(timeout=61, bucket_bytes=64, compression="float16")
    rng = np.random.default_rng(ranks.rank)
    for size in (7, 60_000):
        for factor in (1e-12, 1.0, 1e30):
            own = rng.normal(size=size) * 10.0 ** rng.integers(-3, 3, size) * factor
            terms = np.stack(ranks.allgather(own))
            total = compressing.start_sum(own)()
            bound = 2.0**-11 * (np.abs(terms).sum(axis=0) + np.abs(terms.sum(axis=0))) * 1.001
            bound += 2.0**-38 * np.abs(terms).max() * ranks.size
            assert (np.abs(total - terms.sum(axis=0)) <= bound).all() and (total != terms.sum(axis=0)).any()
            assert len(set(ranks.allgather(total.tobytes()))) == 1
    for sharded in (False, True):
        found, exact = (run(r, shard_optimizer=sharded, optimizer="SGD") for r in (compressing, ranks))
        assert len(set(ranks.allgather(b"".join(p.tobytes() for p in values(found.network).values())))) == 1
        for name, p in values(exact.network).items():
            np.testing.assert_allclose(values(found.network)[name], p, rtol=1e-2, atol=1e-4, err_msg=name)


CHECKS = [value for name, value in list(globals().items()) if getattr(value, "__module__", "") == __name__]
CHECKS = [check for check in CHECKS if check.__name__ not in ("run", "values", "error_of")]
