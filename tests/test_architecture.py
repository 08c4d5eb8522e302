"""The rules of the tree, read from its source: who may name an array library, who may import whom, how long is too long."""

from __future__ import annotations

import ast
import functools
import importlib
import inspect
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest

import xpdl
from tests.harness import nonempty

pytestmark = pytest.mark.exhaustive

PACKAGE = Path(xpdl.__file__).parent
FILES = sorted(path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py"))


def each_file(check: Callable[[str], None]) -> Callable[[], None]:
    """Make a check of one file a test of all files, which lists what it finds in each."""

    def test() -> None:
        found = []
        for name in nonempty(FILES):
            try:
                check(name)
            except AssertionError as error:
                found.append(f"{name}: {error}")
        assert not found, "\n".join(found)

    test.__name__, test.__doc__, test.__module__ = check.__name__, check.__doc__, check.__module__
    return test


LIBRARIES = {
    "numpy",
    "cupy",
    "cupyx",
    "torch",
    "jax",
    "ndonnx",
    "array_api_strict",
    "dask",
    "numba",
    "llvmlite",
}
COMPAT = {"array_api_compat", "array_api_extra"}

# Host-side work that computes with NumPy, and why; nothing else outside of backends/ may name a library at all.
HOST_NUMPY = {
    "__init__.py": "the star imports of the book bring np along",
    "book.py": "the scripts of the book are written for NumPy",
    "initializers.py": "weights are drawn on the host, so that they are bitwise identical everywhere",
    "io/": "files hold bytes of the host",
    "models/generation.py": "tokens are drawn on the host, one after the other",
    "models/prompts.py": "as models/generation.py",
    "models/state_dict.py": "what is loaded comes from the host",
    "models/sampling.py": "tokens are drawn on the host, so that they are the same everywhere",
    "integrations/gpt2.py": "as io/",
    "integrations/pytorch.py": "as io/",
    "integrations/pytorch_arrays.py": "as io/",
    "distributed/": "messages between ranks are bytes of the host",
    "onnx/": "as io/",
    "training/checkpoint/format.py": "as io/",
    "plots/": "figures are drawn on the host",
    "cli/predict.py": "pictures are read on the host",
    "demo/": "drawings come from a browser",
    "data/": "data sets are read and made on the host",
}
# A file that builds on another library on purpose, and why.
OTHER_LIBRARY = {
    "bench/torch_peer.py": ("torch", "the same net in PyTorch, to time it beside ours"),
    "bench/torch_sequences.py": ("torch", "nets of sequences for the peer in PyTorch"),
    "bench/jax_sequences.py": ("jax", "nets of sequences for the peer in plain JAX"),
    "bench/jax_peer.py": ("jax", "the same net in plain JAX, to time it beside ours"),
}
# Words for people: help texts and messages that list what there is to choose from.
NAMES_IN_TEXT = {
    "cli/options.py",
    "bench/command.py",
    "bench/device_rates.py",
    "bench/epoch.py",
    "bench/explain.py",
    "bench/gpu_predictions.py",
    "bench/gpu_report.py",
    "bench/gpu_steps.py",
    "bench/gpu_tables.py",
    "bench/gpu_tests.py",
    "bench/memory.py",
    "bench/scaling.py",
    "bench/profile.py",
    "bench/step_roofline.py",
    "bench/tables.py",
    "bench/timing.py",
}

# A unit imports units of lower rank only, and itself.
RANKS = {
    "errors": 0,
    "deprecation": 0,
    "attribute_names": 0,
    "option_names": 0,
    "lazy": 0,
    "second_volume": 0,
    "version": 0,
    "io": 1,
    "backends": 2,
    "ops": 3,
    "initializers": 3,
    "gradients": 4,
    "perceptron": 4,
    "layers": 4,
    "optimizers": 4,
    "data": 4,
    "functional": 5,
    "metrics": 4,
    "models": 5,
    "gradient_check": 1,
    "distributed": 5,
    "training": 6,
    "compare": 1,
    "testing": 6,
    "search": 7,
    "integrations": 7,
    "onnx": 7,
    "plots": 7,
    "bench": 7,
    "gpu_gate": 8,
    "demo": 8,
    "cli": 9,
    "__init__": 10,
    "book": 11,
    "__main__": 11,
}

# Writes to an underscore field of another object, by file and text, and why; nowhere else.
PRIVATE_WRITES = {
    ("backends/numba/jit.py", "dispatcher._cache"): "Numba gives its dispatchers no other way to a cache of one's own",
}

LONGEST_FILE = 300
LONGEST_CLASS = 120
# docstrings do not count; each of these is one concept that reads worse in two halves
LONGER_CLASSES = {
    "Model": "the whole protocol of a trainer, a few lines for each of its methods",
    "Trainer": "one loop, and every option of it",
    "Tuning": "a table",
}


@functools.cache
def source(name: str) -> str:
    return (PACKAGE / name).read_text(encoding="utf-8")


@functools.cache
def tree(name: str) -> ast.Module:
    return ast.parse(source(name))


def unit(name: str) -> str:
    """The package or module directly below xpdl that a file belongs to."""
    return name.split("/")[0].removesuffix(".py")


def imported(node: ast.Import | ast.ImportFrom) -> list[str]:
    """Full names of what a statement imports: ``from a import b`` is a.b, which may be a module."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    assert not node.level, "relative imports hide where a line points"
    return [f"{node.module}.{alias.name}" for alias in node.names]


def imports(name: str) -> Iterator[tuple[int, str]]:
    """(line, full name) of everything a file imports anywhere."""
    for node in ast.walk(tree(name)):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            yield from ((node.lineno, full) for full in imported(node))


def docstrings(name: str) -> set[int]:
    """The ids of the nodes that are docstrings."""
    found = set()
    for node in ast.walk(tree(name)):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and node.body:
            first = node.body[0]
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
                found.add(id(first.value))
    return found


def library_words(name: str) -> Iterator[tuple[int, str]]:
    """(line, library) wherever code, and not a comment or docstring, names one: identifiers, attributes, strings."""
    prose = docstrings(name)
    for node in ast.walk(tree(name)):
        words: list[str] = []
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            words = [full.split(".")[0] for full in imported(node)]
        elif isinstance(node, ast.Name):
            words = node.id.split("_")
        elif isinstance(node, ast.Attribute):
            words = node.attr.split("_")
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in prose:
            words = re.findall(r"\w+", node.value)
        yield from ((node.lineno, word) for word in words if word in LIBRARIES | COMPAT)


def host_side(name: str) -> bool:
    return any(name == path or (path.endswith("/") and name.startswith(path)) for path in HOST_NUMPY)


def test_the_tree_is_found() -> None:
    assert {"backends/namespaces.py", "ops/convolution.py", "layers/affine.py", "errors.py"} <= set(FILES)


@each_file
def test_only_backends_name_an_array_library(name: str) -> None:
    everything = unit(name) == "backends" or name in NAMES_IN_TEXT
    allowed = LIBRARIES | COMPAT if everything else {"numpy"} if host_side(name) else set()
    allowed |= {OTHER_LIBRARY[name][0]} if name in OTHER_LIBRARY else set()
    found = [f"{name}:{line} {word}" for line, word in library_words(name) if word not in allowed]
    assert not found


def test_the_search_for_names_finds_them() -> None:
    """It would be quiet, too, if it looked in the wrong places."""
    found = {word for _, word in library_words("backends/__init__.py")}
    assert {"numpy", "cupy", "torch", "jax", "array_api_strict"} <= found
    assert {word for _, word in library_words("backends/namespaces.py")} >= {"numpy", "array_api_compat", "cupy"}


@each_file
def test_array_api_compat_is_imported_in_one_place(name: str) -> None:
    found = {full.split(".")[0] for _, full in imports(name)} & COMPAT
    assert not found or name == "backends/namespaces.py"


@each_file
def test_imports_point_downward(name: str) -> None:
    own = unit(name)
    assert own in RANKS, f"give {own} its place in RANKS: what may it import, and who may import it?"
    for line, full in imports(name):
        parts = full.split(".")
        # "import xpdl" alone is for those above everything
        other = (parts[1] if parts[1:] and parts[1] in RANKS else "__init__") if parts[0] == "xpdl" else None
        if other == "__init__":
            assert own in ("book", "cli", "__main__", "__init__"), (
                f"{name}:{line} imports {full}: name the module instead"
            )
        elif other is not None and other != own:
            assert RANKS[other] < RANKS[own], f"{name}:{line} {own} imports {other}, which is not below it"


@each_file
def test_imports_come_first(name: str) -> None:
    body = tree(name).body
    first_definition = next((n.lineno for n in body if isinstance(n, (ast.FunctionDef, ast.ClassDef))), 10**6)
    late = [n.lineno for n in body if isinstance(n, (ast.Import, ast.ImportFrom)) and n.lineno > first_definition]
    assert not late, f"{name}: imports below the first definition, in lines {late}"


@each_file
def test_no_import_of_our_own_hides_in_a_function(name: str) -> None:
    """An import that waits for a call hides a cycle."""
    hidden = [
        f"{name}:{node.lineno}"
        for function in ast.walk(tree(name))
        if isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef))
        for node in ast.walk(function)
        if isinstance(node, (ast.Import, ast.ImportFrom))
        and any(full.split(".")[0] == "xpdl" for full in imported(node))
    ]
    assert not hidden


def module_name(name: str) -> str:
    return ".".join(("xpdl", *Path(name).with_suffix("").parts)).removesuffix(".__init__")


MODULES = {module_name(name): name for name in FILES}


@functools.cache
def needed(module: str) -> frozenset[str]:
    """The modules of ours that a module imports anywhere, or has by their names from importlib."""
    names = [full for _, full in imports(MODULES[module])]
    if "import_module" in source(MODULES[module]):
        prose = docstrings(MODULES[module])
        nodes = [node for node in ast.walk(tree(MODULES[module])) if id(node) not in prose]
        texts = [node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)]
        names += [text for text in texts if text in MODULES]
        assert not [text for text in texts if re.fullmatch(r"xpdl\.(\w+\.)*", text)], f"{module}: name modules in full"
    found = {name if name in MODULES else name.rpartition(".")[0] for name in names}
    return frozenset(found & MODULES.keys() - {module})


def circle(module: str, needs: Callable[[str], Iterable[str]]) -> list[str]:
    """A way from a module back to itself, or an empty list."""
    ways, seen = [[other, module] for other in needs(module)], set()
    while ways:
        way = ways.pop()
        if way[0] == module:
            return way[::-1]
        if way[0] not in seen:
            seen.add(way[0])
            ways += [[other, *way] for other in needs(way[0])]
    return []


@each_file
def test_no_files_import_each_other(name: str) -> None:
    """Neither at the top, nor under TYPE_CHECKING, nor by importlib."""
    way = circle(module_name(name), needed)
    assert not way, " -> ".join(way)


def test_circles_are_found() -> None:
    graph = {"a": ["b", "d"], "b": ["c"], "c": ["a", "d"], "d": []}
    assert circle("a", graph.__getitem__) == ["a", "b", "c", "a"]
    assert circle("d", graph.__getitem__) == []


def test_names_given_to_importlib_are_imports() -> None:
    assert {"xpdl.backends.cupy", "xpdl.backends.numpy"} <= needed("xpdl.backends.dispatch")
    assert {"xpdl.backends.numba.jit", "xpdl.backends.numba.optimizers"} <= needed("xpdl.backends.numba.loading")


def private_writes(code: ast.Module) -> Iterator[tuple[int, str]]:
    """(line, text) wherever an underscore field of another object than ``self`` or ``cls`` is bound or deleted.

    By assignment of any kind, also of its items, by setattr and delattr, and in ``vars(other)`` and ``other.__dict__``.
    """
    for node in ast.walk(code):
        target = node.value if isinstance(node, ast.Subscript) else node
        if isinstance(getattr(node, "ctx", None), (ast.Store, ast.Del)):
            if isinstance(target, ast.Attribute) and is_private(target.attr) and not is_own(target.value):
                yield node.lineno, ast.unparse(target)
            elif isinstance(node, ast.Subscript) and is_private(text_of(node.slice)):
                holder = namespace_of(target)
                if holder is not None and not is_own(holder):
                    yield node.lineno, ast.unparse(node)
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("setattr", "delattr", "object.__setattr__"):
            owner, name, *_ = node.args
            if is_private(text_of(name)) and not is_own(owner):
                yield node.lineno, ast.unparse(node)


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def is_own(node: ast.expr) -> bool:
    return isinstance(node, ast.Name) and node.id in ("self", "cls")


def text_of(node: ast.expr) -> str:
    return str(node.value) if isinstance(node, ast.Constant) else ""


def namespace_of(node: ast.expr) -> ast.expr | None:
    """The object whose attributes the dict `node` holds."""
    if isinstance(node, ast.Call) and ast.unparse(node.func) == "vars" and node.args:
        return node.args[0]
    return node.value if isinstance(node, ast.Attribute) and node.attr == "__dict__" else None


@each_file
def test_no_file_writes_private_fields_of_another_object(name: str) -> None:
    found = [f"{name}:{line} {text}" for line, text in private_writes(tree(name)) if (name, text) not in PRIVATE_WRITES]
    assert not found


def test_private_writes_that_are_allowed_are_still_there() -> None:
    assert {(name, text) for name in FILES for _, text in private_writes(tree(name))} == set(PRIVATE_WRITES)


@pytest.mark.parametrize(
    "line",
    [
        *(
            "other._x = 1",
            "other.part._x = 1",
            "self.other._x = 1",
            "other._x += 1",
            "other._x: int = 1",
            "del other._x",
        ),
        *(
            "a, other._x = 1, 2",
            "for other._x in y: pass",
            "with y as other._x: pass",
            "other._x[0] = 1",
            "del other._x[0]",
        ),
        *("[0 for other._x in y]", "(other._x, *b) = y", "setattr(other, '_x', 1)", "delattr(other, '_x')"),
        *("object.__setattr__(other, '_x', 1)", "vars(other)['_x'] = 1", "other.__dict__['_x'] = 1"),
    ],
)
def test_private_writes_are_found(line: str) -> None:
    assert len(list(private_writes(ast.parse(line)))) == 1
    own = line.replace("self.other", "other").replace("other.part", "other").replace("other", "self")
    assert list(private_writes(ast.parse(own))) == []
    assert list(private_writes(ast.parse(line.replace("_x", "x")))) == []


@each_file
def test_files_are_short(name: str) -> None:
    # a list of names reads as well at any length
    names = [
        node for node in tree(name).body if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
    ]
    lines = source(name).count("\n") - sum(node.end_lineno - node.lineno for node in names)
    assert lines <= LONGEST_FILE, f"{name} has {lines} lines: two concepts? split them"


def class_lengths(name: str) -> dict[str, int]:
    """Lines of each class of a file, without docstrings."""
    lengths = {}
    for node in ast.walk(tree(name)):
        if isinstance(node, ast.ClassDef):
            prose = sum(
                part.body[0].end_lineno - part.body[0].lineno + 1
                for part in ast.walk(node)
                if isinstance(part, (ast.ClassDef, ast.FunctionDef)) and ast.get_docstring(part)
            )
            lengths[node.name] = node.end_lineno - node.lineno + 1 - prose
    return lengths


@each_file
def test_classes_are_short(name: str) -> None:
    long = {cls for cls, lines in class_lengths(name).items() if lines > LONGEST_CLASS}
    assert long <= set(LONGER_CLASSES), f"{name}: two concepts? split them"


def test_exceptions_are_still_needed() -> None:
    lengths = {cls: lines for name in FILES for cls, lines in class_lengths(name).items()}
    assert [cls for cls in LONGER_CLASSES if lengths.get(cls, 999) <= LONGEST_CLASS] == []


@each_file
def test_nothing_is_caught_and_dropped(name: str) -> None:
    silent = [
        f"{name}:{node.lineno}"
        for node in ast.walk(tree(name))
        if isinstance(node, ast.ExceptHandler)
        and (node.type is None or all(isinstance(statement, ast.Pass) for statement in node.body))
    ]
    assert not silent


@each_file
def test_no_global_random_state(name: str) -> None:
    """`numpy.random` has one, and so has Python's module; what is drawn comes from named streams."""
    made = {"default_rng", "Generator", "SeedSequence", "PCG64"}
    # of JAX, whose functions take their state as an argument
    made |= {"PRNGKey", "split", "fold_in", "bernoulli"}
    drawn = [
        f"{name}:{node.lineno} random.{node.attr}"
        for node in ast.walk(tree(name))
        if isinstance(node, ast.Attribute)
        and node.attr not in made
        and isinstance(node.value, ast.Attribute)
        and node.value.attr == "random"
    ]
    assert not drawn
    assert not [full for _, full in imports(name) if full.split(".")[0] == "random"]


@each_file
def test_every_module_says_what_it_is(name: str) -> None:
    assert ast.get_docstring(tree(name))


@pytest.mark.parametrize("module", ["functional", "layers", "optimizers", "models", "perceptron", "testing"])
def test_public_functions_classes_and_methods_have_docstrings(module: str) -> None:
    loaded = importlib.import_module(f"xpdl.{module}")
    names = getattr(loaded, "__all__", None) or [
        name for name, value in vars(loaded).items() if getattr(value, "__module__", "") == loaded.__name__
    ]
    public = {name: getattr(loaded, name) for name in names if not name.startswith("_")}
    public = {name: value for name, value in public.items() if inspect.isclass(value) or inspect.isfunction(value)}
    assert public
    missing = [name for name, value in public.items() if not value.__doc__]
    for name, value in public.items():
        if inspect.isclass(value):
            methods = [method for method, _ in inspect.getmembers(value, inspect.isfunction) if method[0] != "_"]
            # an overriding method may leave the words to the one it overrides
            missing += [f"{name}.{method}" for method in methods if not inspect.getdoc(getattr(value, method))]
    assert not missing


def test_types_are_announced() -> None:
    assert (PACKAGE / "py.typed").is_file()
