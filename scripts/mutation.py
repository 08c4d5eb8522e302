"""Plant small bugs and see whether the tests of their file notice.

    python scripts/mutation.py --count 600 --seed 1 --seconds 100 --part 1/2     until all are done; then
    python scripts/mutation.py --count 600 --seed 1 --report > tests/mutation/README.md

A mutant is one change of one place in ``xpdl/{ops,layers,optimizers,training}``: another comparison, operator, constant or
condition, or a statement left out. All there are, shuffled by the seed; the first `count` are tried, each in a process of
its own with the tests of its folder, those of its file first, which must pass without it. Messages, annotations and
docstrings are left alone.
"""

from __future__ import annotations

import argparse
import ast
import collections
import contextlib
import copy
import dataclasses
import importlib.abc
import importlib.machinery
import importlib.util
import json
import os
import random
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("ops", "layers", "optimizers", "training")
#: those that need a library that is not a required one, or print
LEFT_OUT = {"training/scikit_learn.py", "training/search_optuna.py", "training/progress.py"}
TIMEOUT = 60
#: what is fixed here holds for the tests: one thread, and plain NumPy beside a library without kernels of ours
SETTINGS = {"XPDL_BACKENDS": "numpy,strict:device1", "OPENBLAS_NUM_THREADS": "1"}

_COMPARISONS: dict[type, tuple[type, ...]] = {
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
_OPERATORS: dict[type, type] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.FloorDiv,
    ast.Pow: ast.Mult,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
}


@dataclasses.dataclass(frozen=True)
class Mutant:
    """The `index`-th change of a file, in words."""

    file: str
    index: int
    line: int
    change: str

    @property
    def name(self) -> str:
        return f"{self.file}:{self.line} {self.change} #{self.index}"


def changes(tree: ast.AST) -> Iterator[tuple[int, str, Any]]:
    """(line, words, function that makes the change in place) of every change of a module."""
    for node in _code(tree):
        line = getattr(node, "lineno", 0)
        if isinstance(node, ast.Compare):
            for place, op in enumerate(node.ops):
                for other in _COMPARISONS[type(op)]:
                    words = f"{type(op).__name__} -> {other.__name__}"
                    yield line, words, lambda n=node, p=place, o=other: n.ops.__setitem__(p, o())
        elif isinstance(node, (ast.BinOp, ast.AugAssign)) and type(node.op) in _OPERATORS:
            other = _OPERATORS[type(node.op)]
            yield line, f"{type(node.op).__name__} -> {other.__name__}", lambda n=node, o=other: setattr(n, "op", o())
        elif isinstance(node, ast.BoolOp):
            other = ast.Or if isinstance(node.op, ast.And) else ast.And
            yield line, f"{type(node.op).__name__} -> {other.__name__}", lambda n=node, o=other: setattr(n, "op", o())
        elif isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.Not, ast.USub)):
            kept = ast.UAdd() if isinstance(node.op, ast.USub) else None
            if kept is None:
                yield (
                    line,
                    "without not",
                    lambda n=node: (setattr(n, "op", ast.Not()), setattr(n, "operand", _not(n.operand))),
                )
            else:
                yield line, "without minus", lambda n=node, k=kept: setattr(n, "op", k)
        elif isinstance(node, ast.Constant) and isinstance(node.value, bool):
            yield line, f"{node.value} -> {not node.value}", lambda n=node: setattr(n, "value", not n.value)
        elif isinstance(node, ast.Constant) and isinstance(node.value, (int, float)):
            yield line, f"{node.value} -> {node.value + 1}", lambda n=node: setattr(n, "value", n.value + 1)
        elif isinstance(node, (ast.If, ast.IfExp, ast.While)):
            for value in (True, False):
                if not (isinstance(node, ast.While) and value):
                    words = f"condition -> {value}"
                    yield (
                        line,
                        words,
                        lambda n=node, v=value: setattr(n, "test", ast.copy_location(ast.Constant(v), n.test)),
                    )
        elif isinstance(node, ast.Expr) or (
            isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Attribute)
        ):
            yield line, "statement left out", lambda n=node: _leave_out(tree, n)


