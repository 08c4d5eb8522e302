"""The namespace of CuPy: nothing is read on the host, and results have the dtype of what came."""

import numpy as np
import pytest

from xpdl.backends.namespaces import array_namespace

pytestmark = pytest.mark.backends("cupy")

DTYPES = ["float16", "bfloat16", "float32", "float64"]
VALUES = np.array([[-3.0, -1.0, np.nan], [0.5, 2.0, np.inf]])
INTEGERS = np.array([[-100, -1, 0], [1, 100, 127]])


def floating(backend, dtype):
    xp = backend.xp
    return xp.asarray(VALUES.tolist(), dtype=getattr(xp, dtype), device=backend.device)


def values(backend, a):
    return backend.to_numpy(a).astype("float64")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("bounds", [(-1.0, 1.0), (None, 1.0), (-1, None), (None, None)], ids=str)
def test_clip_reads_nothing_and_keeps_the_dtype(backend, dtype, bounds):
    x = floating(backend, dtype)
    clipped = backend.call(backend.xp.clip, x, min=bounds[0], max=bounds[1])
    assert clipped.dtype == x.dtype
    low, high = (-np.inf if bounds[0] is None else bounds[0]), (np.inf if bounds[1] is None else bounds[1])
    np.testing.assert_array_equal(values(backend, clipped), np.minimum(np.maximum(VALUES, low), high))
    assert clipped is not x
    np.testing.assert_array_equal(values(backend, x), VALUES)


def test_clip_takes_arrays(backend):
    x = backend.asarray(VALUES)
    low, high = backend.asarray([[-1.0], [0.0]]), backend.asarray([1.0, 1.0, 2.0])
    backend.check(backend.call(backend.xp.clip, x, low, high), np.clip(VALUES, [[-1.0], [0.0]], [1.0, 1.0, 2.0]))


@pytest.mark.parametrize("bounds", [(-1, 100), (-1000, 5), (-1, 1000), (-(10**30), 10**30)], ids=str)
def test_clip_of_integers_takes_bounds_beyond_the_dtype(backend, bounds):
    x = backend.asarray(INTEGERS.astype("int8"))
    low, high = max(bounds[0], -128), min(bounds[1], 127)
    backend.check(backend.call(backend.xp.clip, x, *bounds), np.clip(INTEGERS, low, high).astype("int8"))


@pytest.mark.parametrize("dtype", DTYPES)
def test_sign_propagates_nan(backend, dtype):
    x = floating(backend, dtype)
    sign = backend.call(backend.xp.sign, x)
    assert sign.dtype == x.dtype
    np.testing.assert_array_equal(values(backend, sign), np.sign(VALUES))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["add", "divide", "maximum", "minimum", "multiply", "pow", "subtract"])
def test_a_number_leaves_the_dtype_alone(backend, dtype, name):
    x = floating(backend, dtype)
    of_numpy = {"pow": "power"}.get(name, name)
    for arguments in ((x, 0.5), (0.5, x), (x, 2), (x, x)):
        with np.errstate(all="ignore"):
            result = backend.call(getattr(backend.xp, name), *arguments)
            want = getattr(np, of_numpy)(*(VALUES if a is x else a for a in arguments))
        assert result.dtype == x.dtype
        rtol = {"float16": 2e-3, "bfloat16": 1e-2}.get(dtype, 1e-6)
        np.testing.assert_allclose(values(backend, result), want, rtol=rtol)


def test_two_floating_dtypes_give_the_wider_one(backend):
    x, y = floating(backend, "bfloat16"), floating(backend, "float32")
    for a, b in ((x, y), (y, x)):
        assert backend.xp.add(a, b).dtype == y.dtype
        assert backend.xp.where(backend.xp.isfinite(a), a, b).dtype == y.dtype


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("other", [0.0, "like"])
def test_where_keeps_the_dtype(backend, dtype, other):
    x = floating(backend, dtype)
    positive = backend.xp.greater(x, 0.0)
    chosen = backend.call(backend.xp.where, positive, x, backend.xp.zeros_like(x) if other == "like" else other)
    assert chosen.dtype == x.dtype
    np.testing.assert_array_equal(values(backend, chosen), np.where(VALUES > 0.0, VALUES, 0.0))


@pytest.mark.parametrize("dtype", DTYPES)
def test_questions_about_dtypes(backend, dtype):
    xp = backend.xp
    kind = floating(backend, dtype).dtype
    assert xp.isdtype(kind, "real floating")
    assert xp.isdtype(kind, "numeric")
    assert xp.isdtype(kind, ("integral", "real floating"))
    assert xp.isdtype(kind, kind)
    assert not xp.isdtype(kind, ("bool", "integral", "complex floating", xp.int8))
    bits, eps = {"float16": (16, 2**-10), "bfloat16": (16, 2**-7), "float32": (32, 2**-23), "float64": (64, 2**-52)}[
        dtype
    ]
    for info in (xp.finfo(kind), xp.finfo(floating(backend, dtype))):
        assert (info.bits, float(info.eps)) == (bits, eps)


def test_it_is_one_object_with_all_that_cupy_has(backend):
    x = backend.asarray(VALUES)
    assert array_namespace(x) is array_namespace(x, x) is backend.xp
    assert {"zeros", "clip", "astype"} <= set(dir(backend.xp))
    with pytest.raises(AttributeError):
        backend.xp.no_such_function  # noqa: B018
