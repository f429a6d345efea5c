"""One cell of the ranking benchmark: a network, a data set and a training seed, measured in a process of its own.

    python -m benchmarks.ranking_cell '{"model": "fc3", "dataset": "mnist", "seed": 0, ...}'

Prints one line of JSON. Scoring and swaps see validation images, the simple rules training images; test images
only measure.
"""

from __future__ import annotations

import hashlib
import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

import training
from benchmarks.trained import train_all
from formulation import ScoreSettings, importance, score
from naming import GateName
from training import Dataset, Evidence, FitSettings, Masks, Method, Scores, ScoringSet, Selector

STEP = 0.05
RULES = ("l1_norm", "l2_norm", "mean_activation", "dead", "taylor", "mean_taylor", "squared_taylor", "snip", "critical")
RANDOM = "random"
DRAWS = 5
EVIDENCE = 6000
PROGRAM = "program"
COUNTINGS = ("own", "uniform")
SETTINGS = ScoreSettings(gate="linear", radius=0.0, loss_weight=5.0, layer_weight="total", gap=1e-3)
TRIES = 100
VERSION = 1  # of the way a cell is measured: raise it with every change that may move a figure

Curves = dict[str, list[float]]


@dataclass(frozen=True)
class Cell:
    """What to measure: accuracies at `levels` (shares of units removed), after an epoch of training at `retrained`."""

    model: str
    dataset: str
    seed: int
    levels: tuple[float, ...]
    retrained: tuple[float, ...]
    images_per_class: int
    epochs: int
    cache: str
    root: str
    ablation: bool = False

    def digest(self) -> str:
        """What was asked for and how it is measured, as 12 hexadecimal digits; where files lie does not count."""
        asked = {name: value for name, value in asdict(self).items() if name not in ("cache", "root")}
        how = (SETTINGS.to_dict(), TRIES, STEP, EVIDENCE, DRAWS, RULES, VERSION)
        return hashlib.sha256(json.dumps([asked, how], sort_keys=True).encode()).hexdigest()[:12]


@dataclass(frozen=True, eq=False)
class Bench:
    """A cell's dense network, its data, the scoring set, and what the simple rules make of the dense network."""

    cell: Cell
    dense: nn.Module
    data: Dataset
    chosen: ScoringSet
    rules: dict[str, list[Scores]]

    def accuracy(self, network: nn.Module) -> float:
        """Test accuracy in %."""
        return 100 * training.evaluate(network, self.data.test).accuracy

    def pruned(self, masks: Masks) -> nn.Module:
        """The dense network without the removed units."""
        return training.prune(self.dense, masks, self.data.test.images[:1])

    def trained_on(self, masks: Masks) -> float:
        """Test accuracy in % after one epoch of training of the compacted network."""
        settings = FitSettings(epochs=1, seed=self.cell.seed)
        smaller = training.compact(self.dense, masks, self.data.test.images[:1])
        fitted = training.fit(smaller, self.data.train, self.data.validation, settings)
        return self.accuracy(fitted.model)


def open_bench(cell: Cell) -> Bench:
    """The trained network from the cache, its scoring set, and the scores of every simple rule."""
    made = train_all(
        [cell.model], cell.dataset, 1000, cache=Path(cell.cache), root=Path(cell.root), epochs=cell.epochs,
        seed=cell.seed,
    )  # fmt: skip
    dense, _, _ = made[cell.model].load(1)
    data = training.load(cell.dataset, root=cell.root, seed=cell.seed)
    chosen = training.draw(
        dense, data.validation, images_per_class=cell.images_per_class, classes=data.classes, seed=cell.seed
    )
    picked = np.random.default_rng(cell.seed).choice(len(data.train), size=EVIDENCE, replace=False)
    layers = tuple(training.consumers(dense, chosen.images[:1]))
    scores = importance(score(dense, chosen.images, chosen.labels, SETTINGS))
    images, labels = data.train.images[picked], data.train.labels[picked]
    evidence = Evidence(dense, images, labels, layers, seed=cell.seed, scores=scores)
    rules = {rule: training.draw_scores(rule, evidence, DRAWS) for rule in (*RULES, RANDOM)}
    return Bench(cell, dense, data, chosen, rules)


def program_scorer(chosen: ScoringSet, settings: ScoreSettings = SETTINGS) -> Callable[[nn.Module, Masks], Scores]:
    """The program on the network as it is by then, solved to its gap and checked."""

    def scores_of(network: nn.Module, _: Masks) -> Scores:
        solution = score(network.eval(), chosen.images, chosen.labels, settings)
        if solution.certificate.status != "optimal":
            raise RuntimeError(
                f"a step ended by {solution.certificate.status} at a gap of {solution.certificate.gap:.1e}"
            )
        return importance(solution)

    return scores_of


def selector_of(counting: str) -> Selector:
    """`own`: the lowest of all layers together; `uniform`: the same share of every layer."""
    rule = training.by_quantile if counting == "own" else training.by_share
    return lambda scores, _, share: rule(scores, share).masks


def masks_by_level(bench: Bench, method: Method) -> Iterator[tuple[float, Masks]]:
    """The method's masks at every level, a step of at most 5 % at a time."""
    levels = set(bench.cell.levels)
    between = {
        STEP * k for k in range(1, round(max(levels) / STEP)) if not any(abs(STEP * k - x) < 1e-9 for x in levels)
    }
    for step in training.iterative(bench.dense, method, sorted(levels | between), bench.data.test.images[:1]):
        if step.share in levels:
            yield step.share, step.masks