def _not(operand: ast.expr) -> ast.expr:
    return ast.copy_location(ast.UnaryOp(ast.Not(), operand), operand)


def _leave_out(tree: ast.AST, gone: ast.AST) -> None:
    for node in ast.walk(tree):
        for body in (getattr(node, name, None) for name in ("body", "orelse", "finalbody")):
            if isinstance(body, list) and gone in body:
                body[body.index(gone)] = ast.copy_location(ast.Pass(), gone)


def _code(node: ast.AST) -> Iterator[ast.AST]:
    """Every node that is run and is no message."""
    for field, value in ast.iter_fields(node):
        if field in ("annotation", "returns", "decorator_list", "type_comment"):
            continue
        for child in value if isinstance(value, list) else [value]:
            if not isinstance(child, ast.AST) or isinstance(
                child, (ast.Raise, ast.JoinedStr, ast.Import, ast.ImportFrom)
            ):
                continue
            if isinstance(child, ast.Expr) and isinstance(child.value, ast.Constant):
                continue  # a docstring
            if isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
                continue
            yield child
            yield from _code(child)


def mutants(seed: int) -> list[Mutant]:
    found = []
    for folder in FOLDERS:
        for path in sorted((ROOT / "xpdl" / folder).glob("*.py")):
            file = path.relative_to(ROOT / "xpdl").as_posix()
            if path.name != "__init__.py" and file not in LEFT_OUT:
                listed = enumerate(changes(ast.parse(path.read_text())))
                found += [Mutant(file, index, line, words) for index, (line, words, _) in listed]
    random.Random(seed).shuffle(found)
    return found


def changed(mutant: Mutant) -> ast.Module:
    tree = ast.parse((ROOT / "xpdl" / mutant.file).read_text())
    for index, (_, _, change) in enumerate(changes(tree)):
        if index == mutant.index:
            change()
            break
    return ast.fix_missing_locations(copy.deepcopy(tree))


class Planted(importlib.abc.MetaPathFinder):
    """Imports one module from a changed tree."""

    def __init__(self, mutant: Mutant) -> None:
        self.name = "xpdl." + mutant.file.removesuffix(".py").replace("/", ".")
        self.path = ROOT / "xpdl" / mutant.file
        self.tree = changed(mutant)

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        if name != self.name:
            return None
        tree = self.tree

        class Loader(importlib.machinery.SourceFileLoader):
            def get_code(self, fullname: str) -> Any:
                return compile(tree, self.path, "exec")

        return importlib.util.spec_from_file_location(name, self.path, loader=Loader(name, str(self.path)))


def tests_of(file: str) -> list[str]:
    """Those of the file, then those of its folder, which has the tables that all of its files are driven by."""
    folder, name = file.split("/")
    own = ROOT / "tests" / folder / f"test_{name}"
    rest = sorted(
        (ROOT / "tests" / folder).glob("test_*.py"), key=lambda path: (path.name != "test_table.py", path.name)
    )
    if folder == "training":  # no table: what trains there is slow
        rest = (
            [path for path in rest if path.name in ("test_trainer.py", "test_checkpoint.py")]
            if not own.exists()
            else []
        )
    return [str(path) for path in dict.fromkeys([*([own] if own.exists() else []), *rest])]


def noticed(mutant: Mutant) -> str:
    """``"killed"``, ``"timeout"`` or ``"survived"``."""
    child = os.fork()
    if child == 0:
        os.setpgid(0, 0)
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        os.dup2(null, 2)
        import pytest

        sys.meta_path.insert(0, Planted(mutant))
        options = ["-x", "-q", "-p", "no:cacheprovider", f"--rootdir={ROOT}"]
        os._exit(int(pytest.main([*options, *tests_of(mutant.file)])))
    end = time.monotonic() + TIMEOUT
    while time.monotonic() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return "survived" if os.waitstatus_to_exitcode(status) == 0 else "killed"
        time.sleep(0.02)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return "timeout"


