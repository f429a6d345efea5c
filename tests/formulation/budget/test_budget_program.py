"""The two linear forms of a product of widths: one optimum, and columns that bear the layers' names."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from formulation import keep_within
from formulation.budget import budget_program
from formulation.budget.cost_terms import fold
from formulation.budget.layer_widths import choices

# a feeds b, b and a feed c, and what the first and the last layer cost by themselves
CHAIN = [(None, "a", 9.0), ("a", "b", 4.0), ("b", "c", 3.0), ("a", "c", 2.0), ("c", None, 5.0), (None, None, 7.0)]
WHOLE = 9.0 * 9 + 4.0 * 9 * 12 + 3.0 * 12 * 7 + 2.0 * 9 * 7 + 5.0 * 7 + 7.0


def scores() -> Mapping[str, np.ndarray]:
    rng = np.random.default_rng(1)
    return {layer: rng.random(units) for layer, units in zip("abc", (9, 12, 7), strict=True)}


@pytest.mark.parametrize("share", [0.2, 0.6])
def test_both_forms_of_a_product_have_the_same_optimum(share: float, monkeypatch: pytest.MonkeyPatch) -> None:
    carried = keep_within(scores(), CHAIN, share * WHOLE)
    monkeypatch.setattr(budget_program, "SHORT", 0)
    paired = keep_within(scores(), CHAIN, share * WHOLE)
    assert carried.value == pytest.approx(paired.value, abs=1e-7)


@pytest.mark.parametrize(("short", "form"), [(3, "carried"), (0, "paired")])
def test_columns_bear_the_layers_names(short: int, form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budget_program, "SHORT", short)
    layers = choices(scores(), allowed=None, grids=None, layer_weight="units")
    program = budget_program.build_budget_program(layers, fold(CHAIN, layers, None), WHOLE)
    pairs = [f"{form}_{pair}" for pair in ("a_b", "b_c", "a_c")]
    assert sorted(program.model.variables) == sorted(["keep_a", "keep_b", "keep_c", *pairs])


def test_a_layer_that_reads_its_own_units_costs_the_square_of_its_width() -> None:
    costs = [("a", "a", 2.0), (None, "b", 1.0), (None, "c", 1.0)]
    kept = keep_within(scores(), costs, 2.0 * 5 * 5 + 12 + 7)
    assert kept.widths["a"] == 5
