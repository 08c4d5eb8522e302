"""The bench times what it says it times: the nets, and in PyTorch the same ones. Nothing here looks at a clock."""

import argparse
import importlib
import json
import math
from pathlib import Path

import numpy as np
import pytest

from xpdl import Affine, Flatten, IdentityWithLoss, Sequential, Sigmoid, SoftmaxWithLoss, bench, cli
from xpdl.backends.numba import loading
from xpdl.bench import command, jax_peer, sequence_nets, timing, torch_peer
from xpdl.bench.nets import NETS
from xpdl.bench.sequence_nets import SEQUENCE_NETS

# modules, whose names are those of functions as well
epoch, memory, scaling = (importlib.import_module(f"xpdl.bench.{name}") for name in ("epoch", "memory", "scaling"))


@pytest.mark.needs("torch")
@pytest.mark.parametrize("net", NETS)
def test_peer_computes_the_same_scores_and_gradients(net):
    import torch

    network, x, t = timing.prepared(*NETS[net], 6)
    for layer in network.layers.values():
        if type(layer).__name__ == "Dropout":
            layer.dropout_ratio = 0.0
    module = torch_peer.peer(network, threads=1)
    for part in module.modules():
        if isinstance(part, torch.nn.Dropout):
            part.p = 0.0
    scores = network.predict(x)
    np.testing.assert_allclose(
        scores, torch_peer.predictor(module, x)().numpy(), rtol=1e-3, atol=1e-4 * float(np.abs(scores).max())
    )
    module.train()
    loss = torch.nn.CrossEntropyLoss()(module(torch.tensor(x)), torch.tensor(t))
    loss.backward()
    gradients = network.gradient(x, t)
    assert float(network.last_loss) == pytest.approx(loss.item(), rel=1e-5)
    found = sorted(float(np.linalg.norm(g)) for g in gradients.values())
    expected = sorted(float(p.grad.norm()) for p in module.parameters())
    np.testing.assert_allclose(found, expected, rtol=2e-3, atol=1e-6)


@pytest.mark.needs("torch")
@pytest.mark.exhaustive
@pytest.mark.parametrize("net", SEQUENCE_NETS)
def test_peer_of_sequences_computes_the_same_scores_and_gradients(net):
    import torch

    network, x, t = sequence_nets.prepared_sequences(net, 2)
    # small weights of the start leave all scores about equal
    for value in network.params.values():
        value *= 3
    module = torch_peer.peer(network, threads=1)
    rows, labels = sequence_nets.pair_of(net, x, t)
    scores = torch_peer.predictor(module, rows)().numpy()
    np.testing.assert_allclose(network.predict(rows), scores, rtol=1e-3, atol=1e-4 * float(np.abs(scores).max()))
    tensors = tuple(map(torch.tensor, rows)) if isinstance(rows, tuple) else torch.tensor(rows)
    loss = torch.nn.CrossEntropyLoss()(module.train()(tensors).flatten(0, -2), torch.tensor(labels).flatten())
    loss.backward()
    gradients = network.gradient(x, t)
    assert float(network.last_loss) == pytest.approx(loss.item(), rel=1e-5)
    total = sum(float(np.linalg.norm(g)) ** 2 for g in gradients.values())
    # of two biases of an LSTM, which have the same gradient, one is the other net's
    theirs = {name: float(p.grad.norm()) ** 2 for name, p in module.named_parameters() if "bias_hh" not in name}
    assert total == pytest.approx(sum(theirs.values()), rel=1e-3)


@pytest.mark.needs("torch")
@pytest.mark.parametrize("task", ["train", "predict"])
def test_nets_of_sequences_are_compared_with_torch(task):
    call = timing._start("AttentionSeq2seq", "numpy", 1, task)
    timing.wait(call())
    peer = timing._start_torch("AttentionSeq2seq", False, 1, task)()
    assert (peer is None) if task == "train" else (tuple(peer.shape) == tuple(call().shape) == (1, 10, 59))


