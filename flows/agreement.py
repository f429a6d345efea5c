"""How far score vectors of the same units agree: Spearman's rank correlation, ties averaged."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

Values = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Agreement:
    """How far several score vectors of one layer agree.

    Attributes:
        correlations: Spearman's, [vectors, vectors]; NaN in the rows and columns of constant vectors.
        constant: how many vectors are constant: they order no units, and no pair with one counts.
        pairs: how many pairs count.
    """

    correlations: Values
    constant: int
    pairs: int

    @property
    def mean(self) -> float | None:
        """The mean over the pairs that count; None without any."""
        return float(self._counted().mean()) if self.pairs else None

    @property
    def smallest(self) -> float | None:
        """The smallest of the pairs that count; None without any."""
        return float(self._counted().min()) if self.pairs else None

    def _counted(self) -> Values:
        upper = self.correlations[np.triu_indices(len(self.correlations), 1)]
        return upper[~np.isnan(upper)]


def spearman(first: Values, second: Values) -> Values:
    """Spearman's correlation of every row of `first` [n, units] with every row of `second` [m, units]: [n, m].

        rho(x, y) = Pearson's correlation of ranks(x) and ranks(y), where equal values share the mean of their ranks

    NaN where a row is constant.
    """
    left, right = _standardised(first), _standardised(second)
    return np.clip(left @ right.T, -1.0, 1.0)


def agreement(values: Values) -> Agreement:
    """The agreement of score vectors [vectors, units]."""
    correlations = spearman(values, values)
    constant = int(np.isnan(np.diag(correlations)).sum())
    varied = len(values) - constant
    return Agreement(correlations, constant, varied * (varied - 1) // 2)


def agreement_by_layer(values: Mapping[str, Values]) -> dict[str, Agreement]:
    """The agreement of each layer's score vectors [vectors, units]."""
    return {layer: agreement(each) for layer, each in values.items()}


def _standardised(values: Values) -> Values:
    """Ranks of each row, of mean 0 and length 1; NaN where a row is constant."""
    centred = rankdata(values, axis=1) - (values.shape[1] + 1) / 2
    lengths = np.linalg.norm(centred, axis=1, keepdims=True)
    made: Values = centred / np.where(lengths > 0, lengths, np.nan)
    return made
