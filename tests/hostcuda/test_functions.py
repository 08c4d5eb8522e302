"""Array functions of the real CuPy on hostcuda agree with NumPy: values, shapes and dtypes, dtype by dtype."""

import numpy as np
import pytest

from tests.hostcuda.child import on_host

pytestmark = pytest.mark.needs("cupy")

FLOATS = ("float16", "float32", "float64")
INTEGERS = ("bool", "int8", "uint8", "int16", "int32", "int64", "uint64")
RTOL = {"float16": 1e-2, "float32": 1e-5, "float64": 1e-12, "complex64": 1e-5}

ROUNDING = ("abs", "sign", "floor", "ceil", "rint", "negative", "signbit", "isnan", "isinf", "isfinite")
EXPONENTIAL = (
    "exp",
    "exp2",
    "expm1",
    "log1p",
    "log2",
    "sqrt",
    "square",
    "reciprocal",
    "sin",
    "cos",
    "sinh",
    "tanh",
    "arctan",
)
ARITHMETIC = ("add", "subtract", "multiply", "divide", "floor_divide", "remainder", "power")
OF_TWO = ("maximum", "minimum", "fmax", "fmin", "arctan2", "hypot", "copysign")
REDUCTIONS = ["sum", "mean", "max", "min", "argmax", "argmin", "prod", "std", "var", "cumsum", "any", "all"]
OF_INTEGERS = ["add", "multiply", "maximum", "equal", "less", "bitwise_and", "bitwise_or", "bitwise_xor", "logical_and"]


def compare(name, function, *arrays):
    """Assert that a function of (namespace, arrays) gives the same on CuPy as on NumPy."""
    import cupy

    desired = function(np, *arrays)
    actual = function(cupy, *map(cupy.asarray, arrays))
    if not isinstance(desired, (tuple, list)):
        desired, actual = [desired], [actual]
    assert desired
    for want, got in zip(desired, actual, strict=True):
        check(name, got, want)


def check(name, got, want):
    import cupy

    want = np.asarray(want)
    assert isinstance(got, cupy.ndarray), name
    assert (got.shape, got.dtype) == (want.shape, want.dtype), f"{name}: {got.shape} {got.dtype}, {want.dtype}"
    if want.dtype.kind not in "fc":
        np.testing.assert_array_equal(got.get(), want, err_msg=name)
        return
    rtol = RTOL.get(want.dtype.name, 1e-12)
    wide = np.complex128 if want.dtype.kind == "c" else np.float64
    atol = rtol * np.abs(want.astype(wide)).max(initial=0)
    np.testing.assert_allclose(got.get().astype(wide), want.astype(wide), rtol, atol, err_msg=name)


def compare_fused(functions, *arrays):
    """As `compare` for each of the named elementwise functions; CuPy fuses them, so that one kernel is compiled."""
    import cupy

    fused = cupy.fuse(kernel_name="all_functions")(lambda *given: tuple(f(cupy, *given) for f in functions.values()))
    results = fused(*map(cupy.asarray, arrays))
    for (name, function), got in zip(functions.items(), results, strict=True):
        check(name, got, function(np, *arrays))


def assigned(xp, a):
    a = a.copy()
    a[0, 1:] = 7
    a[a > 1] = 0
    a[xp.asarray([1, 2]), 0] = 5
    return a


@pytest.mark.parametrize("dtype", FLOATS)
@on_host()
def test_elementwise_functions_of_floats(dtype):
    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal((3, 4, 5)).astype(dtype) for _ in range(2))
    compare_fused({name: lambda xp, x, name=name: getattr(xp, name)(x) for name in ROUNDING}, a)
    functions = {name: lambda xp, x, y, name=name: getattr(xp, name)(x) for name in EXPONENTIAL}
    functions |= {name: lambda xp, x, y, name=name: getattr(xp, name)(x + 1, y + 0.5) for name in ARITHMETIC + OF_TWO}
    functions["where"] = lambda xp, x, y: xp.where(x > y, x, y)
    compare_fused(functions, abs(a), abs(b))
    compare("not fused", lambda xp, x, y: (xp.exp(x), x - y, xp.maximum(x, y), x < y), a, b)
    compare("clip", lambda xp, x: xp.clip(x, -0.5, 0.5), a)


