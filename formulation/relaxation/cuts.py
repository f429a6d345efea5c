"""Cuts over the program's columns, each with the account of where it comes from that the dual bound needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy.sparse import csr_array, vstack

from formulation.network import Array, Index

NO_GATE = -1


@dataclass(frozen=True, eq=False)
class Cuts:
    """lower <= matrix @ columns <= upper.

    Attributes:
        source: of a gate's cut the node's position in the network, the cut's flat position in the gate's cuts of one
            image, and the image, [cuts, 3]; NO_GATE for loss cuts.
        on_logits: of a loss cut the weight that it takes off each logit, [cuts, classes * images]; empty for others.
    """

    matrix: csr_array
    lower: Array
    upper: Array
    source: Index
    on_logits: csr_array

    def __len__(self) -> int:
        return int(self.matrix.shape[0])

    def at(self, rows: Index) -> Cuts:
        """Some of the cuts."""
        return Cuts(
            csr_array(self.matrix[rows]), self.lower[rows], self.upper[rows], self.source[rows],
            csr_array(self.on_logits[rows]),
        )  # fmt: skip


@dataclass(frozen=True, eq=False)
class SolverDuals:
    """The duals behind the last complete answer of a linear program, at least 0 on `>=`, at most 0 on `<=`.

    Attributes:
        cuts: of the cuts given by `add_cuts`, in order.
        named: of the program's own constraints, by linopy's name, flat.
    """

    cuts: Array
    named: Mapping[str, Array]


def gate_cuts(matrix: csr_array, lower: Array, upper: Array, source: Index) -> Cuts:
    """Cuts of stable activations or windows, lower <= matrix @ columns <= upper.

    Args:
        matrix: [k, columns].
        lower, upper: [k], infinite where nothing bounds that side.
        source: [k, 3], the position of the node in the network, of the cut in the node, and of the image.
    """
    return Cuts(matrix, lower, upper, source, csr_array((len(lower), 0)))


def make_loss_cuts(matrix: csr_array, lower: Array, on_logits: csr_array) -> Cuts:
    """Cuts under the loss, open above."""
    free = np.full(len(lower), np.inf)
    return Cuts(matrix, lower, free, np.full((len(lower), 3), NO_GATE), on_logits)


def stack_cuts(blocks: Sequence[Cuts], width: int) -> Cuts:
    """All blocks of cuts as one.

    Args:
        blocks: in order; empty ones are left out.
        width: columns of the result, to which every block is padded.
    """
    blocks = [block for block in blocks if len(block)]
    if not blocks:
        return Cuts(csr_array((0, width)), np.zeros(0), np.zeros(0), np.zeros((0, 3), np.int64), csr_array((0, 0)))
    logits = max(block.on_logits.shape[1] for block in blocks)
    return Cuts(
        csr_array(vstack([padded(b.matrix, width) for b in blocks], format="csr")),
        np.concatenate([b.lower for b in blocks]),
        np.concatenate([b.upper for b in blocks]),
        np.concatenate([b.source for b in blocks]),
        csr_array(vstack([padded(b.on_logits, logits) for b in blocks], format="csr")),
    )


def stack_priced(blocks: Sequence[Cuts], duals: SolverDuals, width: int) -> tuple[Cuts, SolverDuals]:
    """The cuts that have a dual other than 0 as one block, and the duals on them alone.

    Args:
        blocks: in the order in which the solver was given them.
        duals: of the solver, on all of them.
        width: columns of the result.
    """
    ends = np.cumsum([0, *(len(block) for block in blocks)])
    held = [np.flatnonzero(duals.cuts[first:end]) for first, end in pairwise(ends)]
    some = [block.at(rows) for block, rows in zip(blocks, held, strict=True) if len(rows)]
    each = np.flatnonzero(duals.cuts[: ends[-1]])
    return stack_cuts(some, width), SolverDuals(duals.cuts[each], duals.named)


def padded(matrix: csr_array, width: int) -> csr_array:
    """The same cuts over more columns."""
    return csr_array((matrix.data, matrix.indices, matrix.indptr), shape=(matrix.shape[0], width))
