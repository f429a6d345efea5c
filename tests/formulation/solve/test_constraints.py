"""The four inequalities as linopy writes them, against the inequalities evaluated by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from linopy import Model
from scipy.sparse import csr_array

from formulation.relaxation import Form
from formulation.solve.constraints import add_relu, linear_expression
from tests.formulation.oracles import repeatable

unit = st.floats(0.0, 1.0)
few = settings(repeatable, max_examples=15)  # each builds a linopy model


def largest_residual(model: Model, values: dict[str, np.ndarray]) -> float:
    """The largest violation of any constraint of a model at given values."""
    point = np.zeros(int(model.matrices.vlabels.max()) + 1)
    for name, value in values.items():
        point[model.variables[name].labels.values.ravel()] = value.ravel()
    matrices = model.matrices
    excess = matrices.A @ point[matrices.vlabels] - matrices.b
    return float(
        np.where(matrices.sense == "<", excess, np.where(matrices.sense == ">", -excess, np.abs(excess))).max()
    )


@few
@given(
    low=st.floats(-2, -0.1), high=st.floats(0.1, 2), y=st.floats(-3, 3), s=unit, h=st.floats(0, 3), open_=unit,
    cut=st.booleans(), lifted_m=st.booleans(),
)  # fmt: skip
def test_the_written_rows_are_the_four_inequalities_and_the_cut(low, high, y, s, h, open_, cut, lifted_m):
    model, coords = Model(), [("unstable", np.arange(1))]
    variables = {name: model.add_variables(coords=coords, name=name) for name in ("y", "s", "h", "open")}
    big_m = low - high if lifted_m else low
    labels = np.concatenate([each.labels.values for each in variables.values()])
    symbols = {
        name: Form(csr_array(np.eye(1, len(labels), place)), np.zeros(1)) for place, name in enumerate(variables)
    }
    add_relu(model, "layer", symbols, labels, dim="unstable", cap=np.array([high]), big_m=np.array([big_m]), cut=cut)
    gated = y - (1 - s) * high
    by_hand = [h - open_ * high, gated - h, h - gated + (1 - open_) * big_m] + [h - s * high] * cut
    values = {"y": y, "s": s, "h": h, "open": open_}
    found = largest_residual(model, {name: np.array([value]) for name, value in values.items()})
    assert found == pytest.approx(max(by_hand), abs=1e-9)
    assert len(model.constraints) == 3 + cut


@repeatable
@given(seed=st.integers(0, 10_000), rows=st.integers(1, 5), columns=st.integers(1, 6), density=st.floats(0, 1))
def test_a_sparse_matrix_becomes_the_same_linear_expression(seed, rows, columns, density):
    rng = np.random.default_rng(seed)
    dense = rng.normal(size=(rows, columns)) * (rng.random((rows, columns)) < density)
    constant, point = rng.normal(size=rows), rng.normal(size=columns)
    model = Model()
    first = model.add_variables(coords=[("a", np.arange(3))], name="first")
    variables = model.add_variables(coords=[("b", np.arange(columns))], name="x")
    assert first.labels.values.max() < variables.labels.values.min()
    made = linear_expression(model, csr_array(dense), variables.labels.values, constant, "row")
    model.add_constraints(made >= 0, name="rows")
    if not dense.any():
        return  # linopy leaves rows without terms out
    matrices = model.matrices
    full = np.zeros(int(matrices.vlabels.max()) + 1)
    full[variables.labels.values] = point
    kept = dense.any(axis=1)
    found = matrices.A @ full[matrices.vlabels] - matrices.b
    np.testing.assert_allclose(
        found[found != 0] if not kept.all() else found, (dense @ point + constant)[kept], atol=1e-12
    )


def test_explicit_zeros_do_not_become_terms() -> None:
    model = Model()
    x = model.add_variables(coords=[("x", np.arange(3))], name="x")
    matrix = csr_array((np.array([1.0, 0.0, 2.0]), np.array([0, 1, 2]), np.array([0, 3])), shape=(1, 3))
    made = linear_expression(model, matrix, x.labels.values, np.zeros(1), "row")
    assert sorted(made.vars.values.ravel().tolist()) == [0, 2]
