"""Forgeries that are refused: altered certificates, settings, duals and points."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from formulation import CheckFailed, FormulationError, InvalidSolution, Solution, check, lower, score
from formulation.network import Unstable
from formulation.relaxation.loss import cross_entropy
from formulation.relaxation.sparsity import sparsity
from tests.formulation.cases import dense
from tests.formulation.paper_settings import paper_settings
from tests.formulation.verify.solved import CASE, PUBLISHED, checked

PATTERN = paper_settings(gate="pattern", radius=0.0)


@pytest.mark.parametrize("field", ["objective", "bound", "gap", "cross_entropy", "sparsity"])
@pytest.mark.parametrize("by", [1e-3, -1e-3, 1.0])
@pytest.mark.parametrize("name", ["relaxed", "pattern"])
def test_an_altered_figure_of_the_certificate_is_refused(
    name: str, field: str, by: float, solutions: dict[str, Solution]
) -> None:
    certificate = solutions[name].certificate
    other = replace(certificate, **{field: getattr(certificate, field) + by})
    with pytest.raises(CheckFailed):
        checked(replace(solutions[name], certificate=other))


@pytest.mark.parametrize("field", ["objective", "bound", "gap", "cross_entropy", "sparsity"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_certificate_cannot_hold_what_is_no_number(value: float, field: str, solutions: dict[str, Solution]) -> None:
    with pytest.raises(InvalidSolution, match="certificate is damaged"):
        replace(solutions["relaxed"].certificate, **{field: value})


def test_a_bound_above_the_objective_is_the_solvers_mistake(solutions: dict[str, Solution]) -> None:
    certificate = solutions["relaxed"].certificate
    other = replace(certificate, bound=certificate.objective + 0.01, gap=0.0)
    with pytest.raises(CheckFailed, match=r"bound .* exceeds the objective"):
        checked(replace(solutions["relaxed"], certificate=other))


def test_optimal_at_a_larger_gap_than_asked_for_is_refused(solutions: dict[str, Solution]) -> None:
    certificate = solutions["relaxed"].certificate
    bound = certificate.objective - 0.1
    gap = 0.1 / max(1.0, abs(certificate.objective))
    with pytest.raises(CheckFailed, match="says optimal"):
        checked(replace(solutions["relaxed"], certificate=replace(certificate, bound=bound, gap=gap)))


@pytest.mark.parametrize(
    "settings",
    [
        {"loss_weight": 5.0},
        {"layer_weight": "network"},
        {"radius": 0.0},
        {"gate": "exact", "relax": False},
    ],
)
def test_other_settings_than_those_solved_are_refused(settings: dict[str, Any], solutions: dict[str, Solution]) -> None:
    certificate = solutions["relaxed"].certificate
    other = replace(certificate, settings={**certificate.settings, **settings})
    with pytest.raises((CheckFailed, InvalidSolution)):
        checked(replace(solutions["relaxed"], certificate=other))


def test_a_smaller_gap_than_was_reached_is_refused() -> None:
    solution = score(CASE.model, CASE.images, CASE.labels, replace(PUBLISHED, gap=0.05))
    certificate = solution.certificate
    assert certificate.gap > 1e-4
    other = replace(certificate, settings={**certificate.settings, "gap": 1e-5})
    with pytest.raises(CheckFailed, match="says optimal"):
        checked(replace(solution, certificate=other))


def test_another_model_is_refused(solutions: dict[str, Solution]) -> None:
    other = dense(1, images=4).model
    other[5].bias.data[0] += 1e-9
    with pytest.raises(InvalidSolution, match="another network"):
        check(other, CASE.images, CASE.labels, solutions["relaxed"])


def test_other_images_labels_or_their_order_are_refused(solutions: dict[str, Solution]) -> None:
    images, labels = CASE.images.clone(), CASE.labels.clone()
    images[0, 0, 0, 0] += 1e-9
    for case in ((images, CASE.labels), (CASE.images, (labels + 1) % 3), (CASE.images.flip(0), CASE.labels.flip(0))):
        with pytest.raises(InvalidSolution, match="other images or labels"):
            check(CASE.model, *case, solutions["relaxed"])
    with pytest.raises(InvalidSolution):
        check(CASE.model, CASE.images[:2], CASE.labels[:2], solutions["relaxed"])


DAMAGED: dict[str, Callable[[Solution], Solution]] = {
    "a layer is missing": lambda s: replace(s, scores=dict(list(s.scores.items())[:1])),
    "a layer is renamed": lambda s: replace(s, scores={f"x{name}": v for name, v in s.scores.items()}),
    "a unit is missing": lambda s: replace(s, scores={name: v[:-1] for name, v in s.scores.items()}),
    "scores are a table": lambda s: replace(s, scores={name: np.stack([v, v], axis=1) for name, v in s.scores.items()}),
    "scores are words": lambda s: replace(s, scores={name: v.astype(str) + "x" for name, v in s.scores.items()}),
    "the unstable values are missing": lambda s: replace(s, unstable={}),
    "an unstable value is missing": lambda s: replace(
        s, unstable={n: Unstable(v.where[1:], v.value[1:], v.phase[1:]) for n, v in s.unstable.items()}
    ),
    "places and values differ in number": lambda s: replace(
        s, unstable={n: replace(v, value=np.append(v.value, 0.0)) for n, v in s.unstable.items()}
    ),
    "a place beyond the layer": lambda s: replace(
        s, unstable={n: replace(v, where=v.where + 1000) for n, v in s.unstable.items()}
    ),
    "places in a row": lambda s: replace(
        s, unstable={n: replace(v, where=v.where.ravel()) for n, v in s.unstable.items()}
    ),
    "an unknown setting": lambda s: replace(
        s, certificate=replace(s.certificate, settings={**s.certificate.settings, "speed": 1})
    ),
    "no pixel range": lambda s: replace(
        s,
        certificate=replace(
            s.certificate, settings={k: v for k, v in s.certificate.settings.items() if k != "pixel_range"}
        ),
    ),
    "a setting out of range": lambda s: replace(
        s, certificate=replace(s.certificate, settings={**s.certificate.settings, "gap": -1})
    ),
    "an objective in words": lambda s: replace(s, certificate=replace(s.certificate, objective="low")),
    "an unknown status": lambda s: replace(s, certificate=replace(s.certificate, status="splendid")),
}


@pytest.mark.parametrize("damage", DAMAGED)
def test_a_damaged_solution_is_refused_in_one_line(damage: str, solutions: dict[str, Solution]) -> None:
    with pytest.raises(FormulationError) as refused:
        checked(DAMAGED[damage](solutions["relaxed"]))
    assert len(str(refused.value).splitlines()) == 1


def forged(solution: Solution, **changes: Any) -> Solution:
    """Every unit critical, called optimal at gap 0, with a certificate to match."""
    network = lower(CASE.model, CASE.images)
    ones = {name: np.ones(units) for name, units in network.units.items()}
    pixels = CASE.images.reshape(len(CASE.images), -1).numpy().T
    loss = float(cross_entropy(network.evaluate(pixels), CASE.labels.numpy()).mean())
    term = sparsity(network, network.stack(ones), PATTERN.layer_weight)
    objective = PATTERN.loss_weight * loss + term
    claims = {"objective": objective, "bound": objective, "gap": 0.0, "cross_entropy": loss, "sparsity": term}
    return replace(solution, scores=ones, certificate=replace(solution.certificate, **(claims | changes)))


@pytest.mark.parametrize(
    "claims",
    [
        {},
        {"proved_bound": None},
        {"proved_bound": None, "status": "stalled"},
        {"proved_bound": None, "status": "time_limit"},
        {"settings": replace(PATTERN, relax=False).to_dict(), "unstable": 7},
        {"settings": replace(PATTERN, relax=False).to_dict()},
        {"settings": replace(PATTERN, relax=False, integer_scores=True).to_dict(), "relaxation": -1.9},
        {"images": 3},
        {"columns": 4},
    ],
)
def test_a_forged_certificate_is_refused(claims: dict[str, Any]) -> None:
    solution = score(CASE.model, CASE.images, CASE.labels, PATTERN)
    assert (np.concatenate(list(solution.scores.values())) < 0.9).any()
    if claims.get("settings", {}).get("integer_scores"):
        # an integer program's bound is the solver's word, but a relaxation below its own proof is refused
        claims = claims | {"relaxation": solution.certificate.bound - 0.1}
    with pytest.raises((CheckFailed, InvalidSolution)):
        checked(forged(solution, **claims))


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan, "1.0"])
@pytest.mark.parametrize("what", ["proved_bound", "bound", "objective", "relaxation"])
def test_a_certificate_with_a_figure_that_is_none_is_refused(what: str, value: Any) -> None:
    solution = score(CASE.model, CASE.images, CASE.labels, PATTERN)
    with pytest.raises((CheckFailed, InvalidSolution)):
        checked(forged(solution, **{what: value}))


def test_altered_reduced_costs_are_refused() -> None:
    solution = score(CASE.model, CASE.images, CASE.labels, PATTERN)
    costs = {name: -values - 0.1 for name, values in solution.reduced_costs.items()}
    with pytest.raises(CheckFailed, match="reduced costs"):
        checked(replace(solution, reduced_costs=costs))


def test_a_proof_that_names_another_node_is_refused() -> None:
    solution = score(CASE.model, CASE.images, CASE.labels, PATTERN)
    assert solution.dual_bound is not None
    rows = np.array([[0, 0, 0]])
    moved = replace(solution.dual_bound, cuts=rows, cut_duals=np.ones(1))
    with pytest.raises(InvalidSolution, match="dual bound is damaged"):
        checked(replace(solution, dual_bound=moved))


def test_a_point_outside_the_program_that_beats_its_bound_is_refused() -> None:
    """Where the unpruned network's pre-activation is exactly 0 a unit is closed, and y > 0 breaks its row."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(2, 2, False), nn.ReLU(), nn.Linear(2, 1, False), nn.ReLU())
    model.append(nn.Linear(1, 2, bias=False)).double().eval()
    with torch.no_grad():
        model[1].weight.copy_(torch.eye(2))
        model[3].weight.copy_(torch.tensor([[1.0, -1.0]]))
        model[5].weight.copy_(torch.tensor([[4.0], [-4.0]]))
    images, labels = torch.ones(1, 1, 1, 2, dtype=torch.float64), torch.zeros(1, dtype=torch.int64)
    solution = score(model, images, labels, PATTERN)
    better = {"1": np.array([1.0, 0.0]), "3": np.ones(1)}
    with pytest.raises(CheckFailed, match="y <= 0 of an inactive unit"):
        check(model, images, labels, replace(solution, scores=better))