def measure(bench: Bench, counting: str) -> dict[str, object]:
    """Curves of the program and of every simple rule at its counts, and what an epoch of training makes of them."""
    started, method = (
        time.process_time(),
        Method(program_scorer(bench.chosen), selector_of(counting), _swap_search(bench, across=counting == "own")),
    )
    by_level = dict(masks_by_level(bench, method))
    seconds = time.process_time() - started
    curves: Curves = {}
    retrained: dict[str, dict[str, float]] = {}
    for level, masks in by_level.items():
        removed = training.counts(masks)
        candidates = {PROGRAM: [masks]} | {
            rule: [training.by_counts(scores, removed) for scores in drawn] for rule, drawn in bench.rules.items()
        }
        for name, drawn_masks in candidates.items():
            accuracies = [bench.accuracy(bench.pruned(each)) for each in drawn_masks]
            curves.setdefault(name, []).append(float(np.mean(accuracies)))
        if level in bench.cell.retrained:
            retrained[f"{level:g}"] = {name: bench.trained_on(drawn[0]) for name, drawn in candidates.items()}
    removed_by_level = {f"{level:g}": training.counts(masks) for level, masks in by_level.items()}
    return {"curves": curves, "retrained": retrained, "removed": removed_by_level, "seconds": seconds}


def ablation(bench: Bench) -> Curves:
    """At uniform counts: what each step of the method adds, and what the same schedule makes of simple rules."""
    select, swap = selector_of("uniform"), _swap_search(bench)
    program, chosen = program_scorer(bench.chosen), bench.chosen
    pattern = [_importance_of(bench, gate="pattern", loss_weight=weight) for weight in (0.2, 1.0, 5.0, 25.0)]
    one_shot = {
        "one shot, `pattern`, loss weight 1": pattern[1],
        "one shot, `pattern`, mean over loss weights 0.2, 1, 5, 25": {
            layer: np.mean([each[layer] for each in pattern], axis=0) for layer in pattern[0]
        },
        "one shot, `linear`": program(bench.dense, {}),
    }
    curves = {
        name: [bench.accuracy(bench.pruned(select(scores, {}, level))) for level in bench.cell.levels]
        for name, scores in one_shot.items()
    }
    methods = {
        "steps, `linear`": Method(program, select),
        "steps and swaps, `linear` (the program)": Method(program, select, swap),
        "steps and swaps, scores of the first step kept, `linear`": Method(
            lambda *_: one_shot["one shot, `linear`"], select, swap
        ),
    }
    variants = {
        "loss weight 25": replace(SETTINGS, loss_weight=25.0),
        "layer_weight `units`": replace(SETTINGS, layer_weight="units"),
        "`pattern`": replace(SETTINGS, gate="pattern"),
    }
    for name, settings in variants.items():
        methods[f"steps, {name}"] = Method(program_scorer(chosen, settings), select)
    methods["steps, `linear`, 10 images of each class"] = Method(program_scorer(_drawn(bench, 10)), select)
    least = _drawn(bench, bench.cell.images_per_class, order="least_confident")
    methods["steps, `linear`, least confident images"] = Method(program_scorer(least), select)
    for rule in ("l1_norm", "squared_taylor"):
        methods[f"steps, {rule}"] = Method(_rule_scorer(rule, chosen), select)
        methods[f"steps and swaps, {rule}"] = Method(_rule_scorer(rule, chosen), select, swap)
    methods["steps and swaps, random"] = Method(lambda *_: bench.rules[RANDOM][0], select, swap)
    for name, method in methods.items():
        curves[name] = [bench.accuracy(bench.pruned(masks)) for _, masks in masks_by_level(bench, method)]
    return curves


def _swap_search(bench: Bench, *, across: bool = False) -> Callable[[nn.Module, Masks], training.SwapResult]:
    chosen = bench.chosen
    return lambda model, masks: training.search_swaps(
        model, masks, chosen.images, chosen.labels, tries=TRIES, across=across
    )


def _importance_of(bench: Bench, *, gate: GateName, loss_weight: float) -> Scores:
    """The mean over four sets of 50 images, as one shot."""
    sets = training.draw_sets(
        bench.dense, bench.data.validation, sets=4, images_per_class=5, classes=bench.data.classes, seed=bench.cell.seed
    )
    settings = ScoreSettings(gate=gate, radius=0.0, loss_weight=loss_weight, gap=1e-3)
    scored = [importance(score(bench.dense, each.images, each.labels, settings)) for each in sets]
    return {layer: np.mean([scores[layer] for scores in scored], axis=0) for layer in scored[0]}


def _drawn(bench: Bench, images_per_class: int, *, order: str = "random") -> ScoringSet:
    data, seed = bench.data, bench.cell.seed
    return training.draw(
        bench.dense, data.validation, images_per_class=images_per_class, classes=data.classes, seed=seed, order=order
    )


def _rule_scorer(rule: str, chosen: ScoringSet) -> Callable[[nn.Module, Masks], Scores]:
    return lambda network, masks: training.RULES[rule](Evidence(network, chosen.images, chosen.labels, tuple(masks)))


def main(arguments: list[str]) -> int:
    """Measure the cell and print what was found."""
    torch.set_num_threads(1)
    given = json.loads(arguments[0])
    cell = Cell(**given | {"levels": tuple(given["levels"]), "retrained": tuple(given["retrained"])})
    bench = open_bench(cell)
    found: dict[str, object] = {"dense": bench.accuracy(bench.dense)}
    if cell.ablation:
        found["ablation"] = ablation(bench)
    else:
        for counting in COUNTINGS:
            print(f"{cell.model}, {cell.dataset}, seed {cell.seed}: {counting} counts", file=sys.stderr, flush=True)
            found[counting] = measure(bench, counting)
    print(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
