"""Rankings of a cell: the simple rules, structured OBS, and the program's scores, each with its CPU seconds."""

from __future__ import annotations

import time
from dataclasses import dataclass

import formulation
import training
from benchmarks.ranked.cells import EVERY, Bench
from formulation import ScoreSettings
from training import Evidence, Scores

SIMPLE = ("l2_norm", "squared_taylor", "structured_obs", "snip", "mean_activation", "random")
FISHER = "fisher_obs"
PROGRAM = "program"
DRAWS = 2
ON_FITTED = ("structured_obs", FISHER)  # see the images that survivors are fitted to; others labelled ones
SETTINGS = ScoreSettings(gate="linear", radius=0.0, loss_weight=5.0, layer_weight="total", gap=1e-3)


@dataclass(frozen=True, eq=False)
class Ranked:
    """Scores by rule, several where chance is involved, and CPU seconds by rule."""

    scores: dict[str, list[Scores]]
    seconds: dict[str, float]

    @property
    def across(self) -> Scores:
        """Scores that compare across layers, by which units are counted: the program's, where it was solved."""
        return self.scores[PROGRAM if PROGRAM in self.scores else FISHER][0]


def rank_units(bench: Bench) -> Ranked:
    """The scores of every rule, of the dense network, once; the program's where it can be solved in minutes."""
    scores: dict[str, list[Scores]] = {}
    seconds: dict[str, float] = {}
    for rule in (*SIMPLE, FISHER, *([] if bench.cell.model in EVERY else [PROGRAM])):
        started = time.process_time()
        scores[rule] = [program_scores(bench)] if rule == PROGRAM else _drawn(bench, rule)
        seconds[rule] = (time.process_time() - started) / len(scores[rule])
    return Ranked(scores, seconds)


def program_scores(bench: Bench) -> Scores:
    """The `linear` program's importance on the images that survivors are fitted to."""
    images, labels = bench.fitted, bench.labels[: len(bench.fitted)]
    scores = formulation.importance(formulation.score(bench.dense, images, labels, SETTINGS))
    return {layer: scores[layer] for layer in bench.layers}


def _drawn(bench: Bench, rule: str) -> list[Scores]:
    seen = bench.cell.images if rule in ON_FITTED else len(bench.images)
    evidence = Evidence(bench.dense, bench.images[:seen], bench.labels[:seen], bench.layers, seed=bench.cell.seed)
    return training.draw_scores(rule, evidence, DRAWS)
