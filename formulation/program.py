"""The reduced program in linopy: scores, undecided activations, the loss epigraph and the sparsity term.

minimise  loss_weight * mean_i theta_i + m q + sum_k p_k
subject to  theta_i >= loss of image i                     (planes, added while solving)
            the rows of decided activations                (added when violated)
            inequalities (1) to (4) of undecided ones      (`constraints.add_relu`)
            p_k >= t_k - q, p_k >= 0                       (`sparsity`)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import linopy
import numpy as np
from linopy import Model
from scipy.sparse import csr_array, vstack
from xarray import DataArray

from formulation.constraints import add_relu, linear
from formulation.gates import UNDECIDED
from formulation.loss import Rows
from formulation.reduction import GatedLayer, Index, Reduction, sparse_rows
from formulation.settings import ScoreSettings
from formulation.sparsity import add_sparsity


@dataclass(frozen=True, eq=False)
class Program:
    """A linopy model and where our columns are in it.

    Attributes:
        model: the linopy model; its objective is the program's, with the loss epigraph still without planes.
        labels: linopy's label of each of our columns, in the order [reduction | theta | mass, if lifted].
    """

    model: Model
    labels: Index

    def add_rows(self, name: str, rows: Rows) -> None:
        """Add rows over our columns to the linopy model."""
        labels = self.labels[: rows.matrix.shape[1]]
        for sign, bound in ((">=", rows.lower), ("<=", rows.upper)):
            finite = np.flatnonzero(np.isfinite(bound))
            if len(finite):
                dim = f"{name}{'_least' if sign == '>=' else '_most'}"
                lhs = linear(self.model, rows.matrix[finite], labels, np.zeros(len(finite)), dim)
                rhs = DataArray(bound[finite], dims=[dim], coords={dim: np.arange(len(finite))})
                self.model.add_constraints(lhs, sign, rhs, name=dim)


def build(reduction: Reduction, settings: ScoreSettings, *, integer: bool) -> Program:
    """The program of a reduced scoring set.

    Args:
        reduction: the scoring set in score space.
        settings: loss weight, layer weight, form of the cuts, and what `integer` restricts.
        integer: restrict `open` (unless relaxed) and the scores (where asked for) to whole numbers.
    """
    model = Model()
    network, images = reduction.network, len(reduction.labels)
    labels = np.zeros(reduction.columns, dtype=np.int64)
    for name, where in network.score_slices.items():
        whole = {"binary": True} if integer and settings.integer_scores else {"lower": 0.0, "upper": 1.0}
        score = model.add_variables(coords=[(name, np.arange(where.stop - where.start))], name=f"score_{name}", **whole)
        labels[where] = score.labels.values
    layers: dict[str, list[GatedLayer]] = {}
    for part in reduction.parts:
        for gated in part.gated:
            layers.setdefault(gated.layer, []).append(gated)
    for name, slices in layers.items():
        _add_undecided(model, name, slices, labels, integer=integer and not settings.relax)
    theta = model.add_variables(lower=0.0, coords=[("image", np.arange(images))], name="theta")
    objective = (settings.loss_weight / images) * theta.sum()
    columns = [labels, theta.labels.values]
    if settings.cuts == "lifted":
        coords = [("image", np.arange(images)), ("class", np.arange(network.classes))]
        mass = model.add_variables(lower=0.0, upper=1.0, coords=coords, name="mass")
        model.add_constraints(mass.sum("class") <= 1, name="mass")
        columns.append(mass.labels.values.ravel())
    total = linopy.merge([objective, add_sparsity(model, network, settings.layer_weight)], dim="_term")
    model.add_objective(total, sense="min")
    return Program(model, np.concatenate(columns))


def _add_undecided(model: Model, name: str, slices: list[GatedLayer], labels: Index, *, integer: bool) -> None:
    """Variables and inequalities of a layer's undecided activations, over all slices of the scoring set."""
    waiting = [gated.gate.state == UNDECIDED for gated in slices]
    count = sum(int(w.sum()) for w in waiting)
    if not count:
        return
    cap = _picked(waiting, [g.gate.cap for g in slices])
    dim = f"undecided_{name}"
    coords = [(dim, np.arange(count))]
    hidden = model.add_variables(0.0, DataArray(cap, coords=coords), name=f"hidden_{name}")
    phase = {"binary": True} if integer else {"lower": 0.0, "upper": 1.0}
    open_ = model.add_variables(coords=coords, name=f"open_{name}", **phase)
    labels[_picked(waiting, [g.hidden for g in slices])] = hidden.labels.values
    labels[_picked(waiting, [g.open for g in slices])] = open_.labels.values
    width = len(labels)
    y_rows, y_constant, own = [], [], []
    for gated, w in zip(slices, waiting, strict=True):
        j, i = np.nonzero(w)
        y_rows.append(sparse_rows(gated.forms.coefficients[j, i], gated.forms.columns[i], width))
        y_constant.append(gated.forms.constant[j, i])
        own.append(gated.score[j])
    unit = np.concatenate(own)
    score = csr_array((np.ones(count), (np.arange(count), unit)), shape=(count, width))
    add_relu(
        model,
        name,
        y=linear(model, csr_array(vstack(y_rows, format="csr")), labels, np.concatenate(y_constant), dim),
        score=linear(model, score, labels, np.zeros(count), dim),
        hidden=hidden,
        open_=open_,
        cap=cap,
        big_m=_picked(waiting, [g.gate.big_m for g in slices]),
        cut=slices[0].gate.cut,
    )


def _picked(waiting: list[np.ndarray], values: Sequence[np.ndarray]) -> np.ndarray:
    return np.concatenate([np.asarray(value)[w] for value, w in zip(values, waiting, strict=True)])
