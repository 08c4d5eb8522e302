"""Every example in a docstring is run: one test for each module."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
from typing import Any

import numpy as np
import pytest

import xpdl

MODULES = ["xpdl", *(module.name for module in pkgutil.walk_packages(xpdl.__path__, "xpdl."))]
MODULES = [name for name in MODULES if not name.endswith("__main__")]  # runs when imported


def example_names() -> dict[str, Any]:
    """Names that an example may use without importing them: `np`, `xpdl`, and those of ``from xpdl import ...``."""
    public = {name: getattr(xpdl, name) for name in xpdl.__all__}
    return {**public, "np": np, "xpdl": xpdl}


# optional library that a module needs
OPTIONAL = {name: "sklearn" for name in MODULES if name.startswith("xpdl.integrations.scikit_learn")}
OPTIONAL |= {name: "torch" for name in MODULES if name.startswith("xpdl.backends.torch")}
OPTIONAL |= {name: "jax" for name in MODULES if name.startswith("xpdl.backends.jax")}
OPTIONAL |= {name: "onnx" for name in MODULES if name.startswith("xpdl.onnx")}
OPTIONAL |= {name: "numba" for name in MODULES if name.startswith("xpdl.backends.numba.")}


def marks(module: str) -> list[pytest.MarkDecorator]:
    """Keep a case where what its module needs is installed."""
    return [pytest.mark.needs(OPTIONAL[module])] if module in OPTIONAL else []


@pytest.mark.parametrize("name", [pytest.param(name, marks=marks(name)) for name in MODULES])
def test_examples(name: str) -> None:
    module = importlib.import_module(name)
    out: list[str] = []
    runner = doctest.DocTestRunner(optionflags=doctest.REPORT_NDIFF)
    for test in doctest.DocTestFinder(exclude_empty=True).find(module, extraglobs=example_names()):
        # a module's own names come first: two modules may have one name for different things
        test.globs.update(vars(module))
        runner.run(test, out=out.append)
    assert not runner.failures, "".join(out)


def test_examples_are_found() -> None:
    finder = doctest.DocTestFinder()
    modules = [importlib.import_module(name) for name in MODULES if name not in OPTIONAL]
    found = [test.name for module in modules for test in finder.find(module) if test.examples]
    assert "xpdl.layers.affine.Affine" in found
    assert "xpdl.backends.use" in found
