"""Score ranges: every score within the gap is in its range, and an open gap gives no ranges."""

from __future__ import annotations

from dataclasses import replace

import pytest

from formulation import ScoreSettings, Solution, SolverFailed, TimeLimitReached, score, score_ranges
from formulation.solve.search import Search
from tests.formulation.cases import Case, dense
from tests.formulation.paper_settings import paper_settings

SETTINGS = {
    "published": paper_settings(radius=0.05, gap=1e-7),
    "pattern": paper_settings(gate="pattern", radius=0, gap=1e-7),
}


@pytest.mark.parametrize("gate", ["published", "pattern"])
def test_a_range_holds_every_score_within_the_gap(gate: str) -> None:
    case, settings = dense(1, images=5), replace(SETTINGS[gate], gap=1e-3)
    solution = score(case.model, case.images, case.labels, settings)
    heard: list[tuple[int, int]] = []
    ranges = score_ranges(case.model, case.images, case.labels, solution, progress=lambda *at: heard.append(at))
    tight = score(case.model, case.images, case.labels, replace(settings, gap=1e-7))
    other = score(case.model, case.images, case.labels, replace(settings, cuts="lifted", break_ties=False))
    for name, (low, high) in ranges.items():
        for found in (solution, tight, other):
            assert (found.scores[name] >= low - 1e-6).all()
            assert (found.scores[name] <= high + 1e-6).all()
        assert (low <= high + 1e-9).all()
    assert heard[-1] == (11, 11)
    assert any((high - low < 0.5).any() for low, high in ranges.values())
    assert any((high - low > 1e-3).any() for low, high in ranges.values())


def test_equal_units_share_a_range_and_the_earlier_one_is_kept() -> None:
    """Two copies of a unit: the program only sees their sum."""
    case = dense(1, inputs=3, hidden=(6,), images=4)
    with_copy = copied(case)
    settings = ScoreSettings(gate="pattern", radius=0, gap=1e-4, loss_weight=10)
    solution = score(with_copy.model, with_copy.images, with_copy.labels, settings)
    (name,) = solution.scores
    ranges = score_ranges(with_copy.model, with_copy.images, with_copy.labels, solution)[name]
    kept = solution.scores[name]
    for unit in range(6):
        assert ranges[0][unit] == pytest.approx(ranges[0][unit + 6], abs=1e-2)
        assert ranges[1][unit] == pytest.approx(ranges[1][unit + 6], abs=1e-2)
        assert kept[unit] >= kept[unit + 6] - 1e-6
    assert (kept[:6] > kept[6:] + 1e-3).any()


def copied(case: Case) -> Case:
    """The same function with every hidden unit twice, its outgoing weights halved."""
    import torch
    from torch import nn

    first, second = (m for m in case.model if isinstance(m, nn.Linear))
    wide, out = nn.Linear(first.in_features, 2 * first.out_features), nn.Linear(2 * first.out_features, 3)
    with torch.no_grad():
        wide.weight.copy_(torch.cat([first.weight, first.weight]))
        wide.bias.copy_(torch.cat([first.bias, first.bias]))
        out.weight.copy_(torch.cat([second.weight, second.weight], dim=1) / 2)
        out.bias.copy_(second.bias)
    model = nn.Sequential(nn.Flatten(), wide, nn.ReLU(), out).double().eval()
    return replace(case, model=model, gates={"1": "2"})


def told(solution: Solution, **more: object) -> Solution:
    """The solution, its settings changed."""
    stored = dict(solution.certificate.settings) | more
    return replace(solution, certificate=replace(solution.certificate, settings=stored))


@pytest.mark.parametrize("rounds", [1, 2])
def test_a_search_that_ends_by_its_rounds_gives_no_ranges_but_the_gap_it_reached(rounds: int) -> None:
    case = dense(1, images=5)
    solution = score(case.model, case.images, case.labels, SETTINGS["published"])
    says = r"round_limit after \d rounds before the ranges, at a relative gap of .*raise max_rounds"
    with pytest.raises(SolverFailed, match=says) as refusal:
        score_ranges(case.model, case.images, case.labels, told(solution, max_rounds=rounds))
    assert "infeasible" not in str(refusal.value)
    assert not isinstance(refusal.value, TimeLimitReached)
    assert len(str(refusal.value).splitlines()) == 1


def test_a_search_out_of_time_names_the_gap_it_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    case = dense(1, images=5)
    solution = score(case.model, case.images, case.labels, SETTINGS["published"])
    monkeypatch.setattr(Search, "remaining", lambda search: 1.0 if len(search.rounds) < 2 else -1.0)
    with pytest.raises(TimeLimitReached, match=r"before the ranges, at a relative gap of .*raise time_limit or gap"):
        score_ranges(case.model, case.images, case.labels, solution)


def test_a_relaxed_solution_of_a_wider_gap_lies_in_its_ranges() -> None:
    """Its scores need not be within the gap of the bound that the search for ranges reaches."""
    case = dense(1, images=5)
    wide = score(case.model, case.images, case.labels, replace(SETTINGS["published"], gap=0.3))
    narrow = told(wide, gap=1e-5)
    for name, (low, high) in score_ranges(case.model, case.images, case.labels, narrow).items():
        assert (wide.scores[name] >= low - 1e-6).all()
        assert (wide.scores[name] <= high + 1e-6).all()


def test_ranges_of_an_integer_solution_are_those_of_the_relaxed_program() -> None:
    case, settings = dense(1, images=3), paper_settings(radius=0.1, gap=1e-4)
    relaxed, whole = (
        score(case.model, case.images, case.labels, replace(settings, integer_scores=each)) for each in (False, True)
    )
    assert whole.certificate.bound > relaxed.certificate.objective
    found = score_ranges(case.model, case.images, case.labels, whole)
    for name, (low, high) in score_ranges(case.model, case.images, case.labels, relaxed).items():
        assert abs(found[name][0] - low).max() < 0.05
        assert abs(found[name][1] - high).max() < 0.05
