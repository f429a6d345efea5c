"""Tables in Markdown, for the notes of runs in the tracking UI."""

from collections.abc import Sequence

import pandas as pd


def markdown_table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A table in GitHub's Markdown, without a line break at its end: each cell in the words of `str`.

    A cell's vertical bars and line breaks are written so that they do not end it. Raises ValueError where a row has
    another number of cells than there are columns.
    """
    cells = [[_cell(value) for value in row] for row in rows]
    heads = [_cell(name) for name in columns]
    if uneven := next((row for row in cells if len(row) != len(heads)), None):
        raise ValueError(f"the row {uneven} of a table has {len(uneven)} cells for {len(heads)} columns")
    # As words, not numbers, for which pandas and tabulate have forms of their own.
    frame = pd.DataFrame(cells, columns=heads, dtype=str)
    text: str = frame.to_markdown(index=False, tablefmt="github", disable_numparse=True)
    return text


def _cell(value: object) -> str:
    return " ".join(str(value).replace("|", r"\|").split())