@pytest.mark.parametrize("way", ["--profile", "--epoch"])
def test_ways_that_take_no_sequences_say_so(way):
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    with pytest.raises(ValueError, match=f"{way} does not measure nets of sequences, got --model GPT; leave it out"):
        command.run(parser.parse_args(["--model", "GPT", way]))


@pytest.mark.parametrize("task", ["train", "predict"])
def test_figures_are_of_what_was_asked_for(task):
    (figure,) = bench.bench("TwoLayerNet", batch_size=7, rounds=3, task=task)
    assert (figure.net, figure.task, figure.backend, figure.batch_size) == ("TwoLayerNet", task, "numpy", 7)
    assert 0 < figure.fastest <= figure.milliseconds <= figure.slowest
    assert figure.images_per_second == pytest.approx(7e3 / figure.milliseconds)
    assert figure.peak_megabytes > 0 and figure.ratio is None


@pytest.mark.needs("torch")
def test_against_torch_gives_a_ratio():
    figures = {
        figure.backend: figure
        for figure in bench.bench(
            "SimpleConvNet", backends=("numpy", "torch"), batch_size=2, rounds=1, against_torch=True
        )
    }
    assert set(figures) == {"numpy", "torch", "PyTorch", "PyTorch channels_last"}
    for name in ("numpy", "torch"):
        assert figures[name].ratio == pytest.approx(figures[name].milliseconds / figures["PyTorch"].milliseconds)
    assert figures["PyTorch"].ratio is None


@pytest.mark.needs("jax", "optax")
@pytest.mark.exhaustive
@pytest.mark.parametrize("net", NETS)
def test_peer_in_jax_computes_the_same_scores_and_gradients(net):
    import jax

    network, x, t = timing.prepared(*NETS[net], 6)
    for layer in network.tree():
        if type(layer).__name__ == "Dropout":
            layer.dropout_ratio = 0.0
    peer = jax_peer.Peer(network)
    scores = network.predict(x)
    tolerances = {"rtol": 1e-3, "atol": 1e-4 * float(np.abs(scores).max())}
    for compiled in (False, True):
        np.testing.assert_allclose(scores, peer.predictor(x, compiled=compiled)(), **tolerances)
    loss, grads = jax.value_and_grad(peer.loss)(peer.params, x, t, jax.random.PRNGKey(0))
    gradients = network.gradient(x, t)
    assert float(network.last_loss) == pytest.approx(float(loss), rel=1e-5)
    found = sorted(float(np.linalg.norm(g)) for g in gradients.values())
    np.testing.assert_allclose(
        found, sorted(float(np.linalg.norm(g)) for g in jax.tree.leaves(grads)), rtol=2e-3, atol=1e-5
    )


@pytest.mark.needs("jax", "optax")
@pytest.mark.exhaustive
@pytest.mark.parametrize("net", SEQUENCE_NETS)
def test_peer_of_sequences_in_jax_computes_the_same_scores_and_gradients(net):
    import jax

    network, x, t = sequence_nets.prepared_sequences(net, 2)
    # small weights of the start leave all scores about equal
    for value in network.params.values():
        value *= 3
    peer = jax_peer.Peer(network)
    rows, labels = sequence_nets.pair_of(net, x, t)
    scores = network.predict(rows)
    tolerances = {"rtol": 1e-3, "atol": 1e-4 * float(np.abs(scores).max())}
    np.testing.assert_allclose(peer.predictor(rows, compiled=True)(), scores, **tolerances)
    loss, grads = jax.jit(jax.value_and_grad(peer.loss))(peer.params, rows, labels)
    gradients = network.gradient(x, t)
    assert float(network.last_loss) == pytest.approx(float(loss), rel=1e-5)
    found = sorted(float(np.linalg.norm(g)) for g in gradients.values())
    np.testing.assert_allclose(
        found, sorted(float(np.linalg.norm(g)) for g in jax.tree.leaves(grads)), rtol=2e-3, atol=1e-5
    )


