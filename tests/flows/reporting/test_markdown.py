"""Tables in Markdown hold what they are given, whatever is in a cell."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.reporting.markdown import markdown_table

WORDS = st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1).filter(lambda words: not words.endswith("\\"))
CELLS = WORDS | st.integers() | st.floats() | st.booleans() | st.none() | st.sampled_from(["", "1e5", "007", "-0.00"])
TABLES = st.integers(1, 4).flatmap(
    lambda width: st.tuples(
        st.lists(WORDS, min_size=width, max_size=width),
        st.lists(st.lists(CELLS, min_size=width, max_size=width), max_size=4),
    )
)


def read(line: str) -> list[str]:
    """The cells of a table's line."""
    assert line.startswith("|")
    assert line.endswith("|")
    return [cell.strip().replace(r"\|", "|") for cell in re.split(r"(?<!\\)\|", line[1:-1])]


@settings(deadline=None)  # the first table waits for pandas to import what writes it
@given(TABLES)
def test_every_cell_stands_in_its_place_in_the_words_of_str(table: tuple[list[str], list[list[object]]]) -> None:
    columns, rows = table
    head, rule, *lines = markdown_table(columns, rows).split("\n")
    assert read(head) == columns
    assert re.fullmatch(r"\|(-{3,}\|)+", rule)
    assert rule.count("|") == len(columns) + 1
    assert [read(line) for line in lines] == [[str(value) for value in row] for row in rows]


def test_a_line_break_in_a_cell_does_not_end_the_line() -> None:
    assert read(markdown_table(["a"], [["one\r\ntwo"]]).split("\n")[2]) == ["one two"]


def test_a_row_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match=r"\['1'\] of a table has 1 cells for 2 columns"):
        markdown_table(["a", "b"], [["x", "y"], [1]])
