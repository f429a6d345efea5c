"""Rounds and limits, what counts as proved, and what becomes of solvers that lie."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from formulation import FormulationError, ScoreSettings, SolverFailed, TimeLimitReached, check, score
from formulation.relaxation.cuts import stack_cuts
from formulation.solution import relative_gap
from formulation.solve.program import Program
from formulation.solve.search import Search
from formulation.solve.solvers import Answer, HighsSession
from tests.formulation.cases import conv_pool, dense, make
from tests.formulation.oracles import objective_of
from tests.formulation.paper_settings import paper_settings


def test_every_round_is_reported_as_it_ends_and_the_bounds_only_tighten() -> None:
    case, heard = dense(1, images=6), []
    settings = paper_settings(radius=0.1, relax=False, gap=1e-7)
    solution = score(case.model, case.images, case.labels, settings, progress=heard.append)
    assert tuple(heard) == solution.rounds
    assert [r.index for r in heard] == list(range(len(heard)))
    assert [r.phase for r in heard] == sorted((r.phase for r in heard), reverse=True)  # relaxation, then integer
    assert {r.phase for r in heard} == {"relaxation", "integer"}
    for before, after in itertools.pairwise(heard):
        assert after.bound >= before.bound
        assert after.cuts >= before.cuts
        assert after.seconds >= before.seconds
        if before.phase == after.phase:
            assert after.objective <= before.objective
    assert heard[-1].gap == relative_gap(heard[-1].objective, heard[-1].bound) == solution.certificate.gap


def test_max_rounds_ends_the_call_with_what_was_found_and_a_note() -> None:
    case = dense(1, images=6)
    settings = paper_settings(radius=0.1, gap=1e-9, max_rounds=2, loss_weight=20)
    solution = score(case.model, case.images, case.labels, settings)
    assert solution.certificate.status == "round_limit"
    assert solution.certificate.rounds == 2
    assert solution.certificate.checked
    assert "not proved optimal" in solution.certificate.notes[0]


def test_max_rounds_counts_both_phases() -> None:
    case = dense(1, images=6)
    whole = paper_settings(radius=0.1, gap=1e-9, relax=False, loss_weight=20)
    needed = score(case.model, case.images, case.labels, whole).rounds
    relaxed = sum(r.phase == "relaxation" for r in needed)
    assert len(needed) > relaxed + 1
    solution = score(case.model, case.images, case.labels, replace(whole, max_rounds=relaxed + 1))
    assert (solution.certificate.status, solution.certificate.rounds) == ("round_limit", relaxed + 1)


def test_a_tiny_time_limit_names_the_remedy() -> None:
    case = dense(1)
    with pytest.raises(TimeLimitReached, match="raise time_limit") as reached:
        score(case.model, case.images, case.labels, paper_settings(time_limit=1e-6))
    assert len(str(reached.value).splitlines()) == 1


class Answering(HighsSession):
    """HiGHS whose answers are changed on their way out; `change` sees how many came before."""

    change: Callable[[int, Answer], Answer]

    def __init__(self, program: Program, settings: ScoreSettings) -> None:
        super().__init__(program, settings)
        self.count = 0

    def solve(self, time_limit: float, gap: float) -> Answer:
        answer = type(self).change(self.count, super().solve(time_limit, gap))
        self.count += 1
        return answer


def answering(monkeypatch: pytest.MonkeyPatch, change: Callable[[int, Answer], Answer]) -> None:
    monkeypatch.setattr(
        "formulation.solve.search.open_session", type("Changed", (Answering,), {"change": staticmethod(change)})
    )


CASE = dense(1, images=6)
SETTINGS = paper_settings(radius=0.1, gap=1e-7, loss_weight=20)


def out_of_time(after: int, seconds: float = 0.0) -> Callable[[int, Answer], Answer]:
    def answered(count: int, answer: Answer) -> Answer:
        if count < after:
            return answer
        time.sleep(seconds)
        return Answer(None, -np.inf, complete=False)

    return answered


def test_a_time_limit_with_an_incumbent_keeps_it_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    optimum = score(CASE.model, CASE.images, CASE.labels, SETTINGS).certificate.objective
    answering(monkeypatch, out_of_time(3, seconds=1.0))  # a limit that is met at once is not believed
    short = replace(SETTINGS, time_limit=8.0)
    solution = score(CASE.model, CASE.images, CASE.labels, short)
    assert solution.certificate.status == "time_limit"
    assert solution.certificate.bound <= optimum + 1e-7 <= solution.certificate.objective + 2e-7
    assert "ended by time_limit" in solution.certificate.notes[0]
    assert check(CASE.model, CASE.images, CASE.labels, solution).gap > 1e-7


def test_a_time_limit_without_an_incumbent_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    answering(monkeypatch, out_of_time(0))
    with pytest.raises(TimeLimitReached, match="before any scores better"):
        score(CASE.model, CASE.images, CASE.labels, SETTINGS)


# Solvers that lie: an error or an honest certificate, never wrong scores in silence -----------------------------------


def moved(batch: str, by: float) -> Callable[[int, Answer], Answer]:
    reduction = CASE.reduction(SETTINGS)
    where = {
        "scores": np.arange(reduction.scores),
        "hidden": np.concatenate([w.value for p in reduction.batches for w in p.unstable.values()]),
        "open": np.concatenate([w.phase[:, 0] for p in reduction.batches for w in p.unstable.values()]),
    }[batch]
    assert len(where) > 0

    def change(count: int, answer: Answer) -> Answer:
        assert answer.point is not None
        point = answer.point.copy()
        point[where] += by
        return replace(answer, point=point)

    return change


LIES: dict[str, Callable[[int, Answer], Answer]] = {
    "hidden too high": moved("hidden", 0.3),
    "hidden too low": moved("hidden", -0.3),
    "open too high": moved("open", 1.5),
    "a bound above the optimum": lambda _, answer: replace(answer, bound=answer.bound + 10.0),
    "an infinite bound": lambda _, answer: replace(answer, bound=np.inf),
    "no number in the point": lambda _, answer: replace(answer, point=answer.point * np.nan),
    "an infinite point": lambda _, answer: replace(answer, point=answer.point + np.inf),
    "no point": lambda _, answer: replace(answer, point=None, bound=-np.inf),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_solver_that_lies_ends_in_a_named_error(lie: str, monkeypatch: pytest.MonkeyPatch) -> None:
    answering(monkeypatch, LIES[lie])
    with pytest.raises(FormulationError) as refused:
        score(CASE.model, CASE.images, CASE.labels, SETTINGS)
    assert len(str(refused.value).splitlines()) == 1


def test_points_that_are_no_numbers_are_the_solvers_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    answering(monkeypatch, LIES["no number in the point"])
    with pytest.raises(SolverFailed, match=r"highs answered NaN or infinite"):
        score(CASE.model, CASE.images, CASE.labels, SETTINGS)


@pytest.mark.parametrize("by", [0.05, -0.05, 5.0])
def test_moved_scores_alone_leave_an_honest_certificate(by: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """The incumbent is drawn back until it is feasible: what is claimed about it stays true, and it is not optimal."""
    optimum = score(CASE.model, CASE.images, CASE.labels, SETTINGS).certificate.objective
    answering(monkeypatch, moved("scores", by))
    settings = replace(SETTINGS, max_rounds=40)
    try:
        solution = score(CASE.model, CASE.images, CASE.labels, settings)
    except FormulationError:
        return
    certificate = solution.certificate
    assert certificate.status != "optimal" or certificate.objective <= optimum + 1e-6
    assert certificate.bound <= optimum + 1e-6
    assert certificate.objective >= optimum - 1e-6
    check(CASE.model, CASE.images, CASE.labels, solution)


def test_an_integer_answer_with_moved_scores_is_no_incumbent_unless_it_is_feasible(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    case = dense(1, images=2)
    settings = paper_settings(gate="exact", relax=False, integer_scores=True, radius=0, max_rounds=40)
    best = score(case.model, case.images, case.labels, settings).certificate.objective
    answering(monkeypatch, lambda _, answer: replace(answer, point=1 - answer.point))
    try:
        solution = score(case.model, case.images, case.labels, settings)
    except FormulationError:
        return
    assert solution.certificate.objective == pytest.approx(objective_of(case, solution.scores, 5.0), abs=1e-9)
    assert solution.certificate.bound <= best + 1e-6


@pytest.mark.parametrize("gap", [1e-2, 1e-3, 1e-4])
@pytest.mark.parametrize("seed", [1, 3])
def test_a_later_dual_bound_that_proves_less_is_no_failure(seed: int, gap: float) -> None:
    """A search begun at the solution proves its bound early; what the last duals prove may be a little less."""
    for case in (conv_pool(seed), dense(seed)):
        settings = paper_settings(gate="pattern", radius=0.0, gap=gap)
        solution = score(case.model, case.images, case.labels, settings)
        reduction = case.reduction(settings)
        search = Search(reduction, settings, None)
        search.begin(reduction.network.stack(solution.scores))
        search.run("relaxation")
        search.keep_what_is_proved()
        again = search.outcome(None)
        assert again.status == "optimal"
        assert again.lagrangian is not None
        assert again.bound == again.lagrangian.bound


def test_cuts_of_the_last_relaxed_round_reach_the_integer_program() -> None:
    """Rows are given once: those found where the relaxation ended were lost, and the integer rounds stalled."""
    layers = [nn.Conv2d(1, 2, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(8, 4), nn.ReLU(), nn.Linear(4, 3)]
    for seed in range(17, 23):
        case = make(seed, layers, (1, 6, 6), 3)
        settings = paper_settings(radius=0.02, relax=False, loss_weight=50, gap=1e-3, time_limit=60)
        search = Search(case.reduction(settings), settings, None)
        search.begin(None)
        search.run("relaxation")
        held = stack_cuts(search.pool, search.width)
        for batch in search.reduction.batches:
            for name in batch.gates:
                given = search.separation.cuts_given(batch, name)
                position = [node.name for node in search.reduction.network.nodes].index(name)
                assert len(given) == int((held.source[:, 0] == position).sum())
        assert score(case.model, case.images, case.labels, settings).certificate.status == "optimal"


def test_a_relaxation_that_nothing_proves_is_not_called_optimal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another solver closes the gap, and no time is left to prove its bound."""
    monkeypatch.setattr(Search, "borrow_duals", lambda self: None)
    settings = replace(SETTINGS, solver="scip", max_rounds=60)
    solution = score(CASE.model, CASE.images, CASE.labels, settings)
    certificate = solution.certificate
    assert certificate.status != "optimal"
    assert certificate.proved_bound is None
    assert certificate.bound == pytest.approx(-2.0)  # what needs no solver
    assert "not proved optimal" in certificate.notes[0]