@pytest.mark.needs("jax", "optax")
@pytest.mark.parametrize("compiled", [False, True])
def test_peer_in_jax_learns_by_adam(compiled):
    network, x, t = timing.prepared(*NETS["TwoLayerNet"], 6)
    step = jax_peer.Peer(network).stepper(x, t, compiled=compiled)
    first, *_, last = (float(step()[0]) for _ in range(5))
    assert first == pytest.approx(float(network.loss(x, t)), rel=1e-5) and last < first


@pytest.mark.needs("jax", "optax")
@pytest.mark.exhaustive
def test_against_jax_compares_eager_with_eager_and_compiled_with_compiled():
    options = {"backends": ("numpy", "jax"), "batch_size": 2, "rounds": 1, "against_jax": True}
    figures = {figure.backend: figure for figure in bench.bench("TwoLayerNet", **options)}
    assert set(figures) == {"numpy", "jax", "jax compiled", "JAX", "JAX eager"}
    peers = {name: figure.peer for name, figure in figures.items() if figure.peer}
    assert peers == {"numpy": "JAX", "jax": "JAX eager", "jax compiled": "JAX"}
    for name, peer in peers.items():
        assert figures[name].ratio == pytest.approx(figures[name].milliseconds / figures[peer].milliseconds)


def test_a_step_is_waited_for_to_its_last_array():
    class Array:
        ndim = 0

        def __init__(self):
            self.reads = 0

        def __float__(self):
            self.reads += 1
            return 0.0

    arrays = [Array(), Array()]
    timing.wait(arrays)
    timing.wait(None)
    assert [array.reads for array in arrays] == [1, 1]


def test_parameters_are_waited_for_where_an_update_goes_on_after_its_call(monkeypatch):
    network, x, t = timing.prepared(*NETS["TwoLayerNet"], 2)
    loss = timing.task_call(network, x, t, "train")()
    assert loss is network.last_loss
    monkeypatch.setattr(timing, "is_host", lambda x: False)
    loss, *params = timing.task_call(network, x, t, "train")()
    assert loss is network.last_loss and len(params) == len(network.params)


def test_clock_is_that_which_was_asked_for(monkeypatch):
    ticks = iter(range(100))
    monkeypatch.setattr(timing.time, "process_time", lambda: float(next(ticks)))
    figures = bench.bench("TwoLayerNet", batch_size=2, rounds=3, processor_time=True)
    assert next(ticks) == 6 and len(figures) == 1 and figures[0].milliseconds <= 1e3


def test_each_is_compared_with_the_peer_of_its_library():
    names = ["torch", "jax", "jax compiled", "PyTorch", "PyTorch channels_last", "JAX", "JAX eager"]
    assert [timing._peer_of(name, names) for name in names] == [
        "PyTorch",
        "JAX eager",
        "JAX",
        None,
        "PyTorch",
        None,
        None,
    ]
    assert [timing._peer_of(name, names[:5]) for name in names[:3]] == ["PyTorch"] * 3
    assert [timing._peer_of(name, names[:3]) for name in names[:3]] == [None] * 3


@pytest.mark.parametrize("way", ["--memory", "--epoch"])
def test_other_ways_compare_with_pytorch_alone(way, capsys):
    assert cli.main(["bench", way, "--against", "jax"]) == 2
    assert f"{way} compares with PyTorch alone, got --against jax" in capsys.readouterr().err


def test_profile_has_every_layer_and_adds_up():
    rows = bench.profile("SimpleConvNet", batch_size=2, steps=1)
    names = [name for name, _, _ in rows]
    assert names[:5] == ["Conv1", "Relu1 + Pool1", "Affine1 + Relu2", "Affine2", "SoftmaxWithLoss"]
    assert names[-2:] == ["optimizer and rest", "whole step"]
    assert math.fsum(f + b for _, f, b in rows[:-1]) == pytest.approx(rows[-1][1])
    assert all(f > 0 and b > 0 for _, f, b in rows[:5])


