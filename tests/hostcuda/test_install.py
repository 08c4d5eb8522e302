"""Installation: off without CUPY_ON_HOST, on with it and in subprocesses, and one clear line where it cannot be."""

import re
import subprocess
import sys
import tomllib

import pytest

from tests.hostcuda.child import FOLDER, environment, run

pytestmark = pytest.mark.exhaustive

ANSWER = (
    "import cupy; print(int((cupy.arange(5) * 2).sum()), cupy.cuda.runtime.getDeviceProperties(0)['name'].decode())"
)


@pytest.mark.needs("cupy")
def test_cupy_computes():
    done = run("-c", ANSWER)
    assert done.stdout == "20 host (CuPy without a GPU)\n", done.stderr


@pytest.mark.needs("cupy")
def test_cupy_computes_in_processes_of_a_process():
    done = run("-c", f"import subprocess, sys; subprocess.run([sys.executable, '-c', {ANSWER!r}], check=True)")
    assert done.stdout == "20 host (CuPy without a GPU)\n", done.stderr


@pytest.mark.needs("cupy")
@pytest.mark.parametrize("value", ["", "0"])
def test_nothing_happens_without_the_variable(value):
    done = run("-c", "import sys; import hostcuda.hook; print('hostcuda.core' in sys.modules, len(sys.meta_path))")
    on = done.stdout.split()
    done = run(
        "-c",
        "import sys; import hostcuda.hook; print('hostcuda.core' in sys.modules, len(sys.meta_path))",
        CUPY_ON_HOST=value,
    )
    off = done.stdout.split()
    assert on[0] == off[0] == "False" and int(on[1]) == int(off[1]) + 1


@pytest.mark.needs("cupy")
def test_importing_hostcuda_imports_no_cupy():
    done = run(
        "-c", "import sys, hostcuda.hook; print('cupy' in sys.modules, 'numpy' in sys.modules)", CUPY_ON_HOST="0"
    )
    assert done.stdout == "False False\n", done.stderr


@pytest.mark.needs("cupy")
@pytest.mark.parametrize(
    "change, message",
    [
        ("sys.platform = 'darwin'", "hostcuda runs on x86-64 Linux only, this is x86_64 darwin"),
        ("platform.machine = lambda: 'aarch64'", "hostcuda runs on x86-64 Linux only, this is aarch64 linux"),
        ("shutil.which = lambda name: None", "there is no g++; install it, or set CXX"),
        (
            "importlib.machinery.PathFinder.find_spec = lambda name: None",
            "needs cupy, which is not installed; pip install",
        ),
    ],
)
def test_import_of_cupy_says_in_one_line_why_it_cannot_be(change, message):
    program = f"import importlib.machinery, platform, shutil, sys, hostcuda.core\n{change}\nimport cupy"
    done = run("-c", program, CXX="g++")
    last = done.stderr.strip().splitlines()[-1]
    assert done.returncode == 1 and last.startswith("ImportError: hostcuda") and message in last, done.stderr


@pytest.mark.needs("cupy")
@pytest.mark.parametrize(
    "change, message",
    [
        (
            "known['rt_malloc'] = 'int (void)'",
            "runtime.malloc of this CuPy is intptr_t (size_t, int __pyx_skip_dispatch)",
        ),
        ("known['rt_notThere'] = 'int (void)'", "runtime of this CuPy lacks ['rt_notThere']"),
    ],
)
def test_another_cupy_is_an_error_that_names_the_signature(change, message, tmp_path):
    signatures = tmp_path / "signatures.txt"
    known = dict(line.split(": ", 1) for line in (FOLDER / "hostcuda" / "signatures.txt").read_text().splitlines())
    exec(change, {"known": known})
    signatures.write_text("".join(f"{name}: {signature}\n" for name, signature in known.items()))
    program = (
        f"import pathlib; from hostcuda import capi; capi._SIGNATURES = pathlib.Path({str(signatures)!r}); import cupy"
    )
    last = run("-c", program).stderr.strip().splitlines()[-1]
    assert message in last and "install the version of CuPy that its README names" in last


@pytest.mark.needs("cupy")
def test_settings_that_do_not_exist_are_errors():
    last = run("-c", "import cupy", HOSTCUDA_ORDER="sideways").stderr.strip().splitlines()[-1]
    assert "HOSTCUDA_ORDER is sideways; choose forward, reverse or random" in last


@pytest.mark.parametrize("value, prints", [("1", True), ("0", False)])
def test_launches_are_printed_on_demand(value, prints):
    done = run("-c", "import cupy; cupy.arange(3.0) + 1", HOSTCUDA_TRACE=value)
    assert (re.search(r"^cupy_add__\w+<1,1,1 x 3,1,1> ", done.stdout + done.stderr, re.MULTILINE) is not None) == prints


COUNT_COMPILATIONS = """
import subprocess, types, cupy
from hostcuda import nvrtc
commands = []
def run(command, **options):
    commands.append(command)
    return subprocess.run(command, **options)
nvrtc.subprocess = types.SimpleNamespace(run=run)
print(float((cupy.arange(3.0) + 1).sum()), sum("--version" not in command for command in commands))
"""


def test_compiled_kernels_and_headers_are_kept_on_disk(tmp_path):
    total, compilations = run("-c", COUNT_COMPILATIONS, CUPY_CACHE_DIR=str(tmp_path)).stdout.split()
    # two kernels at least, and the header
    assert total == "6.0" and int(compilations) >= 3
    assert run("-c", COUNT_COMPILATIONS, CUPY_CACHE_DIR=str(tmp_path)).stdout.split() == ["6.0", "0"]


def test_package_holds_the_hook_for_site_packages():
    project = tomllib.loads((FOLDER / "pyproject.toml").read_text())
    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert wheel["packages"] == ["hostcuda"] and wheel["force-include"] == {"hostcuda.pth": "hostcuda.pth"}
    assert (FOLDER / "hostcuda.pth").read_text() == "import hostcuda.hook\n"


@pytest.mark.needs("cupy")
def test_pytest_takes_the_checkout_where_it_is_not_installed(tmp_path):
    # as tests/conftest.py does it, in a process whose path lacks the folder
    program = (
        "import importlib.util, os, runpy, subprocess, sys\n"
        "find = importlib.util.find_spec\n"
        "importlib.util.find_spec = lambda name, *more: None if name == 'hostcuda' else find(name, *more)\n"
        f"runpy.run_path({str(FOLDER.parent / 'conftest.py')!r})['use_hostcuda']()\n"
        f"exec({ANSWER!r})\n"
        f"subprocess.run([sys.executable, '-c', {ANSWER!r}], check=True)\n"
    )
    env = environment() | {"PYTHONPATH": str(FOLDER.parents[1])}
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=300, check=False)
    assert done.stdout == "20 host (CuPy without a GPU)\n" * 2, done.stderr


def test_pytest_says_in_one_line_why_it_cannot_be():
    env = environment(CXX="no-such-compiler")
    command = [sys.executable, "-m", "pytest", "--collect-only", "tests/io/test_file_lock.py"]
    done = subprocess.run(command, env=env, cwd=FOLDER.parents[1], capture_output=True, text=True, check=False)
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    [line] = done.stderr.strip().splitlines()
    assert line.startswith("ERROR: CUPY_ON_HOST is set, and hostcuda"), line
