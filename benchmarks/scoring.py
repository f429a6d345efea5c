"""Scoring benchmark: CPU seconds, memory and gap of each cell of the table, one row each.

    python -m benchmarks.scoring [--quick] [--cells golden,lenet5]

FC-3, FC-4 and LeNet-5 are trained on real images first (seeded, kept in --cache) and score 10, 100 and 1,000 validation
images. Every cell runs in a process of its own on one thread, and is timed from the lowered network to the checked
solution. Images under $DATA_ROOT.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.scoring_cell import MISSING, Cell
from benchmarks.trained import Trained, train_all

MODELS = {"golden fc3": "FC-3 (golden)", "fc3": "FC-3", "fc4": "FC-4", "lenet5": "LeNet-5"}
TRAINED = ("fc3", "fc4", "lenet5")
DATASETS = {"mnist": "MNIST", "fashion_mnist": "Fashion-MNIST"}
GROUPS = ("golden", *TRAINED, "integer", "conic")
LARGEST = 1000
CACHE = Path.home() / ".cache" / "critical-neurons"
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")

MOST_SECONDS = {("golden fc3", 10): 2.0, ("lenet5", 10): 3.0} | {
    (model, images): seconds for model in TRAINED for images, seconds in ((100, 10.0), (LARGEST, 60.0))
}
MOST_BYTES = 2e9
MOST_SLOPE, MOST_RATIO, LEAST_CONIC = 0.8, 2.0, 25.0
INTEGER_GAP, INTEGER_LIMIT = 1e-2, 60.0

HEAD = (
    "network, images, gate", "gap asked for", "reached", "rounds", "columns", "cuts", "unstable",
    "CPU seconds", "of it in the solver", "ratio", "lowering", "peak MB (after imports)", "target", "met",
)  # fmt: skip


@dataclass(frozen=True)
class Measured:
    """A cell with what its process printed; `found` is empty where it failed."""

    cell: Cell
    found: dict[str, Any]


def cells_of(groups: Sequence[str], datasets: Sequence[str], *, quick: bool) -> Iterator[Cell]:
    """The cells of the groups asked for; quick: those of 10 images."""
    if "golden" in groups:
        yield Cell("golden fc3", "mnist", 10, "published", 1e-4)
    if "conic" in groups:
        yield Cell("golden fc3", "mnist", 10, "published", 1e-4, conic=True)
    for dataset in datasets:
        for model in TRAINED:
            if model in groups:
                for images in (10,) if quick else (10, 100):
                    yield Cell(model, dataset, images, "published", 1e-4)
                    yield Cell(model, dataset, images, "pattern", 1e-4)
                for images in () if quick else (10, 100, LARGEST):
                    yield Cell(model, dataset, images, "pattern", 1e-3)
                if not quick:
                    yield Cell(model, dataset, LARGEST, "linear", 1e-3, {"layer_weight": "total"})
            if "integer" in groups and model != "fc4":
                whole = {"relax": False, "time_limit": INTEGER_LIMIT}
                yield Cell(model, dataset, 10, "published", INTEGER_GAP, whole)


def run(cell: Cell) -> Measured:
    """Measure a cell in a fresh process."""
    print(f"{title(cell)}, gap {cell.gap:g}", file=sys.stderr, flush=True)
    command = [sys.executable, "-m", "benchmarks.scoring_cell", json.dumps(asdict(cell))]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False, env=os.environ | ONE_THREAD)
    found = json.loads(done.stdout.strip().splitlines()[-1]) if done.returncode == 0 else {}
    if MISSING in found:
        print(found[MISSING], file=sys.stderr, flush=True)
    elif found:
        print(f"{title(cell)}: {found['whole']:.2f} CPU seconds", file=sys.stderr, flush=True)
    return Measured(cell, found)


def title(cell: Cell) -> str:
    data = "" if cell.model not in TRAINED else f", {DATASETS[cell.dataset]}"
    kind = ", unreduced, conic" if cell.conic else ", integer" if _whole(cell) else ""
    return f"{MODELS[cell.model]}{data}, {cell.images}, `{cell.gate}`{kind}"


def row(measured: Measured) -> str:
    """The table's line of a scored cell."""
    cell, found = measured.cell, measured.found
    if not found:
        return f"| {title(cell)} | {cell.gap:g} | failed |{' |' * (len(HEAD) - 4)} no |"
    wanted, met = target(measured)
    values = [
        title(cell), f"{cell.gap:g}", f"{found['gap']:.1e}",
        *(str(found[name]) for name in ("rounds", "columns", "rows", "unstable")),
        f"{found['whole']:.2f}", f"{found['in_solver']:.2f}", f"{ratio(measured):.2f}", f"{found['lowering']:.2f}",
        f"{found['peak'] / 1e6:.0f} ({found['baseline'] / 1e6:.0f})", wanted, _word(met),
    ]  # fmt: skip
    return f"| {' | '.join(values)} |"


