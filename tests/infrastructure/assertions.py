"""Find, in the source of tests, functions that some path leaves without having asserted anything.

A path asserts once it comes to an ``assert``, a ``raise``, a ``with pytest.raises(...)`` or a call of a function that
asserts on each of its paths. An ``if`` has two paths, a loop over what may be empty has one around its body, and an early
``return``, ``continue`` or skip ends one.
"""

from __future__ import annotations

import ast
import functools
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
# functions of libraries that fail unless something is so, beside those whose names begin with assert
ASSERTING = {"raises", "warns", "deprecated_call", "fail", "check_gradients", "compare_backends", "does_not_raise"}
# methods of fixtures
METHODS = {("backend", "check"), ("gpu", "compare")}
SKIPS = {"skip", "importorskip"}
# calls that are empty only if one of their arguments is
AS_LONG = {
    "enumerate",
    "sorted",
    "list",
    "tuple",
    "set",
    "reversed",
    "items",
    "values",
    "keys",
    "zip",
    "map",
    "product",
}
LITERALS = (ast.List, ast.Tuple, ast.Set)
Function = ast.FunctionDef | ast.AsyncFunctionDef
Body = list[ast.stmt]


@functools.cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def _file_of(module: str) -> Path | None:
    path = ROOT.joinpath(*module.split("."))
    return next((file for file in (path.with_suffix(".py"), path / "__init__.py") if file.is_file()), None)


def called(node: ast.expr) -> str:
    """The last name of what is called, or the empty string."""
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


class Module:
    """The functions, methods and values of a file by their names, and those that it imports from other tests."""

    def __init__(self, path: Path) -> None:
        self.functions: dict[str, Function] = {}
        self.methods: dict[str, list[Function]] = {}
        self.values: dict[str, ast.expr] = {}
        self.imported: dict[str, tuple[Path, str]] = {}
        self.whole: dict[str, Path] = {}
        for node in parsed(path).body:
            if isinstance(node, Function):
                self.functions[node.name] = node
            elif isinstance(node, ast.ClassDef):
                for part in node.body:
                    if isinstance(part, Function):
                        self.methods.setdefault(part.name, []).append(part)
            elif isinstance(node, (ast.Assign, ast.AnnAssign)) and node.value:
                for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
                    if isinstance(target, ast.Name):
                        self.values[target.id] = node.value
            elif isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "tests":
                for alias in node.names:
                    name = alias.asname or alias.name
                    if file := _file_of(f"{node.module}.{alias.name}"):
                        self.whole[name] = file
                    elif file := _file_of(node.module):
                        self.imported[name] = (file, alias.name)


@functools.cache
def module(path: Path) -> Module:
    return Module(path)


class Scope:
    """Names seen from inside a function: its own first."""

    def __init__(self, path: Path, functions: dict[str, Function], values: dict[str, ast.expr]) -> None:
        self.module = module(path)
        self.path = path
        self.functions = functions
        self.values = values

    def value(self, name: str) -> tuple[ast.expr | None, Scope]:
        if name in self.values:
            return self.values[name], self
        if name in self.module.values:
            return self.module.values[name], Scope(self.path, {}, {})
        if name in self.module.imported:
            path, name = self.module.imported[name]
            return Scope(path, {}, {}).value(name)
        return None, self

    def asserts(self, function: ast.expr) -> bool:
        """Return whether calling this asserts something."""
        name = called(function)
        if name in ASSERTING or name.startswith("assert"):
            return True
        if isinstance(function, ast.Name):
            if name in self.functions:
                return asserts(self.functions[name], self.path, self)
            if name in self.module.functions:
                return asserts(self.module.functions[name], self.path)
            if name in self.module.imported:
                path, name = self.module.imported[name]
                return Scope(path, {}, {}).asserts(ast.Name(name))
            return False
        if isinstance(function, ast.Attribute) and isinstance(function.value, ast.Name):
            if function.value.id in self.module.whole:
                return Scope(self.module.whole[function.value.id], {}, {}).asserts(ast.Name(name))
            if (function.value.id, name) in METHODS:
                return True
            if function.value.id == "self" and name in self.module.methods:
                return all(asserts(method, self.path) for method in self.module.methods[name])
        return False

    def nonempty(self, node: ast.expr) -> bool:
        """Return whether what an expression gives is seen to have a member."""
        if isinstance(node, LITERALS):
            return any(not isinstance(e, ast.Starred) or self.nonempty(e.value) for e in node.elts)
        if isinstance(node, ast.Dict):
            return any(
                key is not None or self.nonempty(value) for key, value in zip(node.keys, node.values, strict=True)
            )
        if isinstance(node, ast.Constant):
            return isinstance(node.value, (str, bytes)) and bool(node.value)
        if isinstance(node, (ast.ListComp, ast.GeneratorExp, ast.SetComp, ast.DictComp)):
            return all(self.nonempty(part.iter) and not part.ifs for part in node.generators)
        if isinstance(node, ast.IfExp):
            return self.nonempty(node.body) and self.nonempty(node.orelse)
        if isinstance(node, ast.BinOp) and isinstance(node.op, (ast.Add, ast.BitOr)):
            return self.nonempty(node.left) or self.nonempty(node.right)
        if isinstance(node, ast.Name):
            value, scope = self.value(node.id)
            return value is not None and scope.nonempty(value)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            file = self.module.whole.get(node.value.id)
            return file is not None and Scope(file, {}, {}).nonempty(ast.Name(node.attr))
        return isinstance(node, ast.Call) and self._call_is_nonempty(node)

    def _call_is_nonempty(self, node: ast.Call) -> bool:
        name = called(node.func)
        if name == "range":
            return _counts(node.args)
        if name == "nonempty":
            return True
        if name == "dict":
            return bool(node.keywords) or any(self.nonempty(arg) for arg in node.args)
        if name not in AS_LONG:
            return False
        if isinstance(node.func, ast.Attribute) and not node.args:
            return self.nonempty(node.func.value)
        arguments = {"map": node.args[1:], "enumerate": node.args[:1]}.get(name, node.args)
        long = [self.nonempty(arg.value if isinstance(arg, ast.Starred) else arg) for arg in arguments]
        # of pieces that are as long as each other, one tells
        strict = any(k.arg == "strict" for k in node.keywords)
        return bool(long) and (any(long) if name == "zip" and strict else all(long))


