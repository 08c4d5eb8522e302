"""The bench says which code computes each layer and pass of a net, and why."""

import json

import numpy as np
import pytest

from xpdl import Affine, Convolution, Flatten, Relu, Residual, Sequential, SoftmaxWithLoss, cli
from xpdl.backends import dispatch, registry
from xpdl.backends.namespaces import array_namespace
from xpdl.bench.explain import Choice, explain, explain_text

#: net, images, and of each convolution: layer, direction, kernels with Numba, algorithm with it and without
CONVOLUTIONS = [
    (
        "SimpleConvNet",
        100,
        [
            ("Conv1", "forward", "numba", "forward by im2col, row by row", "forward by im2col, row by row"),
            ("Conv1", "backward", "numba", "dW by im2col, row by row", "dW by im2col, row by row"),
        ],
    ),
    (
        "SimpleConvNet",
        2,
        [
            ("Conv1", "forward", "numba", "forward by im2col, image by image", "forward by im2col, image by image"),
            ("Conv1", "backward", "numpy", "dW by im2col, row by row", "dW by im2col, row by row"),
        ],
    ),
    (
        "net",
        9,
        [
            ("a", "forward", "numba", "forward by im2col, row by row", "forward by im2col, row by row"),
            ("b + Relu1", "forward", "numba", "forward by Winograd F(2x2, 3x3)", "forward by Winograd F(2, 3) along W"),
            ("r.body.c", "forward", "numba", "forward by Winograd F(2x2, 3x3)", "forward by Winograd F(2, 3) along W"),
            (
                "r.body.c",
                "backward",
                "numba",
                "dx and dW by Winograd F(2x2, 3x3)",
                "dx and dW by Winograd F(2, 3) along W",
            ),
            (
                "b + Relu1",
                "backward",
                "numba",
                "dx and dW by Winograd F(2x2, 3x3)",
                "dx and dW by Winograd F(2, 3) along W",
            ),
            ("a", "backward", "numba", "dW by im2col, row by row", "dW by im2col, row by row"),
        ],
    ),
]


@pytest.fixture
def net(tmp_path):
    """The file of a net with a residual block."""
    network = Sequential(
        ("a", Convolution(filters=20, size=5, pad=2)),
        ("b", Convolution(filters=40, size=3, pad=1)),
        Relu(),
        ("r", Residual(("c", Convolution(filters=40, size=3, pad=1)))),
        Flatten(),
        Affine(units=10),
        loss=SoftmaxWithLoss,
        seed=0,
    )
    network.build((1, 8, 8))
    file = tmp_path / "net.safetensors"
    network.save(file)
    return str(file)


def convolutions(choices):
    return [
        (choice.layer, choice.direction, choice.kernels, choice.algorithm)
        for choice in choices
        if choice.op.startswith("convolution")
    ]


@pytest.mark.parametrize("model, images, rows", CONVOLUTIONS)
def test_convolutions_by_numpy(model, images, rows, net):
    dispatch.kernels_for(array_namespace(np.empty(0)))
    with registry.without("numba"):
        choices = explain(net if model == "net" else model, batch_size=images)
    assert convolutions(choices) == [(layer, direction, "numpy", pure) for layer, direction, _, _, pure in rows]
    assert "numba" not in {choice.kernels for choice in choices}


@pytest.mark.needs("numba")
@pytest.mark.parametrize("model, images, rows", CONVOLUTIONS)
def test_convolutions_with_compiled_kernels(model, images, rows, net):
    choices = explain(net if model == "net" else model, batch_size=images)
    assert convolutions(choices) == [tuple(row[:4]) for row in rows]


def test_every_op_of_a_step_has_its_kernels_tasks_and_reason():
    dispatch.kernels_for(array_namespace(np.empty(0)))
    with registry.without("numba"):
        choices = explain("SimpleConvNet", batch_size=100)
    rows = {(choice.op, choice.layer): choice for choice in choices}
    assert rows["max_pooling_with_taps", "Relu1 + Pool1"][3:] == ("generic", "", 1, "no kernels")
    assert rows["affine", "Affine1 + Relu2"][3:] == ("numpy", "", 2, "")
    assert rows["fused_update", "optimizer"].direction == "update"
    dW = rows["convolution_backward", "Conv1"]
    assert dW.tasks > 1 and dW.reason == "Winograd F(2, 3) along W needs forward, or dx and dW"
    assert [choice.layer for choice in choices if choice.op == "softmax_with_loss"] == ["SoftmaxWithLoss"]


def test_kernels_that_decline_are_named():
    def declining(params, grads, state, step, spec):
        return registry.DECLINE

    dispatch.kernels_for(array_namespace(np.empty(0)))
    with registry.without("numba"):
        registry.kernel("numba", "fused_update")(declining)
        try:
            choices = explain("TwoLayerNet", batch_size=2)
        finally:
            registry.withdraw("numba", "fused_update")
    assert choices[-1] == Choice("optimizer", "update", "fused_update", "numpy", "", 1, "declined by numba")


def test_command_prints_every_choice_and_writes_json(tmp_path, capsys, net):
    file = tmp_path / "choices.json"
    assert cli.main(["bench", "--explain", "TwoLayerNet", net, "--batch-size", "3", "--json", str(file)]) == 0
    printed = capsys.readouterr().out
    figures = json.loads(file.read_text())["figures"]
    assert {figure["net"] for figure in figures} == {"TwoLayerNet", net}
    for figure in figures:
        assert f"{figure['layer']}, {figure['direction']}\n" in printed and f"  {figure['op']}: " in printed
        assert figure["reason"] in printed


def test_lines_of_a_layer_are_together():
    rows = [Choice("a", "forward", "relu", "numpy", "", 1, ""), Choice("a", "forward", "add", "numpy", "", 3, "why")]
    lines = explain_text("net", rows, backend="numpy", batch_size=7).splitlines()
    assert lines[0].startswith("net, batch 7, numpy, ")
    assert lines[1:] == ["a, forward", "  relu: numpy, 1 task", "  add: numpy, 3 tasks", "    why"]


def test_unknown_model_is_refused():
    with pytest.raises(ValueError, match=r"no net and no file is called 'Nothing'; the nets are TwoLayerNet, "):
        explain("Nothing")
