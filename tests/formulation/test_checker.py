"""Oracle 9: a true answer passes the replay, and every perturbed one is refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from formulation import CheckFailed, FormulationError, InvalidSolution, ScoreSettings, Solution, check, lower, score
from formulation.loss import cross_entropy
from formulation.solution import Undecided
from formulation.sparsity import sparsity
from tests.formulation.cases import SMALL, dense, max_pooled

CASE = dense(1, images=4)
PUBLISHED = ScoreSettings(radius=0.1, loss_weight=20)
SOLVED = {
    "relaxed": PUBLISHED,
    "integer": replace(PUBLISHED, relax=False),
    "exact": replace(PUBLISHED, gate="exact", relax=False, radius=0.0),
    "pattern": replace(PUBLISHED, gate="pattern", radius=0.0),
    "whole scores": replace(PUBLISHED, gate="exact", relax=False, integer_scores=True, radius=0.0),
}


@pytest.fixture(scope="module")
def solutions() -> dict[str, Solution]:
    return {name: score(CASE.model, CASE.images, CASE.labels, settings) for name, settings in SOLVED.items()}


def checked(solution: Solution) -> Any:
    return check(CASE.model, CASE.images, CASE.labels, solution)


@pytest.mark.parametrize("name", SOLVED)
def test_a_true_answer_passes_and_the_verdict_agrees_with_the_certificate(
    name: str, solutions: dict[str, Solution]
) -> None:
    verdict, certificate = checked(solutions[name]), solutions[name].certificate
    assert certificate.checked
    assert verdict.largest_residual == certificate.largest_residual <= 1e-6
    assert verdict.objective == pytest.approx(certificate.objective, abs=1e-9)
    assert verdict.bound == certificate.bound
    assert verdict.gap == pytest.approx(certificate.gap, abs=1e-9)
    assert verdict.images == len(CASE.images)


@pytest.mark.parametrize("name", sorted(SMALL))
@pytest.mark.parametrize(("gate", "radius"), [("published", 0.02), ("pattern", 0.0), ("exact", 0.01)])
def test_more_images_than_one_slice_pass(name: str, gate: str, radius: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """The program is built slice by slice, the checker replays all at once: sums may round differently."""
    monkeypatch.setattr("formulation.reduction.SLICE_IMAGES", 5)
    case = SMALL[name](2, images=18)
    settings = ScoreSettings(gate=gate, radius=radius, gap=0.3, allow_degenerate=True)
    solution = score(case.model, case.images, case.labels, settings)
    assert check(case.model, case.images, case.labels, solution).images == 18


@pytest.mark.parametrize("name", SOLVED)
@pytest.mark.parametrize("by", [1e-4, 0.1])
def test_a_moved_score_is_refused(name: str, by: float, solutions: dict[str, Solution]) -> None:
    """Unless it changes nothing: a unit that emits 0 on every image, of the layer that the objective leaves out."""
    solution = solutions[name]
    refused, harmless = 0, 0
    for layer, values in solution.scores.items():
        for unit in range(len(values)):
            other = values.copy()
            other[unit] += by if other[unit] < 0.5 else -by
            try:
                verdict = checked(replace(solution, scores={**solution.scores, layer: other}))
            except CheckFailed:
                refused += 1
            else:
                assert verdict.objective == pytest.approx(solution.certificate.objective, abs=1e-5)
                harmless += 1
    assert refused > 2 * harmless


@pytest.mark.parametrize("value", [-0.5, 1.5, np.nan, np.inf])
@pytest.mark.parametrize("name", SOLVED)
def test_a_score_out_of_range_is_refused(name: str, value: float, solutions: dict[str, Solution]) -> None:
    for layer, values in solutions[name].scores.items():
        other = values.copy()
        other[-1] = value
        with np.errstate(invalid="ignore"), pytest.raises(CheckFailed):
            checked(replace(solutions[name], scores={**solutions[name].scores, layer: other}))


def test_fractional_scores_are_refused_where_whole_ones_were_demanded(solutions: dict[str, Solution]) -> None:
    solution = solutions["whole scores"]
    layer = next(iter(solution.scores))
    other = solution.scores[layer].copy()
    other[0] = 0.5
    with pytest.raises(CheckFailed, match="integrality of the scores"):
        checked(replace(solution, scores={**solution.scores, layer: other}))


def perturbed(solution: Solution, part: str, by: Callable[[np.ndarray], np.ndarray]) -> list[Solution]:
    """One solution per undecided value, with that value changed."""
    made = []
    for layer, values in solution.undecided.items():
        for k in range(len(values.value)):
            changed = getattr(values, part).copy()
            changed[k] = by(changed[k])
            others = {**solution.undecided, layer: replace(values, **{part: changed})}
            made.append(replace(solution, undecided=others))
    assert made
    return made


@pytest.mark.parametrize("by", [0.01, -0.01, np.nan, np.inf])
@pytest.mark.parametrize("name", ["integer", "exact", "whole scores"])
def test_a_moved_hidden_value_is_refused(name: str, by: float, solutions: dict[str, Solution]) -> None:
    for changed in perturbed(solutions[name], "value", lambda value: value + by)[:6]:
        with np.errstate(invalid="ignore"), pytest.raises(CheckFailed):
            checked(changed)


@pytest.mark.parametrize("by", [1.5, -1.5, np.nan, np.inf])
@pytest.mark.parametrize("name", ["relaxed", "integer", "exact"])
def test_a_moved_open_value_is_refused(name: str, by: float, solutions: dict[str, Solution]) -> None:
    for changed in perturbed(solutions[name], "phase", lambda value: value + by)[:6]:
        with np.errstate(invalid="ignore"), pytest.raises(CheckFailed):
            checked(changed)


@pytest.mark.parametrize("name", ["integer", "exact"])
def test_a_fractional_open_is_refused_in_an_integer_program(name: str, solutions: dict[str, Solution]) -> None:
    for changed in perturbed(solutions[name], "phase", lambda value: 0.5 + 0 * value)[:6]:
        with pytest.raises(CheckFailed):
            checked(changed)


def test_an_open_unit_closed_or_a_closed_one_opened_is_refused(solutions: dict[str, Solution]) -> None:
    found = 0
    values = solutions["integer"].undecided
    for layer in values:
        for k in np.flatnonzero(values[layer].value > 1e-3):
            closed = values[layer].phase.copy()
            closed[k] = 0.0
            others = {**values, layer: replace(values[layer], phase=closed)}
            with pytest.raises(CheckFailed, match=r"h <= open u\+ \(2\)"):
                checked(replace(solutions["integer"], undecided=others))
            found += 1
    assert found


# Max-pools -----------------------------------------------------------------------------------------------------------

POOLED = max_pooled(1)
POOL = "2"  # the node; its windows are 3 wide, some reach into the padding
POOL_SETTINGS = {
    "relaxed": ScoreSettings(radius=0.1, loss_weight=20),
    "integer": ScoreSettings(radius=0.1, loss_weight=20, relax=False),
    "exact": ScoreSettings(gate="exact", allow_degenerate=True, radius=0.01, loss_weight=20),
}


@pytest.fixture(scope="module")
def pooled() -> dict[str, Solution]:
    return {name: score(POOLED.model, POOLED.images, POOLED.labels, s) for name, s in POOL_SETTINGS.items()}


def with_windows(solution: Solution, **parts: np.ndarray) -> Any:
    """The check of a solution whose windows have other values."""
    values = solution.undecided
    changed = replace(solution, undecided={**values, POOL: replace(values[POOL], **parts)})
    return check(POOLED.model, POOLED.images, POOLED.labels, changed)


@pytest.mark.parametrize("by", [0.05, -0.05, np.nan, np.inf])
@pytest.mark.parametrize("name", ["integer"])
def test_a_moved_window_output_is_refused(name: str, by: float, pooled: dict[str, Solution]) -> None:
    windows = pooled[name].undecided[POOL]
    for k in range(len(windows.value)):
        moved = windows.value.copy()
        moved[k] += by
        with np.errstate(invalid="ignore"), pytest.raises(CheckFailed):
            with_windows(pooled[name], value=moved)


@pytest.mark.parametrize("name", sorted(POOL_SETTINGS))
def test_outputs_below_or_above_their_window_are_refused_by_name(name: str, pooled: dict[str, Solution]) -> None:
    windows = pooled[name].undecided[POOL]
    with pytest.raises(CheckFailed, match=r"out >= h_j \(5\) of '2'"):
        with_windows(pooled[name], value=windows.value - 0.5)
    with pytest.raises(CheckFailed):
        with_windows(pooled[name], value=windows.value + 5.0)


@pytest.mark.parametrize("name", sorted(POOL_SETTINGS))
def test_picks_that_do_not_sum_to_1_are_refused(name: str, pooled: dict[str, Solution]) -> None:
    windows = pooled[name].undecided[POOL]
    for phase in (windows.phase * 0, windows.phase * 0.5, windows.phase + 0.1):
        with pytest.raises(CheckFailed):
            with_windows(pooled[name], phase=phase)


@pytest.mark.parametrize("name", sorted(POOL_SETTINGS))
def test_picks_beyond_0_and_1_are_refused(name: str, pooled: dict[str, Solution]) -> None:
    windows = pooled[name].undecided[POOL]
    phase = windows.phase.copy()
    phase[:, 0] += 2.0
    phase[:, 1] -= 2.0
    with pytest.raises(CheckFailed):
        with_windows(pooled[name], phase=phase)


def test_fractional_picks_and_picks_of_a_smaller_input_are_refused_in_an_integer_program(
    pooled: dict[str, Solution],
) -> None:
    windows = pooled["integer"].undecided[POOL]
    with pytest.raises(CheckFailed):
        with_windows(pooled["integer"], phase=np.full_like(windows.phase, 1 / windows.phase.shape[1]))
    refused = 0
    for shift in range(1, windows.phase.shape[1]):
        try:
            with_windows(pooled["integer"], phase=np.roll(windows.phase, shift, axis=1))
        except CheckFailed:
            refused += 1
    assert refused >= 7  # of 8


@pytest.mark.parametrize("by", [0.5, 5.0])
def test_values_for_a_decided_window_are_refused(by: float, pooled: dict[str, Solution]) -> None:
    """`pattern` decides every window: an output of one's own would be bounded by nothing from above."""
    settings = ScoreSettings(gate="pattern", radius=0.0)
    solution = score(POOLED.model, POOLED.images, POOLED.labels, settings)
    windows = pooled["integer"].undecided[POOL]
    whole_window = replace(windows, value=windows.value + by)
    relu = Undecided(windows.where, windows.value, windows.phase[:, :1])
    for stored in ({POOL: whole_window}, {"1": relu}):
        with pytest.raises(InvalidSolution, match="decided"):
            check(POOLED.model, POOLED.images, POOLED.labels, replace(solution, undecided=stored))


