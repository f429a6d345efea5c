"""Bounds with outward rounding: never above the true minimum, close below it, and not to be lifted by float64 sums."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal, localcontext
from fractions import Fraction
from functools import lru_cache

import numpy as np
import pytest

from formulation import CheckFailed, Solution, check, prove_bound, score
from formulation.duality.dual_bound import lagrangian
from formulation.duality.duals import dualised
from formulation.duality.enclosures import Enclosure, gathered, through
from formulation.duality.exact_bound import exact_bound
from formulation.network import INPUT, Affine, Relu
from formulation.relaxation.gates import ACTIVE, INACTIVE, Gate
from formulation.relaxation.inequalities import RELU_FAMILIES
from formulation.relaxation.reduction import Reduction
from formulation.solution import DualBound
from tests.formulation.cases import Case, max_pooled
from tests.formulation.duality.test_dual_bound import CASES, drawn
from tests.formulation.paper_settings import paper_settings
from tests.formulation.test_golden import CERTIFIED, FC3, instance, settings_at


@lru_cache
def solved(name: str) -> tuple[Case, Solution]:
    case, settings = CASES[name]
    return case, score(case.model, case.images, case.labels, settings)


def rational_minimum(reduction: Reduction, dual_bound: DualBound) -> Fraction:
    """The minimum of L over the columns' bounds, as the definition says it, in rational arithmetic.

    L is affine: its value at 0 and at every column's upper end (lower ends are 0 without max-pools) give it all.
    """
    high = [Fraction(1)] * reduction.columns
    for batch in reduction.batches:
        for name, unstable in batch.unstable.items():
            gate = batch.gates[name]
            assert isinstance(gate, Gate)
            for k, column in enumerate(unstable.value):
                high[column] = Fraction(float(gate.cap[unstable.activation[k], unstable.image[k]]))
    at_zero = rational_value(reduction, dual_bound, [Fraction(0)] * reduction.columns)
    total = at_zero
    for column, end in enumerate(high):
        point = [Fraction(0)] * reduction.columns
        point[column] = end
        total += min(Fraction(0), rational_value(reduction, dual_bound, point) - at_zero)
    return total


def rational_value(reduction: Reduction, dual_bound: DualBound, point: list[Fraction]) -> Fraction:
    network, settings = reduction.network, reduction.settings
    weight, total = Fraction(settings.loss_weight) / reduction.images, Fraction(0)
    q, entropies = rational_probabilities(dual_bound)
    m = max(1, len(network.layers) - 1)
    shares = summing_to([min(max(Fraction(float(v)), Fraction(0)), Fraction(1)) for v in dual_bound.layers], m)
    for layer, share in zip(network.layers, shares, strict=True):
        where = network.score_slices[layer.name]
        total += share * sum((s - 2 for s in point[where]), Fraction(0)) / layer.units
    for duals in dualised(reduction, dual_bound):
        batch = duals.batch
        for i in range(batch.images):
            read = rational_forward(reduction, batch, i, point)
            logits = read[network.nodes[-1].name]
            k = batch.first + i
            total += weight * (sum(q[k][c] * o for c, o in enumerate(logits)) + entropies[k] - logits[batch.labels[i]])
            for rows in duals.cuts:
                gate, op = batch.gates[rows.node.name], rows.node.op
                assert isinstance(gate, Gate)
                assert isinstance(op, Relu)
                for r in np.flatnonzero(rows.index[-1] == i):
                    j = rows.index[0][r]
                    row = read[rows.node.source][j]
                    if gate.state[j, i] == ACTIVE and op.score[j] >= 0:
                        row -= (1 - point[op.score[j]]) * Fraction(float(gate.cap[j, i]))
                    total -= Fraction(float(rows.dual[r])) * (row - Fraction(float(rows.bound[r])))
            for name, price in duals.unstable.items():
                gate, op, unstable = batch.gates[name], network.node(name).op, batch.unstable[name]
                assert isinstance(gate, Gate)
                assert isinstance(op, Relu)
                for r in np.flatnonzero(unstable.image == i):
                    j = unstable.activation[r]
                    u, big = Fraction(float(gate.cap[j, i])), Fraction(float(gate.big_m[j, i]))
                    s = point[op.score[j]] if op.score[j] >= 0 else Fraction(1)
                    h, phase = point[unstable.value[r]], point[unstable.phase[r, 0]]
                    y = read[network.node(name).source][j] - (1 - s) * u
                    slacks = [phase * u - h, h - y, y - (1 - phase) * big - h, s * u - h if gate.cut else Fraction(0)]
                    prices = [Fraction(float(price[family][r])) for family in RELU_FAMILIES]
                    total -= sum((p * g for p, g in zip(prices, slacks, strict=True)), Fraction(0))
    return total


def rational_forward(reduction: Reduction, batch, i: int, point: list[Fraction]) -> dict[str, list[Fraction]]:
    values = {INPUT: [Fraction(float(v)) for v in batch.pixels[:, i]]}
    for node in reduction.network.nodes:
        read = values[node.source]
        if isinstance(node.op, Affine):
            weight = node.op.weight if isinstance(node.op.weight, np.ndarray) else node.op.weight.toarray()
            values[node.name] = [
                sum((Fraction(float(w)) * v for w, v in zip(row, read, strict=True) if w), Fraction(float(b)))
                for row, b in zip(weight, node.op.bias, strict=True)
            ]
            continue
        assert isinstance(node.op, Relu)
        gate, made = batch.gates[node.name], []
        for j, y in enumerate(read):
            s = point[node.op.score[j]] if node.op.score[j] >= 0 else Fraction(1)
            if gate.state[j, i] == INACTIVE:
                made.append(Fraction(0))
            elif gate.state[j, i] == ACTIVE:
                made.append(y - (1 - s) * Fraction(float(gate.cap[j, i])))
            else:
                made.append(point[batch.unstable[node.name].map(gate.cap.shape)[j, i]])
        values[node.name] = made
    return values


def rational_probabilities(dual_bound: DualBound) -> tuple[list[list[Fraction]], list[Fraction]]:
    q, entropies = [], []
    with localcontext() as context:
        context.prec = 60
        for column in np.clip(dual_bound.probabilities, 0.0, None).T:
            mass = sum(Fraction(float(p)) for p in column)
            each = [Fraction(float(p)) / mass for p in column]
            logs = [(Decimal(v.numerator) / Decimal(v.denominator)).ln() if v else Decimal(0) for v in each]
            q.append(each)
            entropies.append(-sum((v * Fraction(log) for v, log in zip(each, logs, strict=True)), Fraction(0)))
    return q, entropies


def summing_to(shares: list[Fraction], total: int) -> list[Fraction]:
    for _ in range(len(shares) + 1):
        missing = total - sum(shares)
        free = [k for k, v in enumerate(shares) if (v < 1 if missing > 0 else v > 0)]
        if missing == 0 or not free:
            break
        for k in free:
            shares[k] = min(max(shares[k] + missing / len(free), Fraction(0)), Fraction(1))
    return shares


@pytest.mark.parametrize("name", ["dense, published", "lifted"])
def test_the_bound_lies_close_below_the_rational_minimum_for_a_solvers_duals(name: str) -> None:
    case, solution = solved(name)
    assert solution.dual_bound is not None
    reduction = case.reduction(CASES[name][1])
    truth = rational_minimum(reduction, solution.dual_bound)
    found = exact_bound(reduction, solution.dual_bound)
    assert Fraction(found) <= truth
    assert float(truth - Fraction(found)) <= 1e-10


def test_float64_sums_lift_the_bound_of_some_duals_and_outward_rounding_of_none() -> None:
    case, settings = CASES["dense, published"]
    reduction = case.reduction(settings)
    lifted = 0
    for seed in range(12):
        given = drawn(reduction, seed)
        truth, scale = rational_minimum(reduction, given), max(1.0, abs(lagrangian(reduction, given).bound))
        lifted += Fraction(lagrangian(reduction, given).bound) > truth
        found = exact_bound(reduction, given)
        assert Fraction(found) <= truth
        assert float(truth - Fraction(found)) <= 1e-9 * scale
    assert lifted


@pytest.mark.parametrize("name", CASES)
def test_the_bound_closes_the_gap_as_the_float64_one_does(name: str) -> None:
    case, solution = solved(name)
    found = prove_bound(case.model, case.images, case.labels, solution, exact=True)
    assert found <= prove_bound(case.model, case.images, case.labels, solution) + 1e-12
    assert found >= solution.certificate.bound - 1e-8
    verdict = check(case.model, case.images, case.labels, solution, exact=True)
    assert verdict.exact_bound == found
    assert check(case.model, case.images, case.labels, solution).exact_bound is None


def lifted(reduction: Reduction, dual_bound: DualBound, by: float) -> DualBound:
    """Duals moved one by one wherever that raises the float64 bound: what is left on a max-pool's output is
    taken for 0 there, up to 1e-7.
    """
    families = {name: values.copy() for name, values in dual_bound.unstable.items()}
    best = lagrangian(reduction, dual_bound).bound
    moves = [
        (values, k, move)
        for name, values in families.items()
        if name.split("/")[0] in ("largest", "picked")
        for k in range(len(values))
        for move in (by, -by)
    ]
    for values, k, move in moves:
        before = values[k]
        values[k] = max(0.0, before + move)
        if (found := lagrangian(reduction, replace(dual_bound, unstable=families)).bound) > best:
            best = found
        else:
            values[k] = before
    return replace(dual_bound, unstable=families)


def test_a_bound_lifted_beyond_its_objective_within_the_rounding_is_refused_on_request() -> None:
    case, settings = max_pooled(1, images=6), paper_settings(radius=0.05, gap=1e-7, loss_weight=20)
    solution, reduction = score(case.model, case.images, case.labels, settings), case.reduction(settings)
    assert solution.dual_bound is not None
    dual_bound = lifted(reduction, solution.dual_bound, 4e-8)
    made, objective = lagrangian(reduction, dual_bound), solution.certificate.objective
    assert made.bound > objective + 1e-7
    last = replace(solution.rounds[-1], bound=made.bound, gap=0.0)
    claimed = replace(solution.certificate, bound=made.bound, proved_bound=made.bound, gap=0.0)
    costs = reduction.network.unstack(made.gradient[: reduction.scores])
    forged = replace(
        solution, certificate=claimed, dual_bound=dual_bound, reduced_costs=costs, rounds=(*solution.rounds[:-1], last)
    )
    check(case.model, case.images, case.labels, forged)
    with pytest.raises(CheckFailed, match="with outward rounding; sums in float64 have lifted it"):
        check(case.model, case.images, case.labels, forged, exact=True)
    assert prove_bound(case.model, case.images, case.labels, forged, exact=True) <= objective


@pytest.mark.parametrize(("name", "images"), CERTIFIED)
def test_a_golden_instance_passes_and_every_perturbed_one_fails(name: str, images: int) -> None:
    model, pixels, labels = instance(name, images)
    solution = score(model, pixels, labels, settings_at(1e-7))
    verdict = check(model, pixels, labels, solution, exact=True)
    assert verdict.exact_bound is not None
    assert verdict.exact_bound <= CERTIFIED[name, images] + 1e-7
    assert verdict.exact_bound == pytest.approx(CERTIFIED[name, images], abs=1e-6)
    certificate, dual_bound = solution.certificate, solution.dual_bound
    assert dual_bound is not None
    layer = "model.3" if name == FC3 else "model.7"
    scores = {**solution.scores, layer: np.roll(solution.scores[layer], 1)}
    perturbed = [
        replace(solution, certificate=replace(certificate, bound=certificate.bound + 5e-8)),
        replace(solution, certificate=replace(certificate, proved_bound=certificate.proved_bound + 5e-8)),
        replace(solution, certificate=replace(certificate, objective=certificate.objective - 1e-7)),
        replace(solution, dual_bound=replace(dual_bound, probabilities=np.roll(dual_bound.probabilities, 1, axis=0))),
        replace(solution, dual_bound=replace(dual_bound, layers=np.roll(dual_bound.layers, 1))),
        replace(solution, dual_bound=replace(dual_bound, cut_duals=dual_bound.cut_duals * 1.001)),
        replace(solution, scores=scores),
    ]
    for other in perturbed:
        with pytest.raises(CheckFailed):
            check(model, pixels, labels, other, exact=True)


def test_enclosures_hold_the_rational_results() -> None:
    rng = np.random.default_rng(0)
    matrix = rng.normal(size=(5, 40)) * 10.0 ** rng.integers(-8, 8, size=(5, 40))
    values = rng.normal(size=(40, 2)) * 10.0 ** rng.integers(-8, 8, size=(40, 2))
    found = through(matrix, Enclosure.exactly(values))
    for r in range(5):
        for c in range(2):
            truth = sum(Fraction(float(matrix[r, k])) * Fraction(float(values[k, c])) for k in range(40))
            assert Fraction(float(found.low[r, c])) <= truth <= Fraction(float(found.high[r, c]))
    one, other = Enclosure.exactly(values[:, 0]), Enclosure.exactly(values[:, 1])
    square = (one * other + one - other) * one
    total = square.total()
    truths = [((a * b + a - b) * a) for a, b in ((Fraction(float(a)), Fraction(float(b))) for a, b in values)]
    for low, truth, high in zip(square.low, truths, square.high, strict=True):
        assert Fraction(float(low)) <= truth <= Fraction(float(high))
    assert Fraction(float(total.low)) <= sum(truths) <= Fraction(float(total.high))
    place = rng.integers(0, 3, size=40)
    summed = gathered(square, place, 3)
    for k in range(3):
        truth = sum((t for t, p in zip(truths, place, strict=True) if p == k), Fraction(0))
        assert Fraction(float(summed.low[k])) <= truth <= Fraction(float(summed.high[k]))
