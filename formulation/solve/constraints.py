"""Constraints of linopy, whole arrays at a time: those of unstable ReLUs and windows, and of the sparsity term.

linopy, xarray and pandas take a second to import, and are imported when a program is first written.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.sparse import csr_array, hstack

from formulation.network import Array, Index, Network
from formulation.relaxation import (
    Form,
    Products,
    counted,
    layer_weight,
    one_is_picked,
    pool_inequalities,
    relu_inequalities,
    split_relu_inequalities,
)
from naming import LayerWeight

if TYPE_CHECKING:
    from linopy import LinearExpression, Model, Variable
    from xarray import DataArray


def import_linopy() -> None:
    """Import whatever writes programs: outside of a time limit, where it is called before the clock starts."""
    import dask.array  # noqa: F401  (xarray imports it with its first array: seconds, in the middle of a call)
    import linopy

    # linopy's legacy arithmetic aligns mismatched coordinates in silence; v1 raises. An option of the whole process.
    linopy.options["semantics"] = "v1"


def new_model() -> Model:
    """A linopy model without variables."""
    import_linopy()
    from linopy import Model

    return Model()


def labelled_array(values: Array, coords: Any, dims: Sequence[str] | None = None) -> DataArray:
    """Values over the coordinates of variables, as xarray has them.

    Args:
        values: in the shape of the coordinates.
        coords: a name and positions for each dimension, or the coordinates of a variable.
        dims: the names of the dimensions, where the coordinates do not say their order.
    """
    from xarray import DataArray

    return DataArray(values, coords=coords, dims=dims)


def total_of(terms: Sequence[Any]) -> LinearExpression:
    """The sum of expressions of one model."""
    from linopy import merge

    return merge(terms, dim="_term")


def linear_expression(model: Model, matrix: csr_array, labels: Index, constant: Array, dim: str) -> LinearExpression:
    """matrix @ variables + constant as an expression over a dimension.

    Args:
        model: that holds the variables.
        matrix: [k, columns], sparse.
        labels: [columns], linopy's labels of the variables.
        constant: [k].
        dim: the name of the expression's dimension, of length k.
    """
    from linopy import LinearExpression
    from xarray import Dataset

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
    symbols: Mapping[str, Form],
    labels: Index,
    *,
    dim: str,
    cap: Array,
    big_m: Array,
    cut: bool,
) -> None:
    """Add (2) to (4), and with `cut` the valid inequality, of a gated ReLU over one dimension of unstable activations.

    Args:
        model: changed in place.
        name: of the layer; the constraints are named `<family>_<name>`, see `relaxation.inequalities`.
        symbols: `h`, `open`, `y` and `s`: activation, phase, pre-activation and score of its unit, as forms.
        labels: linopy's labels of the forms' columns.
        dim: the name of the dimension.
        cap: u+ per activation.
        big_m: M per activation, negative.
        cut: add the valid inequality.
    """
    h, active, y, s = (Products.of(symbol) for symbol in ("h", "open", "y", "s"))
    for family, stated in relu_inequalities(h, active, y, s, cap, big_m, cut=cut):
        rows = _total(stated, symbols, (len(cap), len(labels)))
        left = linear_expression(model, rows.matrix, labels, np.zeros(len(cap)), dim)
        right = labelled_array(-rows.constant, [(dim, np.arange(len(cap)))])
        model.add_constraints(left, ">=", right, name=f"{family}_{name}")


def _total(stated: Products, symbols: Mapping[str, Form], shape: tuple[int, int]) -> Form:
    """A sum of products of forms and numbers as forms, in one: linopy takes many times as long to add expressions."""
    matrix, constant = csr_array(shape), np.zeros(shape[0])
    for symbol, numbers in stated.each:
        factor = np.broadcast_to(numbers, shape[0])
        if symbol:
            form = symbols[symbol].widened(shape[1]).scaled(factor)
            matrix, constant = csr_array(matrix + form.matrix), constant + form.constant
        else:
            constant = constant + factor
    return Form(matrix, constant)


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
    return labelled_array(values, variable.coords, variable.dims)


def costs_of(model: Model, labels: Index, costs: Array) -> LinearExpression:
    """The sum of variables times their costs, written at once.

    Args:
        model: that holds the variables.
        labels: [columns], linopy's labels of the variables.
        costs: [columns].
    """
    return linear_expression(model, csr_array(costs[None, :]), labels, np.zeros(1), "objective").sum()


def add_sparsity(model: Model, network: Network, weight: LayerWeight) -> tuple[Index, Array]:
    """Add q, p and, over the layers, p_k >= t_k - q for the variables `score_<layer>`.

    Args:
        model: changed in place.
        network: whose layers are counted.
        weight: how they are weighted.

    Returns:
        The labels of q and p, and their costs, of which the sparsity term m q + sum_k p_k is the sum.
    """
    count = len(network.layers)
    units = np.array([layer.units for layer in network.layers])
    share = 1 / np.array([layer_weight(network, layer, weight) for layer in network.layers])
    scores = np.concatenate([model.variables[f"score_{layer.name}"].labels.values for layer in network.layers])
    level = model.add_variables(name="level")
    excess = model.add_variables(lower=0.0, coords=[("layer", np.arange(count))], name="excess")
    added = np.append(level.labels.values, excess.labels.values)
    each = np.repeat(np.arange(count), units)
    shares = csr_array((np.repeat(share, units), (each, np.arange(len(scores)))), shape=(count, len(scores)))
    left = hstack([-shares, csr_array(np.ones((count, 1))), csr_array(np.eye(count))], format="csr")
    right = labelled_array(-2 * units * share, [("layer", np.arange(count))])
    terms = linear_expression(model, csr_array(left), np.concatenate([scores, added]), np.zeros(count), "layer")
    model.add_constraints(terms, ">=", right, name="sparsity")
    return added, np.append(float(counted(network, weight)), np.ones(count))
