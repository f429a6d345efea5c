"""Joined rows: which rows of all layers belong together, by the numbers that they have over all layers."""

from __future__ import annotations

import torch
from torch import Tensor


class JoinedRows:
    """A partition of numbered rows, in which every row begins alone."""

    def __init__(self) -> None:
        """Begin without rows."""
        self._parents: list[int] = []
        self._roots: Tensor | None = None  # of all rows, until others are joined

    def __len__(self) -> int:
        """How many rows there are."""
        return len(self._parents)

    def added(self, rows: int) -> Tensor:
        """The numbers of new rows, [rows], as floats."""
        numbers = range(len(self), len(self) + rows)
        self._parents += numbers
        return torch.tensor(numbers, dtype=torch.float64)

    def labels(self, entries: Tensor) -> Tensor:
        """A number for each entry, the same for rows that belong together."""
        if self._roots is None or len(self._roots) < len(self._parents):
            self._roots = torch.tensor([self._root(row) for row in range(len(self._parents))])
        return self._roots[entries.long()]

    def join(self, one: Tensor, other: Tensor) -> None:
        """Rows whose numbers lie in the same places go together."""
        pairs = one.long() * len(self._parents) + other.long()
        for pair in torch.unique(pairs).tolist():
            first, second = (self._root(row) for row in divmod(pair, len(self._parents)))
            self._parents[max(first, second)] = min(first, second)
        self._roots = None

    def _root(self, row: int) -> int:
        while self._parents[row] != row:
            self._parents[row] = self._parents[self._parents[row]]
            row = self._parents[row]
        return row
