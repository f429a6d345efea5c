"""The program in linopy; oracle 3: under `exact` every mask is feasible with the masked torch network's logits."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from formulation import InfeasibleProgram, score
from formulation.solve.program import build_program
from formulation.solve.separation import Separation, complete
from formulation.solve.solvers import open_session
from tests.formulation.cases import (
    SMALL,
    Case,
    batchnorm_after_relu,
    concatenated,
    conv1d_series,
    conv_pool,
    dense,
    logits_at,
    max_pooled,
    random_masks,
    residual,
    strided_grouped,
    tabular,
)
from tests.formulation.paper_settings import paper_settings


@pytest.mark.parametrize(
    ("make", "radius", "count"),
    [
        (dense, 0.0, 200), (dense, 0.02, 200), (conv_pool, 0.01, 200), (strided_grouped, 0.0, 200),
        (max_pooled, 0.0, 30), (max_pooled, 0.02, 30), (residual, 0.01, 30), (concatenated, 0.01, 30),
        (conv1d_series, 0.02, 30), (tabular, 0.02, 100), (batchnorm_after_relu, 0.0, 30),
        (batchnorm_after_relu, 0.02, 30),
    ],
)  # fmt: skip
def test_every_mask_fixed_into_the_program_gives_the_masked_torch_networks_logits(
    make: Callable[[], Case], radius: float, count: int
) -> None:
    case = make()
    settings = paper_settings(gate="exact", relax=False, radius=radius)
    reduction = case.reduction(settings)
    assert reduction.unstable > 0
    session = open_session(build_program(reduction, settings, integer=True), settings)
    network = reduction.network
    columns = np.arange(reduction.scores)
    rng = np.random.default_rng(7)
    whole = case.masked_logits({name: np.ones(units) for name, units in network.units.items()})
    bites = 0
    for keep in np.linspace(0.1, 0.9, count):
        masks = random_masks(network.units, rng, keep)
        session.fix(columns, network.stack(masks))
        answer = session.solve(60.0, 1e-9)  # raises where infeasible
        assert answer.complete
        assert answer.point is not None
        expected = case.masked_logits(masks)
        np.testing.assert_allclose(logits_at(reduction, answer.point), expected, atol=1e-6)
        np.testing.assert_array_equal(answer.point[columns], network.stack(masks))
        bites += bool(np.abs(expected - whole).max() > 0.01)
    assert bites > count / 2  # the masks do change the logits


@pytest.mark.parametrize("name", sorted(SMALL))
def test_completing_a_mask_by_hand_gives_the_same_logits_without_a_solver(name: str) -> None:
    case = SMALL[name]()
    reduction = case.reduction(paper_settings(gate="exact", relax=False, radius=0.01))
    rng = np.random.default_rng(3)
    for keep in np.linspace(0.1, 0.9, 30):
        masks = random_masks(reduction.network.units, rng, keep)
        point, logits = complete(reduction, reduction.network.stack(masks))
        np.testing.assert_allclose(logits_at(reduction, point), logits, atol=1e-12)
        np.testing.assert_allclose(logits, case.masked_logits(masks), atol=1e-12)


def test_almost_no_mask_is_feasible_in_the_published_program() -> None:
    """Why `exact` exists: l <= y <= 0 of an inactive unit holds the units before it in place."""
    case = dense(hidden=(8, 6))
    settings = paper_settings(gate="published", relax=False, radius=0.02)
    reduction = case.reduction(settings)
    separation = Separation(reduction)
    session = open_session(build_program(reduction, settings, integer=True), settings)
    rng = np.random.default_rng(5)
    feasible = []
    for keep in [*np.linspace(0.1, 0.8, 40), 1.0]:
        masks = random_masks(reduction.network.units, rng, keep)
        session.fix(np.arange(reduction.scores), reduction.network.stack(masks))
        try:
            answer = session.solve(60.0, 1e-9)
        except InfeasibleProgram:
            feasible.append(False)
        else:
            assert answer.point is not None
            point = answer.point[: reduction.columns]
            feasible.append(separation.inspect(point, shares=()).violation <= 1e-8)
    assert feasible[-1]  # nothing removed
    assert sum(feasible) <= 4


def test_every_variable_and_constraint_bears_its_nodes_name() -> None:
    settings = paper_settings(gate="exact", relax=False, radius=0.02, cuts="lifted")
    program = build_program(dense().reduction(settings), settings, integer=True)
    gates = {f"{what}_{node}" for what in ("hidden", "open") for node in ("2", "4")}
    assert set(program.model.variables) == gates | {"score_1", "score_3", "theta", "mass", "level", "excess"}
    rows = {f"{what}_{node}" for what in ("closed", "above", "open", "cut") for node in ("2", "4")}
    assert set(program.model.constraints) == rows | {"mass", "sparsity"}
    pooled = build_program(max_pooled(1).reduction(settings), settings, integer=True)
    assert {"out_2", "pick_2"} <= set(pooled.model.variables)
    assert {"largest_2", "picked_2", "one_2"} <= set(pooled.model.constraints)


@pytest.mark.parametrize(("relax", "integer_scores"), [(True, False), (True, True), (False, False), (False, True)])
def test_what_is_whole_is_what_the_settings_say(relax: bool, integer_scores: bool) -> None:
    settings = paper_settings(radius=0.1, relax=relax, integer_scores=integer_scores)
    reduction = dense(1).reduction(settings)
    assert reduction.unstable > 0
    model = build_program(reduction, settings, integer=True).model
    whole = {name for name in model.variables if model.variables[name].attrs["binary"]}
    expected = {name for name, holds in (("open", not relax), ("score", integer_scores)) if holds}
    assert {name.partition("_")[0] for name in whole} == expected
    relaxed = build_program(reduction, settings, integer=False).model
    assert not any(relaxed.variables[name].attrs["binary"] for name in relaxed.variables)


def test_picks_are_whole_where_phases_are() -> None:
    for relax in (True, False):
        settings = paper_settings(radius=0.1, relax=relax)
        variables = build_program(max_pooled(1).reduction(settings), settings, integer=True).model.variables
        picks = [name for name in variables if name.startswith("pick_")]
        assert picks
        assert all(variables[name].attrs["binary"] is not relax for name in picks)


def test_a_layer_may_be_called_like_one_of_the_programs_own_dimensions() -> None:
    class Awkward(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.image, self.layer, self.score_image, self.out = (nn.Linear(4, 4) for _ in range(4))
            self.flat, self.relu = nn.Flatten(), nn.ReLU()

        def forward(self, x: Tensor) -> Tensor:
            x = self.relu(self.image(self.flat(x)))
            return self.out(self.relu(self.score_image(self.relu(self.layer(x)))))

    model = Awkward().eval()
    for cuts in ("tangent", "lifted"):
        solution = score(model, torch.rand(4, 1, 2, 2), [0, 1, 2, 3], paper_settings(cuts=cuts, radius=0.1))
        assert list(solution.scores) == ["image", "layer", "score_image"]
