"""Options of methods, figures and the estimators for scikit-learn change something, or are refused."""

from __future__ import annotations

import pytest

from tests.inputs.options import Watched, faults, options_of
from xpdl import plots

pytest.importorskip("matplotlib", reason="draws figures")
pytest.importorskip("sklearn", reason="fits estimators of scikit-learn")

from tests.inputs import method_options


def test_every_option_of_methods_figures_and_estimators_is_in_the_table() -> None:
    figures = [getattr(plots, name) for name in plots.__all__]
    functions = [*method_options.methods(), *figures, method_options.XpdlClassifier, method_options.XpdlRegressor]
    table: dict[str, set[str]] = {}
    for watched in method_options.WATCHED:
        table.setdefault(watched.function.__qualname__, set()).update({*watched.others, *watched.unseen})
    assert table == {function.__qualname__: found for function in functions if (found := options_of(function))}


@pytest.mark.parametrize("watched", method_options.WATCHED, ids=lambda watched: watched.function.__qualname__)
def test_options_change_something_or_are_refused(watched: Watched) -> None:
    assert not (found := faults(watched)), "\n".join(found)
