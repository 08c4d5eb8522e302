"""The README says what is so: its code runs and prints what stands there, and its tables are what the ops do."""

import re

import pytest

from tests import readme

NUMBER = re.compile(r"\d+\.\d+")


def test_example_prints_what_the_readme_shows():
    shown = re.search(r"```text\n(.*?)```", readme.section("example"), re.DOTALL)[1]
    printed = readme.output_of(readme.code("example"))
    assert NUMBER.sub("#", printed) == NUMBER.sub("#", shown)
    # the last bits of a matrix product depend on the machine, and with them whether one digit in a hundred is right
    for got, expected in zip(NUMBER.findall(printed), NUMBER.findall(shown), strict=True):
        assert float(got) == pytest.approx(float(expected), abs=0.01)


def test_layer_is_shown_as_it_is():
    assert readme.section("layer") == readme.layer()


def _rows():
    table = [line.strip("| ").split(" | ") for line in readme.section("support").splitlines()]
    return table[0][1:], {row[0].split("`")[1]: row[1:] for row in table[2:]}


def test_support_table_has_every_op():
    columns, rows = _rows()
    assert columns == list(readme.COLUMNS) and list(rows) == readme.ops()


@pytest.mark.parametrize("column", readme.COLUMNS)
def test_support_table_is_what_runs(column):
    if reason := readme.problem(readme.SPECS[readme.COLUMNS[column]]):
        pytest.skip(reason)
    columns, rows = _rows()
    shown = {op: row[columns.index(column)] for op, row in rows.items()}
    assert shown == {op: readme.cell(op, column) for op in readme.ops()}


def test_quick_start_is_its_first_two_shell_blocks():
    blocks = re.findall(r"```sh\n(.*?)```", readme.README.read_text(), re.DOTALL)
    assert len(blocks) >= 2 and "xpdl train" in blocks[0] and "pytest" in blocks[1]
    assert all("venv" in block and "pip install" in block for block in blocks[:2])
