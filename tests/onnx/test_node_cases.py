"""ONNX's own test cases, and the table in docs/onnx.md of those that a loaded model does not compute."""

import pytest

from tests.onnx.node_cases import PAGE, results, written

pytestmark = [pytest.mark.needs("onnx"), pytest.mark.exhaustive]


def test_cases_are_computed_as_the_page_says() -> None:
    found = results()
    assert len(found) == 189
    page = PAGE.read_text(encoding="utf-8")
    assert written(page, found) == page, "run python -m tests.onnx.node_cases"
