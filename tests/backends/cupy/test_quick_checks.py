"""Checks of CuPy's arrays: quick where all is well, and as strict as those of other libraries."""

import numpy as np
import pytest

from xpdl.backends import namespaces
from xpdl.errors import MixedArraysError
from xpdl.optimizers import Adam

pytestmark = pytest.mark.backends("cupy")


@pytest.fixture
def elsewhere(backend):
    """An array on another device."""
    cupy = pytest.importorskip("cupy")
    if cupy.cuda.runtime.getDeviceCount() < 2:
        pytest.skip("needs two devices; on the host, HOSTCUDA_DEVICES=2")
    with cupy.cuda.Device(1 - backend.device.id):
        return cupy.ones((2, 3), np.float32)


def test_what_is_known_of_a_type_is_not_asked_again(backend, monkeypatch):
    """array-api-compat takes 7 us for a namespace, of which a step asks a hundred times."""
    x = backend.asarray(np.ones((2, 3), np.float32))
    assert namespaces.array_namespace(x) is backend.xp
    for name in ("array_namespace", "device", "is_array_api_obj", "is_numpy_array", "is_writeable_array"):
        monkeypatch.setattr(namespaces.array_api_compat, name, None)
    assert namespaces.array_namespace(x, None, x, owner="Affine1") is backend.xp
    assert namespaces.is_array(x) and namespaces.is_floating(x) and namespaces.is_writable(x)
    assert not namespaces.is_host(x) and not namespaces.is_half(x)
    assert namespaces.device(x) == backend.device and namespaces.same_device(x, x)
    params, grads = {"W": x}, {"W": backend.asarray(np.ones((2, 3), np.float32))}
    namespaces_asked = []
    monkeypatch.setattr("xpdl.optimizers.checks.array_namespace", lambda *a, **k: namespaces_asked.append(a))
    Adam().update(params, grads)
    assert not namespaces_asked


@pytest.mark.parametrize("other", [np.ones(3, np.float32), [1.0, 2.0], "text"], ids=["numpy", "list", "text"])
def test_what_is_no_array_of_the_library_is_refused(backend, other):
    x = backend.asarray(np.ones(3, np.float32))
    assert namespaces.array_namespace(x) is backend.xp
    assert not namespaces.floats_alike(x, other)
    for pair in ((x, other), (other, x)):
        with pytest.raises(TypeError, match=r"conv1: (arrays of cupy and numpy are mixed|expected arrays, got)"):
            namespaces.array_namespace(*pair, owner="conv1")


@pytest.mark.parametrize(
    "other",
    [np.ones((2, 3), np.float64), np.ones((3, 2), np.float32), np.ones((2, 3), np.int32)],
    ids=["dtype", "shape", "int"],
)
def test_alike_are_arrays_of_one_dtype_and_shape(backend, other):
    x, other = backend.asarray(np.ones((2, 3), np.float32)), backend.asarray(other)
    assert namespaces.array_namespace(x) is backend.xp
    assert namespaces.floats_alike(x, x, x) and not namespaces.floats_alike(x, other)
    assert not namespaces.floats_alike(x, None) and not namespaces.floats_alike(backend.asarray(np.arange(3)))


def test_another_device_is_refused(backend, elsewhere):
    x = backend.asarray(np.ones((2, 3), np.float32))
    assert namespaces.array_namespace(x) is namespaces.array_namespace(elsewhere)
    assert not namespaces.floats_alike(x, elsewhere) and not namespaces.same_device(x, elsewhere)
    with pytest.raises(MixedArraysError, match="devices"):
        namespaces.array_namespace(x, elsewhere)


@pytest.mark.parametrize("what", ["gradient", "parameter with its gradient"])
def test_an_optimizer_refuses_another_device_and_changes_nothing(backend, elsewhere, what):
    x = backend.asarray(np.ones((2, 3), np.float32))
    another, third = (backend.xp.asarray(x, copy=True) for _ in range(2))
    params = {"W": x, "b": another if what == "gradient" else elsewhere}
    grads = {"W": third, "b": elsewhere}
    optimizer = Adam()
    with pytest.raises(MixedArraysError, match=r"Adam: parameter 'b'.*devices"):
        optimizer.update(params, grads)
    assert optimizer.iter == 0
    np.testing.assert_array_equal(backend.to_numpy(x), 1.0)
