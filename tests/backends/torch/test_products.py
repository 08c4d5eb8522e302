"""Products by oneDNN where MKL leaves AVX-512 unused: as those of PyTorch, called for large matrices alone."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import Any

import pytest

from tests.harness import nonempty

pytestmark = [pytest.mark.needs("torch"), pytest.mark.exhaustive]


@pytest.fixture
def products(torch: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module, as on a processor where oneDNN is quicker."""
    if not torch.backends.mkldnn.is_available():
        pytest.skip("PyTorch was built without oneDNN")
    module = importlib.import_module("xpdl.backends.torch.products")
    monkeypatch.setattr(module, "_is_quicker", lambda: True)
    return module


@pytest.fixture
def calls(products: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """Shapes of what oneDNN is asked to multiply."""
    seen: list[Any] = []
    linear = products._linear
    monkeypatch.setattr(products, "_linear", lambda a, *rest: seen.append(tuple(a.shape)) or linear(a, *rest))
    return seen


def drawn(torch: Any, *shape: int) -> Any:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


def views(torch: Any, rows: int, columns: int) -> Iterator[Any]:
    """The same kind of matrix in several orders of memory."""
    yield drawn(torch, rows, columns)
    yield drawn(torch, columns, rows).T
    yield drawn(torch, rows, 2 * columns)[:, ::2]
    yield drawn(torch, 2 * rows, columns)[::2]


def assert_close(torch: Any, got: Any, a: Any, b: Any, bias: Any = 0.0) -> None:
    torch.testing.assert_close(got.double(), a.double() @ b.double() + bias, rtol=1e-5, atol=1e-3)


def test_products_are_those_of_pytorch(torch: Any, products: Any, calls: list[Any]) -> None:
    bias = drawn(torch, 96)
    for a in nonempty(views(torch, 120, 200)):
        for b in nonempty(views(torch, 200, 96)):
            assert_close(torch, products.mm(a, b), a, b)
            assert_close(torch, products.addmm(bias, a, b), a, b, bias.double())
    assert calls == [(120, 200)] * 32


def test_small_products_and_other_dtypes_are_left_to_pytorch(torch: Any, products: Any, calls: list[Any]) -> None:
    for a, b in (
        (drawn(torch, 5, 6), drawn(torch, 6, 7)),
        (drawn(torch, 120, 200).double(), drawn(torch, 200, 96).double()),
    ):
        assert torch.equal(products.mm(a, b), torch.mm(a, b))
        assert torch.equal(products.addmm(b[0], a, b), torch.addmm(b[0], a, b))
    assert calls == [] and products.repeated(drawn(torch, 6, 7), 5, 100) is None
    assert products.repeated(drawn(torch, 256, 512), 20, 2) is None


def test_other_processors_are_left_to_pytorch(torch: Any, calls: list[Any], products: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(products, "_is_quicker", lambda: False)
    a, b = drawn(torch, 120, 200), drawn(torch, 200, 96)
    assert torch.equal(products.mm(a, b), torch.mm(a, b)) and products.repeated(b, 120, 100) is None
    assert calls == []


@pytest.mark.parametrize(("text", "vendor"), [("vendor_id\t: AuthenticAMD\n", "AuthenticAMD"), ("", ""), (None, "")])
def test_vendor_is_read(products: Any, monkeypatch: Any, tmp_path: Any, text: str | None, vendor: str) -> None:
    path = tmp_path / "cpuinfo"
    if text is not None:
        path.write_text(f"processor\t: 0\n{text}")
    monkeypatch.setattr(products, "_PROCESSOR", path)
    assert products._vendor() == vendor


def test_a_packed_matrix_serves_many_products(torch: Any, products: Any, calls: list[Any]) -> None:
    for b in nonempty(views(torch, 256, 512)):
        product = products.repeated(b, 20, 10)
        for _ in range(3):
            a = drawn(torch, 20, 256)
            assert_close(torch, product(a), a, b)
    assert len(calls) == 12


@pytest.mark.parametrize("kind", ["rnn", "lstm", "gru"])
@pytest.mark.parametrize("masked", [False, True])
def test_recurrent_layers_by_packed_products_equal_the_generic_op(
    torch: Any, products: Any, calls: list[Any], kind: str, masked: bool
) -> None:
    ops, dispatch = (importlib.import_module(name) for name in ("xpdl.ops.recurrent", "xpdl.backends.dispatch"))
    gates, n, steps, units = {"rnn": 1, "lstm": 4, "gru": 3}[kind], 24, 9, 256
    x, h, dy = drawn(torch, n, steps, 40), drawn(torch, n, units), drawn(torch, n, steps, units)
    Wx, Wh, b = (
        0.1 * drawn(torch, *shape) for shape in ((40, gates * units), (units, gates * units), (gates * units,))
    )
    state = (drawn(torch, n, units) * 0.5,) if kind == "lstm" else ()
    bias = (0.1 * drawn(torch, units),) if kind == "gru" else ()
    mask = (torch.arange(steps) < 1 + torch.arange(n)[:, None] % steps) if masked else None

    def results() -> list[Any]:
        saved = getattr(ops, kind)(x, h, *state, Wx, Wh, b, *bias, mask)
        saved = saved if isinstance(saved, tuple) else (saved,)
        return [*saved, *getattr(ops, f"{kind}_backward")(dy, x, h, *state, Wx, Wh, *saved, mask)]

    with dispatch.generic_only():
        expected = results()
    assert calls == []
    for got, want in nonempty(zip(results(), expected, strict=True)):
        torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-4 * float(want.abs().max()))
    assert calls.count((n, units)) >= steps