def _counts(args: list[ast.expr]) -> bool:
    """Return whether a range with these arguments has a member."""
    try:
        return len(range(*(ast.literal_eval(arg) for arg in args))) > 0
    except (ValueError, TypeError):
        return False


def _calls(node: ast.AST) -> list[ast.Call]:
    """The calls in an expression or statement that are made whenever it is reached."""
    found: list[ast.Call] = []
    stack: list[Any] = [node]
    while stack:
        part = stack.pop()
        if isinstance(
            part, (ast.Lambda, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp, Function, ast.ClassDef)
        ):
            continue
        if isinstance(part, ast.Call):
            found.append(part)
        if isinstance(part, ast.IfExp):
            stack.append(part.test)
        elif isinstance(part, ast.BoolOp):
            stack.append(part.values[0])
        else:
            stack += ast.iter_child_nodes(part)
    return found


def _path(body: Body, scope: Scope, after: Body = []) -> bool:  # noqa: B006
    """Return whether every path through these statements asserts something before it ends.

    ``continue`` and ``break`` go on with the statements `after` the innermost loop.
    """
    if not body:
        return False
    first, rest = body[0], body[1:]
    match first:
        case ast.Assert() | ast.Raise():
            return True
        case ast.Return():
            return any(scope.asserts(call.func) for call in _calls(first))
        case ast.Continue() | ast.Break():
            return _path(after, scope)
        case ast.FunctionDef() | ast.AsyncFunctionDef():
            inner = Scope(scope.path, {**scope.functions, first.name: first}, scope.values)
            return _path(rest, inner, after)
        case ast.If():
            if any(scope.asserts(call.func) for call in _calls(first.test)):
                return True
            return all(_path([*part, *rest], scope, after) for part in (first.body, first.orelse))
        case ast.For() | ast.AsyncFor():
            behind = [*first.orelse, *rest]
            if scope.nonempty(first.iter):
                return _path([*first.body, *behind], scope, behind)
            # a return in the body ends the function
            return _path(behind, scope, after) and not _leaves(first.body)
        case ast.While():
            return _path([*first.orelse, *rest], scope, after) and not _leaves(first.body)
        case ast.With() | ast.AsyncWith():
            if any(scope.asserts(call.func) for item in first.items for call in _calls(item.context_expr)):
                return True
            if any(called(call.func) == "suppress" for item in first.items for call in _calls(item.context_expr)):
                return _path(rest, scope, after)
            return _path([*first.body, *rest], scope, after)
        case ast.Try():
            handlers = [handler.body for handler in first.handlers]
            parts = ([*first.body, *first.orelse], *handlers)
            return all(_path([*part, *first.finalbody, *rest], scope, after) for part in parts)
        case ast.Match():
            every = any(isinstance(case.pattern, ast.MatchAs) and case.pattern.pattern is None for case in first.cases)
            parts = [case.body for case in first.cases] + ([] if every else [[]])
            return all(_path([*part, *rest], scope, after) for part in parts)
        case _:
            if any(scope.asserts(call.func) for call in _calls(first)):
                return True
            if isinstance(first, (ast.Assign, ast.AnnAssign)) and first.value is not None:
                targets = first.targets if isinstance(first, ast.Assign) else [first.target]
                named = {target.id: first.value for target in targets if isinstance(target, ast.Name)}
                scope = Scope(scope.path, scope.functions, {**scope.values, **named})
            return _path(rest, scope, after)


def _leaves(body: Body) -> bool:
    """Return whether a return stands among these statements, and so may come before an assertion below them."""
    stack: list[ast.AST] = list(body)
    while stack:
        node = stack.pop()
        if isinstance(node, ast.Return):
            return True
        if not isinstance(node, (Function, ast.Lambda, ast.ClassDef)):
            stack += ast.iter_child_nodes(node)
    return False


_known: dict[tuple[Path, int], bool] = {}


def asserts(function: Function, path: Path, outer: Scope | None = None) -> bool:
    """Return whether every path through a function of this file asserts something."""
    key = (path, function.lineno)
    if key not in _known:
        _known[key] = False  # for a function that calls itself
        scope = Scope(path, outer.functions if outer else {}, outer.values if outer else {})
        _known[key] = _path(function.body, scope)
    return _known[key]


def defined_tests(path: Path) -> list[Function]:
    """The test functions of a file, those of classes too."""
    functions = [*module(path).functions.values(), *(f for found in module(path).methods.values() for f in found)]
    return [function for function in functions if function.name.startswith("test")]
