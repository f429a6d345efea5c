"""The reduced program in linopy: scores, unstable activations, the loss epigraph and the sparsity term.

minimise  loss_weight * mean theta + m q + sum_k p_k   (+ a tiny preference that breaks ties, see `sparsity`)
subject to  theta >= mean loss of its group of images      (loss cuts, added while solving)
            the cuts of stable activations and windows    (added when violated)
            inequalities (1) to (4) of unstable ReLUs     (`constraints.add_relu`)
            inequalities (5) to (7) of unstable windows   (`constraints.add_max_pool`)
            p_k >= t_k - q, p_k >= 0                       (`sparsity`)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from formulation.network import Index
from formulation.relaxation import Cuts, Reduction, groups, preference
from formulation.score_settings import ScoreSettings
from formulation.solve.constraints import add_sparsity, costs_of, labelled_array, linear_expression, new_model
from formulation.solve.encoding import add_inequalities, add_variables, encodings

if TYPE_CHECKING:
    from linopy import Model


@dataclass(frozen=True, eq=False)
class Program:
    """A linopy model and where our columns are in it.

    Attributes:
        model: the linopy model; its objective is the program's, with the loss epigraph still without loss cuts.
        preferred: how much the preference adds to the objective at most.
        labels: linopy's label of each of our columns, in the order [reduction | theta | mass, if lifted].
    """

    model: Model
    labels: Index
    preferred: float

    def add_cuts(self, name: str, cuts: Cuts) -> None:
        """Add cuts over our columns to the linopy model."""
        labels = self.labels[: cuts.matrix.shape[1]]
        for sign, bound in ((">=", cuts.lower), ("<=", cuts.upper)):
            finite = np.flatnonzero(np.isfinite(bound))
            if len(finite):
                dim = f"{name}{'_least' if sign == '>=' else '_most'}"
                lhs = linear_expression(self.model, cuts.matrix[finite], labels, np.zeros(len(finite)), dim)
                rhs = labelled_array(bound[finite], [(dim, np.arange(len(finite)))])
                self.model.add_constraints(lhs, sign, rhs, name=dim)


def build_program(reduction: Reduction, settings: ScoreSettings, *, integer: bool) -> Program:
    """The program of a reduced scoring set.

    Args:
        reduction: the scoring set in score space.
        settings: loss weight, layer weight, form of the cuts, and what `integer` restricts.
        integer: restrict `open` and `pick` (unless relaxed) and the scores (where asked for) to whole numbers.
    """
    model = new_model()
    network = reduction.network
    labels = np.zeros(reduction.columns, dtype=np.int64)
    for name, where in network.score_slices.items():
        whole = {"binary": True} if integer and settings.integer_scores else {"lower": 0.0, "upper": 1.0}
        score = model.add_variables(coords=[(name, np.arange(where.stop - where.start))], name=f"score_{name}", **whole)
        labels[where] = score.labels.values
    whole_phases = integer and not settings.relax
    unstable = encodings(reduction)
    for made in unstable:
        add_variables(model, made, labels, whole_phases=whole_phases)
    for made in unstable:
        add_inequalities(model, made, labels)
    weights = np.bincount(groups(reduction.images, settings.cuts)) / reduction.images
    coords = [("group", np.arange(len(weights)))]
    theta = model.add_variables(lower=0.0, coords=coords, name="theta")
    columns = [labels, theta.labels.values]
    if settings.cuts == "lifted":
        coords = [("group", np.arange(reduction.images)), ("class", np.arange(network.classes))]
        mass = model.add_variables(lower=0.0, upper=1.0, coords=coords, name="mass")
        model.add_constraints(mass.sum("class") <= 1, name="mass")
        columns.append(mass.labels.values.ravel())
    added, counts = add_sparsity(model, network, settings.layer_weight)
    preferred = preference(network, settings.gap) if settings.break_ties else np.zeros(reduction.scores)
    priced = np.concatenate([theta.labels.values, added, labels[: reduction.scores]])
    costs = np.concatenate([settings.loss_weight * weights, counts, preferred])
    model.add_objective(costs_of(model, priced, costs), sense="min")
    return Program(model, np.concatenate(columns), float(preferred.sum()))
