"""One pass over the whole of MNIST, here and in PyTorch."""

from __future__ import annotations

import time
from typing import Any

from xpdl.backends import get_backend, use
from xpdl.backends.cpu.thread_pool import thread_count
from xpdl.bench import torch_peer
from xpdl.bench.nets import NETS
from xpdl.bench.timing import PEER, check_net
from xpdl.data import Batches, load_mnist
from xpdl.optimizers import Adam


def epoch(net: str, *, backend: str = "numpy", batch_size: int = 100, against_torch: bool = False) -> dict[str, float]:
    """Seconds of training over the 60,000 images, shuffled, with Adam: ``{backend: ..., "PyTorch": ...}``.

    Raises
    ------
    ValueError
        If there is no such net, or it does not take images of MNIST.
    """
    check_net(net)
    build, shape = NETS[net]
    if shape not in ((784,), (1, 28, 28)):
        raise ValueError(f"epoch: {net} does not take images of MNIST, but rows of shape {shape}")
    seconds = {}
    with use(backend):
        (x, t), _ = load_mnist(flatten=len(shape) == 1)
        network, adam = build(), Adam()
        network.build(shape)
        start = time.perf_counter()
        for rows, labels in Batches(x, t, batch_size, shuffle=True, seed=0):
            adam.update(network.params, network.gradient(rows, labels))
        float(network.last_loss)  # type: ignore[arg-type]
        seconds[get_backend().name] = time.perf_counter() - start
    if against_torch:
        with use("numpy"):
            (x, t), _ = load_mnist(flatten=len(shape) == 1)
            network = build()
            network.build(shape)
        seconds[PEER] = _torch_seconds(torch_peer.peer(network, thread_count()), x, t, batch_size)
    return seconds


def _torch_seconds(module: Any, x: Any, t: Any, batch_size: int) -> float:
    step = torch_peer.row_stepper(module)
    start = time.perf_counter()
    for rows, labels in torch_peer.shuffled(x, t, batch_size):
        step(rows, labels)
    return time.perf_counter() - start