@pytest.mark.parametrize("dtype", FLOATS)
@on_host()
def test_reductions_of_floats(dtype):
    a = np.random.default_rng(1).standard_normal((3, 4, 5)).astype(dtype)
    for name in REDUCTIONS:
        for axis in (None, 0, 1, -1):
            compare(f"{name} {axis}", lambda xp, x, n=name, axis=axis: getattr(xp, n)(x, axis=axis), a)
    for name in ("sum", "mean", "max", "min"):
        compare(name, lambda xp, x, n=name: getattr(xp, n)(x, axis=(0, 2), keepdims=True), a)
    many = np.random.default_rng(2).standard_normal((300, 1000)).astype(dtype)
    compare("large", lambda xp, x: (x.max(), x.argmax(), x.min(0), x.argmin(1)), many)


@pytest.mark.parametrize("dtype", FLOATS)
@on_host()
def test_matrix_products(dtype):
    rng = np.random.default_rng(3)
    a, b = (rng.standard_normal((3, 4, 5)).astype(dtype) for _ in range(2))
    compare("stacks", lambda xp, x, y: x @ y.transpose(0, 2, 1), a, b)
    compare("matrices", lambda xp, x, y: x[0] @ y[1].T, a, b)
    compare("transposed", lambda xp, x, y: x[0].T @ y[1], a, b)
    compare("broadcast", lambda xp, x, y: x[:1] @ y.transpose(0, 2, 1), a, b)
    compare("vectors", lambda xp, x, y: xp.dot(x[0, 0], y[0, 0]), a, b)
    compare("matrix by vector", lambda xp, x, y: x[0] @ y[0, 0], a, b)
    compare("tensordot", lambda xp, x, y: xp.tensordot(x, y, axes=((0, 2), (0, 2))), a, b)
    compare("einsum", lambda xp, x, y: xp.einsum("ijk,ilk->jl", x, y), a, b)


@pytest.mark.parametrize("dtype", FLOATS)
@on_host()
def test_indexing_sorting_and_layout(dtype):
    rng = np.random.default_rng(4)
    a, b = (rng.standard_normal((3, 4, 5)).astype(dtype) for _ in range(2))
    compare("mask", lambda xp, x: x[x > 0], a)
    compare("nonzero", lambda xp, x: xp.nonzero(x > 0), a)
    compare("assignment", assigned, a)
    compare("integer arrays", lambda xp, x: x[xp.asarray([0, 2]), xp.asarray([1, 1])], a)
    compare("take", lambda xp, x: xp.take(x, xp.asarray([2, 0]), axis=0), a)
    along = np.argmax(a, axis=1, keepdims=True)
    compare("take_along_axis", lambda xp, x, i: xp.take_along_axis(x, i, axis=1), a, along)
    compare("sort", lambda xp, x: xp.sort(x, axis=1), a)
    compare("argsort", lambda xp, x: xp.argsort(x, axis=-1), a)
    compare("concatenate", lambda xp, x, y: xp.concatenate([x, y], axis=1), a, b)
    compare("stack", lambda xp, x, y: xp.stack([x, y], axis=1), a, b)
    compare("slices", lambda xp, x: x[::-1, 1:3, ::2] + 1, a)
    compare("reshape", lambda xp, x: x.transpose(2, 0, 1).reshape(5, -1), a)
    compare("pad", lambda xp, x: xp.pad(x, ((0, 0), (1, 2), (0, 1))), a)
    compare("broadcast_to", lambda xp, x: xp.broadcast_to(x[:, :1], (3, 4, 5)) * 2, a)
    compare("flip and roll", lambda xp, x: (xp.flip(x, 1), xp.roll(x, 1, 1), xp.tril(x)), a)


