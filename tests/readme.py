"""The README's parts that come from the code; ``JAX_ENABLE_X64=1 python -m tests.readme`` writes them anew.

The support table is filled by running the ops, so it takes an environment with every CPU backend in it.
"""

from __future__ import annotations

import contextlib
import inspect
import io
import os
import re
import tempfile
from collections.abc import Callable
from pathlib import Path

from tests.harness import SPECS, Backend, problem
from tests.ops.table import FIRST
from tests.pairs import check_pair
from xpdl.layers.relu import Relu
from xpdl.ops import activations

README = Path(__file__).parents[1] / "README.md"

#: column of the support table -> the backend, with its rules, that a case runs on
COLUMNS = {
    "NumPy": "numpy",
    "strict": "strict:nosync",
    "PyTorch": "torch",
    "JAX": "jax:jit",
    "CuPy": "cupy",
}


def section(name: str) -> str:
    """What stands between the markers of `name`."""
    found = re.search(rf"<!-- {name} -->\n(.*?)<!-- /{name} -->", README.read_text(), re.DOTALL)
    assert found, f"README.md has no section {name}"
    return found[1]


def code(name: str) -> str:
    """The Python block of a section."""
    found = re.search(r"```python\n(.*?)```", section(name), re.DOTALL)
    assert found, f"section {name} has no Python block"
    return found[1]


def output_of(program: str) -> str:
    """What a program prints, run in an empty folder."""
    with contextlib.redirect_stdout(io.StringIO()) as printed, tempfile.TemporaryDirectory() as folder:
        before = Path.cwd()
        os.chdir(folder)
        try:
            exec(compile(program, str(README), "exec"), {"__name__": "readme"})
        finally:
            os.chdir(before)
    return printed.getvalue()


def example() -> str:
    program = code("example")
    return f"```python\n{program}```\n\nprints\n\n```text\n{output_of(program)}```\n"


def layer() -> str:
    parts = [inspect.getsource(thing) for thing in (Relu, activations.relu, activations.relu_backward)]
    return "```python\n" + "\n\n".join(parts) + "```\n"


def cell(op: str, column: str) -> str:
    """``yes`` when the first case of the op passes on that backend, ``-`` where the backend does not work here."""
    spec = SPECS[COLUMNS[column]]
    if problem(spec):
        return "-"
    case = next(case for case in FIRST if case.pair.forward.__name__ == op)
    check_pair(Backend(spec), case, "float32")
    return "yes"


def ops() -> list[str]:
    return list(dict.fromkeys(case.pair.forward.__name__ for case in reversed(FIRST)))


def support() -> str:
    backward = {case.pair.forward.__name__: case.pair.backward for case in FIRST}
    lines = ["| op | " + " | ".join(COLUMNS) + " |", "|---" * (len(COLUMNS) + 1) + "|"]
    for op in ops():
        name = f"`{op}`" + (f", `{backward[op].__name__}`" if backward[op] else "")  # type: ignore[union-attr]
        lines.append(f"| {name} | " + " | ".join(cell(op, column) for column in COLUMNS) + " |")
    return "\n".join(lines) + "\n"


SECTIONS: dict[str, Callable[[], str]] = {"example": example, "layer": layer, "support": support}


def main() -> None:
    text = README.read_text()
    for name, make in SECTIONS.items():
        made = make()
        text = re.sub(
            rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", lambda m, made=made: m[1] + made + m[2], text, flags=re.DOTALL
        )
    README.write_text(text)


if __name__ == "__main__":
    main()
