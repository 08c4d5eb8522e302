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
    """Return why no model loaded from the case computes it; empty if one does."""
    floats = [array.dtype for array in case.inputs if array.dtype.kind == "f"]
    with xpdl.use("numpy", dtype=str(floats[0]) if floats else "float32"):
        problems = [_problem(case, way) for way in WAYS]
    return next((one for one in problems if one == ""), problems[0])


class Way(NamedTuple):
    """A way to take the inputs of a case: all of them or the first alone, the others as constants; batches or one row."""

    all_inputs: bool
    batched: bool


WAYS = [Way(all_inputs=False, batched=True), Way(all_inputs=True, batched=True), Way(all_inputs=False, batched=False)]


def _problem(case: Case, way: Way) -> str:
    proto, xs = _with_inputs(case, way)
    try:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "case.onnx"
            path.write_bytes(proto.SerializeToString())
            # in training, running statistics are outputs, too, and buffers of the model
            first = proto.graph.output[0].name if _is_training(proto) else None
            net = xpdl.onnx.load(path, output=first, batched=way.batched)
        found = _computed(net, proto, xs if way.batched else [x[None] for x in xs])
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


def _with_inputs(case: Case, way: Way) -> tuple[Any, list[Any]]:
    """Return the graph with the inputs of its first node, or the first of them alone, and the others as constants."""
    proto = type(case.proto).FromString(case.proto.SerializeToString())
    stored = {tensor.name for tensor in proto.graph.initializer}
    free = [value.name for value in proto.graph.input if value.name not in stored]
    arrays = dict(zip(free, case.inputs, strict=True))
    taken = [name for node in proto.graph.node for name in node.input if name in arrays]
    weights = {name for node in proto.graph.node for name in node.input[1:2] if node.op_type == "Gemm"}
    kept = [name for name in free if name == taken[0] or (way.all_inputs and name not in weights)]
    from_array = importlib.import_module("onnx.numpy_helper").from_array
    proto.graph.initializer.extend(from_array(arrays[name], name) for name in free if name not in kept)
    return proto, [arrays[name] for name in kept]


def _computed(net: Any, proto: Any, xs: list[Any]) -> list[Any]:
    """Return the outputs: in training, the running statistics that follow, too."""
    x = xs[0] if len(xs) == 1 else tuple(xs)
    if not _is_training(proto):
        return [outputs(net, x)]
    return [net.predict(x, train_flg=True), *net.buffers.values()]


def _is_training(proto: Any) -> bool:
    return any(one.name == "training_mode" and one.i for node in proto.graph.node for one in node.attribute)


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
