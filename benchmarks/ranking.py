"""Ranking benchmark: the program against simple rules at equal counts per layer.

    DATA_ROOT=<folder with the images> python -m benchmarks.ranking

For every network, data set and training seed, 10 % to 80 % of the units are removed; at the counts per layer that the
program chooses, and again with the same share in every layer; without retraining, and after one epoch at the levels
named by `--retrained`. What a cell found is kept in the cache, so an interrupted benchmark goes on where it stopped.
Curves and figures go to MLflow, one nested run per cell; tables are printed.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from itertools import product
from pathlib import Path
from typing import Any

from benchmarks.ranking_cell import COUNTINGS, PROGRAM, Cell
from benchmarks.ranking_report import (
    DATASETS,
    MODELS,
    Group,
    ablation_table,
    area_table,
    curve_figure,
    level_table,
    target_table,
)
from flows import tracking
from flows.tracking import Run

EXPERIMENT = "benchmark: ranking"
CACHE = Path("~/.cache/critical-neurons")
LEVELS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


def run(cell: Cell, cache: Path) -> dict[str, Any]:
    """What a cell found: from the cache, or measured in a fresh process."""
    kind = "ablation" if cell.ablation else "ranking"
    stored = cache / kind / f"{cell.model}-{cell.dataset}-seed-{cell.seed}-{cell.digest()}.json"
    if not stored.exists():  # of the same cell measured in the same way
        print(f"{cell.model}, {cell.dataset}, seed {cell.seed}: {kind} begins", file=sys.stderr, flush=True)
        command = [sys.executable, "-m", "benchmarks.ranking_cell", json.dumps(asdict(cell))]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False, env=os.environ | ONE_THREAD)
        if done.returncode:
            print(f"{cell.model}, {cell.dataset}, seed {cell.seed}: failed", file=sys.stderr, flush=True)
            return {}
        stored.parent.mkdir(parents=True, exist_ok=True)
        partial = stored.with_suffix(".partial")
        partial.write_text(done.stdout.strip().splitlines()[-1])
        partial.replace(stored)
    found: dict[str, Any] = json.loads(stored.read_text())
    return found


def log_cell(parent: Run, cell: Cell, found: dict[str, Any]) -> None:
    """A nested run: accuracies by step (percent of the units removed), areas, and the curves as a picture."""
    group = Group(cell.model, cell.dataset, cell.levels, (found,))
    with tracking.open_run(parent, f"{group.title}, seed {cell.seed}", {"stage": "ranking"}) as opened:
        tracking.log_params(opened, {"model": cell.model, "dataset": cell.dataset, "seed": cell.seed})
        tracking.telling_at_once(opened).add_metrics({"accuracy.dense": found["dense"]})
        for counting in COUNTINGS:
            curves = found[counting]["curves"]
            tracking.telling_at_once(opened).add_metrics(
                {f"area.{counting}.{name}": sum(c) / len(c) for name, c in curves.items()}
            )
            for place, level in enumerate(cell.levels):
                at_level = {f"accuracy.{counting}.{name}": curve[place] for name, curve in curves.items()}
                tracking.telling_at_once(opened).add_metrics(at_level, step=round(100 * level))
            tracking.telling_at_once(opened).add_figure(curve_figure([group], counting), f"{counting}.png")
        tracking.telling_at_once(opened).add_json(found, "found.json")


def report(parent: Run, groups: Sequence[Group], pictures: Path | None) -> str:
    """All tables as text; curves as pictures in the run on top, and in a folder if one is given."""
    for counting in COUNTINGS:
        figure = curve_figure(groups, counting)
        tracking.telling_at_once(parent).add_figure(figure, f"{counting}.png")
        if pictures is not None:
            figure.savefig(pictures / f"ranking_{counting}.png", dpi=80)
        for group in groups:
            name = f"{counting}.{group.model}.{group.dataset}"
            rival = group.area(counting, group.best_rule(counting))[0]
            areas = {f"area.{name}.{PROGRAM}": group.area(counting, PROGRAM)[0], f"area.{name}.best_rule": rival}
            tracking.telling_at_once(parent).add_metrics(areas)
    tables = [table(groups) for table in (area_table, level_table, target_table)]
    return "\n\n".join("\n".join(table) for table in tables)


def main(arguments: Sequence[str]) -> int:
    """Measure every cell, log, and print the tables; 1 where a cell failed."""
    chosen = _parse(arguments)
    root = str(Path(chosen.data_root or os.environ.get("DATA_ROOT") or CACHE / "data").expanduser())
    cache = Path(chosen.cache).expanduser()
    cells = [
        Cell(
            model, dataset, seed, tuple(chosen.levels), () if chosen.ablation else tuple(chosen.retrained),
            chosen.images_per_class, chosen.epochs, str(cache), root, chosen.ablation,
        )
        for seed, model, dataset in product(chosen.seeds, chosen.models, chosen.datasets)
    ]  # fmt: skip
    with ThreadPoolExecutor(chosen.workers) as pool:
        found = list(pool.map(lambda cell: run(cell, cache), cells))
    if not all(found):
        return 1
    groups = [
        Group(
            model, dataset, cells[0].levels,
            tuple(f for c, f in zip(cells, found, strict=True) if (c.model, c.dataset) == (model, dataset)),
        )
        for model, dataset in product(chosen.models, chosen.datasets)
    ]  # fmt: skip
    store = tracking.open_store(tracking.store_uri(chosen.tracking_uri), EXPERIMENT)
    with tracking.open_flow_run(store, "ablation" if chosen.ablation else "ranking", {"flow": "ranking"}) as parent:
        tracking.log_params(parent, {name: value for name, value in vars(chosen).items() if name != "tracking_uri"})
        if chosen.ablation:
            text = "\n".join(ablation_table(groups))
        else:
            for cell, each in zip(cells, found, strict=True):
                log_cell(parent, cell, each)
            text = report(parent, groups, Path(chosen.pictures) if chosen.pictures else None)
        tracking.telling_at_once(parent).add_note(text)
    print(text)
    return 0


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.ranking", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", type=_some_of(MODELS), default=list(MODELS), help=f"some of {', '.join(MODELS)}")
    parser.add_argument(
        "--datasets", type=_some_of(DATASETS), default=list(DATASETS), help=f"some of {', '.join(DATASETS)}"
    )
    parser.add_argument("--seeds", type=_numbers(int, 0, 2**32), default=[0, 1, 2], help="training seeds")
    parser.add_argument(
        "--levels", type=_numbers(float, 0.05, 0.95), default=list(LEVELS), help="shares of units removed"
    )
    parser.add_argument("--retrained", type=_numbers(float, 0.05, 0.95), default=[0.5], help="levels to train on from")
    parser.add_argument("--images_per_class", type=int, default=100, help="images of each class that the program sees")
    parser.add_argument("--epochs", type=int, default=10, help="epochs of training of the dense networks")
    parser.add_argument("--workers", type=int, default=1, help="cells measured at the same time, one thread each")
    parser.add_argument("--ablation", action="store_true", help="what each step adds, instead")
    parser.add_argument("--cache", default=str(CACHE / "benchmarks"), help="folder of trained networks and findings")
    parser.add_argument("--data_root", default="", help="folder of the data sets; empty: $DATA_ROOT, else in ~/.cache")
    parser.add_argument("--pictures", default="", help="a folder to write the curves to as well")
    parser.add_argument("--tracking_uri", default="", help="MLflow store; empty: as for the flows")
    chosen = parser.parse_args(arguments)
    if not set(chosen.retrained) <= set(chosen.levels):
        parser.error("--retrained names levels that --levels does not have")
    if min(chosen.workers, chosen.images_per_class, chosen.epochs) < 1:
        parser.error("--workers, --images_per_class and --epochs must be 1 or more")
    if chosen.pictures and not Path(chosen.pictures).is_dir():
        parser.error(f"--pictures {chosen.pictures}: there is no such folder")
    return chosen


def _some_of(known: dict[str, str]) -> Any:
    def parse(text: str) -> list[str]:
        names = [name for name in text.split(",") if name]
        if not names or not set(names) <= set(known):
            raise argparse.ArgumentTypeError(f"{text!r}: use some of {', '.join(known)}, separated by commas")
        return names

    return parse


def _numbers(kind: type, least: float, most: float) -> Any:
    def parse(text: str) -> list[float]:
        try:
            values = sorted({kind(part) for part in text.split(",") if part})
        except ValueError as error:
            raise argparse.ArgumentTypeError(f"{text!r}: use numbers, separated by commas") from error
        if not values or not all(least <= value <= most for value in values):
            raise argparse.ArgumentTypeError(f"{text!r}: use values from {least:g} to {most:g}")
        return values

    return parse


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