@pytest.mark.parametrize(
    "options, says",
    [
        ({"net": "None"}, "no net is called"),
        ({"task": "rest"}, "task must be"),
        ({"rounds": 0}, "rounds"),
        ({"batch_size": -1}, "batch_size"),
    ],
)
def test_wrong_input_is_named(options, says):
    with pytest.raises(ValueError, match=says):
        bench.bench(**{"net": "TwoLayerNet", **options})


@pytest.mark.needs("torch")
@pytest.mark.parametrize(
    "network",
    [
        Sequential(Flatten(), Affine(units=2), loss=IdentityWithLoss),
        Sequential(Affine(units=2), Sigmoid(), loss=SoftmaxWithLoss),
    ],
)
def test_nets_without_a_peer_are_refused(network):
    network.build((3,))
    with pytest.raises(TypeError, match="bench: "):
        torch_peer.peer(network, threads=1)


@pytest.mark.needs("jax", "optax")
@pytest.mark.parametrize(
    "network",
    [
        Sequential(Flatten(), Affine(units=2), loss=IdentityWithLoss),
        Sequential(Affine(units=2), Sigmoid(), loss=SoftmaxWithLoss),
    ],
)
def test_nets_without_a_peer_in_jax_are_refused(network):
    network.build((3,))
    with pytest.raises(TypeError, match="bench: "):
        jax_peer.Peer(network)


def test_command_prints_a_table_and_writes_json(tmp_path, capsys):
    file = tmp_path / "figures.json"
    args = ["bench", "--model", "TwoLayerNet", "--batch-size", "3", "5", "--rounds", "1", "--json", str(file)]
    assert cli.main(args) == 0
    table = capsys.readouterr().out.splitlines()
    assert len(table) == 6 and not table[4] and "| TwoLayerNet | train | 3 | numpy |" in table[2]
    document = json.loads(file.read_text())
    assert [figure["batch_size"] for figure in document["figures"]] == [3, 5]
    assert document["environment"]["numpy"] == np.__version__ and f"numpy {np.__version__}" in table[5]
    assert f"kernels {loading.in_use()}" in table[5]
    assert cli.main(["bench", "--model", "TwoLayerNet", "--profile"]) == 0
    assert "whole step" in capsys.readouterr().out


@pytest.mark.exhaustive
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="this system does not tell a peak of memory")
def test_memory_is_at_least_that_of_the_arrays_and_grows_with_them():
    few, many = (bench.memory("SimpleConvNet", batch_size=size) for size in (100, 400))
    assert few.arrays == pytest.approx(
        (100 * (784 + 2 * 17280 + 4320 + 2 * 100 + 10) + 4 * 433890 + 4 * 10) * 4e-6, rel=0.01
    )
    # one array of the backward pass at least is held beside them
    assert few.megabytes > few.arrays
    assert many.megabytes - few.megabytes > 0.9 * (many.arrays - few.arrays)
    table = bench.memory_table([few]).splitlines()
    assert len(table) == 3 and table[2].startswith(f"| SimpleConvNet | 100 | {few.arrays:.1f} |")


@pytest.mark.exhaustive
@pytest.mark.needs("torch")
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="this system does not tell a peak of memory")
def test_memory_of_nets_of_sequences_is_compared_with_pytorch():
    attention, gpt = (bench.memory(net, batch_size=8, against_torch=True) for net in ("AttentionSeq2seq", "GPT"))
    # parameters, their gradients and Adam's means
    assert attention.megabytes > 4 * 0.98e6 * 4e-6 and attention.torch_megabytes > 4 * 0.98e6 * 4e-6
    assert gpt.megabytes > 0.8 * gpt.arrays and gpt.torch_megabytes > 0.8 * gpt.arrays
    rows = [line.split(" | ") for line in bench.memory_table([attention, gpt]).splitlines()[2:]]
    assert rows[0][2] == rows[0][4] == "-" and float(rows[0][6].split()[0]) > 0
    assert rows[1][2] == f"{gpt.arrays:.1f}" and float(rows[1][5]) == pytest.approx(gpt.torch_megabytes, abs=0.06)


