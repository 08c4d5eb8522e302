"""``pytest -p hostcuda.checks``: launches of xpdl's kernels are checked, and reads on the host under a backend's rules."""

import functools

import numpy as np
import pytest

from tests.hostcuda.child import ROOT, on_host, run

pytestmark = pytest.mark.needs("cupy")

READS = """
import pytest
pytestmark = pytest.mark.backends("cupy")

@pytest.mark.parametrize("read", [float, bool, lambda a: a.get()])
def test_inside(backend, read):
    backend.call(lambda a: a + 1, backend.asarray(1.0))
    backend.call(read, backend.asarray(1.0))

def test_outside(backend):
    assert float(backend.asarray(1.0)) == 1

def test_allocation(backend):
    a = backend.asarray([1.0] * 100)
    assert a.data.mem.size == {size}
"""


@functools.cache
def configure():
    from hostcuda import checks

    checks.pytest_configure(None)


def elementwise(*args, name="relu"):
    """Launch one of xpdl's kernels under the plugin's check."""
    from xpdl.backends.cupy import launch

    configure()
    launch.launch_elementwise("elementwise", name, "float32", 4, *args)


WRONG = {
    "dtype": (lambda cp: (cp.ones(4), cp.ones(4)), "float64 where \\*float32 is expected"),
    "number": (lambda cp: (cp.ones(4, "f"),), "takes .* got 2 arguments"),
    "not contiguous": (lambda cp: (cp.ones(8, "f")[::2], cp.ones(4, "f")), "not C-contiguous"),
    "address": (lambda cp: (cp.ones(4, "f").data.ptr, cp.ones(4, "f")), "for a pointer"),
    "array for a number": (lambda cp: (cp.ones(4, "f"), cp.ones(4, "f"), cp.ones(4, "f")), "takes .* got 4 arguments"),
}


@pytest.mark.parametrize("what", WRONG)
@on_host()
def test_wrong_arguments_are_noticed(what):
    import cupy

    arguments, message = WRONG[what]
    with pytest.raises(AssertionError, match=message):
        elementwise(*arguments(cupy))


@on_host()
def test_right_arguments_pass():
    import cupy as cp

    x, y = cp.asarray([-1.0, 2, -3, 4], "f"), cp.empty(4, "f")
    elementwise(x, y)
    np.testing.assert_array_equal(y.get(), [0, 2, 0, 4])


@on_host()
def test_arguments_in_another_order_are_noticed():
    import cupy as cp

    x = cp.ones(4, "f")
    with pytest.raises(AssertionError, match="is expected"):
        elementwise(x, x, x > 0, 1.0, name="dropout")
    elementwise(x, x > 0, cp.empty(4, "f"), 1.0, name="dropout")


@on_host()
def test_a_structure_of_another_size_is_noticed():
    from hostcuda import checks

    checks.check("f", ["struct16"], (np.zeros(1, "V16"),))
    with pytest.raises(AssertionError, match="8 bytes for struct16"):
        checks.check("f", ["struct16"], (np.zeros(1, "V8"),))
    with pytest.raises(AssertionError, match="for a structure"):
        checks.check("f", ["struct16"], (np.zeros(2, "V16"),))


@on_host(HOSTCUDA_DEVICES="2")
def test_an_array_of_another_device_is_noticed():
    import cupy as cp

    x = cp.ones(4, "f")
    with cp.cuda.Device(1), pytest.raises(AssertionError, match="an array of another device"):
        elementwise(x, x)


def session(tmp_path, size, **settings):
    """Run the tests of READS as a file of the suite, and return pytest's summary."""
    (tmp_path / "test_reads.py").write_text(READS.format(size=size))
    command = [
        "-m",
        "pytest",
        "-p",
        "hostcuda.checks",
        "-p",
        "no:cacheprovider",
        "-rA",
        "-c",
        str(ROOT / "pyproject.toml"),
    ]
    settings |= {"XPDL_BACKENDS": "cupy", "PYTEST_ADDOPTS": f"--rootdir={ROOT} --confcutdir={ROOT} -p tests.conftest"}
    return run(*command, str(tmp_path), **settings).stdout


def test_reads_under_the_rules_of_a_backend_are_errors(tmp_path):
    found = session(tmp_path, 1024)
    assert found.count("a value was read on the host") >= 3 and "3 failed, 2 passed" in found, found


def test_arrays_come_from_no_pool_with_guard_pages(tmp_path):
    found = session(tmp_path, 800, HOSTCUDA_GUARD="1")
    assert "3 failed, 2 passed" in found, found
