"""Old import paths: each gives the object of the new path and a warning that names it."""

import importlib
import subprocess
import sys

import pytest

from tests.test_doctests import OPTIONAL
from xpdl.deprecation import moved

#: old module, name, full new name
MOVED = [
    *[
        ("xpdl.training", name, f"xpdl.search.{name}")
        for name in (
            *("SearchResult", "Trial", "choice", "log_uniform", "optuna_objective"),
            *("random_search", "successive_halving", "uniform"),
        )
    ],
    *[("xpdl.models", name, f"xpdl.integrations.pytorch.{name}") for name in ("load_pytorch", "save_pytorch")],
    *[("xpdl.gradient_check", name, f"xpdl.testing.{name}") for name in ("GradientReport", "check_gradients")],
    *[("xpdl.compare", name, f"xpdl.testing.{name}") for name in ("LayerDifference", "compare_backends")],
    ("xpdl.bench", "Growth", "xpdl.bench.ScalingCurve"),
    ("xpdl.bench", "growth_table", "xpdl.bench.scaling_table"),
    ("xpdl.models.flop", "flop", "xpdl.models.flops.flop"),
    ("xpdl.training.scikit_learn", "XpdlClassifier", "xpdl.integrations.scikit_learn.XpdlClassifier"),
]


@pytest.mark.parametrize(("module", "name", "new"), MOVED)
def test_old_path_gives_the_object_and_warns(module, name, new):
    home, _, last = new.rpartition(".")
    if home in OPTIONAL:
        pytest.importorskip(OPTIONAL[home])
    old = importlib.import_module(module)
    with pytest.warns(DeprecationWarning, match=rf"^{module}\.{name} is deprecated; use {new}$") as caught:
        value = getattr(old, name)
    assert value is getattr(importlib.import_module(home), last)
    assert caught[0].filename == __file__


@pytest.mark.parametrize(("module", "name", "new"), MOVED)
def test_old_path_is_imported_from_with_a_warning_of_that_line(module, name, new):
    if (home := new.rpartition(".")[0]) in OPTIONAL:
        pytest.importorskip(OPTIONAL[home])
    done = subprocess.run(
        [sys.executable, "-W", "always", "-c", f"from {module} import {name}"], capture_output=True, text=True
    )
    assert done.returncode == 0
    assert f"<string>:1: DeprecationWarning: {module}.{name} is deprecated; use {new}" in done.stderr


def test_other_names_are_missing():
    with pytest.raises(AttributeError, match=r"module 'here' has no attribute 'other'"):
        moved("here", {"name": "xpdl.search.Trial"})("other")
