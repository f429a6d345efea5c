"""`score` of networks that no lowering takes: the answer, its check, and what is asked of it afterwards."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from formulation import (
    CheckFailed,
    InvalidSetting,
    InvalidSolution,
    ScoreSettings,
    Solution,
    check,
    explain,
    linopy_program,
    prove_bound,
    score,
    score_ranges,
)
from tests.formulation.cases import SMALL, drawn
from tests.formulation.lowering.derivatives.smooth_cases import SMOOTH, hooked_jacobian, tokens
from tests.formulation.paper_settings import paper_settings

SETTINGS = ScoreSettings(gate="linear", radius=0, gap=1e-7, loss_weight=20)
AUTOGRAD = replace(SETTINGS, derivatives="autograd")


@pytest.fixture(scope="module")
def solved() -> Solution:
    case = tokens(1)
    return score(case.model, case.images, case.labels, SETTINGS)


@pytest.mark.parametrize("name", sorted(SMOOTH))
def test_the_optimum_is_checked_without_the_solver(name: str) -> None:
    case = SMOOTH[name][0](1)
    made = score(case.model, case.images, case.labels, SETTINGS)
    assert made.certificate.status == "optimal"
    assert made.certificate.checked
    assert any("first-order expansion" in note for note in made.certificate.notes)
    verdict = check(case.model, case.images, case.labels, made, exact=True)
    assert verdict.exact_bound == pytest.approx(made.certificate.proved_bound, abs=1e-9)


# Oracle 14: where both ways exist, scores and certificates agree.
@pytest.mark.parametrize("make", [*SMALL.values(), *(lambda s, k=k: drawn(13 * k + s) for k in range(4))])
def test_both_ways_have_one_optimum(make) -> None:
    case = make(2)
    lowered = score(case.model, case.images, case.labels, SETTINGS)
    gated = score(case.model, case.images, case.labels, AUTOGRAD)
    assert lowered.scores.keys() <= gated.scores.keys()
    if lowered.scores.keys() == gated.scores.keys():
        assert gated.certificate.objective == pytest.approx(lowered.certificate.objective, abs=1e-9)
        assert gated.certificate.bound == pytest.approx(lowered.certificate.bound, abs=1e-9)
        for layer, values in lowered.scores.items():
            np.testing.assert_allclose(gated.scores[layer], values, atol=1e-6)


def test_nothing_beats_it_among_all_masks(solved: Solution) -> None:
    case = tokens(1)
    program = linopy_program(case.model, case.images, case.labels, SETTINGS)
    slopes = {layer: torch.as_tensor(each) for layer, each in hooked_jacobian(case, SMOOTH["transformer"][1]).items()}
    assert {name for name in program.variables if name.startswith("score_")} == {f"score_{layer}" for layer in slopes}
    logits = case.model(case.images).detach()
    best = np.inf
    for bits in product((0, 1), repeat=sum(each.shape[2] for each in slopes.values())):
        parts = torch.tensor(bits, dtype=torch.float64).split([each.shape[2] for each in slopes.values()])
        moved = sum(each @ (part - 1) for each, part in zip(slopes.values(), parts, strict=True))
        terms = sorted(float((part - 2).mean()) for part in parts)
        best = min(best, 20 * float(cross_entropy(logits + moved, case.labels)) + sum(terms[1:]))
    assert solved.certificate.bound <= best + 1e-9
    whole = score(case.model, case.images, case.labels, replace(SETTINGS, integer_scores=True))
    assert whole.certificate.objective == pytest.approx(best, abs=1e-6)


def test_changed_scores_and_changed_bounds_are_refused(solved: Solution) -> None:
    case = tokens(1)
    moved = {layer: np.clip(values + 0.01, 0, 1) - 0.005 for layer, values in solved.scores.items()}
    with pytest.raises(CheckFailed):
        check(case.model, case.images, case.labels, replace(solved, scores=moved))
    raised = replace(solved.certificate, bound=solved.certificate.bound + 1e-3, objective=solved.certificate.objective)
    with pytest.raises(CheckFailed):
        check(case.model, case.images, case.labels, replace(solved, certificate=raised))
    silent = replace(solved.certificate, notes=())
    with pytest.raises(CheckFailed, match="notes"):
        check(case.model, case.images, case.labels, replace(solved, certificate=silent))


def test_another_network_is_not_the_one_that_was_scored(solved: Solution) -> None:
    other = tokens(2)
    with pytest.raises(InvalidSolution, match="model_hash"):
        check(other.model, tokens(1).images, tokens(1).labels, solved)


def test_it_is_stored_and_read_again(solved: Solution, tmp_path: Path) -> None:
    case = tokens(1)
    read = Solution.load(solved.save(tmp_path))
    check(case.model, case.images, case.labels, read)
    assert prove_bound(case.model, case.images, case.labels, read) == pytest.approx(solved.certificate.bound, abs=1e-9)


def test_its_scores_are_explained_and_have_ranges(solved: Solution) -> None:
    case = tokens(1)
    pulls = explain(case.model, case.images, case.labels, solved)
    assert {pull.kind for pull in pulls} <= {"image"}
    for low, high in score_ranges(case.model, case.images, case.labels, solved).values():
        assert (low <= high + 1e-9).all()


def test_held_layers_are_left_out() -> None:
    case = SMOOTH["gelu and sigmoid"][0](1)
    made = score(case.model, case.images, case.labels, replace(SETTINGS, held=("0",)))
    assert list(made.scores) == ["2"]
    check(case.model, case.images, case.labels, made, exact=True)


def test_derivatives_of_torch_are_of_linear_alone() -> None:
    with pytest.raises(InvalidSetting, match="gate='linear'"):
        paper_settings(gate="pattern", radius=0, derivatives="autograd")