def report(chosen: list[Mutant], results: dict[str, str], reasons: dict[str, str], command: str) -> str:
    lines = [(ROOT / "tests" / "mutation" / "about.md").read_text().rstrip(), "", f"    {command}", ""]
    lines += ["| folder | mutants | killed | survived | killed of those not equivalent |", "|---|---:|---:|---:|---:|"]
    tried = [mutant for mutant in chosen if mutant.name in results]
    for folder in (*FOLDERS, ""):
        of = [mutant for mutant in tried if mutant.file.startswith(folder)]
        counts = collections.Counter("survived" if results[m.name] == "survived" else "killed" for m in of)
        same = sum(1 for m in of if results[m.name] == "survived" and reasons.get(m.name, "").startswith("equivalent"))
        share = counts["killed"] / max(1, len(of) - same)
        lines.append(f"| {folder or 'all'} | {len(of)} | {counts['killed']} | {counts['survived']} | {share:.1%} |")
    lines += ["", "Survivors:", ""]
    for mutant in sorted(tried, key=lambda m: (m.file, m.line)):
        if results[mutant.name] == "survived":
            lines.append(f"- `{mutant.name}`: {reasons.get(mutant.name, 'not looked at yet')}")
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--count", type=int, default=600)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=100.0, help="begin no mutant later")
    parser.add_argument("--part", default="1/1", help="of the mutants, such as 1/2 in one process and 2/2 in another")
    parser.add_argument("--results", type=Path, default=Path("mutation.jsonl"), help="kept between slices")
    parser.add_argument("--again", action="store_true", help="try survivors once more: there are new tests")
    parser.add_argument("--report", action="store_true")
    args = parser.parse_args()
    chosen = mutants(args.seed)[: args.count]
    results: dict[str, str] = {}
    if args.results.exists():
        for line in args.results.read_text().splitlines():
            results.update(json.loads(line))
    if args.report:
        reasons = json.loads((ROOT / "tests" / "mutation" / "survivors.json").read_text())
        print(
            report(chosen, results, reasons, f"python scripts/mutation.py --count {args.count} --seed {args.seed}"),
            end="",
        )
        return 0
    os.environ.update(SETTINGS)
    os.chdir(ROOT)
    sys.path.insert(0, str(ROOT))
    # before the fork, once for all: what is imported and is not ours
    for name in (
        "numpy",
        "pytest",
        "array_api_compat.numpy",
        "array_api_strict",
        "safetensors.numpy",
        "threadpoolctl",
        "tqdm",
    ):
        importlib.import_module(name)
    part, parts = (int(number) for number in args.part.split("/"))
    end = time.monotonic() + args.seconds
    for mutant in chosen[part - 1 :: parts]:
        old = results.get(mutant.name)
        if old is None or (args.again and old == "survived"):
            if time.monotonic() > end:
                break
            unchanged = f"unchanged {' '.join(tests_of(mutant.file)).replace(str(ROOT), '')}"
            if unchanged not in results:
                results[unchanged] = noticed(dataclasses.replace(mutant, index=-1))
                with args.results.open("a") as file:
                    file.write(json.dumps({unchanged: results[unchanged]}) + "\n")
            if results[unchanged] != "survived":
                sys.exit(f"{unchanged}: these tests do not pass")
            results[mutant.name] = noticed(mutant)
            with args.results.open("a") as file:
                file.write(json.dumps({mutant.name: results[mutant.name]}) + "\n")
    missing = sum(1 for mutant in chosen if mutant.name not in results)
    counts = collections.Counter(results[mutant.name] for mutant in chosen if mutant.name in results)
    print(f"{dict(counts)}; {missing} to do")
    return 0


if __name__ == "__main__":
    sys.exit(main())
