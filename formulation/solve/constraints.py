"""Constraints of linopy, whole arrays at a time: those of unstable ReLUs and windows, and of the sparsity term."""

from __future__ import annotations

from collections.abc import Mapping

import linopy
import numpy as np
from linopy import LinearExpression, Model, Variable
from scipy.sparse import csr_array
from xarray import DataArray, Dataset

from formulation.network import Array, Index, Network
from formulation.relaxation import (
    counted,
    layer_weight,
    one_is_picked,
    pool_inequalities,
    relu_inequalities,
    split_relu_inequalities,
)
from naming import LayerWeight

# linopy's legacy arithmetic aligns mismatched coordinates in silence; v1 raises. It is an option of the whole process.
linopy.options["semantics"] = "v1"


def linear_expression(model: Model, matrix: csr_array, labels: Index, constant: Array, dim: str) -> LinearExpression:
    """matrix @ variables + constant as an expression over a dimension.

    Args:
        model: that holds the variables.
        matrix: [k, columns], sparse.
        labels: [columns], linopy's labels of the variables.
        constant: [k].
        dim: the name of the expression's dimension, of length k.
    """
    matrix = csr_array(matrix, copy=True)
    matrix.eliminate_zeros()
    rows, terms = matrix.shape[0], np.diff(matrix.indptr)
    row = np.repeat(np.arange(rows), terms)
    place = np.arange(matrix.nnz) - matrix.indptr[row]
    coefficients = np.full((rows, max(1, int(terms.max(initial=0)))), np.nan)
    variables = np.full(coefficients.shape, -1)
    coefficients[row, place] = matrix.data
    variables[row, place] = labels[matrix.indices]
    data = {"coeffs": ((dim, "_term"), coefficients), "vars": ((dim, "_term"), variables), "const": (dim, constant)}
    return LinearExpression(Dataset(data, coords={dim: np.arange(rows)}), model)


def add_relu(
    model: Model,
    name: str,
    *,
    y: LinearExpression,
    score: LinearExpression,
    hidden: Variable,
    open_: Variable,
    cap: Array,
    big_m: Array,
    cut: bool,
) -> None:
    """Add (2) to (4), and with `cut` the valid inequality, of a gated ReLU over one dimension of unstable activations.

    Args:
        model: changed in place.
        name: of the layer; the constraints are named `<family>_<name>`, see `relaxation.inequalities`.
        y, score, hidden, open_: pre-activation, score of its unit, activation and phase, over one shared dimension.
        cap: u+ per activation.
        big_m: M per activation, negative.
        cut: add the valid inequality.
    """
    u, m = _along(hidden, cap), _along(hidden, big_m)
    for family, constraint in relu_inequalities(hidden, open_, y, score, u, m, cut=cut):
        model.add_constraints(constraint, name=f"{family}_{name}")


def add_split_relu(
    model: Model,
    names: Mapping[str, str],
    *,
    y: LinearExpression,
    hidden: Variable,
    rest: Variable,
    open_: Variable,
    box: tuple[Array, Array],
) -> None:
    """Add a ReLU that no score acts on, its pre-activation split into `hidden` less `rest`.

    Args:
        model: changed in place.
        names: of the constraints by family, see `relaxation.inequalities`.
        y, hidden, rest, open_: pre-activation, activation, what is below 0, and phase, over one shared dimension.
        box: l and u per activation, l < 0 < u.
    """
    low, high = (_along(hidden, bound) for bound in box)
    for family, constraint in split_relu_inequalities(hidden, rest, open_, y, low, high):
        model.add_constraints(constraint, name=names[family])


def add_max_pool(
    model: Model,
    names: Mapping[str, str],
    *,
    output: LinearExpression,
    inputs: LinearExpression,
    pick: Variable,
    slack: Array,
    picks: LinearExpression,
) -> None:
    """Add (5) to (7) of unstable max-pool windows, written over their members: one entry per window and input in it.

    Args:
        model: changed in place.
        names: of the constraints by family, see `relaxation.inequalities`.
        output: the window's out, over the members.
        inputs, pick: h_j and pick_j, over the members.
        slack: of (6) per member.
        picks: sum_j pick_j, over the windows.
    """
    for family, constraint in pool_inequalities(output, pick, inputs, _along(pick, slack)):
        model.add_constraints(constraint, name=names[family])
    family, constraint = one_is_picked(picks)
    model.add_constraints(constraint, name=names[family])


def _along(variable: Variable, values: Array) -> DataArray:
    """Values over the dimensions of a variable."""
    return DataArray(values, dims=variable.dims, coords=variable.coords)


def add_sparsity(model: Model, network: Network, weight: LayerWeight) -> LinearExpression:
    """Add q, p and, over the layers, p_k >= t_k - q for the variables `score_<layer>`; returns m q + sum_k p_k."""
    each = np.arange(len(network.layers))
    units = np.array([layer.units for layer in network.layers])
    share = 1 / np.array([layer_weight(network, layer, weight) for layer in network.layers])
    labels = np.concatenate([model.variables[f"score_{layer.name}"].labels.values for layer in network.layers])
    shares = csr_array((np.repeat(share, units), (np.repeat(each, units), np.arange(len(labels)))))
    level = model.add_variables(name="level")
    excess = model.add_variables(lower=0.0, coords=[("layer", each)], name="excess")
    terms = linear_expression(model, shares, labels, -2 * units * share, "layer")
    model.add_constraints(excess + level >= terms, name="sparsity")
    return linopy.merge([counted(network, weight) * level, excess.sum()], dim="_term")
