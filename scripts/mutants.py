"""The small bugs that `mutation.py` plants: which there are in a file, how they are called, and how one is made."""

from __future__ import annotations

import ast
import collections
import dataclasses
import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("ops", "layers", "optimizers", "models", "metrics", "data", "search", "training")
#: those that need a library that is not a required one, or print
LEFT_OUT = {"search/optuna.py", "training/progress.py"}
#: thresholds for photographs, which are tested by photographs and not by values
LEFT_OUT |= {"data/digits.py", "data/masks.py", "data/sheets.py"}

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
_BODIES = ("body", "orelse", "finalbody")


@dataclasses.dataclass(frozen=True)
class Mutant:
    """One change of one place.

    Attributes
    ----------
    file : str
        Under ``xpdl``.
    place : str
        Qualified name of the function or class, empty for the module.
    text : str
        What is changed, or what stands around it.
    change : str
        In words.
    ordinal : int
        Among those that are alike in all of the above.
    lines : (int, int)
        One of them is run whenever the changed place is.
    kind : str
        When the change takes effect: ``"call"`` of the function, ``"default"`` of a parameter, ``"import"``.
    """

    file: str
    place: str
    text: str
    change: str
    ordinal: int
    lines: tuple[int, int]
    kind: str

    @property
    def name(self) -> str:
        """Free of line numbers: an edit elsewhere in the file leaves it, and what is known of it, as they are."""
        again = f" ({self.ordinal})" if self.ordinal > 1 else ""
        return f"{self.file} {self.place or 'module'}: `{self.text}`: {self.change}{again}"


@dataclasses.dataclass(frozen=True)
class _Spot:
    """A node, and where it stands."""

    node: Any
    parent: Any
    statement: Any
    place: str
    kind: str


def mutants_of(file: str, tree: ast.AST) -> Iterator[tuple[Mutant, Callable[[], Any]]]:
    """Every mutant of a module, with the function that makes the change in `tree`."""
    seen: collections.Counter[tuple[str, str, str]] = collections.Counter()
    for spot in _code(_Spot(tree, None, None, "", "import")):
        for words, change in _changes(spot.node, tree):
            key = (spot.place, _text(spot), words)
            seen[key] += 1
            yield Mutant(file, *key, seen[key], _lines(spot), spot.kind), change


def drawn(seed: int) -> list[Mutant]:
    """All mutants, in an order that an edit of one file changes for that file's alone."""
    found = []
    for folder in FOLDERS:
        for path in sorted((ROOT / "xpdl" / folder).rglob("*.py")):
            file = path.relative_to(ROOT / "xpdl").as_posix()
            if path.name != "__init__.py" and file not in LEFT_OUT:
                found += [mutant for mutant, _ in mutants_of(file, ast.parse(path.read_text()))]
    return sorted(found, key=lambda mutant: hashlib.sha256(f"{seed} {mutant.name}".encode()).digest())


def planted(mutant: Mutant) -> ast.Module:
    """The module of the mutant, with the change."""
    tree = ast.parse((ROOT / "xpdl" / mutant.file).read_text())
    change = next(change for found, change in mutants_of(mutant.file, tree) if found == mutant)
    change()
    return ast.fix_missing_locations(tree)


def defaults(tree: ast.Module, mutant: Mutant) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Values of the parameters of the mutant's function; `ValueError` where they are no literals."""
    (function,) = (
        spot.node
        for spot in _code(_Spot(tree, None, None, "", "import"))
        if isinstance(spot.node, ast.FunctionDef) and spot.node.lineno == mutant.lines[0]
    )
    arguments = function.args
    named = zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
    return (
        tuple(ast.literal_eval(value) for value in arguments.defaults),
        {argument.arg: ast.literal_eval(value) for argument, value in named if value is not None},
    )


