"""Thresholds of the CPU kernels are in one table, which tests set, and in no module of a kernel."""

import ast
from pathlib import Path

import numpy as np
import pytest

from xpdl import backends
from xpdl.backends.cpu import thread_pool
from xpdl.backends.cpu.tuning import TUNING, Tuning, tuned
from xpdl.ops import activations

FOLDERS = [Path(backends.__file__).parent / name for name in ("cpu", "numpy", "numba")]

#: numbers that are no tuning: (module, name) -> why
FIXED = {
    ("cpu/buffer_pool", "_ALIGNMENT"): "of the processor",
    ("cpu/buffer_pool", "_UNUSED"): "of CPython's reference counts",
    ("numpy/gemm", "_ALIGNED"): "of the processor",
    ("numba/normalization", "_PIECE"): "part of compiled code",
    ("numba/lstm_panels", "_ROWS"): "part of compiled code",
    ("numba/spin_wait", "_TURNS"): "part of compiled code",
    ("numba/spin_wait", "_LATER"): "part of compiled code",
}


def numbers(path):
    """The names at the top of a module that stand for a constant number."""
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
            leaves = [leaf for leaf in ast.walk(node.value) if not isinstance(leaf, ast.operator | ast.BinOp)]
            if leaves and all(isinstance(leaf, ast.Constant) and type(leaf.value) is int for leaf in leaves):
                target = node.targets[0] if isinstance(node, ast.Assign) else node.target
                if isinstance(target, ast.Name) and target.id.isupper():
                    yield target.id


def test_kernels_have_no_thresholds_of_their_own():
    found = {
        (f"{folder.name}/{path.stem}", name)
        for folder in FOLDERS
        for path in folder.glob("*.py")
        for name in numbers(path)
    }
    assert found == set(FIXED)


def test_every_threshold_is_used():
    texts = [path.read_text() for folder in FOLDERS for path in folder.glob("*.py") if path.name != "tuning.py"]
    unused = [name for name in Tuning.__slots__ if not any(f"TUNING.{name}" in text for text in texts)]
    assert unused == []


def test_tuned_holds_inside_and_for_every_kernel(monkeypatch):
    counts = []
    run = thread_pool.run
    monkeypatch.setattr(
        "xpdl.backends.cpu.contiguous.thread_pool.run", lambda tasks: counts.append(len(tasks)) or run(tasks)
    )
    x = np.ones(TUNING.small_array, np.float32)
    activations.relu(x)
    with tuned(elementwise_task=len(x) // 4):
        activations.relu(x)
        with tuned(elementwise_task=len(x) // 2):
            activations.relu(x)
        activations.relu(x)
    activations.relu(x)
    assert counts == [4, 2, 4]


def test_tuned_restores_after_an_error_and_refuses_unknown_names():
    before = Tuning()
    with pytest.raises(ZeroDivisionError), tuned(small_array=1):
        raise ZeroDivisionError
    with pytest.raises(TypeError, match="tiny_array"), tuned(tiny_array=1):
        pass
    assert before == TUNING
