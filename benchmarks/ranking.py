"""Ranking benchmark: which units to remove, where the survivors are refitted and nothing is retrained.

    DATA_ROOT=<folder with the images> python -m benchmarks.ranking

Networks, data sets, training seeds and ways of counting make cells; in each of them every rule loses the same number
of units of each layer. What a cell found is kept in the cache, so an interrupted benchmark goes on where it stopped.
Masks and whatever chooses them see training and validation images; test images only measure. Figures go to MLflow, one
nested run per cell; tables are printed.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from itertools import product
from pathlib import Path
from typing import Any

from benchmarks.kept import keep
from benchmarks.ranked.cells import COUNTINGS, RECIPES, Cell
from benchmarks.ranked.measuring import PLAIN, RECALIBRATED, REFITTED
from benchmarks.ranked.pictures import curve_figure
from benchmarks.ranked.tables import (
    DATASETS,
    Group,
    area_table,
    lead_table,
    part_table,
    seconds_table,
    trained_table,
)
from flows import tracking
from flows.tracking import Run

EXPERIMENT = "benchmark: ranking"
CACHE = Path("~/.cache/critical-neurons")
LEVELS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
DEEP = ("vgg16@0.25", "resnet20")
ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
GREY, COLOUR = ("mnist", "fashion_mnist"), ("cifar10",)


def run(cell: Cell, chosen: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """What a cell found by way of counting: from the cache, or measured in a fresh process; less where that failed."""
    folder = Path(cell.cache) / "ranking"
    stored = {counting: folder / f"{cell.name}-{counting}-{cell.digest()}.json" for counting in chosen.countings}
    missing = [counting for counting, path in stored.items() if not path.exists()]
    if missing and not chosen.only_report:
        for found in _lines(["benchmarks.ranked", json.dumps(asdict(cell)), *missing]):
            keep(stored[found["counting"]], found)
    there = {counting: json.loads(path.read_text()) for counting, path in stored.items() if path.exists()}
    for counting, found in there.items() if chosen.trained_on else ():
        _add_trained(cell, found, stored[counting].with_suffix(".trained"), chosen)
    return there


def _add_trained(cell: Cell, found: dict[str, Any], stored: Path, chosen: argparse.Namespace) -> None:
    """Accuracies after an epoch, at uniform counts, of the masks that were found."""
    if found["counting"] == "uniform" and not stored.exists() and not chosen.only_report:
        levels = [f"{level:g}" for level in chosen.trained_on]
        given = {"kept": {level: found["levels"][level]["kept"] for level in levels}}
        for trained in _lines(["benchmarks.ranked.epochs", json.dumps(asdict(cell))], json.dumps(given)):
            keep(stored, trained)
    if stored.exists():
        found["trained"] = json.loads(stored.read_text())


def _lines(words: Sequence[str], given: str = "") -> Iterator[dict[str, Any]]:
    """What a module prints in a process of its own, line by line."""
    command = [sys.executable, "-m", *words]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ | ONE_THREAD
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(given)
        process.stdin.close()
        for line in process.stdout:
            yield json.loads(line)
    if process.returncode:
        print(f"{words[0]}: {words[1]}: failed", file=sys.stderr, flush=True)


def log_cell(parent: Run, cell: Cell, found: dict[str, Any]) -> None:
    """A nested run: accuracies by step (percent removed), areas, and the curves as a picture."""
    counting = found["counting"]
    group = Group(cell.model, cell.dataset, counting, (found,))
    with tracking.open_run(parent, f"{group.title}, seed {cell.seed}, {counting}", {"stage": "ranking"}) as opened:
        told = {"model": cell.model, "dataset": cell.dataset, "seed": cell.seed, "counting": counting}
        tracking.log_params(opened, told)
        telling = tracking.telling_at_once(opened)
        telling.add_metrics({"accuracy.dense": found["dense"]})
        telling.add_metrics({f"area.{rule}": group.area(rule, REFITTED)[0] for rule in group.rules})
        for level, at in found["levels"].items():
            by_mode = {
                f"{mode.replace(' ', '_')}.{rule}": value
                for rule, modes in at["rules"].items()
                for mode, value in modes.items()
            }
            telling.add_metrics(by_mode, step=round(100 * float(level)))
        telling.add_figure(curve_figure([group]), "curves.png")
        telling.add_json(found, "found.json")


def report(parent: Run, groups: Sequence[Group], pictures: Path | None) -> str:
    """All tables as text; curves as pictures in the run on top, and in a folder if one is given."""
    for counting in dict.fromkeys(group.counting for group in groups):
        figure = curve_figure([group for group in groups if group.counting == counting])
        tracking.telling_at_once(parent).add_figure(figure, f"{counting}.png")
        if pictures is not None:
            figure.savefig(pictures / f"ranking_{counting}.png", dpi=80)
    tables = {
        "Refitted": area_table(groups, REFITTED),
        "The choice after refit / the best simple rule at each level": lead_table(groups),
        "Plain": area_table(groups, PLAIN),
        "BatchNorm recalibrated": area_table(groups, RECALIBRATED),
        "Refitted, then one epoch": trained_table(groups),
        "Parts": part_table(groups),
        "CPU seconds": seconds_table(groups),
    }
    return "\n\n".join("\n".join((f"## {title}\n", *lines)) for title, lines in tables.items())


def cells_of(chosen: argparse.Namespace) -> Iterator[Cell]:
    """Every cell that is asked for, network by network."""
    root = str(Path(chosen.data_root or os.environ.get("DATA_ROOT") or CACHE / "data").expanduser())
    cache = str(Path(chosen.cache).expanduser())
    for seed, model, dataset in product(chosen.seeds, chosen.models, chosen.datasets):
        if dataset in (COLOUR if model in DEEP else GREY):
            yield Cell(model, dataset, seed, tuple(chosen.levels), chosen.images, cache, root, chosen.cifar10)


def main(arguments: Sequence[str]) -> int:
    """Measure every cell, log, and print the tables; 1 where a cell failed."""
    chosen = _parse(arguments)
    cells = list(cells_of(chosen))
    with ThreadPoolExecutor(chosen.workers) as pool:
        found = list(pool.map(lambda cell: run(cell, chosen), cells))
    there = [(cell, each) for cell, by_counting in zip(cells, found, strict=True) for each in by_counting.values()]
    if not there:
        return 1
    by_group: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for cell, each in there:
        by_group.setdefault((cell.model, cell.dataset, each["counting"]), []).append(each)
    groups = [Group(*key, tuple(each)) for key, each in by_group.items()]
    store = tracking.open_store(tracking.store_uri(chosen.tracking_uri), EXPERIMENT)
    with tracking.open_flow_run(store, "ranking", {"flow": "ranking"}) as parent:
        tracking.log_params(parent, {name: value for name, value in vars(chosen).items() if name != "tracking_uri"})
        for cell, each in there:
            log_cell(parent, cell, each)
        text = report(parent, groups, Path(chosen.pictures) if chosen.pictures else None)
        tracking.telling_at_once(parent).add_note(text)
    print(text)
    return int(len(there) < len(cells) * len(chosen.countings))


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.ranking", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name, known in (("--models", RECIPES), ("--datasets", DATASETS), ("--countings", COUNTINGS)):
        parser.add_argument(name, type=_some_of(known), default=list(known), help=f"some of {', '.join(known)}")
    parser.add_argument("--seeds", type=_numbers(int, 0, 2**32), default=[0, 1, 2], help="training seeds")
    parser.add_argument("--levels", type=_numbers(float, 0.05, 0.95), default=list(LEVELS), help="shares removed")
    parser.add_argument(
        "--trained_on",
        type=_numbers(float, 0.05, 0.95),
        default=[],
        help="levels to train an epoch from, uniform counts",
    )
    parser.add_argument("--images", type=int, default=1000, help="training images that survivors are fitted to")
    parser.add_argument("--workers", type=int, default=1, help="cells measured at the same time, one thread each")
    parser.add_argument("--only_report", action="store_true", help="measure nothing: tables of what the cache holds")
    parser.add_argument("--cache", default=str(CACHE / "benchmarks"), help="folder of trained networks and findings")
    parser.add_argument("--data_root", default="", help="folder of the data sets; empty: $DATA_ROOT, else in ~/.cache")
    parser.add_argument("--cifar10", default="", help="folder of CIFAR-10 as images per class; empty: torchvision's")
    parser.add_argument("--pictures", default="", help="a folder to write the curves to as well")
    parser.add_argument("--tracking_uri", default="", help="MLflow store; empty: as for the flows")
    chosen = parser.parse_args(arguments)
    if not set(chosen.trained_on) <= set(chosen.levels):
        parser.error("--trained_on names levels that --levels does not have")
    if min(chosen.workers, chosen.images) < 1:
        parser.error("--workers and --images must be 1 or more")
    if chosen.pictures and not Path(chosen.pictures).is_dir():
        parser.error(f"--pictures {chosen.pictures}: there is no such folder")
    return chosen


def _some_of(known: Collection[str]) -> Any:
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