@pytest.mark.parametrize("dtype", INTEGERS)
@on_host()
def test_integers_and_booleans(dtype):
    rng = np.random.default_rng(5)
    most = 2 if dtype == "bool" else 9
    a, b = rng.integers(0, most, (4, 6)).astype(dtype), rng.integers(1, most, (4, 6)).astype(dtype)
    functions = {name: lambda xp, x, y, name=name: getattr(xp, name)(x, y) for name in (*OF_INTEGERS, "divide")}
    if dtype != "bool":
        shifts = {"<<": lambda xp, x, y: x << 1, ">>": lambda xp, x, y: x >> 1}
        functions |= shifts | {"//": lambda xp, x, y: x // y, "%": lambda xp, x, y: x % y, "~": lambda xp, x, y: ~x}
    compare_fused(functions, a, b)
    for name in ("sum", "max", "argmax", "any", "all", "prod", "cumsum", "mean"):
        compare(name, lambda xp, x, n=name: getattr(xp, n)(x), a)
    for name in ("sum", "max", "argmax"):
        compare(f"{name} of columns", lambda xp, x, n=name: getattr(xp, n)(x, axis=0), a)
    compare("matmul", lambda xp, x, y: x @ y.T, a, b)
    compare("sort and unique", lambda xp, x: (xp.sort(x), xp.unique(x)), a)
    if dtype != "bool":
        compare("not fused", lambda xp, x, y: (x + y, x**2), a, b)


@on_host()
def test_complex_numbers():
    rng = np.random.default_rng(6)
    a = (rng.standard_normal((3, 4)) + 1j * rng.standard_normal((3, 4))).astype("complex64")
    compare("complex", lambda xp, x: (x * x, abs(x), x.conj(), xp.exp(x), x.sum(), x @ x.T), a)


@on_host()
def test_bfloat16_rounds_to_nearest_even():
    import cupy
    import ml_dtypes

    a = np.random.default_rng(7).standard_normal(1000).astype("float32")
    rounded = cupy.asarray(a).astype(ml_dtypes.bfloat16)
    assert rounded.dtype == ml_dtypes.bfloat16
    np.testing.assert_array_equal(rounded.get(), a.astype(ml_dtypes.bfloat16))


@on_host()
def test_kernels_of_all_of_cupys_kinds():
    import cupy as cp

    x = cp.arange(1000, dtype="float32")
    np.testing.assert_array_equal(
        cp.ElementwiseKernel("T x", "T z", "z = x * x", "square")(x[:5]).get(), [0, 1, 4, 9, 16]
    )
    norm = cp.ReductionKernel("T x", "T y", "x * x", "a + b", "y = sqrt(a)", "0", "norm")(x)
    np.testing.assert_allclose(float(norm), np.linalg.norm(np.arange(1000.0)), rtol=1e-6)

    @cp.fuse
    def fused(a, b):
        return cp.tanh(a) * b + 1

    np.testing.assert_allclose(fused(x, x).get(), np.tanh(np.arange(1000.0)) * np.arange(1000) + 1, rtol=1e-6)
    source = r"""extern "C" __global__ void partial_sums(const float* a, float* out, int n) {
      __shared__ float s[128];
      int i = blockIdx.x * blockDim.x + threadIdx.x;
      s[threadIdx.x] = i < n ? a[i] : 0;
      __syncthreads();
      for (int h = 64; h; h /= 2) {
        if (threadIdx.x < h) s[threadIdx.x] += s[threadIdx.x + h];
        __syncthreads();
      }
      if (!threadIdx.x) out[blockIdx.x] = s[0];
    }"""
    out = cp.zeros(8, "float32")
    cp.RawKernel(source, "partial_sums")((8,), (128,), (x, out, np.int32(1000)))
    np.testing.assert_array_equal(out.get(), [sum(range(i, min(i + 128, 1000))) for i in range(0, 1000, 128)])
    source = (
        "template <class T> __global__ void swap(T* a) { a[threadIdx.x] = __shfl_xor_sync(~0u, a[threadIdx.x], 1); }"
    )
    module = cp.RawModule(code=source, name_expressions=["swap<float>", "swap<double>"])
    y = cp.arange(32.0)
    module.get_function("swap<double>")((1,), (32,), (y,))
    np.testing.assert_array_equal(y.get(), np.arange(32).reshape(-1, 2)[:, ::-1].ravel())


@on_host()
def test_tf32_products_are_rounded_to_ten_bits():
    import cupy as cp
    from cupy._core import _routines_linalg, set_compute_type

    # 1 + 2**-12 has 12 explicit bits of mantissa: exact in float32, 1 in TF32
    a = cp.full((4, 4), 1 + 2.0**-12, "float32")
    assert float((a @ a)[0, 0]) == pytest.approx(4 * (1 + 2.0**-12) ** 2, rel=1e-7)
    set_compute_type("float32", _routines_linalg.COMPUTE_TYPE_TF32)
    assert float((a @ a)[0, 0]) == 4


@on_host()
def test_numpy_refuses_its_arrays():
    import cupy as cp

    with pytest.raises(TypeError, match="Implicit conversion"):
        np.asarray(cp.arange(3))