def _changes(node: Any, tree: ast.AST) -> Iterator[tuple[str, Callable[[], Any]]]:
    """(words, function that makes the change in place) of every change of one node."""
    if isinstance(node, ast.Compare):
        for place, op in enumerate(node.ops):
            for other in _COMPARISONS[type(op)]:
                words = f"{type(op).__name__} -> {other.__name__}"
                yield words, lambda p=place, o=other: node.ops.__setitem__(p, o())
    elif isinstance(node, (ast.BinOp, ast.AugAssign)) and type(node.op) in _OPERATORS:
        instead = _OPERATORS[type(node.op)]
        yield f"{type(node.op).__name__} -> {instead.__name__}", lambda: setattr(node, "op", instead())
    elif isinstance(node, ast.BoolOp):
        instead = ast.Or if isinstance(node.op, ast.And) else ast.And
        yield f"{type(node.op).__name__} -> {instead.__name__}", lambda: setattr(node, "op", instead())
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        yield "without minus", lambda: setattr(node, "op", ast.UAdd())
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        # twice not: a bool still
        yield "without not", lambda: setattr(node, "operand", ast.UnaryOp(ast.Not(), node.operand))
    elif isinstance(node, ast.Constant) and isinstance(node.value, bool):
        yield f"{node.value} -> {not node.value}", lambda: setattr(node, "value", not node.value)
    elif isinstance(node, ast.Constant) and isinstance(node.value, (int, float)):
        yield f"{node.value} -> {node.value + 1}", lambda: setattr(node, "value", node.value + 1)
    elif isinstance(node, (ast.If, ast.IfExp, ast.While)):
        for value in (False,) if isinstance(node, ast.While) else (True, False):
            yield f"condition -> {value}", lambda v=value: setattr(node, "test", ast.Constant(v))
    elif isinstance(node, ast.Expr) or (isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Attribute)):
        yield "left out", lambda: _leave_out(tree, node)


def _leave_out(tree: ast.AST, gone: ast.AST) -> None:
    for node in ast.walk(tree):
        for body in (getattr(node, name, None) for name in _BODIES):
            if isinstance(body, list) and gone in body:
                body[body.index(gone)] = ast.copy_location(ast.Pass(), gone)


def _code(spot: _Spot) -> Iterator[_Spot]:
    """Every node below that is run and is no message."""
    for field, value in ast.iter_fields(spot.node):
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
            below = _below(spot, child, field)
            yield below
            yield from _code(below)


def _below(spot: _Spot, child: Any, field: str) -> _Spot:
    statement = child if isinstance(child, ast.stmt) else spot.statement
    place, kind = spot.place, spot.kind
    if isinstance(child, (ast.FunctionDef, ast.ClassDef)):
        place = f"{place}.{child.name}".lstrip(".")
    if isinstance(spot.node, ast.FunctionDef):
        kind = "call" if field == "body" else "default"
    elif isinstance(spot.node, ast.Lambda) and field == "body":
        kind = "call"
    return _Spot(child, spot.node, statement, place, kind)


def _text(spot: _Spot) -> str:
    """The change's node in one line; of a constant, what stands around it."""
    node = spot.parent if isinstance(spot.node, ast.Constant) else spot.node
    if isinstance(node, ast.arguments):
        arguments = [*node.posonlyargs, *node.args]
        named = [
            *zip(arguments[len(arguments) - len(node.defaults) :], node.defaults, strict=True),
            *zip(node.kwonlyargs, node.kw_defaults, strict=True),
        ]
        node = next(ast.keyword(argument.arg, value) for argument, value in named if value is spot.node)
    line = ast.unparse(node).splitlines()[0]
    return line if len(line) <= 80 else f"{line[:77]}..."


def _lines(spot: _Spot) -> tuple[int, int]:
    """Those of the statement, without the statements in it; of a default, those of the whole function."""
    statement = spot.statement
    inside = [part for name in _BODIES for part in getattr(statement, name, []) if isinstance(part, ast.stmt)]
    if spot.kind == "default" or not inside:
        return statement.lineno, statement.end_lineno
    return statement.lineno, max(statement.lineno, inside[0].lineno - 1)
