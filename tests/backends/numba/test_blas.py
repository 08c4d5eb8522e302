"""Products in compiled code: NumPy's values, in any shape and with gaps, by the right library under any of its names."""

import types
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("numba", reason="Numba is not installed")

import numba

from xpdl.backends.numba import BlasError, blas, jit

PACKAGES = Path(np.__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def in_code():
    """The functions of `blas`, compiled for matrices of any layout."""

    def product(a, b, out):
        blas.product(a, b, out)

    def add_product_of_lines(a, b, out):
        blas.add_product_of_lines(a, b, out)

    functions = types.SimpleNamespace(
        product=jit.compiled(product), add_product_of_lines=jit.compiled(add_product_of_lines)
    )
    for function in vars(functions).values():
        for dtype in numba.float32, numba.float64:
            function.compile((dtype[:, :],) * 3)
        function.disable_compile()
    return functions


def matrix(rng, shape, dtype, gaps):
    """With `gaps`, lines that are parts of longer ones, so that NumPy's own product would copy or ask for other strides."""
    whole = rng.normal(size=(shape[0], shape[1] + 3 * gaps)).astype(dtype)
    return whole[:, gaps : gaps + shape[1]]


@pytest.mark.parametrize("gaps", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    "m, n, k",
    [(1, 1, 1), (1, 5, 3), (5, 1, 3), (5, 3, 1), (7, 9, 8), (2, 3, 300), (65, 33, 17), (3, 4, 0), (0, 4, 3), (4, 0, 3)],
)
def test_equals_numpy(m, n, k, dtype, gaps, in_code):
    rng = np.random.default_rng(m + 10 * n + 100 * k)
    a, b, lines, before = (matrix(rng, shape, dtype, gaps) for shape in ((m, k), (k, n), (n, k), (m, n)))
    tolerance = {"rtol": 10 * np.finfo(dtype).eps * max(k, 1), "atol": 10 * np.finfo(dtype).eps * max(k, 1)}
    out = np.full((m, n + 3), np.nan, dtype)
    in_code.product(a, b, out[:, 1 : n + 1])
    np.testing.assert_allclose(out[:, 1 : n + 1], a.astype(float) @ b.astype(float), **tolerance)
    assert np.isnan(out[:, [0, n + 1, n + 2]]).all()
    into = before.copy()
    in_code.add_product_of_lines(a, lines, into)
    np.testing.assert_allclose(into, before + a.astype(float) @ lines.astype(float).T, **tolerance)


def test_inputs_that_are_not_finite_are_not_passed_over(in_code):
    a = np.array([[0, np.nan], [1, np.inf]])
    out = np.zeros((2, 2))
    in_code.product(a, np.ones((2, 2)), out)
    np.testing.assert_array_equal(out, [[np.nan] * 2, [np.inf] * 2])


@pytest.mark.parametrize("stride", [0, -8, 8, 16])
def test_single_line_may_have_any_stride(stride, in_code):
    a = np.lib.stride_tricks.as_strided(np.arange(3.0), (1, 3), (stride, 8))
    into = np.ones((1, 1))
    in_code.add_product_of_lines(a, a, into)
    assert into == 6
    out = np.ones(4)
    in_code.product(a, np.ones((3, 4)), np.lib.stride_tricks.as_strided(out, (1, 4), (stride, 8)))
    assert out.tolist() == [3] * 4


def stand_in(monkeypatch, *libraries):
    """OpenBLAS libraries of this process: a path, and the names of their functions."""
    found = [
        types.SimpleNamespace(filepath=str(path), dynlib=types.SimpleNamespace(**dict.fromkeys(names, path)))
        for path, names in libraries
    ]
    monkeypatch.setattr(
        blas.threadpoolctl,
        "ThreadpoolController",
        lambda: types.SimpleNamespace(select=lambda internal_api: types.SimpleNamespace(lib_controllers=found)),
    )
    added = {}
    monkeypatch.setattr(blas.ctypes, "cast", lambda function, kind: types.SimpleNamespace(value=function))
    monkeypatch.setattr(blas.llvmlite.binding, "add_symbol", added.__setitem__)
    return added


@pytest.mark.parametrize(
    "name, bits",
    [
        ("cblas_sgemm", 32),
        ("scipy_cblas_sgemm", 32),
        ("cblas_sgemm64_", 64),
        ("cblas_sgemm_64", 64),
        ("scipy_cblas_sgemm64_", 64),
    ],
)
def test_sizes_have_the_bits_that_the_name_of_the_function_says(monkeypatch, name, bits):
    added = stand_in(monkeypatch, (PACKAGES / "numpy.libs" / "openblas.so", [name, name.replace("sg", "dg")]))
    for letter in "sd":
        function = blas._function(letter)
        assert function.symbol == f"xpdl_{letter}gemm_{bits}"
        order_and_shape, floats = function.sig.args[:6], {"s": "float32", "d": "float64"}[letter]
        assert [str(size) for size in order_and_shape] == ["int32"] * 3 + [f"int{bits}"] * 3
        assert str(function.sig.args[6]) == floats and str(function.sig.args[8]) == f"int{bits}"
    assert len(added) == 2


def test_library_is_numpys(monkeypatch):
    names, other, system = ["cblas_sgemm"], PACKAGES / "scipy.libs" / "openblas.so", Path("/usr/lib/libopenblas.so.0")
    own = PACKAGES / "numpy.libs" / "openblas.so"
    added = stand_in(monkeypatch, (other, names), (system, names), (own, names))
    blas._function("s")
    assert [*added.values()] == [own]
    # NumPy of a distribution or of conda
    added = stand_in(monkeypatch, (other, names), (system, names))
    blas._function("s")
    assert [*added.values()] == [system]


def test_numpy_without_openblas_has_no_products(monkeypatch):
    for libraries in (
        [],
        [(PACKAGES / "scipy.libs" / "openblas.so", ["cblas_sgemm"])],
        [(PACKAGES / "numpy" / "b.so", [])],
    ):
        added = stand_in(monkeypatch, *libraries)
        with pytest.raises(BlasError, match="not built with an OpenBLAS"):
            blas._function("s")
        assert not added
