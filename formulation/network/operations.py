"""Operations of a network: affine maps, ReLUs, max-pools, sums, shifts and gates, each with its arrays; and a whole
one that can only be differentiated.

All arrays are float64 and *activation first*: a value is an array [activations, images].
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias, assert_never

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from formulation.errors import InvalidModel

Array: TypeAlias = NDArray[np.float64]
Index: TypeAlias = NDArray[np.int64]
Matrix: TypeAlias = Array | csr_array
Labels: TypeAlias = Index | Array  # [images] classes; or [images, outputs] quantities, which the squared loss reads


@dataclass(frozen=True, eq=False)
class Affine:
    """y = W h + b, W [outputs, inputs] dense or sparse, b [outputs]."""

    weight: Matrix
    bias: Array

    def apply(self, h: Array) -> Array:
        """W h + b for h [inputs, images]."""
        made: Array = self.weight @ h
        made += self.bias[:, None]
        return made


@dataclass(frozen=True, eq=False)
class Relu:
    """h = max(0, y), gated by scores.

    `score[j]` is the position of activation j's unit in the vector of all scores (`Network.stack`): all pixels of a
    feature map share one. -1: no score acts on activation j.
    """

    score: Index


@dataclass(frozen=True, eq=False)
class MaxPool:
    """y_j = max of h over window j.

    `windows` [outputs, size of the largest window] holds positions in h; -1: nothing there, padding is no candidate.
    """

    windows: Index

    def apply(self, h: Array) -> Array:
        """The maximum over each window, for h [inputs, images]."""
        below = np.vstack([h, np.full((1, h.shape[1]), -np.inf)])  # -1 reads the last row
        made: Array = below[self.windows[:, 0]]
        for column in self.windows.T[1:]:
            np.maximum(made, below[column], out=made)
        return made


@dataclass(frozen=True)
class Add:
    """y = the sum of two or more sources of one size."""


@dataclass(frozen=True, eq=False)
class Shift:
    """y_j = h_j + amount_j s[score_j]: a constant behind a gate, emitted only while its unit is kept.

    So a removed unit emits exactly 0. `score[j]` = -1: amount_j is added whatever the scores.
    """

    score: Index
    amount: Array


@dataclass(frozen=True, eq=False)
class ChannelGate:
    """h_j = s[score_j] y_j: what a layer is handed of units that sums or depthwise convolutions tie together.

    It lies where a group's units are handed on, behind whatever happens to them on their way: a removed group is read
    as 0 by everybody, and a group's score multiplies what is read once. `score[j]` = -1: y_j is handed on as it is.
    """

    score: Index


class GatedPasses(Protocol):
    """Passes through a network with a gate on every unit, a factor on what the unit hands on, 1 where it is left alone.

    With o_i the logits of image i and J_i their derivatives by the gates at 1, arrays in float64:
    """

    @property
    def size(self) -> int:
        """Number of gates."""

    def gated(self, pixels: Array, gates: Array) -> Array:
        """Logits [classes, images] at gates [gates], for pixels [inputs, images]."""

    def jacobian(self, pixels: Array, *, margins: bool = False) -> tuple[Array, Array]:
        """o [classes, images] and J [images, classes, gates]; of `margins` J less its last class, a pass fewer."""

    def along(self, pixels: Array, step: Array) -> Array:
        """o_i + J_i step, [classes, images], for a step [gates], by another way than `jacobian`."""

    def pulled(self, pixels: Array, weights: Array) -> tuple[Array, Array]:
        """o [classes, images] and weights_i J_i [images, gates], for weights on the logits [classes, images]."""

    def digest(self) -> str:
        """SHA-256 over all that the passes depend on."""


@dataclass(frozen=True, eq=False)
class Differentiable:
    """A whole network of which only passes forwards and derivatives are known.

    `score[j]` is the position of gate j's unit in the vector of all scores; -1: the gate stays at 1.
    """

    score: Index
    passes: GatedPasses


Op: TypeAlias = Affine | Relu | MaxPool | Add | Shift | ChannelGate | Differentiable


def not_lowered(what: str) -> InvalidModel:
    """The error for a network that can only be differentiated where its operations are needed.

    Args:
        what: needs them, in words.
    """
    return InvalidModel(f"{what} needs a lowered network, and this one can only be differentiated; use gate='linear'")


def per_activation(scores: Array, score: Index) -> Array:
    """The score of each activation, 1 where none acts on it.

    Args:
        scores: [units], the vector of all scores.
        score: [activations], the number of each activation's score, -1 for none.

    Returns:
        [activations], in [0, 1].
    """
    return np.append(scores, 1.0)[score]


def arrays_of(op: Op) -> tuple[NDArray[Any], ...]:
    """The arrays that say what an operation does, in a fixed order."""
    match op:
        case Affine(weight, bias):
            if isinstance(weight, np.ndarray):
                return weight, bias
            return weight.data, weight.indices, weight.indptr, bias
        case Relu(score) | ChannelGate(score):
            return (score,)
        case MaxPool(windows):
            return (windows,)
        case Add():
            return ()
        case Shift(score, amount):
            return score, amount
        case Differentiable(score, passes):
            return score, np.frombuffer(passes.digest().encode(), dtype=np.uint8)
        case _:
            assert_never(op)
