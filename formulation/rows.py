"""Rows over the program's columns, each with the account of where it comes from that a proof of the bound needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array, vstack

from formulation.network import Array, Index

NO_GATE = -1


@dataclass(frozen=True, eq=False)
class Rows:
    """lower <= matrix @ columns <= upper.

    Attributes:
        source: of a gate's row the node's position in the network, the row's flat position in the gate's rows of one
            image, and the image, [rows, 3]; NO_GATE for planes.
        on_logits: of a plane the weight that it takes off each logit, [rows, classes * images]; empty for gates' rows.
    """

    matrix: csr_array
    lower: Array
    upper: Array
    source: Index
    on_logits: csr_array

    def __len__(self) -> int:
        return int(self.matrix.shape[0])


@dataclass(frozen=True, eq=False)
class Duals:
    """The multipliers behind the last complete answer of a linear program, at least 0 on `>=`, at most 0 on `<=`.

    Attributes:
        rows: of the rows given by `add_rows`, in order.
        named: of the program's own constraints, by linopy's name, flat.
    """

    rows: Array
    named: Mapping[str, Array]


def gate_rows(matrix: csr_array, lower: Array, upper: Array, source: Index) -> Rows:
    """Rows of decided activations or windows."""
    return Rows(matrix, lower, upper, source, csr_array((len(lower), 0)))


def planes(matrix: csr_array, lower: Array, on_logits: csr_array) -> Rows:
    """Rows under the loss, open above."""
    free = np.full(len(lower), np.inf)
    return Rows(matrix, lower, free, np.full((len(lower), 3), NO_GATE), on_logits)


def stack_rows(blocks: Sequence[Rows], width: int) -> Rows:
    """All blocks as one, padded to `width` columns."""
    blocks = [block for block in blocks if len(block)]
    if not blocks:
        return Rows(csr_array((0, width)), np.zeros(0), np.zeros(0), np.zeros((0, 3), np.int64), csr_array((0, 0)))
    logits = max(block.on_logits.shape[1] for block in blocks)
    return Rows(
        csr_array(vstack([padded(b.matrix, width) for b in blocks], format="csr")),
        np.concatenate([b.lower for b in blocks]),
        np.concatenate([b.upper for b in blocks]),
        np.concatenate([b.source for b in blocks]),
        csr_array(vstack([padded(b.on_logits, logits) for b in blocks], format="csr")),
    )


def padded(matrix: csr_array, width: int) -> csr_array:
    """The same rows over more columns."""
    return csr_array((matrix.data, matrix.indices, matrix.indptr), shape=(matrix.shape[0], width))
