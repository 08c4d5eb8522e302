"""Dispatch of an op to its kernels: in order, declining, switched off, and never with another signature."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import itertools
import pkgutil
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import xpdl.ops
import xpdl.optimizers
from tests.backends.watched import load_compiled, own_kernels
from tests.harness import Backend, nonempty
from xpdl.backends import dispatch, registry
from xpdl.backends.dispatch import DECLINE, generic_only, kernel, kernels_for, op
from xpdl.backends.namespaces import array_namespace

NUMPY = array_namespace(np.zeros(1))


def load_everything() -> None:
    """Register every op, and every kernel whose library is installed here."""
    for package in (xpdl.ops, xpdl.optimizers):
        for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
            importlib.import_module(module.name)
    for library, names in dispatch._KERNEL_MODULES.items():
        for name in names if importlib.util.find_spec(library) else ():
            importlib.import_module(name)
    load_compiled()


@pytest.fixture(autouse=True)
def own_registry(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Ops and kernels of a test are gone after it."""
    # first: a kernel module imported during the test would register in the copy, and never again
    load_everything()
    monkeypatch.setattr(dispatch, "_generics", dict(dispatch._generics))
    with own_kernels():
        yield
    kernels_for.cache_clear()


@pytest.fixture
def twice() -> Any:
    @op
    def twice(x: Any, times: int = 2) -> Any:
        """Generic words."""
        return ("generic", x, times)

    return twice


def strict_zeros() -> Any:
    return importlib.import_module("array_api_strict").zeros(1)


class TestCalls:
    def test_the_generic_answers_where_there_is_no_kernel(self, twice: Any, backend: Backend) -> None:
        x = backend.asarray([1.0])
        assert twice(x) == ("generic", x, 2)

    def test_a_kernel_answers_for_its_library_only(self, twice: Any) -> None:
        @kernel("numpy", "twice")
        def fast(x: Any, times: int = 2) -> Any:
            return ("fast", x, times)

        x, other = np.zeros(1), strict_zeros()
        assert twice(x, times=3) == ("fast", x, 3)
        assert twice(other) == ("generic", other, 2)

    def test_a_kernel_registered_late_is_found(self, twice: Any) -> None:
        x = np.zeros(1)
        assert twice(x)[0] == "generic"
        kernel("numpy", "twice")(lambda x, times=2: ("fast", x, times))
        assert twice(x)[0] == "fast"

    def test_register_gives_the_function_back(self, twice: Any) -> None:
        def fast(x: Any, times: int = 2) -> Any:
            return None

        assert kernel("numpy", "twice")(fast) is fast
        assert ("numpy", "twice") in dispatch.overridden()
        assert dispatch.overridden() == sorted(dispatch.overridden())

    def test_declining_falls_to_the_generic_with_the_same_arguments(self, twice: Any) -> None:
        seen = []

        @kernel("numpy", "twice")
        def picky(x: Any, times: int = 2) -> Any:
            seen.append(times)
            return DECLINE if times > 2 else ("fast", x, times)

        x = np.zeros(1)
        assert twice(x, 2)[0] == "fast"
        assert twice(x, 3) == ("generic", x, 3)
        assert seen == [2, 3]

    def test_none_and_false_are_results(self, twice: Any) -> None:
        for result in (None, False, 0):
            kernel("numpy", "twice")(lambda x, times=2, result=result: result)
            assert twice(np.zeros(1)) is result

    def test_the_first_array_may_come_by_name(self, twice: Any) -> None:
        kernel("numpy", "twice")(lambda x, times=2: ("fast", x, times))
        x = np.zeros(1)
        assert twice(x=x) == twice(times=2, x=x) == ("fast", x, 2)

    def test_a_call_without_arguments_is_an_ordinary_error(self, twice: Any) -> None:
        with pytest.raises(TypeError, match=r"twice\(\) missing 1 required positional argument: 'x'"):
            twice()

    def test_what_is_no_array_is_named(self, twice: Any) -> None:
        with pytest.raises(TypeError, match=r"expected arrays, got list; make one with xpdl.asarray"):
            twice([1.0])

    def test_errors_of_a_kernel_are_not_swallowed(self, twice: Any) -> None:
        @kernel("numpy", "twice")
        def broken(x: Any, times: int = 2) -> Any:
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            twice(np.zeros(1))

    def test_an_op_keeps_name_words_and_signature(self, twice: Any) -> None:
        assert (twice.__name__, twice.__doc__) == ("twice", "Generic words.")
        assert list(inspect.signature(twice).parameters) == ["x", "times"]


