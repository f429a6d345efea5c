"""Rank correlation of score vectors of the same units: Spearman's, ties averaged."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

RankedValues = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Agreement:
    """How far several score vectors of one layer agree.

    Attributes:
        correlations: Spearman's, [vectors, vectors]; NaN in the rows and columns of constant vectors.
        constant: how many vectors are constant: they order no units, and no pair with one counts.
        pairs: how many pairs count.
    """

    correlations: RankedValues
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

    def _counted(self) -> RankedValues:
        upper = self.correlations[np.triu_indices(len(self.correlations), 1)]
        return upper[~np.isnan(upper)]


def spearman(first: RankedValues, second: RankedValues) -> RankedValues:
    """Spearman's correlation of every row of `first` [n, units] with every row of `second` [m, units]: [n, m].

        rho(x, y) = Pearson's correlation of ranks(x) and ranks(y), where equal values share the mean of their ranks

    NaN where a row is constant or holds a NaN.
    """
    vectors = pd.DataFrame(np.concatenate([first, second]).T)
    # Without a smallest number of values, pandas would leave out the units that are NaN.
    found: RankedValues = vectors.corr(method="spearman", min_periods=len(vectors)).to_numpy()
    return found[: len(first), len(first) :]


def agreement(values: RankedValues) -> Agreement:
    """The agreement of score vectors [vectors, units]."""
    correlations = spearman(values, values)
    constant = int(np.isnan(np.diag(correlations)).sum())
    varied = len(values) - constant
    return Agreement(correlations, constant, varied * (varied - 1) // 2)


def agreement_by_layer(values: Mapping[str, RankedValues]) -> dict[str, Agreement]:
    """The agreement of each layer's score vectors [vectors, units]."""
    return {layer: agreement(each) for layer, each in values.items()}