def test_a_bound_is_proved_by_duals_or_by_the_layer_terms_beside_them() -> None:
    search = Search(dense(1, images=6).reduction(SETTINGS), SETTINGS, None)
    search.begin()
    assert not search.bound_is_proved, "no duals yet"
    search.run("relaxation")
    for bound in (search.proved.bound, search.proved.bound + 1e-9):
        search.trivial = search.bound = bound
        assert search.bound_is_proved
        search.bound = np.nextafter(bound, np.inf)
        assert not search.bound_is_proved


class Cosine(nn.Module):
    """Logits are cosines of a ReLU's outputs and the classes' directions, ten times."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(144, 10), nn.Linear(10, 8)
        self.directions = nn.Parameter(torch.randn(3, 8))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        made = nn.functional.relu(self.second(nn.functional.relu(self.first(x))))
        return 10 * nn.functional.normalize(made, dim=1) @ nn.functional.normalize(self.directions, dim=1).t()


def test_scores_of_0_at_nearly_no_loss_are_checked() -> None:
    torch.manual_seed(0)
    model, images = Cosine().eval(), torch.rand(40, 144)
    labels = torch.arange(40) % 3
    right = (model(images).argmax(1) == labels).nonzero()[:10, 0]
    found = score(model, images[right], labels[right], ScoreSettings(gate="linear", loss_weight=0.1)).certificate
    assert found.checked
    assert found.proved_bound is not None
    assert found.proved_bound < found.bound == -2.0, "the layer terms alone prove more here"
