"""Sections of README.md, its translations and pages of docs that are made from the code.

``CUPY_ON_HOST=1 JAX_ENABLE_X64=1 python -m tests.docs_tables`` writes them anew. The support table is filled by running
the ops, so it takes an environment with every CPU backend in it.
"""

from __future__ import annotations

import ast
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
from xpdl.backends.cpu.choose_algorithm import ALGORITHMS
from xpdl.layers.relu import Relu
from xpdl.ops import activations

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
TRANSLATIONS = [ROOT / "README.zh-CN.md", ROOT / "README.ja.md"]
SUPPORT = ROOT / "docs" / "support.md"
PERFORMANCE = ROOT / "docs" / "performance.md"

#: column of the support table -> the backend, with its rules, that a case runs on
COLUMNS = {
    "NumPy": "numpy",
    "strict": "strict:nosync",
    "PyTorch": "torch",
    "JAX": "jax:jit",
    "CuPy": "cupy",
}


def marked(name: str) -> re.Pattern[str]:
    """A section of a page and its markers, in three groups."""
    return re.compile(rf"(<!-- {name} -->\n)(.*?)(<!-- /{name} -->)", re.DOTALL)


def section(name: str, page: Path = README) -> str:
    """The text between the markers of `name`."""
    found = marked(name).search(page.read_text())
    assert found, f"{page.name} has no section {name}"
    return found[2]


def code(name: str) -> str:
    """The Python block of a section."""
    found = re.search(r"```python\n(.*?)```", section(name), re.DOTALL)
    assert found, f"section {name} has no Python block"
    return found[1]


def output_of(program: str) -> str:
    """The output of a program, run in an empty folder."""
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
    return f"```python\n{program}```\n\n```text\n{output_of(program)}```\n"


def without_docstrings(source: str) -> str:
    """Source code less its docstrings and the blank lines that follow them."""
    lines = source.splitlines(keepends=True)
    nodes = [node for node in ast.walk(ast.parse(source)) if isinstance(node, (ast.ClassDef, ast.FunctionDef))]
    docstrings = [node.body[0] for node in nodes if ast.get_docstring(node)]
    for docstring in sorted(docstrings, key=lambda node: node.lineno, reverse=True):
        end = docstring.end_lineno
        assert end
        del lines[docstring.lineno - 1 : end + (not lines[end : end + 1] or lines[end].isspace())]
    return "".join(lines)


def layer() -> str:
    parts = [without_docstrings(inspect.getsource(it)) for it in (Relu, activations.relu, activations.relu_backward)]
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


def conv_algorithms() -> str:
    lines = ["| algorithm | kernels | used for |", "|---|---|---|"]
    for algorithm in ALGORITHMS:
        conditions = "; ".join(map(str, algorithm.conditions)) or "all others"
        lines.append(f"| {algorithm.name} | {algorithm.kernels} `{algorithm.module}` | {conditions} |")
    return "\n".join(lines) + "\n"


#: section -> (pages, function that makes it)
SECTIONS: dict[str, tuple[list[Path], Callable[[], str]]] = {
    "example": ([README, *TRANSLATIONS], example),
    "layer": ([README, *TRANSLATIONS], layer),
    "support": ([SUPPORT], support),
    "conv-algorithms": ([PERFORMANCE], conv_algorithms),
}


def main() -> None:
    for name, (pages, make) in SECTIONS.items():
        text = make()
        for page in pages:
            page.write_text(marked(name).sub(lambda found, text=text: found[1] + text + found[3], page.read_text()))


if __name__ == "__main__":
    main()
