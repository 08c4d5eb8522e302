"""Loading of compiled kernels: the switches, what is missing, and that all goes on without."""

import importlib
import os
import subprocess
import sys
import textwrap

import numpy as np
import pytest

from tests.backends.watched import own_kernels
from xpdl import SGD
from xpdl.backends import dispatch, registry
from xpdl.backends.cpu.tuning import TUNING
from xpdl.backends.namespaces import array_namespace
from xpdl.backends.numba import BlasError, kernels, loading
from xpdl.ops import activations, convolution, pooling

pytestmark = pytest.mark.exhaustive


@pytest.fixture(autouse=True)
def asked_anew(monkeypatch):
    """Forget afterwards what these tests found out."""
    monkeypatch.delenv("XPDL_COMPILED", raising=False)
    monkeypatch.setattr(loading, "problem", loading.problem.__wrapped__)
    monkeypatch.setattr(loading, "load", loading.load.__wrapped__)


def test_environment_switches_it_off(monkeypatch):
    monkeypatch.setenv("XPDL_COMPILED", "0")
    assert loading.problem() == "switched off by XPDL_COMPILED=0"
    assert loading.state() == "NumPy's functions; switched off by XPDL_COMPILED=0"
    assert loading.load("xpdl.backends.numba.jit") is None


def test_what_is_neither_on_nor_off_is_refused(monkeypatch):
    monkeypatch.setenv("XPDL_COMPILED", "false")
    with pytest.raises(ValueError, match="XPDL_COMPILED must be 0 or 1, got 'false'"):
        loading.problem()


