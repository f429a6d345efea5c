"""The program of the design written out in full: every activation of every image has its variables; nothing is reduced.

Slow and plain on purpose. Bounds come from interval arithmetic of its own, the sum of the largest layer terms from all
subsets, the loss from tangents in a loop. Only the lowered network (tested against torch elsewhere) is shared.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field

import highspy
import numpy as np
from hypothesis import settings as hypothesis_settings
from scipy.special import log_softmax, softmax

from formulation import Network, ScoreSettings
from formulation.network import INPUT, Add, Affine, MaxPool, Relu, Shift
from tests.formulation.cases import Case

# Same examples in every run, none stored, no clock.
repeatable = hypothesis_settings(derandomize=True, deadline=None, database=None, max_examples=40)

ROUNDS = 400
CLOSE = 1e-9  # of a tangent to the loss, where the loop ends


@dataclass
class Expression:
    """constant + sum of coefficient * column."""

    constant: float = 0.0
    terms: dict[int, float] = field(default_factory=dict)

    def plus(self, other: Expression, factor: float = 1.0) -> Expression:
        terms = dict(self.terms)
        for column, coefficient in other.terms.items():
            terms[column] = terms.get(column, 0.0) + factor * coefficient
        return Expression(self.constant + factor * other.constant, terms)

    def at(self, point: np.ndarray) -> float:
        return self.constant + sum(c * point[k] for k, c in self.terms.items())


def dense_weight(op: Affine) -> np.ndarray:
    return op.weight if isinstance(op.weight, np.ndarray) else op.weight.toarray()


def interval_bounds(
    network: Network, low: np.ndarray, high: np.ndarray, *, valid: bool
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """[l, u] of what each ReLU and max-pool reads, for one image: W+ l + W- u + b and W+ u + W- l + b."""
    boxes, read = {INPUT: (low, high)}, {}
    for node in network.nodes:
        (low, high), *others = (boxes[name] for name in node.sources)
        match node.op:
            case Affine(_, bias):
                weight = dense_weight(node.op)
                plus, minus = np.maximum(weight, 0), np.minimum(weight, 0)
                made = plus @ low + minus @ high + bias, plus @ high + minus @ low + bias
            case Relu(score):
                read[node.name] = low, high
                made = np.where(valid & (score >= 0), 0.0, np.maximum(low, 0)), np.maximum(high, 0)
            case MaxPool(windows):
                read[node.name] = low, high
                made = tuple(np.array([b[w[w >= 0]].max() for w in windows]) for b in (low, high))
            case Add():
                made = tuple(sum((box[k] for box in others), start) for k, start in enumerate((low, high)))
            case Shift(score, amount):
                gone = np.where(valid & (score >= 0), 0.0, amount)
                made = low + np.minimum(amount, gone), high + np.maximum(amount, gone)
        boxes[node.name] = made
    return read


class Unreduced:
    """The whole program of a small scoring set in HiGHS, column by column and row by row."""

    def __init__(self, network: Network, pixels: np.ndarray, labels: np.ndarray, settings: ScoreSettings) -> None:
        self.network, self.labels, self.settings = network, labels, settings
        self.highs = highspy.Highs()
        for option, value in {
            "output_flag": False, "threads": 1, "mip_rel_gap": 0.0, "mip_abs_gap": 1e-10,
            "primal_feasibility_tolerance": 1e-9, "dual_feasibility_tolerance": 1e-9, "mip_feasibility_tolerance": 1e-9,
        }.items():  # fmt: skip
            assert self.highs.setOptionValue(option, value) == highspy.HighsStatus.kOk
        self.columns = 0
        self.open: dict[int, tuple[float, float]] = {}  # column: bounds of its pre-activation
        self.score = {
            layer.name: [self.column(0, 1, whole=settings.integer_scores) for _ in range(layer.units)]
            for layer in network.layers
        }
        self.logits = [self._image(pixels[:, i]) for i in range(pixels.shape[1])]
        self.theta = [self.column(0, np.inf, cost=settings.loss_weight / len(labels)) for _ in labels]
        self.term = self._sparsity()

    def column(self, low: float, high: float, *, cost: float = 0.0, whole: bool = False) -> int:
        self.highs.addVar(low, high)
        self.highs.changeColCost(self.columns, cost)
        if whole:
            self.highs.changeColIntegrality(self.columns, highspy.HighsVarType.kInteger)
        self.columns += 1
        return self.columns - 1

    def at_least_zero(self, expression: Expression) -> None:
        columns = np.array(list(expression.terms), dtype=np.int32)
        values = np.array(list(expression.terms.values()), dtype=float)
        self.highs.addRow(-expression.constant, highspy.kHighsInf, len(columns), columns, values)

    def _image(self, pixels: np.ndarray) -> list[Expression]:
        """Variables and inequalities of one image; its logits."""
        settings = self.settings
        centre = np.clip(pixels, *settings.pixel_range) if settings.radius > 0 else pixels
        low, high = centre - settings.radius, centre + settings.radius
        bounds = interval_bounds(self.network, low, high, valid=settings.gate == "exact")
        nominal = interval_bounds(self.network, pixels, pixels, valid=False)
        values = {INPUT: [Expression(float(p)) for p in pixels]}
        for node in self.network.nodes:
            read, *others = (values[name] for name in node.sources)
            match node.op:
                case Affine(_, bias):
                    rows = zip(dense_weight(node.op), bias, strict=True)
                    made = [self._weighted(row, b, read) for row, b in rows]
                case Relu(score):
                    scores = [self._score(k) for k in score]
                    if settings.gate in ("pattern", "linear"):
                        made = [self._pattern(*each) for each in zip(read, scores, nominal[node.name][0], strict=True)]
                    else:
                        made = [self._relu(*each) for each in zip(read, scores, *bounds[node.name], strict=True)]
                case MaxPool(windows):
                    low, high = bounds[node.name]
                    made = [
                        self._window([(read[j], float(low[j]), float(high[j])) for j in window if j >= 0])
                        for window in windows
                    ]
                case Add():
                    made = read
                    for other in others:
                        made = [a.plus(b) for a, b in zip(made, other, strict=True)]
                case Shift(score, amount):
                    made = [h.plus(self._score(k), float(a)) for h, k, a in zip(read, score, amount, strict=True)]
            values[node.name] = made
        return values[self.network.nodes[-1].name]

    def _score(self, k: int) -> Expression:
        """The score at a position in the vector of all scores, 1 where none acts."""
        columns = [column for layer in self.network.layers for column in self.score[layer.name]]
        return Expression(0.0, {columns[k]: 1.0}) if k >= 0 else Expression(1.0)

    @staticmethod
    def _weighted(row: np.ndarray, bias: float, values: list[Expression]) -> Expression:
        made = Expression(float(bias))
        for j in np.flatnonzero(row):
            made = made.plus(values[j], float(row[j]))
        return made

    def _relu(self, y: Expression, s: Expression, low: float, high: float) -> Expression:
        """(1) to (4), and h <= s u+ in `exact`."""
        cap = max(high, 0.0)
        big_m = low - cap if self.settings.gate == "exact" and s.terms else low
        h = Expression(0.0, {self.column(0, np.inf): 1.0})  # (1)
        open_column = self.column(0, 1, whole=not self.settings.relax)
        self.open[open_column] = (low, high)
        open_ = Expression(0.0, {open_column: 1.0})
        gated = y.plus(s, cap).plus(Expression(-cap))
        self.at_least_zero(open_.plus(h, -1 / cap) if cap > 0 else Expression().plus(h, -1.0))  # (2)
        self.at_least_zero(h.plus(gated, -1.0))  # (3)
        self.at_least_zero(gated.plus(Expression(-big_m)).plus(open_, big_m).plus(h, -1.0))  # (4)
        if self.settings.gate == "exact":
            self.at_least_zero(Expression().plus(s, cap).plus(h, -1.0))
        return h

    def _pattern(self, y: Expression, s: Expression, centre: float) -> Expression:
        if centre > 0:
            h = y.plus(s, centre).plus(Expression(-centre))
            if self.settings.gate == "pattern":
                self.at_least_zero(h)
            return h
        if self.settings.gate == "pattern":
            self.at_least_zero(Expression().plus(y, -1.0))
        return Expression()

    def _window(self, members: list[tuple[Expression, float, float]]) -> Expression:
        """(5) to (7); where one input's lower bound is at least all others' upper bounds its pick is 1."""
        settings = self.settings
        top = max(high for _, _, high in members)
        out = Expression(0.0, {self.column(-np.inf, top if settings.gate == "exact" else np.inf): 1.0})
        decided = None
        for k, (_, low, _) in enumerate(members):
            others = [high for j, (_, _, high) in enumerate(members) if j != k]
            if decided is None and all(low >= high for high in others):
                decided = k
        picks = []
        for k, (h, low, _) in enumerate(members):
            least, most = (0, 1) if decided is None else (int(k == decided),) * 2
            picks.append(Expression(0.0, {self.column(least, most, whole=not settings.relax): 1.0}))
            if settings.gate != "linear" or k == decided:
                self.at_least_zero(out.plus(h, -1.0))  # (5)
            if settings.gate in ("published", "exact") or k == decided:
                slack = top - low
                self.at_least_zero(h.plus(Expression(slack)).plus(picks[-1], -slack).plus(out, -1.0))  # (6)
        total = Expression(-1.0)
        for pick in picks:
            total = total.plus(pick)
        self.at_least_zero(total)  # (7)
        self.at_least_zero(Expression().plus(total, -1.0))
        return out

    def _sparsity(self) -> int:
        """One column that is at least the sum of every m of the n layer terms, m = max(1, n - 1), or n in `total`."""
        column = self.column(-np.inf, np.inf, cost=1.0)
        terms = []
        for layer in self.network.layers:
            share = {
                "units": layer.units,
                "kernel": layer.units * layer.kernel,
                "network": sum(k.units for k in self.network.layers),
                "total": sum(k.units for k in self.network.layers),
            }[self.settings.layer_weight]
            terms.append(Expression(-2 * layer.units / share, dict.fromkeys(self.score[layer.name], 1 / share)))
        count = len(terms) if self.settings.layer_weight == "total" else max(1, len(terms) - 1)
        for chosen in itertools.combinations(terms, count):
            total = Expression(0.0, {column: 1.0})
            for term in chosen:
                total = total.plus(term, -1.0)
            self.at_least_zero(total)
        return column

    def undecided(self) -> list[int]:
        """The phases that the published inequalities leave open: l < 0 < u."""
        return [column for column, (low, high) in self.open.items() if low < 0 < high]

    def fix(self, column: int, value: float) -> None:
        self.highs.changeColBounds(column, value, value)

    def minimise(self) -> float | None:
        """The optimum, to about 1e-8; None where no point is feasible."""
        point = np.zeros(self.columns)
        for layer in self.score.values():
            point[layer] = 1.0
        for _ in range(ROUNDS):
            self.highs.run()
            status = self.highs.getModelStatus()
            if status == highspy.HighsModelStatus.kInfeasible:
                return None
            assert status == highspy.HighsModelStatus.kOptimal, self.highs.modelStatusToString(status)
            point = np.array(self.highs.getSolution().col_value)
            losses = [self._tangent(i, point) for i in range(len(self.labels))]
            if max(loss - point[theta] for loss, theta in zip(losses, self.theta, strict=True)) < CLOSE:
                return float(self.settings.loss_weight * np.mean(losses) + point[self.term])
        raise AssertionError(f"the unreduced program did not converge in {ROUNDS} rounds")

    def _tangent(self, i: int, point: np.ndarray) -> float:
        """Add theta_i >= loss + slope . (o - o'); returns the loss of image i at the point."""
        label = int(self.labels[i])
        logits = np.array([o.at(point) for o in self.logits[i]])
        loss = -float(log_softmax(logits)[label])
        slope = softmax(logits)
        slope[label] -= 1
        row = Expression(-loss, {self.theta[i]: 1.0})
        for k, o in enumerate(self.logits[i]):
            row = row.plus(o, -slope[k]).plus(Expression(slope[k] * logits[k]))
        self.at_least_zero(row)
        return loss


def largest_sum(terms: Mapping[str, float], count: int) -> float:
    """The sum of the `count` largest, by trying every subset."""
    return max(sum(chosen) for chosen in itertools.combinations(terms.values(), count))


def objective_of(case: Case, masks: Mapping[str, np.ndarray], loss_weight: float) -> float:
    """The program's objective from the masked torch network and the published layer terms."""
    terms = {name: float((mask - 2).mean()) for name, mask in masks.items()}
    return loss_weight * case.masked_loss(masks) + largest_sum(terms, max(1, len(terms) - 1))
