"""Plant small bugs and see whether the tests of their file notice.

    python scripts/mutation.py --count 640 --seed 1
    python scripts/mutation.py --count 640 --seed 1 --report > tests/mutation/README.md

A mutant is one change of one place in the folders of ``xpdl`` that `mutants.FOLDERS` names: another comparison, operator,
constant or condition, or a statement removed. Messages, annotations and docstrings are left alone. The first `count` are
tried, in an order that the seed gives, each in a process of its own with the tests of its folder that run the changed line:
those of its file first, then the quick ones. These tests must pass without it, which is when it is found out what they run.

What the tests have imported is changed in place, and a process begins where the tests are collected. A mutant that takes
effect at import, or survives and may have, is tried once more in a process that imports it.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import gc
import importlib.abc
import importlib.machinery
import importlib.util
import json
import os
import pickle
import resource
import signal
import sys
import tempfile
import threading
import time
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from mutants import FOLDERS, ROOT, Mutant, defaults, drawn, planted

#: settings of the tests: one thread, and plain NumPy beside a library without kernels of xpdl
SETTINGS = {"XPDL_BACKENDS": "numpy,strict:device1", "OPENBLAS_NUM_THREADS": "1"}
#: not there for the tests: what only they need takes longer to import than most of them to run
ABSENT = {"torch", "jax", "tensorflow", "sklearn", "optuna", "matplotlib"}
MEMORY = 4 << 30
#: seconds of computing after which the tests are taken for hanging; they may wait for ten times that
COMPUTING = 30
#: exit codes of a child: those of pytest for pass, failure and no tests, and where the change needs an import
PASSED, FAILED, NO_TEST_RUN, NEEDS_IMPORT = 0, 1, 5, 77
OUTCOMES = {PASSED: "survived", FAILED: "killed", NEEDS_IMPORT: "import"}

Lines = dict[str, set[int]]  # by file


def outcome(run: Callable[[], int], seconds: float = COMPUTING) -> str:
    """Of `run` in a child: ``"survived"``, ``"killed"``, ``"timeout"``, or ``"import"`` where it could not be tried."""
    child = os.fork()
    if child == 0:
        code = FAILED
        with contextlib.suppress(BaseException):  # a mutant may raise anything
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, 1)
            os.dup2(null, 2)
            resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))  # files may be mapped
            resource.setrlimit(resource.RLIMIT_CPU, (int(seconds), int(seconds) + 5))
            code = run()
        os._exit(code)
    # turns rather than the clock: they stand still while this process is stopped
    for _ in range(10 * 50 * int(seconds)):
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            code = os.waitstatus_to_exitcode(status)
            return "timeout" if code in (-signal.SIGXCPU, -signal.SIGKILL) else OUTCOMES.get(code, "killed")
        time.sleep(0.02)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return "timeout"


# the lines that tests run


class Traced:
    """The lines of one folder of `xpdl` that are run inside the ``with``, in all threads."""

    def __init__(self, folder: str) -> None:
        self.prefix = str(ROOT / "xpdl" / folder) + os.sep
        self.lines: Lines = collections.defaultdict(set)

    def __enter__(self) -> Traced:
        threading.settrace(self._call)
        sys.settrace(self._call)
        return self

    def __exit__(self, *_: object) -> None:
        sys.settrace(None)
        threading.settrace(None)  # type: ignore[arg-type]

    def _call(self, frame: types.FrameType, event: str, argument: Any) -> Any:
        if not frame.f_code.co_filename.startswith(self.prefix):
            return None
        lines = self.lines[frame.f_code.co_filename]

        def line(frame: types.FrameType, event: str, argument: Any) -> Any:
            lines.add(frame.f_lineno)
            return line

        return line(frame, event, argument)


def runs(lines: Lines, mutant: Mutant) -> bool:
    first, last = mutant.lines
    return any(first <= line <= last for line in lines.get(str(ROOT / "xpdl" / mutant.file), ()))


class Loop:
    """A plugin of pytest: instead of running the tests of a folder once, runs those of each mutant in a child."""

    def __init__(
        self, folder: str, mutants: Iterator[Mutant], imported: Traced, keep: Callable[[str, str], None]
    ) -> None:
        self.folder, self.mutants, self.imported, self.keep = folder, mutants, imported, keep
        self.failed = ""

    def pytest_runtestloop(self, session: Any) -> bool:
        self.imported.__exit__()
        with tempfile.TemporaryDirectory() as folder:
            found = Path(folder) / "found"
            if outcome(lambda: self._look(session, found), 3600) != "survived":
                test = found.read_text() if found.exists() else f"tests/{self.folder}"
                self.failed = f"{test} does not pass without any change"
                return True
            traced: list[tuple[float, Lines]] = pickle.loads(found.read_bytes())
        for mutant in self.mutants:
            result = "import" if mutant.kind == "import" else self._try(session, mutant, traced)
            if result == "survived" and runs(self.imported.lines, mutant):
                result = "import"
            self.keep(mutant.name, result)
        return True

    def _look(self, session: Any, found: Path) -> int:
        """Time and lines of each test."""
        traced = []
        for item in session.items:
            begin = time.process_time()
            with Traced(self.folder) as lines:
                code = _run(session, [item])
            traced.append((time.process_time() - begin, dict(lines.lines)))
            if code != PASSED:
                found.write_text(item.nodeid)
                return code
        found.write_bytes(pickle.dumps(traced))
        return PASSED

    def _try(self, session: Any, mutant: Mutant, traced: list[tuple[float, Lines]]) -> str:
        own = f"test_{Path(mutant.file).name}"
        chosen = [
            (item.path.name != own, seconds, place)
            for place, (item, (seconds, lines)) in enumerate(zip(session.items, traced, strict=True))
            if runs(lines, mutant)
        ]
        items = [session.items[place] for _, _, place in sorted(chosen)]

        def run() -> int:
            return _run(session, items) if _changed_in_place(mutant) else NEEDS_IMPORT

        return outcome(run, COMPUTING + 5 * sum(seconds for _, seconds, _ in chosen))


def _run(session: Any, items: list[Any]) -> int:
    for item, following in zip(items, [*items[1:], None], strict=True):
        item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
        if session.testsfailed:
            return FAILED
    return PASSED


# making the change


def _changed_in_place(mutant: Mutant) -> bool:
    """Give every function of the module the code, and the defaults, of the changed one; False where that cannot be.

    So it is where only the tests import the module.
    """
    tree = planted(mutant)
    path = str(ROOT / "xpdl" / mutant.file)
    codes = {(code.co_qualname, code.co_firstlineno): code for code in _codes(compile(tree, path, "exec"))}
    changed = False
    try:
        values = defaults(tree, mutant) if mutant.kind == "default" else None
        for function in gc.get_objects():
            if isinstance(function, types.FunctionType) and function.__code__.co_filename == path:
                code = codes.get((function.__code__.co_qualname, function.__code__.co_firstlineno))
                if code is not None:
                    function.__code__, changed = code, True
                    if values is not None and code.co_qualname == mutant.place:
                        function.__defaults__, function.__kwdefaults__ = values
    except ValueError:  # defaults that are no literals, or other variables of the enclosing function
        return False
    return changed


def _codes(code: types.CodeType) -> Iterator[types.CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _codes(constant)


class Absent(importlib.abc.MetaPathFinder):
    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        if name in ABSENT:
            raise ModuleNotFoundError(f"{name} is blocked", name=name)


class Planted(importlib.abc.MetaPathFinder):
    """Imports one module from a changed tree."""

    def __init__(self, mutant: Mutant) -> None:
        self.name = "xpdl." + mutant.file.removesuffix(".py").replace("/", ".")
        self.path = ROOT / "xpdl" / mutant.file
        self.tree = planted(mutant)

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        if name != self.name:
            return None
        tree = self.tree

        class Loader(importlib.machinery.SourceFileLoader):
            def get_code(self, fullname: str) -> Any:
                return compile(tree, self.path, "exec")

        return importlib.util.spec_from_file_location(name, self.path, loader=Loader(name, str(self.path)))


def _pytest(tests: list[str], plugins: list[Any]) -> int:
    """Run those tests that `MARKS` in the environment chooses."""
    import pytest

    with tempfile.TemporaryDirectory() as folder:
        options = [
            "-x",
            "-m",
            os.environ["MARKS"],
            "-p",
            "no:cacheprovider",
            f"--rootdir={ROOT}",
            f"--basetemp={folder}/tests",
        ]
        return int(pytest.main([*options, *tests], plugins))


def tests_of(folder: str) -> Path:
    """The tests of a folder of ``xpdl``, which may stand with those of the folder above."""
    path = ROOT / "tests" / folder
    return path if path.is_dir() else path.parent


def try_collected(folder: str, mutants: Iterator[Mutant], keep: Callable[[str, str], None]) -> None:
    """In a child, which imports `xpdl` and collects the tests once."""
    child = os.fork()
    if child == 0:
        failed = f"tests/{folder} cannot be collected"
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        with contextlib.suppress(KeyboardInterrupt), Traced(folder) as imported:
            loop = Loop(folder, mutants, imported, keep)
            if _pytest([str(tests_of(folder))], [loop]) in (PASSED, NO_TEST_RUN):
                failed = loop.failed
        print(failed, end="\n" if failed else "", file=sys.stderr, flush=True)
        os._exit(FAILED if failed else PASSED)
    if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) != PASSED:
        sys.exit(FAILED)


def try_imported(mutant: Mutant) -> str:
    folder = tests_of(str(Path(mutant.file).parent))
    tests = [folder / f"test_{Path(mutant.file).name}", *sorted(folder.glob("test_*.py"))]

    def run() -> int:
        sys.meta_path.insert(0, Planted(mutant))
        return _pytest([str(test) for test in dict.fromkeys(tests) if test.exists()], [])

    return outcome(run, 10 * COMPUTING)


def report(chosen: list[Mutant], results: dict[str, str], reasons: dict[str, str], command: str) -> str:
    lines = [(ROOT / "tests" / "mutation" / "about.md").read_text().rstrip(), "", f"    {command}", ""]
    lines += ["| folder | mutants | killed | survived | killed of all | of those not equivalent |"]
    lines += ["|---|---:|---:|---:|---:|---:|"]
    tried = [mutant for mutant in chosen if mutant.name in results]
    for folder in (*FOLDERS, ""):
        of = [mutant for mutant in tried if mutant.file.startswith(folder and f"{folder}/")]
        survivors = [mutant for mutant in of if results[mutant.name] == "survived"]
        same = sum(1 for mutant in survivors if reasons.get(mutant.name, "").startswith("equivalent"))
        killed = len(of) - len(survivors)
        shares = [f"{killed / max(1, count):.1%}" for count in (len(of), len(of) - same)]
        lines.append(f"| {folder or 'all'} | {len(of)} | {killed} | {len(survivors)} | {' | '.join(shares)} |")
    lines += ["", "Survivors:", ""]
    for name in sorted(mutant.name for mutant in tried if results[mutant.name] == "survived"):
        lines.append(f"- {name}: {reasons.get(name, 'not looked at yet')}")
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--count", type=int, default=640)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--only", nargs="+", default=[""], metavar="TEXT", help="those whose name begins so, such as layers/chain.py"
    )
    parser.add_argument("--marks", default="not slow", help="of the tests, as for pytest -m")
    parser.add_argument("--seconds", type=float, default=1e9, help="begin no mutant later")
    parser.add_argument("--results", type=Path, default=Path("mutation.jsonl"), help="kept between slices")
    parser.add_argument("--again", action="store_true", help="try survivors once more: there are new tests")
    parser.add_argument("--report", action="store_true")
    args = parser.parse_args()
    everything = drawn(args.seed)
    chosen = everything[: args.count]

    def known() -> dict[str, str]:
        found: dict[str, str] = {}
        for line in args.results.read_text().splitlines() if args.results.exists() else ():
            found.update(json.loads(line))
        return found

    def keep(name: str, result: str) -> None:
        with args.results.open("a") as file:
            file.write(json.dumps({name: result}) + "\n")

    if args.report:
        reasons = json.loads((ROOT / "tests" / "mutation" / "survivors.json").read_text())
        if gone := set(reasons) - {mutant.name for mutant in everything}:
            sys.exit("survivors.json has reasons for mutants that are no more:\n" + "\n".join(sorted(gone)))
        command = f"python scripts/mutation.py --count {args.count} --seed {args.seed}"
        print(report(chosen, known(), reasons, command), end="")
        return 0
    args.results = args.results.resolve()
    os.environ.update(SETTINGS, MARKS=args.marks)
    os.chdir(ROOT)
    # a shell lets what it starts in the background ignore Ctrl-C, which there are tests of
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.path.insert(0, str(ROOT))
    sys.meta_path.insert(0, Absent())
    # before the fork, once for all: what is imported and is not ours
    for module in (
        "numpy",
        "pytest",
        "array_api_compat.numpy",
        "array_api_strict",
        "safetensors.numpy",
        "threadpoolctl",
    ):
        importlib.import_module(module)
    end = time.monotonic() + args.seconds
    todo = {None, "import", "survived"} if args.again else {None, "import"}
    wanted = [mutant for mutant in chosen if mutant.name.startswith(tuple(args.only))]
    # each with the tests of its folder
    for folder in dict.fromkeys(str(Path(mutant.file).parent) for mutant in wanted):
        before = known()
        of = [m for m in wanted if str(Path(m.file).parent) == folder and before.get(m.name) in todo]
        in_time = (mutant for mutant in of if time.monotonic() < end)
        if any(before.get(mutant.name) != "import" for mutant in of):
            try_collected(folder, in_time, keep)
        after = known()
        for mutant in of:
            if after.get(mutant.name) == "import" and time.monotonic() < end:
                keep(mutant.name, try_imported(mutant))
    results = known()
    counts = collections.Counter(results.get(mutant.name, "to do") for mutant in wanted)
    print(dict(counts))
    return 0


if __name__ == "__main__":
    sys.exit(main())
