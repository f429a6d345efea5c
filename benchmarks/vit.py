"""A small vision transformer that loses attention heads and units of its MLPs: rules with and without a refit.

    DATA_ROOT=<folder with the images> python -m benchmarks.vit

`vit_tiny` is trained once and kept in `--cache`. In every block as many heads and as many MLP units go by each rule.
The program and the simple rules see the same validation images, the refit training images without their labels; test
images only measure. What has been measured is kept beside the network and not measured again.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

import critical_neurons
import training
from benchmarks.trained import train_all
from formulation import ScoreSettings, importance
from training import Dataset, Evidence, Masks, Scores

CACHE = Path("~/.cache/critical-neurons")
MODEL, DATASET, TRAINED_ON = "vit_tiny", "fashion_mnist", 20_000
LEVELS = ((1, 45), (2, 90))  # heads of 4 and MLP units of 128 that go in every block: 30 and 60 % of a block's weights
RULES = ("l2_norm", "taylor", "squared_taylor")
DRAWS = 3
SETTINGS = ScoreSettings(gate="linear", time_limit=3600.0)


@dataclass(frozen=True)
class Row:
    """What one rule left at one level: multiply-adds gone and test accuracies in %, CPU seconds of the refit."""

    level: tuple[int, int]
    rule: str
    gone: float
    plain: float
    refitted: float
    seconds: float


@dataclass(frozen=True, eq=False)
class Bench:
    """The trained network, its data, and the scores of every rule."""

    dense: nn.Module
    data: Dataset
    rankings: dict[str, Scores]
    status: str


def bench_of(dense: nn.Module, data: Dataset, images: int, seed: int) -> Bench:
    """Every rule's scores, higher = keep, on the same images; the program's ties by reduced cost."""
    seen = critical_neurons.score(dense, data.validation, images=images, settings=SETTINGS)
    evidence = Evidence(dense, seen.images, seen.labels, tuple(seen.scores), seed=seed)
    rankings: dict[str, Scores] = {"program": importance(seen.solution)}
    for rule in RULES:
        (rankings[rule],) = training.draw_scores(rule, evidence)
    drawn = training.draw_scores("random", evidence, draws=DRAWS)
    rankings |= {f"random, draw {k}": each for k, each in enumerate(drawn, start=1)}
    return Bench(dense, data, rankings, seen.certificate.status)


def masks_at(scores: Scores, level: tuple[int, int]) -> Masks:
    """The masks that take so many heads and so many MLP units out of every block."""
    heads, units = level
    counts = {layer: heads if layer.endswith("attention") else units for layer in scores}
    return training.by_counts(scores, counts)


def rows_of(bench: Bench, images: int, done: Sequence[Row]) -> Iterator[Row]:
    """One row for each level and rule that has not been measured."""
    known = {(each.level, each.rule) for each in done}
    read = bench.data.train.images[:images]
    for level in LEVELS:
        for rule, scores in bench.rankings.items():
            if (level, rule) in known:
                continue
            masks = masks_at(scores, level)
            plain = accuracy(training.prune(bench.dense, masks, read[:1]), bench.data)
            started = time.process_time()
            refitted = training.refit(bench.dense, masks, read)
            seconds = time.process_time() - started
            gone = 100 * training.removal(bench.dense, masks, read[:1]).multiply_adds_removed_share
            yield Row(level, rule, gone, plain, accuracy(refitted, bench.data), seconds)


def accuracy(network: nn.Module, data: Dataset) -> float:
    """Test accuracy in %."""
    return 100 * training.evaluate(network, data.test).accuracy


def table(rows: Sequence[Row], dense: float) -> str:
    """The rows as Markdown, the random draws in one."""
    lines = [
        "| heads, MLP units gone of each block | multiply-adds gone | rule | no refit | refit | CPU s of the refit |",
        "|---|---|---|---|---|---|",
        f"| none | 0 % | | {dense:.2f} | {dense:.2f} | |",
    ]
    for level in LEVELS:
        here = [each for each in rows if each.level == level]
        drawn = [each for each in here if each.rule.startswith("random")]
        about = f"{level[0]} of 4, {level[1]} of 128"
        for each in here:
            if each not in drawn:
                accuracies = (f"{each.plain:.2f}", f"{each.refitted:.2f}")
                lines.append(_line(about, f"{each.gone:.1f} %", each.rule, *accuracies, f"{each.seconds:.0f}"))
        if drawn:
            plain, refitted = ([getattr(each, name) for each in drawn] for name in ("plain", "refitted"))
            spread = [f"{np.mean(each):.2f} ({min(each):.2f} to {max(each):.2f})" for each in (plain, refitted)]
            seconds = f"{np.mean([each.seconds for each in drawn]):.0f}"
            lines.append(_line(about, f"{drawn[0].gone:.1f} %", f"random, {len(drawn)} draws", *spread, seconds))
    return "\n".join(lines)


def _line(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def main(arguments: Sequence[str]) -> int:
    """Train or load the network, measure what has not been measured, and print the table."""
    torch.set_num_threads(1)
    chosen = _parse(arguments)
    root, cache = Path(chosen.data_root).expanduser(), Path(chosen.cache).expanduser()
    made = train_all(
        [MODEL],
        DATASET,
        10,
        cache=cache,
        root=root,
        epochs=chosen.epochs,
        seed=chosen.seed,
        limit=TRAINED_ON,
        rate_schedule="cosine",
    )[MODEL]
    data = training.load(DATASET, root=root, seed=chosen.seed, limit=TRAINED_ON)
    dense, _, _ = made.load(1)
    store = made.weights.with_name(f"removal-{chosen.images}-{chosen.refitted_to}.jsonl")
    rows = [Row(**json.loads(line)) for line in store.read_text().splitlines()] if store.exists() else []
    rows = [Row(**{**asdict(each), "level": tuple(each.level)}) for each in rows]
    bench = bench_of(dense, data, chosen.images, chosen.seed)
    print(f"scores: {bench.status}, {sum(map(len, bench.rankings['program'].values()))} units", flush=True)
    for row in rows_of(bench, chosen.refitted_to, rows):
        rows.append(row)
        with store.open("a") as file:
            file.write(json.dumps(asdict(row)) + "\n")
        print(f"{row.level} {row.rule}: {row.plain:.2f} %, refitted {row.refitted:.2f} %", flush=True)
    print(table(rows, accuracy(dense, data)))
    print(f"CPU seconds: {time.process_time():.0f}")
    return 0


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.vit", description=__doc__)
    parser.add_argument("--images", type=int, default=200, help="validation images that every rule sees")
    parser.add_argument("--refitted_to", type=int, default=500, help="training images that survivors are fitted to")
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cache", default=str(CACHE))
    parser.add_argument("--data_root", default=os.environ.get("DATA_ROOT") or str(CACHE / "data"))
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