class TestKernelsFor:
    def test_is_cached_for_each_namespace(self, twice: Any) -> None:
        kernels_for.cache_clear()
        for _ in range(3):
            twice(np.zeros(1))
            twice(strict_zeros())
        info = kernels_for.cache_info()
        assert (info.misses, info.hits) == (2, 4)

    def test_lists_the_kernels_of_the_library(self, twice: Any) -> None:
        assert kernels_for(NUMPY)["twice"] == ()
        fast = kernel("numpy", "twice")(lambda x, times=2: None)
        assert kernels_for(NUMPY)["twice"] == (fast,)
        assert kernels_for(array_namespace(strict_zeros()))["twice"] == ()

    @pytest.mark.parametrize("groups", [("numba", "numpy"), ("numpy", "numba")], ids=str)
    def test_compiled_kernels_come_first_whatever_is_registered_first(self, twice: Any, groups: Any) -> None:
        for group in groups:
            kernel(group, "twice")(lambda x, times=2, group=group: DECLINE if times > 2 and group == "numba" else group)
        x = np.zeros(1)
        assert twice(x) == "numba"
        assert twice(x, 3) == "numpy"
        with registry.without("numba"):
            assert twice(x) == "numpy"
        assert twice(x) == "numba"
        registry.withdraw("numba", "twice")
        assert twice(x) == "numpy"

    def test_kernel_may_be_replaced_or_withdrawn_while_it_runs(self, twice: Any) -> None:
        @kernel("numba", "twice")
        def placeholder(x: Any, times: int = 2) -> Any:
            if times > 2:
                registry.withdraw("numba", "twice")
                return DECLINE
            return kernel("numba", "twice")(lambda x, times=2: ("loaded", times))(x, times)

        kernel("numpy", "twice")(lambda x, times=2: ("numpy", times))
        x = np.zeros(1)
        assert twice(x) == twice(x) == ("loaded", 2)
        kernel("numba", "twice")(placeholder)
        assert twice(x, 3) == ("numpy", 3)
        assert ("numba", "twice") not in dispatch.overridden()

    def test_kernels_are_imported_when_an_array_is_first_seen(
        self, twice: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
    ) -> None:
        (tmp_path / "late_kernels.py").write_text(
            "from xpdl.backends.dispatch import kernel\n"
            "@kernel('array_api_strict', 'twice')\n"
            "def twice(x, times=2):\n    return 'late'\n"
        )
        monkeypatch.syspath_prepend(str(tmp_path))
        monkeypatch.setitem(dispatch._KERNEL_MODULES, "array_api_strict", ("late_kernels",))
        kernels_for.cache_clear()
        assert twice(np.zeros(1))[0] == "generic"
        assert ("array_api_strict", "twice") not in dispatch.overridden()
        assert twice(strict_zeros()) == "late"


class TestGenericOnly:
    @pytest.fixture(autouse=True)
    def fast(self, twice: Any) -> None:
        kernel("numpy", "twice")(lambda x, times=2: ("fast", x, times))

    def test_switches_kernels_off_inside(self, twice: Any) -> None:
        x = np.zeros(1)
        with generic_only():
            assert twice(x)[0] == "generic"
        assert twice(x)[0] == "fast"

    def test_nested(self, twice: Any) -> None:
        x = np.zeros(1)
        with generic_only():
            with generic_only():
                pass
            assert twice(x)[0] == "generic", "the inner end must not switch them on again"
        assert twice(x)[0] == "fast"

    def test_ends_when_the_block_raises(self, twice: Any) -> None:
        with pytest.raises(ZeroDivisionError), generic_only():
            _ = 1 / 0
        assert twice(np.zeros(1))[0] == "fast"


def test_decline_shows_its_name() -> None:
    assert repr(DECLINE) == "DECLINE"


def parameters(function: Any) -> list[tuple[str, Any, Any]]:
    return [(p.name, p.kind, p.default) for p in inspect.signature(function).parameters.values()]


def other_signatures() -> list[tuple[str, str]]:
    """The kernels that do not take what their op takes: names, order, kinds and defaults."""
    return [
        (library, name)
        for (library, name), function in registry._kernels.items()
        if name not in dispatch._generics or parameters(function) != parameters(dispatch._generics[name])
    ]


def test_kernels_have_the_signature_of_their_op() -> None:
    assert other_signatures() == []


@pytest.mark.parametrize(
    "wrong",
    [lambda x: None, lambda x, times=3: None, lambda x, often=2: None, lambda x, *, times=2: None],
    ids=["missing", "other default", "other name", "keyword only"],
)
def test_another_signature_is_noticed(twice: Any, wrong: Any) -> None:
    kernel("numpy", "twice")(wrong)
    assert other_signatures() == [("numpy", "twice")]


@pytest.mark.parametrize(
    ("name", "cure"),
    [
        ("relu_backwards", "the nearest names are relu_backward, "),
        ("convolutoin", "the nearest names are convolution, "),
        ("zzz", "define it with @op before its kernels"),
        (None, "define it with @op before its kernels"),
    ],
)
def test_a_kernel_for_no_op_is_refused(name: Any, cure: str) -> None:
    before = registry.overridden()
    with pytest.raises(ValueError, match=re.escape(f"kernel: there is no op named {name!r}; {cure}")):
        kernel("numpy", name)
    assert registry.overridden() == before


def test_every_kernel_module_is_there() -> None:
    for module in nonempty(itertools.chain.from_iterable(dispatch._KERNEL_MODULES.values())):
        assert importlib.util.find_spec(module), f"{module} is listed and missing"
