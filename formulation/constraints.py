"""The gate's inequalities as linopy constraints, whole arrays at a time."""

from __future__ import annotations

import linopy
import numpy as np
from linopy import LinearExpression, Model, Variable
from scipy.sparse import csr_array
from xarray import DataArray, Dataset

from formulation.network import Array, Index, Network
from formulation.settings import LayerWeight
from formulation.sparsity import counted, layer_weight

# linopy's legacy arithmetic aligns mismatched coordinates in silence; v1 raises. It is an option of the whole process.
linopy.options["semantics"] = "v1"


def linear(model: Model, matrix: csr_array, labels: Index, constant: Array, dim: str) -> LinearExpression:
    """matrix @ variables + constant as an expression over `dim`; `labels` are linopy's labels of the columns."""
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
    """Add a gated ReLU over one dimension of undecided activations.

        h >= 0                                      (1, the lower bound of the variable)
        h <= open * u+                              (2)
        h >= y - (1 - s) u+                         (3)
        h <= y - (1 - s) u+ - (1 - open) M          (4)
        h <= s u+                                   (where valid: `exact`)

    Args:
        model: changed in place.
        name: of the layer; the constraints are named `<what>_<name>`.
        y, score, hidden, open_: pre-activation, score of its unit, activation and phase, over one shared dimension.
        cap: u+ per activation.
        big_m: M per activation, negative.
        cut: add the last inequality.
    """
    u = DataArray(cap, dims=hidden.dims, coords=hidden.coords)
    m = DataArray(big_m, dims=hidden.dims, coords=hidden.coords)
    gated = y - (1 - score) * u
    model.add_constraints(hidden <= open_ * u, name=f"closed_{name}")
    model.add_constraints(hidden >= gated, name=f"above_{name}")
    model.add_constraints(hidden <= gated - (1 - open_) * m, name=f"open_{name}")
    if cut:
        model.add_constraints(hidden <= score * u, name=f"cut_{name}")


def add_max_pool(
    model: Model,
    name: str,
    *,
    output: LinearExpression,
    inputs: LinearExpression,
    pick: Variable,
    slack: Array,
    picks: LinearExpression,
) -> None:
    """Add undecided max-pool windows, written over their members: one entry per window and input in it.

        out >= h_j                                                (5)
        out <= h_j + (1 - pick_j) (max_k u_k - l_j)               (6)
        sum_j pick_j = 1                                          (7)

    Args:
        model: changed in place.
        name: of the max-pool; the constraints are named `<what>_<name>`.
        output: the window's out, over the members.
        inputs, pick: h_j and pick_j, over the members.
        slack: max_k u_k - l_j per member.
        picks: sum_j pick_j, over the windows.
    """
    m = DataArray(slack, dims=pick.dims, coords=pick.coords)
    model.add_constraints(output >= inputs, name=f"largest_{name}")
    model.add_constraints(output <= inputs + (1 - pick) * m, name=f"picked_{name}")
    model.add_constraints(picks == 1, name=f"one_{name}")


def add_sparsity(model: Model, network: Network, weight: LayerWeight) -> LinearExpression:
    """Add q, p and, over the layers, p_k >= t_k - q for the variables `score_<layer>`; returns m q + sum_k p_k."""
    each = np.arange(len(network.layers))
    units = np.array([layer.units for layer in network.layers])
    share = 1 / np.array([layer_weight(network, layer, weight) for layer in network.layers])
    labels = np.concatenate([model.variables[f"score_{layer.name}"].labels.values for layer in network.layers])
    shares = csr_array((np.repeat(share, units), (np.repeat(each, units), np.arange(len(labels)))))
    level = model.add_variables(name="level")
    excess = model.add_variables(lower=0.0, coords=[("layer", each)], name="excess")
    terms = linear(model, shares, labels, -2 * units * share, "layer")
    model.add_constraints(excess + level >= terms, name="sparsity")
    return linopy.merge([counted(network, weight) * level, excess.sum()], dim="_term")
