"""Searches on executors of the caller: those of one process, also where a worker is lost."""

import concurrent.futures
import contextlib
import importlib
import multiprocessing
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.search import builds
from tests.search.searches import halve, same, search
from xpdl import uniform, use

pytestmark = pytest.mark.exhaustive

PARABOLA = {"space": {"x": uniform(0, 10)}, "n_trials": 5}
ROOT = Path(__file__).parents[2]


def pool(workers=2, **options):
    return concurrent.futures.ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), **options)


def test_on_a_pool_of_processes_as_on_one():
    with use("numpy", dtype="float64"), pool() as executor:
        same(search(executor=executor), search())
        same(search(builds.backend, executor=executor, **PARABOLA), search(builds.backend, **PARABOLA))
        same(halve(executor=executor, n_trials=4, max_epochs=3), halve(n_trials=4, max_epochs=3))


def test_a_trial_of_a_lost_worker_is_made_again(tmp_path, monkeypatch):
    monkeypatch.setenv("SEARCH_COUNT", str(tmp_path / "killed"))
    with pool(1) as executor:
        found = search(builds.killed_once, executor=executor, log=tmp_path / "log", **PARABOLA)
    assert (tmp_path / "killed").exists()
    same(found, search(builds.parabola, **PARABOLA))
    assert len((tmp_path / "log").read_text().splitlines()) == 1 + PARABOLA["n_trials"]


@pytest.mark.exhaustive
def test_a_trial_that_ends_every_worker_ends_the_search(tmp_path, monkeypatch):
    monkeypatch.setenv("SEARCH_COUNT", str(tmp_path / "killed"))
    with pool(1) as executor, pytest.raises(concurrent.futures.BrokenExecutor) as said:
        search(builds.killed_always, executor=executor, **{**PARABOLA, "n_trials": 1})
    assert said.value.__notes__ == ["search: workers were lost over one trial 3 times"]
    assert (tmp_path / "killed").read_text() == "..."


def test_an_error_of_a_trial_is_raised_and_not_tried_again():
    with pool(1) as executor, pytest.raises(KeyError, match="no such thing"):
        search(builds.broken, executor=executor, **PARABOLA)


def test_processes_beside_an_executor_are_refused():
    with pool(1) as executor, pytest.raises(ValueError, match="random_search: processes=2 and an executor"):
        search(builds.parabola, executor=executor, processes=2, **PARABOLA)


def test_functions_that_a_pool_cannot_import_are_refused():
    with pool(1) as executor, pytest.raises(TypeError, match="cannot be sent to another process"):
        search(lambda x: x, executor=executor, **PARABOLA)


@pytest.mark.exhaustive
@pytest.mark.needs("loky")
def test_on_loky(tmp_path, monkeypatch):
    monkeypatch.setenv("SEARCH_COUNT", str(tmp_path / "killed"))
    executor = importlib.import_module("loky").get_reusable_executor(2)
    try:
        same(search(builds.killed_once, executor=executor, **PARABOLA), search(builds.parabola, **PARABOLA))
        same(search(lambda x: x * 2.0, executor=executor, **PARABOLA), search(lambda x: x * 2.0, **PARABOLA))
    finally:
        importlib.import_module("loky").get_reusable_executor().shutdown(kill_workers=True)


SCRIPT = """
{imports}
from tests.search import builds
from tests.search.searches import same, search
from xpdl import uniform

if __name__ == "__main__":
    options = {{"space": {{"x": uniform(0, 10)}}, "n_trials": 5}}
    with {executor} as executor:
        same(search(builds.parabola, executor=executor, **options), search(builds.parabola, **options))
        same(search(executor=executor), search())
    print("the same")
"""


def says_the_same(folder, command, imports, executor):
    (folder / "script.py").write_text(SCRIPT.format(imports=imports, executor=executor))
    command = [*command, str(folder / "script.py")]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout) == (0, "the same\n"), done.stderr


@pytest.mark.exhaustive
@pytest.mark.needs("distributed")
def test_on_dask(tmp_path):
    cluster = "LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None)"
    imports = "from dask.distributed import Client, LocalCluster"
    says_the_same(tmp_path, [sys.executable], imports, f"{cluster} as c, Client(c) as client, client.get_executor()")


@pytest.mark.exhaustive
@pytest.mark.needs("mpi4py")
def test_on_mpi(tmp_path):
    command = [Path(sys.executable).with_name("mpiexec"), "-n", "3", sys.executable, "-m", "mpi4py.futures"]
    says_the_same(tmp_path, command, "from mpi4py.futures import MPIPoolExecutor", "MPIPoolExecutor()")


@pytest.mark.parametrize("own", [True, False], ids=["processes", "executor"])
@pytest.mark.parametrize(
    ("build", "message"),
    [
        (builds.error_of_two, "ErrorOfTwo: boom 7"),
        (builds.error_with_a_function, "ErrorWithAFunction: with a function"),
    ],
)
def test_error_that_pickle_cannot_bring_back_is_told(build, message, own):
    with contextlib.nullcontext() if own else pool() as executor:
        options = {"processes": 2} if own else {"executor": executor}
        with pytest.raises(RuntimeError, match=message) as error:
            search(build, **options, **PARABOLA)
    notes = "".join(error.value.__notes__)
    assert f"in {build.__name__}" in notes and re.search(r"in trial \d of the search, with \{'x':", notes)