def target(measured: Measured) -> tuple[str, bool]:
    """What is asked of a cell besides its gap, and whether it holds."""
    cell, found = measured.cell, measured.found
    reached = found["checked"] and found["gap"] <= cell.gap
    if _whole(cell):
        return f"<= {INTEGER_LIMIT:g} s ({found['wall']:.1f} s)", reached and found["wall"] <= INTEGER_LIMIT
    seconds = MOST_SECONDS.get((cell.model, cell.images))
    if seconds is None:
        return "the gap", reached
    fits = found["peak"] <= MOST_BYTES or cell.images < LARGEST
    memory = ", <= 2 GB" if cell.images == LARGEST else ""
    return f"<= {seconds:g} CPU s{memory}", reached and found["whole"] <= seconds and fits


def ratio(measured: Measured) -> float:
    """CPU of the whole call over CPU inside the solver."""
    return float(measured.found["whole"] / max(measured.found["in_solver"], 1e-9))


def summaries(all_measured: Sequence[Measured]) -> Iterator[tuple[str, str, str, bool]]:
    """What is asked of several cells together: what, measured, target, met."""
    scored = [each for each in all_measured if each.found and not each.cell.conic]
    for first in scored:
        last = _find(scored, replace(first.cell, images=LARGEST))
        if last is not None and first.cell.images == 10:
            slope = math.log(last.found["whole"] / first.found["whole"]) / math.log(LARGEST / 10)
            data = f"{MODELS[first.cell.model]}, {DATASETS[first.cell.dataset]}, gap {first.cell.gap:g}"
            what = f"growth from 10 to {LARGEST:,} images, log-log: {data}"
            yield what, f"{slope:.2f}", f"<= {MOST_SLOPE}", slope <= MOST_SLOPE
    relaxed = [each for each in scored if not _whole(each.cell)]
    if relaxed:
        most = max(relaxed, key=ratio)
        what = f"CPU of the whole call over CPU in the solver, highest: {title(most.cell)}, gap {most.cell.gap:g}"
        yield what, f"{ratio(most):.2f}", f"<= {MOST_RATIO:g}", ratio(most) <= MOST_RATIO
    for each in scored:
        if _whole(each.cell):
            found = each.found
            moved = max((found["relaxed_change"] or {"": 0.0}).values())
            values = f"objective {found['objective']:.5f}, relaxed {found['relaxation'] or found['objective']:.5f}"
            what = f"{title(each.cell)}: largest change of a score by integer phases"
            yield what, f"{moved:.3f} ({values})", "shown", True
    yield from _conic(all_measured)