def test_values_for_a_node_that_does_not_exist_are_refused(pooled: dict[str, Solution]) -> None:
    solution = pooled["integer"]
    for name in ("nowhere", "0"):
        stored = {**solution.undecided, name: solution.undecided[POOL]}
        with pytest.raises(InvalidSolution, match="do not exist"):
            check(POOLED.model, POOLED.images, POOLED.labels, replace(solution, undecided=stored))


def test_picks_of_another_width_are_refused(pooled: dict[str, Solution]) -> None:
    solution = pooled["integer"]
    with pytest.raises(InvalidSolution):
        with_windows(solution, phase=solution.undecided[POOL].phase[:, :2])


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
    "the undecided values are missing": lambda s: replace(s, undecided={}),
    "an undecided value is missing": lambda s: replace(
        s, undecided={n: Undecided(v.where[1:], v.value[1:], v.phase[1:]) for n, v in s.undecided.items()}
    ),
    "places and values differ in number": lambda s: replace(
        s, undecided={n: replace(v, value=np.append(v.value, 0.0)) for n, v in s.undecided.items()}
    ),
    "a place beyond the layer": lambda s: replace(
        s, undecided={n: replace(v, where=v.where + 1000) for n, v in s.undecided.items()}
    ),
    "places in a row": lambda s: replace(
        s, undecided={n: replace(v, where=v.where.ravel()) for n, v in s.undecided.items()}
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


def test_the_checker_uses_no_solver_and_no_reduction() -> None:
    import formulation.checker as checker
    import formulation.replay as replay

    strangers = {"highspy", "linopy", "solve", "relu_gate", "pool_gate", "open_session"}
    assert not strangers & set(vars(checker))  # it reduces for the proof of the bound alone
    assert not (strangers | {"reduce", "forward", "backward"}) & set(vars(replay))


def test_float32_images_check_like_their_float64_values() -> None:
    images = CASE.images.float()
    solution = score(CASE.model, images, CASE.labels, PUBLISHED)
    assert check(CASE.model, images.double(), CASE.labels, solution).largest_residual <= 1e-6
    assert isinstance(images, torch.Tensor)


def test_images_checked_slice_by_slice_are_checked_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    from formulation import replay

    solution = score(CASE.model, CASE.images, CASE.labels, PUBLISHED)
    assert solution.undecided
    whole = check(CASE.model, CASE.images, CASE.labels, solution)
    monkeypatch.setattr(replay, "SLICE", 2)
    assert len(CASE.images) > 2
    sliced = check(CASE.model, CASE.images, CASE.labels, solution)
    assert sliced.objective == pytest.approx(whole.objective, abs=1e-12)
    assert sliced.largest_residual == pytest.approx(whole.largest_residual, abs=1e-12)


# Forged certificates --------------------------------------------------------------------------------------------------


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


PATTERN = ScoreSettings(gate="pattern", radius=0.0)


@pytest.mark.parametrize(
    "claims",
    [
        {},
        {"proved_bound": None},
        {"proved_bound": None, "status": "stalled"},
        {"proved_bound": None, "status": "time_limit"},
        {"settings": replace(PATTERN, relax=False).to_dict(), "undecided": 7},
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
    assert solution.proof is not None
    rows = np.array([[0, 0, 0]])
    moved = replace(solution.proof, rows=rows, prices=np.ones(1))
    with pytest.raises(InvalidSolution, match="proof is damaged"):
        checked(replace(solution, proof=moved))


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
    with pytest.raises(CheckFailed, match="y <= 0 of a closed unit"):
        check(model, images, labels, replace(solution, scores=better))
