"""Choose, at collection, the cases that apply to this run, so that a skip says something about the machine.

- ``backends(tags...)`` keeps the backends that have one of the tags, ``skip_backend(tag, reason=...)`` drops those that have
  it. Backends whose library is not installed are dropped, too, and the summary has a line that says so.
- ``applies(predicate)`` keeps the cases for which a function of their parameters, by name, is true; a parameter `backend` is
  a `tests.harness.Spec`.
- ``needs(module...)`` keeps a case where these optional libraries are installed; so do fixtures of `FIXTURES`, and
  the marker ``gpu`` where there is one. A module that calls ``pytest.importorskip`` is skipped as a whole. The
  summary counts both.
- ``quick(predicate)`` makes cases for which the predicate is false exhaustive: CI runs them, ``pytest`` without ``-m`` does
  not. So are all backends but one of a library: NumPy with read-only arrays, and array_api_strict with other restrictions
  than ``strict:nosync``, say again on most tests what one backend says.
"""

from __future__ import annotations

import collections
import functools
import importlib
import importlib.util
import inspect
import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.harness import Spec, gpu_present, gpu_required, problem, selected

# the value of `backend` in a case that no backend of this run applies to
_NOBODY = object()
_left_out: collections.Counter[str] = collections.Counter()
# fixtures that give a library
FIXTURES = {"torch": "torch", "jax": "jax", "mpl": "matplotlib", "tiles": "numba"}
_dropped: dict[str, set[str]] = {}


@functools.cache
def installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # of the package that holds it
        return False


def params_of(*values: Any) -> list[Any]:
    """Parameters that are, or tuples that begin with, the name of a library: each for where that is installed."""
    return [
        pytest.param(*value, marks=pytest.mark.needs(value[0]))
        for value in (value if isinstance(value, tuple) else (value,) for value in values)
    ]


def host_dtypes(*names: str) -> list[Any]:
    """Names of dtypes of NumPy's arrays as parameters: bfloat16 where it is installed."""
    if installed("ml_dtypes"):
        # NumPy knows the name from then on
        importlib.import_module("ml_dtypes")
    return [pytest.param(name, marks=pytest.mark.needs(*["ml_dtypes"][: name == "bfloat16"])) for name in names]


def usable(spec: Spec) -> bool:
    """Tell whether cases are made for this backend: it works, or it is a GPU backend whose absence is to be a failure."""
    reason = problem(spec)
    if reason is None or (spec.gpu and gpu_required()):
        return True
    _dropped.setdefault(reason, set()).add(spec.id)
    return False


def _one_of_each_library(specs: list[Spec]) -> list[Spec]:
    """The first, or the one that forbids most."""
    found = {spec.library: spec for spec in reversed(specs)}
    return list((found | {spec.library: spec for spec in specs if spec.id == "strict:nosync"}).values())


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "backend" not in metafunc.fixturenames:
        return
    specs = selected()
    for marker in metafunc.definition.iter_markers("backends"):
        specs = [spec for spec in specs if spec.tags & set(marker.args)]
    for marker in metafunc.definition.iter_markers("skip_backend"):
        specs = [spec for spec in specs if marker.args[0] not in spec.tags]
    specs = [spec for spec in specs if usable(spec)]
    # those that are asked for by name are all wanted
    quick = specs if os.environ.get("XPDL_BACKENDS") else _one_of_each_library(specs)
    params = [
        pytest.param(
            spec,
            id=spec.id,
            marks=[pytest.mark.gpu] * spec.gpu + [pytest.mark.exhaustive] * (spec not in quick),
        )
        for spec in specs
    ]
    metafunc.parametrize("backend", params or [pytest.param(_NOBODY, id="nobody")], indirect=True)


@functools.cache
def _arguments(predicate: Callable[..., bool]) -> tuple[str, ...]:
    return tuple(inspect.signature(predicate).parameters)


def _holds(predicate: Callable[..., bool], params: dict[str, Any]) -> bool:
    return predicate(*(params[name] for name in _arguments(predicate)))


def _missing(item: pytest.Item) -> str | None:
    """A library that an item needs and that is not here."""
    fixtures = getattr(item, "fixturenames", ())
    needed = [name for marker in item.iter_markers("needs") for name in marker.args]
    needed += [module for name, module in FIXTURES.items() if name in fixtures]
    if found := next((name for name in needed if not installed(name)), None):
        return found
    if item.get_closest_marker("gpu") and not gpu_present():
        return "a GPU"
    return None


def _params(item: pytest.Item) -> dict[str, Any]:
    return item.callspec.params if hasattr(item, "callspec") else {}


class Quick:
    """Marks cases as exhaustive before ``-m`` looks at them."""

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        for item in items:
            if not all(_holds(marker.args[0], _params(item)) for marker in item.iter_markers("quick")):
                item.add_marker("exhaustive")


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(Quick())


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    kept = []
    for item in items:
        params = _params(item)
        missing = _missing(item)
        if params.get("backend") is _NOBODY:
            continue
        if not all(_holds(marker.args[0], params) for marker in item.iter_markers("applies")):
            continue
        if missing:
            _left_out[missing] += 1
        else:
            kept.append(item)
    items[:] = kept


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: pytest.Collector) -> Iterator[None]:
    """Turn a module that skips itself into one without tests."""
    report = yield
    if report.skipped and isinstance(collector, pytest.Module):
        _left_out[f"{collector.path.name}: {report.longrepr[2].removeprefix('Skipped: ')}"] += 1
        report.outcome, report.longrepr, report.result = "passed", None, []
    return report


def pytest_terminal_summary(terminalreporter: Any) -> None:
    for reason, ids in _dropped.items():
        terminalreporter.write_line(f"no tests on {', '.join(sorted(ids))}: {reason}")
    for what, count in sorted(_left_out.items()):
        terminalreporter.write_line(f"{count} not collected, for want of {what}")
