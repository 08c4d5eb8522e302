"""Ranks against one process: ``mpiexec -n 3 python -m tests.distributed.equal_to_one_process [OPTION...] [CASE...]``.

Options are ``on=LIBRARY``, and ``via=messages`` where ranks of one machine are not to share memory.

Each case is trained twice for 50 steps in float64, by all ranks together and by each rank alone; parameters and running
statistics must be equal to 1e-12, losses and measurements to 1e-11, and all ranks bitwise identical. With ``on=cupy``,
``via=TRANSPORT`` is the way of gradients.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

import xpdl
from tests.distributed import emulated_gpus, sequences
from tests.distributed.emulated_gpus import OPTIONS
from xpdl.backends.registry import without
from xpdl.distributed import Communicator
from xpdl.layers import (
    Affine,
    BatchNormalization,
    Convolution,
    Dropout,
    Flatten,
    IdentityWithLoss,
    Multiply,
    Pooling,
    Relu,
    Residual,
    SoftmaxWithLoss,
    Tanh,
)
from xpdl.models import Graph, Input, MultiLayerNet, Sequential
from xpdl.training import EarlyStopping, MixedPrecision, StepLR, Trainer
from xpdl.training.network_state import named_arrays

ROWS = 47
_rng = np.random.default_rng(3)
X = _rng.normal(size=(ROWS, 6))
T = (np.abs(X[:, :3]).argmax(axis=1) + _rng.integers(0, 2, ROWS)) % 3
IMAGES = _rng.normal(size=(ROWS, 2, 6, 6))
WEIGHTS = _rng.uniform(0.0, 2.0, ROWS)
WEIGHTS[::7] = 0.0
RULES = ["SGD", "Momentum", "Nesterov", "AdaGrad", "AdaDelta", "RMSprop", "Adam", "AdamW"]


def rows_net(*middle: Any, loss: Any = SoftmaxWithLoss) -> Sequential:
    return Sequential(Affine(units=8), *middle, Tanh(), Affine(units=3), loss=loss, seed=1)


def image_net() -> Sequential:
    return Sequential(
        *(Convolution(filters=4, size=3, pad=1, use_bias=False), BatchNormalization(sync=True), Relu()),
        *(Pooling(2, 2), Dropout(0.3), Flatten(), Affine(units=3)),
        loss=SoftmaxWithLoss,
        seed=1,
    )


def graph_net() -> Graph:
    """Two inputs through shared weights, and two losses."""
    left, right = Input(X.shape[1:], "left"), Input(X.shape[1:], "right")
    half = Sequential(Affine(units=5, use_bias=False), BatchNormalization(sync=True), Tanh())
    u, v = half(left), half(right)
    outputs = [Affine(units=3)(Multiply()(u, v)), Affine(units=2)(u)]
    return Graph([left, right], outputs, loss=[SoftmaxWithLoss, IdentityWithLoss], loss_weights=[1.0, 0.5], seed=1)


def everything(rule: str) -> dict[str, Any]:
    """Dropout, class weights, synchronised batch normalization, accumulation, and a last batch of 2 rows."""
    middle = Affine(units=7, use_bias=False), BatchNormalization(sync=True), Dropout(0.4, inverted=True)
    return {
        "network": rows_net(Tanh(), *middle, loss=SoftmaxWithLoss(class_weights=[1.0, 0.25, 3.0])),
        "optimizer": rule,
        "accumulate_grad_batches": 2,
        "mini_batch_size": 15,
    }


def residual_net() -> Sequential:
    body = Convolution(filters=2, size=3, pad=1, use_bias=False), BatchNormalization(sync=True)
    layers = Residual(*body), Relu(), Flatten(), Affine(units=3)
    return Sequential(*layers, loss=SoftmaxWithLoss, seed=1)


def sharded(rule: str) -> xpdl.Optimizer:
    """Options that look at names, shapes, and all gradients at once."""
    decay = {"weight_decay": 0.1 if rule == "AdamW" else {"l1": 1e-3, "l2": 0.1}, "decay": "weights"}
    return getattr(xpdl, rule)(lr=0.01, clip_norm=0.05, lr_groups={"Affine1*": 0.5, "*.gamma": 3.0}, **decay)


def noisy(x: Any, stream: Any) -> Any:
    return x + stream.generator("noise").normal(size=x.shape)


def uneven_rows(epoch: int, rank: int, ranks: int) -> Iterator[tuple[Any, Any]]:
    """Yield a rank's rows, of shares that differ: rank 1 has none of batch 2, and the last batch is rank 0's alone."""
    for number, (x, t) in enumerate(xpdl.Batches(X, T, 10, seed=epoch)):
        borders = [*(min(3 * place, len(t)) for place in range(ranks)), len(t)]
        if number == 2 and ranks > 1:
            borders[1] = borders[2]
        if number == 4:
            borders[1:] = [len(t)] * ranks
            if rank > 0:
                return
        yield x[borders[rank] : borders[rank + 1]], t[borders[rank] : borders[rank + 1]]


def streamed(batches: Any, accumulate: int = 1, **options: Any) -> dict[str, Any]:
    """Dropout and a convolution-free net on batches that come ready made."""
    network = rows_net(Dropout(0.3, inverted=True))
    return {"network": network, "x_train": batches, "accumulate_grad_batches": accumulate, **options}


CASES: dict[str, Callable[[], dict[str, Any]]] = {
    "plain": lambda: {"network": rows_net()},
    **{f"everything {rule}": (lambda rule=rule: everything(rule)) for rule in RULES},
    **{
        f"sharded {rule}": (lambda rule=rule: {**everything(rule), "optimizer": sharded(rule), "shard_optimizer": True})
        for rule in RULES
    },
    "sharded images": lambda: {
        "network": image_net(),
        "x_train": IMAGES,
        "x_test": IMAGES[:11],
        "mini_batch_size": 9,
        "shard_optimizer": True,
    },
    "sharded float32 passes": lambda: {
        "network": rows_net(),
        "optimizer": xpdl.Adam(lr=0.01, clip_norm=0.05),
        "precision": MixedPrecision("float32", scale=2.0**20),
        "shard_optimizer": True,
    },
    "dropout": lambda: {"network": rows_net(Dropout(0.5))},
    "a class without weight": lambda: {"network": rows_net(loss=SoftmaxWithLoss(class_weights=[1.0, 0.0, 2.0]))},
    "sample weights": lambda: {"network": rows_net(), "sample_weight": WEIGHTS},
    "sample weights, sync": lambda: {
        "network": rows_net(Tanh(), Affine(units=5, use_bias=False), BatchNormalization(sync=True)),
        "sample_weight": WEIGHTS,
        "mini_batch_size": 5,
    },
    "images": lambda: {"network": image_net(), "x_train": IMAGES, "x_test": IMAGES[:11], "mini_batch_size": 9},
    "residual": lambda: {"network": residual_net(), "x_train": IMAGES, "x_test": IMAGES[:11]},
    "decay in the loss": lambda: {"network": MultiLayerNet(6, [5, 4], 3, weight_decay_lambda=0.3, seed=1)},
    "clip": lambda: {"network": rows_net(), "optimizer": xpdl.Adam(clip_norm=0.05)},
    "fewer rows than ranks": lambda: {"network": rows_net(), "mini_batch_size": 3, "accumulate_grad_batches": 3},
    "validation": lambda: {
        "network": rows_net(),
        "validation_split": 0.2,
        "metrics": ["f1", "roc_auc"],
        "callbacks": [StepLR(3, 0.5), EarlyStopping("val_loss", patience=2)],
    },
    "noise": lambda: {"network": rows_net(), "augment": noisy},
    "batches": lambda: streamed(xpdl.Batches(X, T, 10, seed=2)),
    "batches, accumulated": lambda: streamed(lambda epoch: iter([*xpdl.Batches(X, T, 10, seed=epoch)]), accumulate=3),
    "batches, augmented": lambda: streamed(xpdl.Batches(X, T, 10, seed=2), augment=noisy),
    "pieces": lambda: streamed(
        xpdl.ChunkedBatches([(X[a : a + 9], T[a : a + 9]) for a in range(0, ROWS, 9)], 11, seed=2)
    ),
    "prefetched, fewer rows than ranks": lambda: streamed(xpdl.Prefetch(xpdl.Batches(X, T, 2, seed=2))),
    "same generator": lambda: streamed(lambda: iter(xpdl.Batches(X, T, 15, seed=2, sample_weight=WEIGHTS))),
    "sharded function": lambda: streamed(uneven_rows, accumulate=2),
    "drop_last": lambda: {"network": rows_net(), "drop_last": True},
    "graph": lambda: {
        "network": graph_net(),
        "x_train": {"left": X, "right": X[::-1].copy()},
        "t_train": (T, X[:, :2]),
        "x_test": (X[:13], X[:13]),
        "t_test": (T[:13], X[:13, :2]),
        "accumulate_grad_batches": 2,
    },
    "float32 passes": lambda: {"network": rows_net(), "precision": MixedPrecision("float32")},
    **sequences.CASES,
}
# rounding of float32 does not come in the same order
COARSE = {"float32 passes": 1e-3, "sharded float32 passes": 1e-3}
# Scores of a softmax do not depend on the bias of the keys without positions: its gradient is rounding alone.
WITHOUT_INFLUENCE = {"GPT": "bk"}


def trained(case: str, communicator: Any) -> Trainer:
    options = CASES[case]()
    network, x = options.pop("network"), options.pop("x_train", X)
    if not isinstance(options.get("optimizer", ""), xpdl.Optimizer):
        options["optimizer_param"] = {"lr": 0.01}
    options = {"optimizer": "SGD", "mini_batch_size": 10, **options}
    x_test = options.pop("x_test", X[:13])
    is_rows = isinstance(x, (np.ndarray, dict))
    t, t_test = options.pop("t_train", T), options.pop("t_test", T[: len(x_test)])
    rows = ROWS - round(ROWS * options.get("validation_split", 0.0))
    steps = -(-rows // options["mini_batch_size"])
    if not is_rows:  # batches have their own size
        del options["mini_batch_size"]
    data = x, t if is_rows else None, x_test, t_test
    options = {"seed": 5, "verbose": False, "communicator": communicator or Communicator(), **options}
    trainer = Trainer(network, *data, -(-50 // steps), **options)
    trainer.train()
    return trainer


def check(case: str, communicator: Any) -> list[str]:
    several, one = trained(case, communicator), trained(case, None)
    tolerance = COARSE.get(case, 1e-12)
    wrong = []
    arrays = {name: xpdl.asnumpy(owner[key]) for name, owner, key in named_arrays(one.network)}
    for name, owner, key in named_arrays(several.network):
        found = xpdl.asnumpy(owner[key])
        error = np.linalg.norm(found - arrays[name]) / np.linalg.norm(arrays[name])
        if not (error <= tolerance or key == WITHOUT_INFLUENCE.get(case)):
            wrong.append(f"{case}: {name} differs by {error:.1e}")
        if len({a.tobytes() for a in communicator.allgather(found)}) != 1:
            wrong.append(f"{case}: {name} is not bitwise identical on all ranks")
    lists = several.history.lists(), one.history.lists()
    for name, want in lists[1].items():
        got = lists[0][name]
        if name != "seconds" and not np.allclose(got, want, rtol=10 * tolerance, atol=1e-14):
            wrong.append(f"{case}: history.{name} is {got}, and {want} of one process")
        if name != "seconds" and len(set(map(str, communicator.allgather(got)))) != 1:
            wrong.append(f"{case}: history.{name} is not the same on all ranks")
    return wrong


def main(words: list[str]) -> int:
    options = {"on": "numpy", "via": "auto", **dict(word.split("=") for word in words if "=" in word)}
    cases = [word for word in words if "=" not in word]
    communicator = emulated_gpus.ranks(options["via"]) if options["on"] == "cupy" else xpdl.distributed.mpi(**OPTIONS)
    communicator.on_one_machine &= options["via"] != "messages"
    # a GPU of its own for each rank, where it may be
    device = communicator.local_rank if options["via"] in ("nccl", "cuda-aware") else None
    xpdl.use(options["on"], device=device, dtype="float64")
    with without("numba"):  # which takes longer to load than all of this
        wrong = [line for case in cases or CASES for line in check(case, communicator)]
    if communicator.is_first:
        print(*wrong, f"{len(cases or CASES)} cases on {communicator.size} ranks: {len(wrong)} wrong", sep="\n")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
