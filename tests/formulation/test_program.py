"""The program in linopy; oracle 3: under `exact` every mask is feasible with the masked torch network's logits."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from formulation import InfeasibleProgram, ScoreSettings, score
from formulation.program import build
from formulation.separation import Separation
from formulation.solvers import open_session
from tests.formulation.cases import Case, conv_pool, dense, random_masks, strided_grouped

MASKS = 200


@pytest.mark.parametrize(
    ("make", "radius"),
    [(dense, 0.0), (dense, 0.02), (conv_pool, 0.01), (strided_grouped, 0.0)],
    ids=["dense", "dense in a box", "average pooling in a box", "strided and grouped"],
)
def test_every_mask_fixed_into_the_program_gives_the_masked_torch_networks_logits(
    make: Callable[[], Case], radius: float
) -> None:
    case = make()
    settings = ScoreSettings(gate="exact", relax=False, radius=radius)
    reduction = case.reduction(settings)
    undecided = len(reduction.hidden_columns)
    assert undecided > 0
    session = open_session(build(reduction, settings, integer=True), settings)
    network = reduction.network
    columns = np.arange(reduction.scores)
    rng = np.random.default_rng(7)
    whole = case.masked_logits({name: np.ones(units) for name, units in network.units.items()})
    bites = 0
    for keep in np.linspace(0.1, 0.9, MASKS):
        masks = random_masks(network.units, rng, keep)
        session.fix(columns, network.stack(masks))
        answer = session.solve(60.0, 1e-9)  # raises where infeasible
        assert answer.complete
        assert answer.point is not None
        expected = case.masked_logits(masks)
        np.testing.assert_allclose(reduction.logits(answer.point), expected, atol=1e-6)
        np.testing.assert_array_equal(answer.point[columns], network.stack(masks))
        bites += bool(np.abs(expected - whole).max() > 0.01)
    assert bites > MASKS / 2  # the masks do change the logits


@pytest.mark.parametrize("make", [dense, conv_pool, strided_grouped])
def test_completing_a_mask_by_hand_gives_the_same_logits_without_a_solver(make: Callable[[], Case]) -> None:
    case = make()
    reduction = case.reduction(ScoreSettings(gate="exact", relax=False, radius=0.01))
    rng = np.random.default_rng(3)
    for keep in np.linspace(0.1, 0.9, 30):
        masks = random_masks(reduction.network.units, rng, keep)
        point = reduction.complete(reduction.network.stack(masks))
        np.testing.assert_allclose(reduction.logits(point), case.masked_logits(masks), atol=1e-12)


def test_almost_no_mask_is_feasible_in_the_published_program() -> None:
    """Why `exact` exists: l <= y <= 0 of a closed unit holds the units before it in place."""
    case = dense(hidden=(8, 6))
    settings = ScoreSettings(gate="published", relax=False, radius=0.02)
    reduction = case.reduction(settings)
    separation = Separation(reduction, reduction.complete(np.ones(reduction.scores)))
    session = open_session(build(reduction, settings, integer=True), settings)
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
            feasible.append(separation.largest_violation(answer.point[: reduction.columns]) <= 1e-8)
    assert feasible[-1]  # nothing removed
    assert sum(feasible) <= 4


def test_every_variable_and_constraint_bears_its_layers_name() -> None:
    settings = ScoreSettings(gate="exact", relax=False, radius=0.02, cuts="lifted")
    program = build(dense().reduction(settings), settings, integer=True)
    variables = {"score_1", "score_3", "hidden_1", "hidden_3", "open_1", "open_3", "theta", "mass", "level", "excess"}
    assert set(program.model.variables) == variables
    gates = {f"{what}_{layer}" for what in ("closed", "above", "open", "cut") for layer in ("1", "3")}
    assert set(program.model.constraints) == gates | {"mass", "sparsity_1", "sparsity_3"}


@pytest.mark.parametrize(("relax", "integer_scores"), [(True, False), (True, True), (False, False), (False, True)])
def test_what_is_whole_is_what_the_settings_say(relax: bool, integer_scores: bool) -> None:
    settings = ScoreSettings(radius=0.1, relax=relax, integer_scores=integer_scores)
    reduction = dense(1).reduction(settings)
    assert len(reduction.open_columns) > 0
    model = build(reduction, settings, integer=True).model
    whole = {name for name in model.variables if model.variables[name].attrs["binary"]}
    expected = {name for name, holds in (("open", not relax), ("score", integer_scores)) if holds}
    assert {name.partition("_")[0] for name in whole} == expected
    relaxed = build(reduction, settings, integer=False).model
    assert not any(relaxed.variables[name].attrs["binary"] for name in relaxed.variables)


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
        solution = score(model, torch.rand(4, 1, 2, 2), [0, 1, 2, 3], ScoreSettings(cuts=cuts, radius=0.1))
        assert list(solution.scores) == ["image", "layer", "score_image"]