def test_without_numba_the_cure_is_named(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert loading.problem() == 'Numba is not installed; pip install "xpdl[compiled]"'
    assert loading.load("xpdl.backends.numba.jit") is None


@pytest.mark.needs("numba")
def test_numba_that_does_not_compile_is_left_alone(monkeypatch):
    import numba

    assert loading.problem() is None
    monkeypatch.setattr(numba.config, "DISABLE_JIT", 1)
    assert loading.problem() == "switched off by NUMBA_DISABLE_JIT=1"


@pytest.mark.needs("numba")
def test_state_names_the_compiler_the_folder_and_what_is_not_compiled(monkeypatch, tmp_path):
    import numba

    from xpdl.backends.numba import cache

    monkeypatch.setattr(cache, "folder", cache.folder.__wrapped__)
    monkeypatch.setenv("XPDL_CACHE", str(tmp_path))
    by = f"compiled by Numba {numba.__version__}, "
    assert loading.state() == f"{by}kept in {cache.folder()}"
    assert cache.folder().is_relative_to(tmp_path)
    (tmp_path / "compiled").touch()
    assert loading.state() == f"{by}not kept, as {cache.folder()} cannot be written to"
    monkeypatch.setattr(cache, "folder", lambda: None)
    monkeypatch.setattr(loading, "load", lambda name: None)
    assert loading.state().startswith(f"{by}not kept, as a cache folder cannot be written to; those with products of ")


@pytest.mark.needs("numba")
def test_modules_with_products_alone_need_a_blas_that_can_be_called(monkeypatch):
    def load(name):
        if name.endswith("blas"):
            raise BlasError("none")
        return name

    monkeypatch.setattr(loading, "problem", lambda: None)
    monkeypatch.setattr(importlib, "import_module", load)
    assert loading.load("xpdl.backends.numba.blas") is None
    assert loading.load("xpdl.backends.numba.pooling") == "xpdl.backends.numba.pooling"


@pytest.mark.needs("numba")
def test_mistake_in_a_kernel_is_not_taken_for_a_missing_library(monkeypatch):
    with pytest.raises(ModuleNotFoundError, match="no_such_kernel"):
        loading.load("xpdl.backends.numba.no_such_kernel")


@pytest.mark.parametrize(
    "broken, reason",
    [
        ("raise ImportError('Numba needs NumPy 2.3 or less. Got NumPy 2.9.')", "ImportError: Numba needs NumPy 2.3"),
        ("raise SystemError('initialization of _internal failed')", "SystemError: initialization of _internal failed"),
        ("", "ModuleNotFoundError: No module named 'numba.core'"),
    ],
)
def test_numba_that_refuses_is_warned_of_once_and_done_without(tmp_path, broken, reason):
    (tmp_path / "numba").mkdir()
    (tmp_path / "numba" / "__init__.py").write_text(broken)
    program = f"""
        import sys, warnings
        sys.path.insert(0, {str(tmp_path)!r})
        import numpy as np
        from xpdl.backends.numba import loading
        from xpdl.ops import pooling
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            for _ in range(3):
                y = pooling.max_pooling(np.arange(16.0).reshape(1, 1, 4, 4), (2, 2), (2, 2))
                assert loading.load("xpdl.backends.numba.jit") is None
        assert y.ravel().tolist() == [5, 7, 13, 15]
        print(*(f"{{warning.category.__name__}} {{warning.message}}" for warning in said), sep="\\n")
    """
    program = [sys.executable, "-c", textwrap.dedent(program)]
    (warned,) = subprocess.run(program, capture_output=True, text=True, check=True).stdout.splitlines()
    assert warned.startswith(f"RuntimeWarning kernels are not compiled, NumPy alone is slower: {reason}")


@pytest.mark.needs("numba")
def test_small_nets_do_not_load_numba_and_larger_ones_say_that_they_did():
    code = textwrap.dedent(
        """
        import sys, numpy, xpdl
        from xpdl.backends.numba import loading
        for size in (40_000, 400_000):
            xpdl.Adam().update({"W": numpy.ones(size)}, {"W": numpy.ones(size)})
            print("numba" in sys.modules, loading.in_use())
        """
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    small, large = done.stdout.splitlines()
    assert small == "False NumPy's functions"
    import numba

    assert large == f"True compiled by Numba {numba.__version__}"


@pytest.mark.parametrize(
    "before, environment",
    [("", {"XPDL_COMPILED": "0"}), ("sys.modules['numba'] = None", {})],
    ids=["switched off", "not installed"],
)
def test_kernels_of_numba_are_left_out_and_numba_is_not_loaded(before, environment):
    code = f"""
        import sys
        {before}
        import numpy as np
        from xpdl.backends import registry
        from xpdl.ops import pooling
        y = pooling.max_pooling(np.arange(16.0).reshape(1, 1, 4, 4), (2, 2), (2, 2))
        print(y.ravel().tolist(), {{group for group, _ in registry.overridden()}}, bool(sys.modules.get("numba")))
    """
    command = [sys.executable, "-c", textwrap.dedent(code)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ | environment)
    assert done.stdout == "[5.0, 7.0, 13.0, 15.0] {'numpy'} False\n"


def test_what_is_neither_on_nor_off_is_refused_by_every_op():
    code = """
        import numpy as np
        from xpdl.ops import activations
        for _ in range(2):
            try:
                activations.relu(np.ones(3))
            except ValueError as error:
                print(error)
    """
    command = [sys.executable, "-c", textwrap.dedent(code)]
    environment = os.environ | {"XPDL_COMPILED": "yes"}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert done.stdout == "XPDL_COMPILED must be 0 or 1, got 'yes'\n" * 2


@pytest.fixture
def placeholder():
    """A function that puts the kernel that loads an op's in its place."""

    def put(op):
        registry.kernel("numba", op)(kernels._placeholder(op, *loading.KERNELS[op]))

    dispatch.kernels_for(array_namespace(np.empty(0)))
    with own_kernels():
        yield put


@pytest.mark.needs("numba")
def test_first_call_puts_the_kernel_in_its_place(placeholder):
    # a module registers its kernels when it is first imported, and not again
    loaded = loading.load("xpdl.backends.numba.pooling").max_pooling
    placeholder("max_pooling")
    x = np.arange(16.0).reshape(1, 1, 4, 4)
    assert pooling.max_pooling(x, (2, 2), (2, 2)).ravel().tolist() == [5, 7, 13, 15]
    assert registry.kernels_of("numpy")["max_pooling"][0] is loaded


def test_kernel_that_cannot_be_compiled_is_withdrawn_and_numpys_answers(placeholder, monkeypatch):
    monkeypatch.setattr(loading, "load", lambda module: None)
    placeholder("convolution")
    y = convolution.convolution(np.ones((1, 1, 3, 3)), np.ones((1, 1, 2, 2)))
    assert y.ravel().tolist() == [4, 4, 4, 4]
    assert ("numba", "convolution") not in registry.overridden()
    assert ("numpy", "convolution") in registry.overridden()


def test_small_arrays_load_nothing(placeholder, monkeypatch):
    asked = []
    monkeypatch.setattr(loading, "load", asked.append)
    for op in ("relu_backward", "fused_update"):
        placeholder(op)
    for size in (TUNING.small_array - 1, TUNING.small_array):
        activations.relu_backward(dy=np.ones(size), y=np.ones(size))
        SGD().update({"W": np.ones(size)}, {"W": np.ones(size)})
    assert asked == ["xpdl.backends.numba.elementwise"]
