"""A pruned network makes somebody else's program smaller: the smallest change of an image that flips a prediction.

    python -m benchmarks.embedding

A 64-32-32-10 network is trained on scikit-learn's digits, scored on 200 of its training images, and trained on without
the lower half of each layer. Both networks are embedded in the same programs, one per test image: move every pixel by
at most d, and find the smallest d at which the runner-up overtakes the predicted class.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass

import linopy
import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn
from xarray import DataArray

from formulation import Network, ScoreSettings, embed, lower, score
from formulation.network import Affine, Array
from training.pruning import Masks, hold_at_zero, prune, removed_entries
from training.pruning.masks import Zeros
from training.pruning.selection import rank

SEED = 0
WIDTH = 40
STEPS = 100  # of training, and of training on after pruning
PER_CLASS = 20  # images in the scoring set
KEPT = 16  # units of each layer
PROGRAMS = 5  # test images, one program each
REPEATS = 3
REACH = 0.2  # the largest d that is looked for, of the whole range of a pixel
SETTINGS = ScoreSettings(loss_weight=5.0, gate="pattern", radius=0.0)

Labels = NDArray[np.int64]


@dataclass(frozen=True)
class Solved:
    """One program: its size, its optimum and the median CPU seconds of its solves."""

    binaries: int
    rows: int
    change: float
    seconds: float


def build() -> nn.Module:
    """A network of two hidden layers with fresh weights."""
    torch.manual_seed(SEED)
    return nn.Sequential(
        nn.Flatten(), nn.Linear(64, WIDTH), nn.ReLU(), nn.Linear(WIDTH, WIDTH), nn.ReLU(), nn.Linear(WIDTH, 10)
    )


def fit(model: nn.Module, images: Tensor, labels: Tensor, zeros: Zeros) -> nn.Module:
    """The model, trained in place on all images at once, its removed units staying removed."""
    optimiser = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(STEPS):
        optimiser.zero_grad()
        # torch leaves this method untyped.
        nn.functional.cross_entropy(model(images), labels).backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        hold_at_zero(model, zeros)
    return model.eval()


def choose_masks(model: nn.Module, images: Tensor, labels: Tensor) -> Masks:
    """The units with the highest scores of each layer, on the first correctly classified images of each class."""
    with torch.no_grad():
        correct = model(images).argmax(dim=1) == labels
    chosen = torch.cat([torch.nonzero(correct & (labels == c))[:PER_CLASS, 0] for c in range(10)])
    scores = score(model, images[chosen], labels[chosen], SETTINGS).scores
    return {layer: np.isin(np.arange(len(values)), rank(values)[:KEPT]) for layer, values in scores.items()}


def smallest_change(network: Network, image: Array, label: int, rival: int) -> linopy.Model:
    """The program: minimise d with |x - image| <= d and logit of `rival` >= logit of `label`."""
    model = linopy.Model()
    pixels = DataArray(image, dims=["pixel"])
    x = model.add_variables(np.maximum(pixels - REACH, 0), np.minimum(pixels + REACH, 1), name="x")
    change = model.add_variables(0.0, REACH, name="change")
    model.add_constraints(x - change <= pixels, name="not_above")
    model.add_constraints(x + change >= pixels, name="not_below")
    logits = embed(model, network, x)
    ahead = logits.sel(network_output=rival, drop=True) - logits.sel(network_output=label, drop=True)
    model.add_constraints(ahead >= 0, name="flipped")
    model.add_objective(1 * change)
    return model


def solve(model: linopy.Model) -> Solved:
    """Solve by HiGHS on one thread, several times."""
    seconds = []
    for _ in range(REPEATS):
        started = time.process_time()
        _, condition = model.solve(solver_name="highs", progress=False, output_flag=False, threads=1)
        seconds.append(time.process_time() - started)
        if condition != "optimal":
            raise RuntimeError(f"HiGHS ended with '{condition}'; no change of up to {REACH} flips the prediction")
    binaries = sum(variable.size for _, variable in model.variables.items() if variable.attrs["binary"])
    return Solved(binaries, int(model.constraints.ncons), float(model.objective.value), statistics.median(seconds))


def row(name: str, network: Network, images: Array, labels: Labels, rivals: Mapping[int, int]) -> str:
    """The table's line for one network: its accuracy on the test images, and the means over the programs."""
    guesses = network.evaluate(images.T).argmax(axis=0)
    hidden = [node.op for node in network.nodes[:-1] if isinstance(node.op, Affine)]
    units = sum(int(abs(op.weight).sum(axis=1).astype(bool).sum()) for op in hidden)
    solved = [solve(smallest_change(network, images[i], int(labels[i]), rival)) for i, rival in rivals.items()]
    mean = {part: statistics.mean(getattr(s, part) for s in solved) for part in ("binaries", "rows", "change")}
    cells = f"{units} | {100 * (guesses == labels).mean():.2f} | {mean['binaries']:.1f} | {mean['rows']:.1f}"
    return f"| {name} | {cells} | {mean['change']:.4f} | {sum(s.seconds for s in solved):.1f} |"


def main() -> int:
    """Train, score, prune, embed, solve and print the table."""
    torch.set_num_threads(1)
    images, labels = load_digits(return_X_y=True)
    train_x, test_x, train_y, test_y = train_test_split(
        images / 16, labels, test_size=0.3, random_state=SEED, stratify=labels
    )
    x = torch.as_tensor(train_x, dtype=torch.float32).reshape(-1, 1, 8, 8)
    y = torch.as_tensor(train_y)
    model = fit(build(), x, y, {})
    masks = choose_masks(model, x, y)
    pruned = fit(prune(model, masks, x[:2]), x, y, removed_entries(model, masks, x[:2]))
    networks = {"as trained": lower(model, x[:2]), f"{KEPT} units of each layer kept": lower(pruned, x[:2])}
    ranked = [network.evaluate(test_x.T).argsort(axis=0)[::-1] for network in networks.values()]
    agreed = (ranked[0][:2] == ranked[1][:2]).all(axis=0) & (ranked[0][0] == test_y)
    rivals = {int(i): int(ranked[0][1, i]) for i in np.flatnonzero(agreed)[:PROGRAMS]}
    print("| network | units | test accuracy in % | binaries | rows | smallest change | CPU seconds |")
    print("|---|---|---|---|---|---|---|")
    for name, network in networks.items():
        print(row(name, network, test_x, test_y, rivals), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
