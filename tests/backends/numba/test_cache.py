"""Compiled code in files: found again, believed only where whole, missed nowhere."""

import functools
import io
import os
import shutil
import signal
import subprocess
import sys
import threading
import types
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("numba", reason="Numba is not installed")

from numba.core import event

from tests.training.checkpoint.test_rotation import files_of_at_most
from xpdl.backends.numba import cache, jit


def double(x, out):
    for k in range(x.size):
        out[k] = 2 * x[k]


FACTOR = 2


def scaled(x, out):
    for k in range(out.shape[0]):
        out[k] = FACTOR * x[k]


@pytest.fixture
def folder(monkeypatch, tmp_path):
    """An empty folder for compiled code, instead of the user's."""
    monkeypatch.setenv("XPDL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(cache, "folder", cache.folder.__wrapped__)
    return tmp_path / "cache"


def hits_and_misses(function=double, dtype=np.float32):
    """Of a process that begins now, and calls the function once, which has to be right."""
    fresh = jit.compiled(function)
    check(fresh, dtype)
    return sum(fresh.stats.cache_hits.values()), sum(fresh.stats.cache_misses.values())


def check(function, dtype=np.float32):
    x = np.arange(20, dtype=dtype)
    out = np.zeros_like(x)
    function(x, out)
    np.testing.assert_array_equal(out, 2 * x)


def files(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file())


def test_later_process_compiles_nothing(folder):
    assert hits_and_misses() == (0, 1)
    assert hits_and_misses() == (1, 0)
    assert hits_and_misses(dtype=np.float64) == (0, 1)
    assert hits_and_misses(dtype=np.float64) == hits_and_misses() == (1, 0)
    assert len(files(folder)) == 2 and {path.parent for path in files(folder)} == {cache.folder()}


@pytest.mark.parametrize(
    "damage",
    [
        lambda code: b"",
        lambda code: code[:20],
        lambda code: code[:-1],
        lambda code: code + b"\0",
        lambda code: code[:1000] + bytes([code[1000] ^ 1]) + code[1001:],
        lambda code: bytes(len(code)),
        lambda code: b"of something else",
    ],
)
def test_damaged_file_is_compiled_anew_and_mended(folder, damage):
    hits_and_misses()
    (path,) = files(folder)
    path.write_bytes(damage(path.read_bytes()))
    assert hits_and_misses() == (0, 1)
    assert hits_and_misses() == (1, 0)
    assert files(folder) == [path]


@pytest.mark.parametrize("made", [lambda path: path.write_text("no folder"), lambda path: path.symlink_to("/dev/null")])
def test_folder_that_cannot_be_is_done_without(folder, made):
    assert cache.writable()
    made(folder)
    assert not cache.writable()
    before = {path: path.stat().st_mtime_ns for path in Path(jit.__file__).parent.rglob("*")}
    assert hits_and_misses() == hits_and_misses() == (0, 1)
    # Numba's way out is a folder beside the sources
    assert {path: path.stat().st_mtime_ns for path in Path(jit.__file__).parent.rglob("*")} == before


@pytest.mark.needs("resource")
def test_full_disk_is_done_without(folder):
    with files_of_at_most(1000):
        assert hits_and_misses() == hits_and_misses() == (0, 1)
    assert not files(folder)
    assert hits_and_misses() == (0, 1)
    assert hits_and_misses() == (1, 0)


def test_folder_that_can_only_be_read_is_read(folder, monkeypatch):
    hits_and_misses()

    def refuse(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "write_bytes", refuse)
    monkeypatch.setattr(Path, "mkdir", refuse)
    assert hits_and_misses() == (1, 0)
    assert hits_and_misses(dtype=np.float64) == hits_and_misses(dtype=np.float64) == (0, 1)


def test_user_without_a_home_has_no_folder(folder, monkeypatch):
    def homeless():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XPDL_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("LOCALAPPDATA", raising=False)
    monkeypatch.setattr(Path, "home", homeless)
    assert cache.folder() is None and not cache.writable()
    assert hits_and_misses() == hits_and_misses() == (0, 1)


def test_other_sources_have_another_folder(folder, monkeypatch, tmp_path):
    found = {cache.folder()}
    package = tmp_path / "package"
    shutil.copytree(Path(cache.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(cache, "__file__", str(package / "cache.py"))
    assert {cache.folder()} == found
    with open(package / "blas.py", "a") as source:
        source.write("\n")
    found.add(cache.folder())
    assert len(found) == 2
    monkeypatch.setattr(np, "__version__", "2.0")
    found.add(cache.folder())
    monkeypatch.setattr(cache.numba, "__version__", "0.60")
    found.add(cache.folder())
    monkeypatch.setattr(cache.sys, "version_info", (3, 99, 0))
    found.add(cache.folder())
    assert len(found) == 5


@pytest.mark.parametrize("package", ["archive.zip/compiled", "unreadable"])
def test_sources_that_are_no_files_have_no_folder(folder, monkeypatch, tmp_path, package):
    (tmp_path / "unreadable" / "jit.py").mkdir(parents=True)
    monkeypatch.setattr(cache, "__file__", str(tmp_path / package / "cache.py"))
    assert cache.folder() is None


def test_functions_made_of_others_are_told_apart(folder):
    def made(inner, factor):
        def function(x, out):
            for k in range(x.size):
                out[k] = inner(x[k]) * factor

        return function

    @jit.inline
    def once(x):
        return x

    @jit.inline
    def twice(x):
        return 2 * x

    assert hits_and_misses(made(once, 2)) == hits_and_misses(made(twice, 1)) == (0, 1)
    assert hits_and_misses(made(once, 2)) == hits_and_misses(made(twice, 1)) == (1, 0)


def test_numbers_of_the_module_are_told_apart(folder, monkeypatch):
    """A number that a test sets for a while must not stay in the code of later processes."""
    x = np.arange(5, dtype=np.float32)
    for factor in (3, 2, 3):
        monkeypatch.setitem(scaled.__globals__, "FACTOR", factor)
        out = np.zeros_like(x)
        jit.compiled(scaled)(x, out)
        np.testing.assert_array_equal(out, factor * x)
    assert len(files(folder)) == 2


def test_code_with_addresses_of_this_process_is_not_kept(folder, monkeypatch):
    library = types.SimpleNamespace(has_dynamic_globals=True)
    codegen = types.SimpleNamespace(magic_tuple=tuple)
    cache.Cache(double).save_overload("signature", types.SimpleNamespace(library=library, codegen=codegen))
    assert not files(folder)


def test_several_threads_may_need_a_function_at_once(folder):
    fresh, errors = jit.compiled(double), []

    def call(dtype):
        try:
            check(fresh, dtype)
        except BaseException as error:
            errors.append(error)

    callers = [threading.Thread(target=call, args=(dtype,)) for dtype in ("f4", "f8", "f4", "f8")]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(60)
    assert not errors and len(fresh.signatures) == 2 and len(files(folder)) == 2


class _Interrupt(event.Listener):
    """Ctrl-C when the compiler does something for the n-th time."""

    def __init__(self, count):
        self.left = count

    def on_start(self, event):
        self.left -= 1
        if self.left == 0:
            signal.raise_signal(signal.SIGINT)

    def on_end(self, event):
        pass


# not inside llvmlite's lock: a callback that fails there holds it for ever
@pytest.mark.parametrize("kind, count", [("numba:compile", 1), ("numba:run_pass", 1), ("numba:run_pass", 15)])
def test_interrupted_compilation_is_begun_again(folder, kind, count):
    fresh = jit.compiled(double)
    with event.install_listener(kind, _Interrupt(count)), pytest.raises(KeyboardInterrupt):
        check(fresh)
    check(fresh)
    check(fresh, np.float64)
    assert hits_and_misses() == (1, 0)


def test_interrupt_while_a_file_is_written_leaves_none(folder, monkeypatch):
    write = Path.write_bytes

    def interrupted(path, content):
        write(path, content[:100])
        raise KeyboardInterrupt

    fresh = jit.compiled(double)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Path, "write_bytes", interrupted)
        check(fresh)
    assert not files(folder)
    check(fresh)
    assert hits_and_misses() == (0, 1)


PROCESSES = """
import os, sys, threading, time
import numpy as np
from numba.core import event
from tests.backends.numba.test_cache import check, double, hits_and_misses
from xpdl.backends.numba import jit

class Compiles(event.Listener):
    def on_start(self, event): begun.set()
    def on_end(self, event): pass

begun, ended = threading.Event(), []
fresh = jit.compiled(double)
other = threading.Thread(target=check, args=(fresh, np.int32))
with event.install_listener("numba:compile", Compiles()):
    other.start()
    begun.wait(60)
# the lock of the compiler is held by another thread now
children = []
for k in range(4):
    child = os.fork()
    if child == 0:
        check(fresh, "f4" if k % 2 else "f8")
        os._exit(sum(hits_and_misses(dtype=dtype) == (1, 0) for dtype in ("f4" if k % 2 else "f8",)))
    children.append(child)
other.join(60)
codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
print(codes, hits_and_misses(dtype="f4"), hits_and_misses(dtype="f8"), hits_and_misses(dtype="i4"))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_processes_compile_at_once_and_a_fork_waits_for_a_compilation(folder):
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PROCESSES], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == "[1, 1, 1, 1] (1, 0) (1, 0) (1, 0)\n"
    assert len(files(folder)) == 3


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def begun(monkeypatch):
    """A process that has announced nothing yet."""
    monkeypatch.setattr(cache, "announce", functools.cache(cache.announce.__wrapped__))


def test_first_compilation_is_announced_once_on_a_terminal(folder, begun, monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    assert hits_and_misses() == hits_and_misses(dtype=np.int64) == (0, 1)
    found = f"later processes find them in {cache.folder()}"
    assert sys.stderr.getvalue() == f"xpdl: compiling kernels, which takes seconds; {found}\n"


def test_announcement_without_a_folder_names_the_cure(begun, monkeypatch):
    monkeypatch.setattr(cache, "folder", lambda: None)
    monkeypatch.setattr(sys, "stderr", Terminal())
    assert hits_and_misses() == (0, 1)
    assert sys.stderr.getvalue().endswith("every process does, unless XPDL_CACHE names a folder to write to\n")


def test_a_process_that_finds_compiled_code_announces_nothing(folder, begun, monkeypatch):
    (cache.folder() / "another").mkdir(parents=True)
    monkeypatch.setattr(sys, "stderr", Terminal())
    assert hits_and_misses() == (0, 1)
    assert sys.stderr.getvalue() == ""


def closed_terminal():
    stream = Terminal()
    stream.close()
    return stream


@pytest.mark.parametrize("stream", [io.StringIO(), None, closed_terminal()], ids=["file", "none", "closed"])
def test_nothing_is_announced_where_no_terminal_is(folder, begun, monkeypatch, stream):
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", stream)
        assert hits_and_misses() == (0, 1)
    assert not isinstance(stream, io.StringIO) or stream.closed or stream.getvalue() == ""
