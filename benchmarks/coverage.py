"""Coverage benchmark: which of torchvision's classifiers `linear` scores, lowered and by torch's derivatives.

    python -m benchmarks.coverage [network ...]

Each network has ten classes, seeded random weights and settled BatchNorm, and is scored on a few small images; then its
scores are checked and as many layers as can be are pruned and compacted. Every network has a process of its own, so
that its peak of memory is its own.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import formulation
import training
from formulation import FormulationError, ScoreSettings

ROOT = Path(__file__).resolve().parents[1]
NETWORKS = (
    *("alexnet", "vgg11", "vgg11_bn", "squeezenet1_1", "mobilenet_v2", "mobilenet_v3_small", "shufflenet_v2_x0_5"),
    *("mnasnet0_5", "efficientnet_b0", "densenet121", "googlenet", "resnet18", "resnet50", "resnext50_32x4d"),
    *("wide_resnet50_2", "regnet_x_400mf", "convnext_tiny", "vit_b_16", "swin_t"),
)
IMAGES, SIDE, CLASSES, SETTLING = 4, 64, 10, 16
KEPT = 0.7
OPTIONS: dict[str, dict[str, Any]] = {
    "googlenet": {"aux_logits": False, "init_weights": False},
    "vit_b_16": {"image_size": SIDE},
}
HEAD = (
    "| network | lowered: layers scored, not | differentiated: layers scored, not | units | status | rounds | "
    "layers prune takes | compacted equal to masked | CPU s | peak GB |"
)
SETTINGS = ScoreSettings(gate="linear", loss_weight=5.0, gap=1e-3, derivatives="autograd")


def settled(name: str) -> nn.Module:
    """The network in evaluation mode, its BatchNorms' statistics those of random images."""
    from torchvision import models

    torch.manual_seed(0)
    network: nn.Module = getattr(models, name)(num_classes=CLASSES, **OPTIONS.get(name, {}))
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = None  # the mean over all that it sees
    with torch.no_grad():
        network.train()(torch.rand(SETTLING, 3, SIDE, SIDE))
    return network.eval()


def lowered_layers(network: nn.Module, images: Tensor) -> str:
    """How many layers the lowered network scores, and how many not; the reason where it cannot be lowered."""
    try:
        found = formulation.outline(network, images, "pattern")
    except FormulationError as error:
        return f"no: {str(error).split(';')[0].split(' cannot')[0]}"
    return f"{len(found.units)}, {len(found.unscored)}"


def compacted_difference(network: nn.Module, layers: list[str], images: Tensor) -> str:
    """The largest difference of a logit, of the largest, where a part of every layer's units is removed."""
    draw = np.random.default_rng(0)
    links = training.consumers(network, images[:1], layers)
    masks = {layer: draw.random(link.units) < KEPT for layer, link in links.items()}
    for mask in masks.values():
        mask[0] = True
    try:
        compacted = training.compact(network, masks, images[:1])
    except training.TrainingError as error:
        return f"no: {str(error)[:60]}"
    with torch.no_grad():
        masked, found = training.prune(network, masks, images[:1])(images), compacted(images)
    return f"{float((masked - found).abs().max() / masked.abs().max()):.0e}"


def prunable(network: nn.Module, layers: list[str], images: Tensor) -> list[str]:
    """Those of the layers whose units can be removed."""
    taken = []
    for layer in layers:
        try:
            training.consumers(network, images[:1], [layer])
        except training.UnsupportedGraph:
            continue
        taken.append(layer)
    return taken


def row(name: str) -> str:
    """One network's line of the table; the output layer is none of those not scored."""
    network, images = settled(name), torch.rand(IMAGES, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        labels = network(images).argmax(1)
    before = lowered_layers(network, images)
    started = time.process_time()
    try:
        solution = formulation.score(network, images, labels, SETTINGS)
    except FormulationError as error:
        return f"| {name} | {before} | no: {error} | | | | | | | |"
    seconds = time.process_time() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    layers, units = list(solution.scores), sum(map(len, solution.scores.values()))
    every = sum(isinstance(part, nn.Linear | nn.Conv2d) for part in network.modules())
    made, taken = solution.certificate, prunable(network, layers, images)
    cells = [
        *(name, before, f"{len(layers)}, {every - len(layers) - 1}", f"{units:,}", made.status, made.rounds),
        *(len(taken), compacted_difference(network, taken, images), f"{seconds:.0f}", f"{peak:.1f}"),
    ]
    return f"| {' | '.join(map(str, cells))} |"


def main() -> None:
    parser = argparse.ArgumentParser(description="Which of torchvision's classifiers are scored.")
    parser.add_argument("networks", nargs="*", help="by torchvision's names; all of the list by default")
    parser.add_argument("--alone", action="store_true", help="measure in this process, print the line as JSON")
    given = parser.parse_args()
    if given.alone:
        print(json.dumps(row(given.networks[0])))
        return
    print(HEAD)
    print("|---" * (HEAD.count("|") - 1) + "|", flush=True)
    for name in given.networks or NETWORKS:
        command = [sys.executable, "-m", "benchmarks.coverage", "--alone", name]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        failed = done.returncode != 0
        print(f"| {name} | {done.stderr[-200:]}" if failed else json.loads(done.stdout.splitlines()[-1]), flush=True)


if __name__ == "__main__":
    main()