@pytest.mark.exhaustive
def test_memory_that_cannot_be_measured_says_why(monkeypatch):
    monkeypatch.setattr(memory, "_CLEAR", Path("/proc/none"))
    with pytest.raises(OSError, match="tells the peak of a process on Linux"):
        bench.memory("TwoLayerNet")
    monkeypatch.setattr(memory, "_CLEAR", Path("/"))
    with pytest.raises(OSError, match=r"measuring TwoLayerNet .* failed: .*unknown"):
        memory._in_own_process("TwoLayerNet", 1, "unknown")


def test_scaling_has_every_operation_and_size(monkeypatch):
    monkeypatch.setattr(scaling, "_SECONDS", 0.0)
    curves = bench.scaling(batches=(1, 2), sides=(4,))
    assert [(g.operation, g.against) for g in curves] == [(o, a) for o in scaling.OPERATIONS for a in ("batch", "side")]
    assert all(len(g.sizes) == len(g.microseconds) and min(g.microseconds) > 0 for g in curves)
    table = bench.scaling_table([bench.ScalingCurve("relu", "batch", (1, 2), (3.0, 1.5))]).splitlines()
    assert table[0].endswith("| batch 1 | batch 2 |") and table[2] == "| relu: 1.50 | 2.00 | 1.00 |"


def test_epoch_is_one_pass(monkeypatch):
    rng = np.random.default_rng(0)
    rows = rng.random((250, 784), np.float32), rng.integers(0, 10, 250)
    monkeypatch.setattr(epoch, "load_mnist", lambda flatten: (rows, rows))
    steps = []
    monkeypatch.setattr(epoch.Adam, "update", lambda self, params, grads: steps.append(len(params)))
    assert list(bench.epoch("TwoLayerNet")) == ["numpy"] and steps == [4] * 3
    with pytest.raises(ValueError, match="ResNet does not take images of MNIST"):
        bench.epoch("ResNet")


@pytest.mark.needs("torch")
def test_epoch_in_pytorch_is_one_pass_too(monkeypatch):
    rng = np.random.default_rng(0)
    rows = rng.random((250, 784), np.float32), rng.integers(0, 10, 250).astype(np.uint8)
    monkeypatch.setattr(epoch, "load_mnist", lambda flatten: (rows, rows))
    assert list(bench.epoch("TwoLayerNet", against_torch=True)) == ["numpy", "PyTorch"]
    seen = [(len(x), t.tolist()) for x, t in torch_peer.shuffled(*rows, 100)]
    assert [n for n, _ in seen] == [100, 100, 50]
    assert sorted(label for _, labels in seen for label in labels) == sorted(rows[1].tolist())


def test_peak_memory_counts_what_is_used_again():
    network, x, t = timing.prepared(*NETS["MLP"], 100)
    # the gradient of the second weights alone has 4 MB
    assert timing.peak_megabytes(timing.task_call(network, x, t, "train")) > 4


def test_calls_take_turns_start_anew_and_are_waited_for():
    order = []
    starts = {name: lambda name=name: order.append(f"start {name}") or (lambda: name) for name in ("xpdl", "torch")}
    times = timing.alternating(starts, 2, seconds=1e-9, pause=0.0, finish=order.append)
    assert {name: len(seconds) for name, seconds in times.items()} == {"xpdl": 2, "torch": 2}
    assert all(second > 0 for seconds in times.values() for second in seconds)
    one_of_each = [part for name in starts for part in (f"start {name}", *[name] * 4)]
    # a first pass warms up and counts, and a round warms up anew before its calls
    timed = [part for name in starts for part in (f"start {name}", *[name] * 5)]
    assert order == one_of_each + 2 * timed
