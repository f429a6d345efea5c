"""One mask for several data sets: a shared body with an output layer for MNIST and one for Fashion-MNIST.

    DATA_ROOT=<folder with the images> python -m benchmarks.joint_masks

For each seed a network with a shared body is trained on both data sets at once. At each share of the units removed, the
same of every layer, masks of equal widths are compared: the mask program's for the mean and for the worst of the two
objectives, the worst once more with each data set's objective divided by that of its own best mask; the masks of each
data set alone; what those two share, filled up from both in turns; and random ones. The survivors are refitted for each
data set on its own images, and its test images measured. What a cell found is kept in the cache: the same command goes
on with the next. Prints what the masks lose against the whole network, and paired differences.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from scipy.stats import t
from torch import nn

import formulation
import training
from benchmarks.kept import keep
from benchmarks.shared_body import shared_networks, train_shared
from formulation import MaskBudget, MaskData, MaskSettings, MaskSolution
from training import Dataset, Masks

CACHE = Path("~/.cache/critical-neurons/benchmarks")
DATASETS, EPOCHS = ("mnist", "fashion_mnist"), 5
SEEDS, SHARES = (0, 1, 2), (70, 50, 80)
PROGRAM_IMAGES, REFIT_IMAGES, DRAWS = 300, 1000, 3
SETTINGS = MaskSettings(refit_weight=0.3, gap=0.05, nodes=5)
MEAN, WORST, RELATIVE, SHARED, RANDOM = (
    "joint, mean",
    "joint, worst",
    "joint, worst relative",
    "what both keep",
    "random",
)
JOINT = (MEAN, WORST, RELATIVE)


@dataclass(frozen=True, eq=False)
class Bench:
    """A seed's networks by data set, and their data: images [n, C, H, W] and labels [n] of the scoring sets."""

    datasets: Mapping[str, Dataset]
    networks: Mapping[str, nn.Module]
    images: Mapping[str, np.ndarray]
    labels: Mapping[str, np.ndarray]

    def data_set(self, name: str, weight: float = 1.0) -> MaskData:
        """A data set for the mask program."""
        images, labels = self.images[name][:PROGRAM_IMAGES], self.labels[name][:PROGRAM_IMAGES]
        return MaskData(name, self.networks[name], images, labels, weight)


def open_bench(model: str, datasets: Mapping[str, Dataset], cache: Path, seed: int) -> Bench:
    """The trained networks, from the cache or made, and scoring images that both get right."""
    folder = cache / f"shared-{'-'.join(datasets)}-{EPOCHS}-epochs-seed-{seed}" / model
    if (folder / "weights.pt").exists():
        networks = shared_networks(model, datasets, seed=seed)
        for name, state in torch.load(folder / "weights.pt", weights_only=True).items():
            networks[name].load_state_dict(state)
    else:
        networks = train_shared(model, datasets, epochs=EPOCHS, seed=seed)
        folder.mkdir(parents=True, exist_ok=True)
        torch.save({name: network.state_dict() for name, network in networks.items()}, folder / "weights.part")
        (folder / "weights.part").replace(folder / "weights.pt")
    drawn = {
        name: training.draw(
            networks[name],
            data.validation,
            images_per_class=REFIT_IMAGES // len(data.classes),
            classes=data.classes,
            seed=seed,
        )
        for name, data in datasets.items()
    }
    images, labels = ({n: getattr(s, what).numpy() for n, s in drawn.items()} for what in ("images", "labels"))
    return Bench(datasets, networks, images, labels)