def _conic(all_measured: Sequence[Measured]) -> Iterator[tuple[str, str, str, bool]]:
    for each in all_measured:
        ours = _find(all_measured, replace(each.cell, conic=False))
        if not each.cell.conic or MISSING in each.found:
            continue
        what = f"{title(each.cell)}: its CPU over ours"
        if not each.found or ours is None or not ours.found:
            yield what, "failed" if not each.found else "needs --cells golden,conic", f">= {LEAST_CONIC:g}", False
            continue
        times = each.found["whole"] / ours.found["whole"]
        apart = abs(each.found["objective"] - each.found["certified"])
        took = f"{each.found['whole']:.1f} s, and {each.found['compiling']:.1f} s to compile"
        wanted = f">= {LEAST_CONIC:g}, objectives within 1e-4"
        yield what, f"{times:.0f} ({took}; {apart:.0e} off)", wanted, times >= LEAST_CONIC and apart <= 1e-4


def _find(all_measured: Sequence[Measured], cell: Cell) -> Measured | None:
    same = [each for each in all_measured if replace(each.cell, weights="", pictures="") == _plain(cell)]
    return same[0] if same and same[0].found else None


def _plain(cell: Cell) -> Cell:
    return replace(cell, weights="", pictures="")


def _whole(cell: Cell) -> bool:
    return cell.settings.get("relax") is False


def _word(met: bool) -> str:
    return "yes" if met else "**no**"


def _with_files(cell: Cell, trained: dict[tuple[str, str], Trained]) -> Cell:
    if cell.model not in TRAINED:
        return cell
    files = trained[cell.dataset, cell.model]
    return replace(cell, weights=str(files.weights), pictures=str(files.images))


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scoring", description=__doc__)
    parser.add_argument("--cells", default=",".join(GROUPS), help=f"which of {', '.join(GROUPS)}")
    parser.add_argument("--datasets", default=",".join(DATASETS), help=f"which of {', '.join(DATASETS)}")
    parser.add_argument("--quick", action="store_true", help="cells of 10 images only")
    parser.add_argument("--cache", default=str(CACHE / "benchmarks"), help="folder of the trained networks")
    parser.add_argument("--data_root", default="", help="folder of the data sets; empty: $DATA_ROOT, else in ~/.cache")
    parser.add_argument("--epochs", type=int, default=3, help="epochs of training")
    parser.add_argument("--seed", type=int, default=0, help="seed of split, initial weights, batches and draws")
    chosen = parser.parse_args(arguments)
    for option, known in (("cells", GROUPS), ("datasets", tuple(DATASETS))):
        values = [value for value in getattr(chosen, option).split(",") if value]
        if not values or not set(values) <= set(known):
            parser.error(f"--{option} {getattr(chosen, option)}: use some of {', '.join(known)}")
        setattr(chosen, option, values)
    return chosen


def main(arguments: Sequence[str]) -> int:
    """Train, measure every cell and print both tables; 1 where a cell failed."""
    chosen = _parse(arguments)
    torch.set_num_threads(1)
    wanted = list(cells_of(chosen.cells, chosen.datasets, quick=chosen.quick))
    root = Path(chosen.data_root or os.environ.get("DATA_ROOT") or CACHE / "data").expanduser()
    trained: dict[tuple[str, str], Trained] = {}
    for dataset in chosen.datasets:
        models = sorted({cell.model for cell in wanted if cell.dataset == dataset} & set(TRAINED))
        cache = Path(chosen.cache).expanduser()
        made = train_all(models, dataset, LARGEST, cache=cache, root=root, epochs=chosen.epochs, seed=chosen.seed)
        trained |= {(dataset, model): files for model, files in made.items()}
    done = [run(_with_files(cell, trained)) for cell in wanted]
    print(f"| {' | '.join(HEAD)} |\n|{'---|' * len(HEAD)}")
    for each in done:
        if not each.cell.conic:
            print(row(each))
    print("\n| figure | measured | target | met |\n|---|---|---|---|")
    for *texts, met in summaries(done):
        print(f"| {' | '.join(texts)} | {_word(met)} |")
    return 0 if all(each.found for each in done) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
