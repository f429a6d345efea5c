"""Measurement of a cell of the ranking benchmark, level by level: masks of every rule, and their accuracies."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

import training
from benchmarks.ranked.cells import RECIPES, Bench, Cell, open_bench
from benchmarks.ranked.counting import counts_at
from benchmarks.ranked.program_steps import step
from benchmarks.ranked.rules import FISHER, PROGRAM, SIMPLE, Ranked, rank_units
from benchmarks.ranked.trials import Trials
from training import Masks, RefittedLoss

STEPS = "mask_program"
CHOICE = "choice"
TRIES = 300  # swaps worked out per start
USUAL, TEMPERATURES = 2.0, (1.0, 2.0, 4.0)  # of the answers that swaps are measured by
PLAIN, RECALIBRATED, REFITTED = "plain", "recalibrated", "refitted"

Found = dict[str, Any]


def measure(cell: Cell, countings: Sequence[str]) -> Iterator[Found]:
    """By way of counting: accuracies by level, rule and mode, masks, seconds, and where the chosen masks come from."""
    bench = open_bench(cell)
    ranked = rank_units(bench)
    started = time.process_time()
    losses = {
        t: training.measure_readings(bench.dense, bench.layers, bench.fitted, temperature=t) for t in TEMPERATURES
    }
    seconds = ranked.seconds | {"readings": (time.process_time() - started) / len(losses)}
    dense = 100 * training.evaluate(bench.dense, bench.data.test).accuracy
    trials = Trials(bench)
    for counting in countings:
        so_far: Masks = {layer: np.ones(units, np.bool_) for layer, units in bench.widths.items()}
        found = {}
        for level in cell.levels:
            print(f"{cell.name}, {counting}: {level:.0%}", file=sys.stderr, flush=True)
            removed = counts_at(bench, counting, level, ranked.across)
            masks = {name: [training.by_counts(s, removed) for s in drawn] for name, drawn in ranked.scores.items()}
            told: Found = {}
            if counting == "uniform" and RECIPES[cell.model].steps:
                masks[STEPS], told["program"] = _in_step(bench, so_far, removed, ranked)
                [so_far] = masks[STEPS]
            found[f"{level:g}"] = told | _at(_Level(bench, trials, losses, masks), counting == "uniform")
        yield {"counting": counting, "dense": dense, "seconds": seconds, "levels": found}


def _in_step(bench: Bench, so_far: Masks, removed: dict[str, int], ranked: Ranked) -> tuple[list[Masks], Found]:
    started = time.process_time()
    solution = step(bench, so_far, removed, ranked.scores[FISHER][0])
    claimed = solution.certificate
    kept = {layer: solution.masks[layer] for layer in so_far}
    return [kept], {"gap": claimed.gap, "status": claimed.status, "seconds": time.process_time() - started}


@dataclass(frozen=True, eq=False)
class _Level:
    bench: Bench
    trials: Trials
    losses: dict[float, RefittedLoss]
    masks: dict[str, list[Masks]]


def _at(level: _Level, with_parts: bool) -> Found:
    """Everything at one level."""
    trials, masks, bench = level.trials, level.masks, level.bench
    started = time.process_time()
    candidates = {name: drawn[0] for name, drawn in masks.items() if name != "random"}
    swaps = {t: partial(_swapped, loss) for t, loss in level.losses.items()}
    more = {f"{FISHER}, swaps at T = {t:g}": swap(candidates[FISHER]) for t, swap in swaps.items() if t != USUAL}
    crossings = RECIPES[bench.cell.model].crossings
    choice = training.choose_refitted(candidates | more, trials.validation, swaps[USUAL], crossings=crossings)
    seconds = time.process_time() - started
    rules = {name: dict(_modes(level, drawn)) for name, drawn in masks.items()}
    rules[CHOICE] = dict(_modes(level, [choice.masks]))
    parts = dict(_parts(trials, candidates, more, swaps[USUAL])) if with_parts else {}
    told = {"origin": choice.origin, "judged": choice.judged, "seconds": seconds}
    kept = {
        name: _kept(each) for name, each in (*((n, drawn[0]) for n, drawn in masks.items()), (CHOICE, choice.masks))
    }
    left = 1.0 - training.removal(bench.dense, choice.masks, bench.images[:1]).multiply_adds_removed_share
    return {"rules": rules, "choice": told, "parts": parts, "kept": kept, "multiply_adds": left}


def _kept(masks: Masks) -> dict[str, list[int]]:
    return {layer: np.flatnonzero(mask).tolist() for layer, mask in masks.items()}


def _modes(level: _Level, drawn: list[Masks]) -> Iterator[tuple[str, float]]:
    modes = {PLAIN: level.trials.plain, REFITTED: level.trials.refitted}
    if level.bench.normalised:
        modes[RECALIBRATED] = level.trials.recalibrated
    for name, measured in modes.items():
        yield name, float(np.mean([measured(each) for each in drawn]))


def _parts(
    trials: Trials, candidates: dict[str, Masks], more: dict[str, Masks], swap: Any
) -> Iterator[tuple[str, float]]:
    """Test accuracies after refit of what the choice is made of."""
    for name in ("l2_norm", "structured_obs", FISHER, PROGRAM, STEPS):
        if name in candidates:
            yield f"{name}, swaps", trials.refitted(swap(candidates[name]))
    ours = {name: masks for name, masks in candidates.items() if name not in SIMPLE}
    for name, given in (("best of the program's", ours), ("best of all", candidates | more)):
        yield name, trials.refitted(training.choose_refitted(given, trials.validation, crossings=0).masks)
        chosen = training.choose_refitted(given, trials.validation, swap, crossings=0)
        yield f"{name}, swaps", trials.refitted(chosen.masks)


def _swapped(loss: RefittedLoss, masks: Masks) -> Masks:
    return training.search_refitted_swaps(loss, masks, tries=TRIES).masks
