"""Tables in the docs are what the code says: of ops, all of them and every entry run, and of algorithms of convolutions."""

import pytest

from tests import docs_tables


def _rows():
    text = docs_tables.section("support", docs_tables.SUPPORT)
    table = [line.strip("| ").split(" | ") for line in text.splitlines()]
    return table[0][1:], {row[0].split("`")[1]: row[1:] for row in table[2:]}


def test_support_table_has_every_op():
    columns, rows = _rows()
    assert columns == list(docs_tables.COLUMNS) and list(rows) == docs_tables.ops()


@pytest.mark.parametrize("column", docs_tables.COLUMNS)
@pytest.mark.applies(lambda column: docs_tables.problem(docs_tables.SPECS[docs_tables.COLUMNS[column]]) is None)
def test_support_table_is_what_runs(column):
    columns, rows = _rows()
    shown = {op: row[columns.index(column)] for op, row in rows.items()}
    assert shown == {op: docs_tables.cell(op, column) for op in docs_tables.ops()}


def test_table_of_convolution_algorithms_is_that_of_the_code():
    assert docs_tables.section("conv-algorithms", docs_tables.PERFORMANCE) == docs_tables.conv_algorithms()