def measure(bench: Bench, share: int, seed: int, settings: MaskSettings) -> dict[str, Any]:
    """Accuracies in % of every arm on every data set, the whole networks' too, and what the programs proved."""
    first = next(iter(bench.networks))
    widths = formulation.outline(bench.networks[first], torch.from_numpy(bench.images[first][:1])).units
    counts = {layer: max(1, round(units * (100 - share) / 100)) for layer, units in widths.items()}
    budget, solved, seconds = MaskBudget(counts=counts), {}, {}

    def solve(arm: str, data_sets: Sequence[MaskData], over: Any, starts: Sequence[Masks]) -> None:
        begun = time.process_time()
        solved[arm] = formulation.choose_joint_mask(data_sets, budget, settings, over=over, starts=starts)
        seconds[arm] = time.process_time() - begun
        print(f"seed {seed}, {share} %: {arm}, {seconds[arm]:.0f} CPU s", file=sys.stderr, flush=True)

    for name in bench.datasets:
        solve(name, [bench.data_set(name)], "mean", ())
    alone = [solved[name].masks for name in bench.datasets]
    whole = [bench.data_set(name) for name in bench.datasets]
    scaled = [bench.data_set(name, 1 / solved[name].certificate.objective) for name in bench.datasets]
    for arm, data_sets, over in ((MEAN, whole, "mean"), (WORST, whole, "worst"), (RELATIVE, scaled, "worst")):
        solve(arm, data_sets, over, alone)
    masks: dict[str, list[Masks]] = {arm: [solution.masks] for arm, solution in solved.items()}
    masks[SHARED] = [filled([solved[name] for name in bench.datasets])]
    masks[RANDOM] = [drawn_mask(widths, counts, 100 * seed + draw) for draw in range(DRAWS)]
    found = {arm: np.mean([accuracies(bench, each) for each in own], axis=0).tolist() for arm, own in masks.items()}
    dense = [100 * training.evaluate(net, bench.datasets[name].test).accuracy for name, net in bench.networks.items()]
    proved = {arm: {"gap": each.certificate.gap, "cpu": seconds[arm]} for arm, each in solved.items()}
    alike = np.mean([np.mean(alone[0][layer] & alone[1][layer]) / np.mean(alone[0][layer]) for layer in widths])
    return {"dense": dense, "arms": found, "proved": proved, "alike": 100 * float(alike)}


def filled(solutions: Sequence[MaskSolution]) -> Masks:
    """The units that two masks of equal widths both keep, filled up from each in turns, its highest scores first."""
    one, other = solutions
    made: Masks = {}
    for layer, mask in one.masks.items():
        both = mask & other.masks[layer]
        queues = []
        for each in solutions:
            own = np.flatnonzero(each.masks[layer] & ~both)
            queues.append(own[np.argsort(-each.scores[layer][own], kind="stable")])
        turns = [unit for pair in zip(*queues, strict=True) for unit in pair]
        both[turns[: int(mask.sum() - both.sum())]] = True
        made[layer] = both
    return made


def drawn_mask(widths: Mapping[str, int], counts: Mapping[str, int], seed: int) -> Masks:
    """A mask of given widths, drawn without replacement."""
    draw, made = np.random.default_rng(seed), {}
    for layer, units in widths.items():
        made[layer] = np.isin(np.arange(units), draw.permutation(units)[: counts[layer]])
    return made


def accuracies(bench: Bench, masks: Masks) -> list[float]:
    """Test accuracy in % on each data set, the survivors refitted on its own images."""
    made = []
    for name, network in bench.networks.items():
        refitted = training.refit(network, masks, torch.from_numpy(bench.images[name]))
        made.append(100 * training.evaluate(refitted, bench.datasets[name].test).accuracy)
    return made


def losses(cells: Sequence[Mapping[str, Any]], arm: str) -> np.ndarray:
    """Points of accuracy lost against the whole network, [seeds, data sets]."""
    return np.array([np.subtract(cell["dense"], cell["arms"][arm]) for cell in cells])


def best_alone(cells: Sequence[Mapping[str, Any]]) -> str:
    """The data set whose own mask loses least on the data set where it loses most, in the mean over the seeds."""
    return min(DATASETS, key=lambda name: float(losses(cells, name).max(axis=1).mean()))


def table(share: int, cells: Sequence[Mapping[str, Any]]) -> list[str]:
    """A share's lines."""
    reference, lines = losses(cells, best_alone(cells)).max(axis=1), []
    for arm in cells[0]["arms"]:
        tests, lost = np.array([cell["arms"][arm] for cell in cells]), losses(cells, arm)
        figures = [said(column) for column in (*tests.T, *lost.T, lost.max(axis=1))]
        apart = "" if arm == best_alone(cells) else interval(reference - lost.max(axis=1))
        proved = [cell["proved"][arm] for cell in cells if arm in cell["proved"]]
        gap, cpu = (f"{np.mean([each[what] for each in proved]):.2g}" if proved else "" for what in ("gap", "cpu"))
        lines.append(f"| {share} | {arm} | {' | '.join(figures)} | {apart} | {gap} | {cpu} |")
    return lines


