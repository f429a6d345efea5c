"""Deadlines: what is begun, what is left out, and how long whole calls take."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from formulation import TimeLimitReached, check, keep_within, lower, propose, score
from formulation.deadline import NEVER, Deadline
from formulation.errors import InvalidModel, SolverFailed
from formulation.lowering import pace
from formulation.lowering.pace import copied, require_finite
from formulation.solve.separation import Separation, complete
from tests.busy import within
from tests.formulation.cases import conv_pool, dense
from tests.formulation.paper_settings import paper_settings

CASE = dense(1, images=6)
SETTINGS = paper_settings(radius=0.1, gap=1e-7, loss_weight=20)
STEP = 2.0  # s: of a step that was begun; docs/limits.md has what calls take beyond their limits


def test_a_deadline_counts_down_and_leaves_no_time_for_what_does_not_fit() -> None:
    deadline = Deadline.after(0.2)
    assert 0.1 < deadline.remaining() <= 0.2
    assert deadline.leaves(0.05)
    assert not deadline.leaves(0.3)
    assert not deadline.earlier(0.2).leaves(0.0)
    with pytest.raises(
        TimeLimitReached, match=r"time limit of 0\.2 s leaves no time for the next step; raise time_lim"
    ):
        deadline.require("the next step", 0.3)
    assert NEVER.leaves(1e300)
    NEVER.require("anything", 1e300)


def test_each_step_before_the_search_is_refused_by_name_once_its_time_has_passed() -> None:
    passed, reduction = Deadline.after(-1.0), CASE.reduction(SETTINGS)
    point = np.ones(reduction.columns)
    for what, act in {
        "testing the values of '": lambda: lower(CASE.model, CASE.images, passed),
        "copying '": lambda: copied(CASE.model, passed),
        "reducing image 1 of 6": lambda: CASE.reduction(SETTINGS, deadline=passed),
        "a pass over": lambda: complete(reduction, np.ones(reduction.scores), passed),
        "a pass over the scoring set": lambda: Separation(reduction).inspect(point, deadline=passed),
    }.items():
        with pytest.raises(TimeLimitReached, match=f"leaves no time for {what}"):
            act()


class Late(Deadline):
    """A deadline that passes after it has been asked so many times."""

    asked = 0

    def earlier(self, seconds: float) -> Deadline:
        return self

    def remaining(self) -> float:
        type(self).asked += 1
        return 1e9 if type(self).asked <= self.limit else -1.0


@pytest.mark.parametrize("asks", range(2, 12, 3))
def test_a_pass_cut_short_still_knows_logits_and_step_and_gives_only_rows_of_the_whole_pass(asks: int) -> None:
    reduction = CASE.reduction(SETTINGS, batch_size=2)
    point = np.zeros(reduction.columns)
    whole = Separation(reduction).inspect(point, limit=100)
    Late.asked = 0
    try:
        cut = Separation(reduction).inspect(point, limit=100, deadline=Late(asks, 0.0))
    except TimeLimitReached:
        return  # the sweep forwards itself did not fit
    assert cut.cut_short
    assert np.array_equal(cut.logits, whole.logits)
    assert (cut.step, cut.violation) == (whole.step, whole.violation)
    assert len(cut.loss_cuts) in (0, len(whole.loss_cuts))
    known = {(*map(int, source),) for source in whole.cuts.source}
    assert {(*map(int, source),) for source in cut.cuts.source} <= known


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16])
def test_weights_are_tested_in_blocks_and_those_that_are_not_finite_counted_over_all_of_them(
    monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype
) -> None:
    monkeypatch.setattr(pace, "BLOCK", 12)
    model = nn.Linear(4, 10, dtype=dtype)  # four blocks of weights, one of biases
    Late.asked = 0
    require_finite(model, Late(5, 0.0))
    for asks, name in ((0, "weight"), (3, "weight"), (4, "bias")):
        Late.asked = 0
        with pytest.raises(TimeLimitReached, match=f"no time for testing the values of '{name}'"):
            require_finite(model, Late(asks, 0.0))
    for values in ([math.nan], [math.inf, -math.inf], [math.nan, 1.0, -math.inf]):
        with torch.no_grad():
            model.weight.view(-1)[-len(values) :] = torch.tensor(values)  # over two blocks
            model.weight[0, 0] = -math.inf
        bad = 1 + sum(not math.isfinite(value) for value in values)
        with pytest.raises(InvalidModel, match=f"'weight' holds {bad} NaN or infinite values"):
            require_finite(model, NEVER)
        nn.init.zeros_(model.weight)


def test_weights_that_lie_across_in_memory_or_are_a_single_number_are_tested_too() -> None:
    model = nn.Module()
    model.register_buffer("across", torch.ones(3, 5).T)
    model.register_buffer("none", torch.ones(0, 5))
    model.register_buffer("one", torch.tensor(1.0))
    require_finite(model, NEVER)
    model.one.fill_(math.nan)
    with pytest.raises(InvalidModel, match="'one' holds 1 NaN"):
        require_finite(model, NEVER)
    model.one.fill_(1.0)
    model.across[4, 1] = math.inf
    with pytest.raises(InvalidModel, match="'across' holds 1 NaN"):
        require_finite(model, NEVER)


def test_a_mask_of_infinite_numbers_is_told_of_a_finite_one() -> None:
    model = nn.Linear(2, 2)
    model.register_buffer("mask", nn.Transformer.generate_square_subsequent_mask(3))
    with pytest.raises(InvalidModel, match=r"'mask' holds 3 NaN or infinite values.*says -1e9 where it says -inf"):
        require_finite(model, NEVER)
    model.mask.clamp_(min=-1e9)
    require_finite(model, NEVER)


def slow(width: int = 1500, images: int = 200) -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    layers = (nn.Linear(64, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 10))
    model, pixels = nn.Sequential(*layers).eval(), torch.rand(images, 64)
    with torch.no_grad():
        return model, pixels, model(pixels).argmax(dim=1)


@pytest.mark.slow
@pytest.mark.parametrize("verb", [score, propose], ids=["score", "propose"])
@pytest.mark.parametrize("limit", [2.0, 6.0, 12.0])
def test_a_whole_call_ends_within_its_limit(verb, limit: float) -> None:
    model, images, labels = slow()
    score(CASE.model, CASE.images, CASE.labels, SETTINGS)  # linopy's first program is slow
    settings = paper_settings(gate="pattern", radius=0.0, gap=1e-9, time_limit=limit)
    try:
        with within(1.05 * limit + STEP):
            solution = verb(model, images, labels, settings)
    except TimeLimitReached:
        pass
    else:
        assert solution.certificate.status in ("time_limit", "optimal")
        if verb is score:
            assert solution.certificate.checked


def test_a_certificate_at_the_time_limit_holds_with_a_bound_that_is_proved() -> None:
    case = conv_pool(7, images=20)
    settings = paper_settings(radius=0.05, gap=1e-12, loss_weight=20, time_limit=4.0)
    solution = score(case.model, case.images, case.labels, settings)
    check(case.model, case.images, case.labels, solution)
    if solution.certificate.status == "time_limit":
        assert solution.certificate.bound <= solution.certificate.objective
    exact = score(case.model, case.images, case.labels, replace(settings, gap=1e-6, time_limit=600.0))
    assert solution.certificate.bound <= exact.certificate.objective + 1e-6


def test_an_integer_program_ends_within_its_limit() -> None:
    case = conv_pool(7)
    settings = paper_settings(gate="exact", radius=0.05, relax=False, time_limit=4.0, gap=1e-7)
    try:
        with within(4.0 + STEP):
            solution = score(case.model, case.images, case.labels, settings)
    except TimeLimitReached:
        pass
    else:
        assert solution.certificate.status == "time_limit"


def test_a_budget_ends_within_its_limit() -> None:
    rng = np.random.default_rng(0)
    scores = {f"layer{k}": rng.random(200) for k in range(12)}
    names = list(scores)
    ways = itertools.pairwise(names)
    costs = [(None, names[0], 3.0), *((p, c, 1.0) for p, c in ways), (names[-1], None, 1.0)]
    with within(3.0 + STEP), pytest.raises(SolverFailed, match="time limit of 3 s"):
        keep_within(scores, costs, 1e5, time_limit=3.0)
