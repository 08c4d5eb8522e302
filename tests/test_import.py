"""Importing xpdl: loads what it requires and nothing else, asks nobody on the net, and stands a fork."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

import xpdl

ROOT = Path(__file__).parents[1]
REQUIRED = {"numpy", "array_api_compat", "safetensors", "tqdm", "threadpoolctl"}


def run(program, **environment):
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_loads_what_it_requires_and_nothing_else():
    before = run("import sys; print(*sys.modules)")
    after = run("import sys, xpdl, xpdl.cli; print(*sys.modules)")
    loaded = {name.split(".")[0] for name in set(after) - set(before)}
    others = {name for name in loaded if name not in sys.stdlib_module_names} - {"xpdl"}
    # an installation may have speedups or hooks of its own beside them, whose names begin with an underscore
    assert {name for name in others if not name.startswith("_")} <= REQUIRED | {"cython_runtime", "charset_normalizer"}
    assert others >= {"numpy", "array_api_compat", "safetensors"}


#: modules that take long to load, and packages of xpdl that not every script needs
NOT_AT_IMPORT = {
    *("array_api_compat.numpy", "numpy.f2py", "numpy.ma", "numpy.testing"),
    *("concurrent.futures", "email", "http.client", "importlib.metadata", "multiprocessing", "ssl", "statistics"),
    *("tarfile", "urllib.request", "zipfile", "threadpoolctl", "tqdm"),
    *("xpdl.data.download", "xpdl.plots", "xpdl.search", "xpdl.testing"),
}


@pytest.mark.exhaustive
def test_leaves_the_slow_modules_to_their_first_use():
    loaded = set(run("import sys, xpdl; print(*sys.modules)"))
    # before any import, a speedup of the installation may have loaded some
    assert not (NOT_AT_IMPORT & loaded) - set(run("import sys; print(*sys.modules)"))


@pytest.mark.parametrize("name", sorted(NOT_AT_IMPORT))
def test_slow_modules_exist(name):
    assert importlib.util.find_spec(name)


@pytest.mark.exhaustive
@pytest.mark.parametrize("package", ["xpdl", "xpdl.data"])
def test_star_gives_every_public_name_and_dir_lists_it(package):
    program = f"import {package} as package; listed = dir(package); from {package} import *; "
    program += "print(all(name in listed and name in globals() for name in package.__all__))"
    assert run(program) == ["True"]


WITHOUT_SKLEARN = "import sys; sys.modules['sklearn'] = None; import xpdl; "


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", ["XpdlClassifier", "XpdlRegressor"])
def test_estimators_say_what_to_install_where_scikit_learn_is_missing(name):
    message = 'XpdlClassifier and XpdlRegressor need scikit-learn: pip install "xpdl[scikit-learn]"'
    for statement in (f"xpdl.{name}", f"from xpdl import {name}"):
        printed = run(f"{WITHOUT_SKLEARN}\ntry: {statement}\nexcept ImportError as error: print(error)")
        assert printed == message.split()


@pytest.mark.exhaustive
def test_help_and_star_do_without_scikit_learn():
    listed = "print('XpdlClassifier' in dir(xpdl)); import inspect; print(len(inspect.getmembers(xpdl)) > 100)"
    assert run(f"{WITHOUT_SKLEARN} {listed}\nfrom xpdl import *") == ["False", "True"]


@pytest.mark.needs("sklearn")
def test_estimators_are_names_of_xpdl_and_load_scikit_learn_at_their_first_use():
    program = "import sys, xpdl; print('XpdlRegressor' in dir(xpdl), 'sklearn' in sys.modules); "
    program += "print(xpdl.XpdlClassifier.__name__, xpdl.XpdlRegressor.__name__, 'sklearn' in sys.modules)"
    assert run(program) == ["True", "False", "XpdlClassifier", "XpdlRegressor", "True"]


def test_missing_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'xpdl' has no attribute 'no_such_name'"):
        _ = xpdl.no_such_name


@pytest.mark.exhaustive
def test_uses_no_network_and_starts_no_process():
    program = (
        "import sys; seen = []\n"
        "wanted = ('socket.connect', 'socket.getaddrinfo', 'urllib.Request', 'subprocess.Popen', 'os.system', 'os.exec')\n"
        "sys.addaudithook(lambda event, args: seen.append(event) if event in wanted else None)\n"
        "import xpdl, xpdl.cli\n"
        "xpdl.load_mini_mnist(); xpdl.TwoLayerNet(4, 3, 2)\n"
        "print(*seen)"
    )
    assert run(program) == []


def test_warns_of_nothing_and_prints_nothing():
    assert run("import warnings; warnings.simplefilter('error'); import xpdl") == []


TRAINED_TWICE = """
import hashlib, os, sys, numpy as np, xpdl

def run():
    x, t = xpdl.moons(200, seed=0)
    layers = [xpdl.Affine(units=64), xpdl.Relu(), xpdl.Dropout(0.2), xpdl.Affine(units=2)]
    net = xpdl.Sequential(*layers, loss=xpdl.SoftmaxWithLoss, seed=0)
    xpdl.Trainer(net, x, t, x, t, epochs=2, optimizer="adam", verbose=False, seed=0).train()
    images = np.random.default_rng(0).standard_normal((64, 8, 28, 28)).astype("float32")
    y = xpdl.Sequential(xpdl.Convolution(filters=16, size=3, pad=1), seed=1).predict(images)
    return hashlib.sha256(net.params["Affine1.W"].tobytes() + y.tobytes()).hexdigest()

before = run() if sys.argv[1:] else None  # with threads that the child will not have
child = os.fork()
if child == 0:
    read = run()
    os.write(1, (read + "\\n").encode())
    os._exit(0)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
print(run())
"""


@pytest.mark.exhaustive
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.parametrize(
    "begin", ["", "import sys; sys.argv.append('before')\n"], ids=["after import", "after training"]
)
def test_child_of_a_fork_gets_the_same_results(begin):
    child, parent = run(
        "import warnings; warnings.simplefilter('ignore')\n" + begin + TRAINED_TWICE, XPDL_NUM_THREADS="2"
    )
    assert child == parent
