"""Refit cost benchmark: CPU seconds and peak memory of one refit and of one ranking by structured OBS.

    python -m benchmarks.refit_cost --model lenet5 --images 1000

Seeded random weights, images and masks, half of the units of every layer removed: the cost depends on none of them. One
thread, one network a process, so that the peak is its own. Prints a line of JSON: `refit` and `ranking` in CPU seconds,
`before` (what the process had taken until then) and `peak` in bytes.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
from collections.abc import Sequence

import numpy as np
import torch

import training
from training import Evidence

SHAPES = {"lenet5": (1, 28, 28), "fc3": (1, 28, 28)}  # others: as CIFAR-10
COLOUR = (3, 32, 32)
FEW = 20  # images that imports and buffers are paid with


def measure(model: str, images: int, *, ranked: bool = True) -> dict[str, float]:
    """The seconds and bytes of a built-in network."""
    torch.set_num_threads(1)
    shape = SHAPES.get(model, COLOUR)
    network = training.build(model, input_shape=shape, classes=10, seed=0).eval()
    drawn = torch.rand(images, *shape, generator=torch.Generator().manual_seed(0))
    layers = training.consumers(network, drawn[:1])
    random = np.random.default_rng(0)
    masks = {name: random.permutation(np.arange(links.units) < links.units // 2) for name, links in layers.items()}
    training.refit(network, masks, drawn[:FEW])
    before, start = _peak(), time.process_time()
    training.refit(network, masks, drawn)
    found = {"refit": time.process_time() - start, "before": before, "peak": _peak()}
    if ranked:
        start = time.process_time()
        labels = torch.zeros(images, dtype=torch.int64)
        training.draw_scores("structured_obs", Evidence(network, drawn, labels, tuple(layers)))
        found["ranking"] = time.process_time() - start
    return found


def _peak() -> float:
    return 1024.0 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def main(arguments: Sequence[str]) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.refit_cost", description=__doc__)
    parser.add_argument("--model", default="lenet5", help="a built-in network")
    parser.add_argument("--images", type=int, default=1000, help="that survivors are fitted to")
    parser.add_argument("--without_ranking", action="store_true", help="measure the refit alone")
    chosen = parser.parse_args(arguments)
    print(json.dumps(measure(chosen.model, chosen.images, ranked=not chosen.without_ranking)))


if __name__ == "__main__":
    main(sys.argv[1:])