def said(values: np.ndarray) -> str:
    """Mean and standard error."""
    if len(values) < 2:
        return f"{values.mean():.2f}"
    return f"{values.mean():.2f} ({values.std(ddof=1) / np.sqrt(len(values)):.2f})"


def interval(differences: np.ndarray) -> str:
    """The mean of paired differences and its 95 % interval."""
    mean = float(differences.mean())
    if len(differences) < 2:
        return f"{mean:+.2f}"
    half = half_width(differences)
    return f"{mean:+.2f} [{mean - half:+.2f}, {mean + half:+.2f}]"


def half_width(values: np.ndarray) -> float:
    """Half a 95 % interval of a mean (Student's t); 0 of one value."""
    if len(values) < 2:
        return 0.0
    return float(t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values)))


def picture(found: Mapping[int, Sequence[Mapping[str, Any]]]) -> Figure:
    """What each arm loses on the data set where it loses most, against the share removed."""
    figure = Figure(figsize=(6.4, 4.0), layout="constrained")
    panel, shares = figure.subplots(), sorted(found)
    for arm in found[shares[0]][0]["arms"]:
        lost = [float(losses(found[share], arm).max(axis=1).mean()) for share in shares]
        width, style = (2.2, "-") if arm in JOINT else (1.2, "--")
        panel.plot(shares, lost, style, linewidth=width, marker="o", markersize=3, label=arm.replace("_", "-"))
    panel.set(xlabel="units removed in %", ylabel="points lost on the worse data set, refitted")
    panel.set_xticks(shares)
    panel.grid(alpha=0.25)
    panel.legend(fontsize=8)
    return figure


def main(words: Sequence[str] | None = None) -> None:
    """Measure what is missing, and print the table."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.joint_masks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--cache", type=Path, default=CACHE, help="folder of trained networks and findings")
    parser.add_argument("--model", default="fc3", help="a network that takes images of 28x28")
    parser.add_argument("--seeds", default=",".join(map(str, SEEDS)), help="by commas")
    parser.add_argument("--shares", default=",".join(map(str, SHARES)), help="units removed in %%, by commas")
    parser.add_argument("--time_limit", type=float, default=60.0, help="seconds per mask program")
    parser.add_argument("--picture", type=Path, help="file of the picture")
    chosen = parser.parse_args(words)
    torch.set_num_threads(1)
    cache, settings = chosen.cache.expanduser(), MaskSettings(**{**vars(SETTINGS), "time_limit": chosen.time_limit})
    seeds, shares = ([int(each) for each in given.split(",")] for given in (chosen.seeds, chosen.shares))
    found: dict[int, list[dict[str, Any]]] = {share: [] for share in shares}
    for seed in seeds:
        bench: Bench | None = None
        for share in shares:
            stored = cache / "joint-masks" / f"{chosen.model}-{share}-seed-{seed}-{chosen.time_limit:g}.json"
            if not stored.exists():
                if bench is None:
                    root = Path(os.environ["DATA_ROOT"])
                    datasets = {name: training.load(name, root=root, seed=seed) for name in DATASETS}
                    bench = open_bench(chosen.model, datasets, cache, seed)
                made = measure(bench, share, seed, settings)
                keep(stored, made)
            found[share].append(json.loads(stored.read_text()))
    names = " | ".join([*(f"{each}, test %" for each in DATASETS), *(f"{each}, lost" for each in DATASETS)])
    head = f"| removed, % | mask | {names} | worse, lost | gained on the best single mask [95 %] | gap | CPU s |"
    print(head, "|".join(["", *["---"] * (head.count("|") - 1), ""]), sep="\n")
    for share in sorted(shares):
        print(*table(share, found[share]), sep="\n")
        dense = " and ".join(said(column) for column in np.array([cell["dense"] for cell in found[share]]).T)
        alike = said(np.array([cell["alike"] for cell in found[share]]))
        print(f"| {share} | whole networks: {dense}; the two single masks share {alike} % of their units |")
    if chosen.picture is not None:
        picture(found).savefig(chosen.picture, dpi=110)


if __name__ == "__main__":
    main()
