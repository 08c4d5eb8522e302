"""ONNX's own test cases of the operators that xpdl's layers are exported as: which of them a loaded model computes.

``python -m tests.onnx.node_cases`` writes the table of those that it does not into docs/onnx.md.
"""

from __future__ import annotations

import collections
import importlib
import re
import tempfile
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import xpdl
from tests.onnx.graphs import outputs
from xpdl.io.os_errors import in_words

PAGE = Path(__file__).parents[2] / "docs" / "onnx.md"
#: operators, and what stands between them in some cases
OPERATORS = {"Conv", "ConvTranspose", "Gemm", "MaxPool", "AveragePool", "GlobalAveragePool", "BatchNormalization"}
OPERATORS |= {"Relu", "Sigmoid", "Tanh", "Softmax", "LogSoftmax", "Add", "Mul", "Flatten"}
_BETWEEN = {"Constant", "Identity", "Squeeze", "Unsqueeze", "Transpose"}
_KINDS = ("node", "pytorch-converted", "pytorch-operator")


class Case(NamedTuple):
    """A graph of few nodes, arrays that it takes, and those that it gives."""

    name: str
    proto: Any
    inputs: list[Any]
    outputs: list[Any]
    rtol: float
    atol: float


def cases() -> list[Case]:
    """Return the cases of the operators, by name."""
    onnx = importlib.import_module("onnx")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of overflow, which some cases of other operators are about
        loader = importlib.import_module("onnx.backend.test.loader")
        loaded = [case for kind in _KINDS for case in loader.load_model_tests(kind=kind)]
    found = []
    for case in loaded:
        proto = case.model or onnx.load(Path(case.model_dir) / "model.onnx")
        kinds = {node.op_type for node in proto.graph.node}
        if kinds & OPERATORS and kinds <= OPERATORS | _BETWEEN:
            given, expected = _arrays(case)
            found.append(Case(case.name, proto, given, expected, case.rtol, case.atol))
    return sorted(found)


def _arrays(case: Any) -> tuple[list[Any], list[Any]]:
    if case.data_sets:
        given, expected = case.data_sets[0]
        return list(given), list(expected)
    onnx, to_array = importlib.import_module("onnx"), importlib.import_module("onnx.numpy_helper").to_array
    folder = Path(case.model_dir) / "test_data_set_0"
    tensors = [
        [to_array(onnx.TensorProto.FromString((folder / f"{kind}_{i}.pb").read_bytes())) for i in range(count)]
        for kind, count in (("input", len([*folder.glob("input_*")])), ("output", len([*folder.glob("output_*")])))
    ]
    return tensors[0], tensors[1]


def problem(case: Case) -> str:
    """Return why a model loaded from the case does not compute it; empty if it does."""
    proto, x = _with_one_input(case)
    try:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "case.onnx"
            path.write_bytes(proto.SerializeToString())
            net = xpdl.onnx.load(path)
        found = _computed(net, proto, x)
    except (ValueError, TypeError) as error:
        return _reason(error)
    if len(found) < len(case.outputs):
        return "a second output"
    for got, expected in zip(found, case.outputs, strict=True):
        if got.size != expected.size or got.dtype != expected.dtype:
            return f"gives {got.dtype} and another shape than {expected.dtype}"
        if not np.allclose(got.reshape(expected.shape), expected, rtol=case.rtol, atol=case.atol):
            return "gives other values"
    return ""


def _with_one_input(case: Case) -> tuple[Any, Any]:
    """Return the graph with the first input of its first node as the only one, the others as constants, and its array."""
    proto = type(case.proto).FromString(case.proto.SerializeToString())
    stored = {tensor.name for tensor in proto.graph.initializer}
    free = [value for value in proto.graph.input if value.name not in stored]
    arrays = dict(zip((value.name for value in free), case.inputs, strict=True))
    taken = [name for node in proto.graph.node for name in node.input if name in arrays]
    first = next(value for value in free if value.name == taken[0])
    from_array = importlib.import_module("onnx.numpy_helper").from_array
    proto.graph.initializer.extend(from_array(arrays[value.name], value.name) for value in free if value is not first)
    return proto, arrays[first.name]


def _computed(net: Any, proto: Any, x: Any) -> list[Any]:
    """Return the outputs: in training, the running statistics that follow, too."""
    training = any(one.name == "training_mode" and one.i for node in proto.graph.node for one in node.attribute)
    if not training:
        return [outputs(net, x)]
    return [net.predict(x, train_flg=True), *net.buffers.values()]


def _reason(error: Exception) -> str:
    """Return the reason in an error, without the name of the file and of the node, and without the cure."""
    text = in_words(error).partition("cannot be read into layers: ")[2] or in_words(error)
    text = re.sub(r"^node .*? \((.*?)\): ", r"\1: ", text.partition(" | ")[0])
    return text.partition("; ")[0]


def table(found: dict[str, str]) -> str:
    """Return the table of cases that are not computed, by reason."""
    by_reason = collections.defaultdict(list)
    for name, reason in found.items():
        if reason:
            # the same reason for other sizes, types and names
            general = re.sub(r"\([-\d, ]*\)|=?-?\b\d+\b|'\w+'|\bu?int\d+\b", "…", reason)
            by_reason[general].append(name.removeprefix("test_"))
    passed = sum(not reason for reason in found.values())
    rows = [
        f"| {reason} | {', '.join(f'`{name}`' for name in sorted(names))} |"
        for reason, names in sorted(by_reason.items(), key=lambda one: (-len(one[1]), one[0]))
    ]
    head = f"A loaded model computes {passed} of the {len(found)} cases; the others, and why not:"
    return "\n".join([head, "", "| reason | cases |", "|---|---|", *rows])


START, END = "<!-- node cases: python -m tests.onnx.node_cases -->", "<!-- end -->"


def written(page: str, found: dict[str, str]) -> str:
    """Return the page with the table of these results."""
    before, _, rest = page.partition(START)
    return f"{before}{START}\n{table(found)}\n{END}{rest.partition(END)[2]}"


def results() -> dict[str, str]:
    """Return the name of each case, and why it is not computed."""
    return {case.name: problem(case) for case in cases()}


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text(encoding="utf-8"), results()), encoding="utf-8")
