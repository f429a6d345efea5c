"""Coverage benchmark: which of torchvision's classifiers go the whole way, scored, pruned, compacted and exported.

    python -m benchmarks.coverage [network ...]

Each network has ten classes, seeded random weights and settled BatchNorm. It is scored by `linear` on a few small
images (lowered where that can be done, else differentiated); units of least importance go until 70 % of the
multiply-adds remain; the compacted network is compared with the masked one, and ONNX Runtime with the compacted one.
Every network has a process of its own, so that its peak of memory is its own.
"""

from __future__ import annotations

import argparse
import json
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from onnxruntime import InferenceSession
from torch import Tensor, nn

import critical_neurons
import formulation
import training
from critical_neurons import PruneResult, ScoreResult
from formulation import FormulationError, ScoreSettings
from training import TrainingError

ROOT = Path(__file__).resolve().parents[1]
NETWORKS = (
    *("alexnet", "vgg11", "vgg11_bn", "squeezenet1_1", "mobilenet_v2", "mobilenet_v3_small", "shufflenet_v2_x0_5"),
    *("mnasnet0_5", "efficientnet_b0", "densenet121", "googlenet", "resnet18", "resnet50", "resnext50_32x4d"),
    *("wide_resnet50_2", "regnet_x_400mf", "convnext_tiny", "vit_b_16", "swin_t"),
)
IMAGES, SIDE, CLASSES, SETTLING = 4, 64, 10, 16
REMOVED = 0.3
EQUAL = 1e-5
MINUTES = 20.0
OPTIONS: dict[str, dict[str, Any]] = {
    "googlenet": {"aux_logits": False, "init_weights": False},
    "vit_b_16": {"image_size": SIDE},
}
SETTINGS = ScoreSettings(gate="linear", time_limit=3600.0)  # CPU seconds are measured, on machines that are shared


@dataclass(frozen=True)
class Journey:
    """How far a network came; what was not reached is empty.

    Attributes:
        name: of the network.
        way: `lowered` or `differentiated`.
        status: of the certificate.
        layers, units: how many are scored; layers that others' units are tied to count.
        unscored: by reason, how many layers have no score; the output layer is none of them.
        removed: the part of the multiply-adds that went.
        compacted: the largest difference of a logit to the masked network's, of the largest.
        onnx: the largest difference of a logit of ONNX Runtime to the compacted network's, of the largest.
        failure: where it ended early, what was said.
        seconds: of the CPU, for the score call and for all.
        peak: gigabytes of memory.
    """

    name: str
    way: str = ""
    status: str = ""
    layers: int = 0
    units: int = 0
    unscored: tuple[tuple[str, int], ...] = ()
    removed: float = 0.0
    compacted: float | None = None
    onnx: float | None = None
    failure: str = ""
    seconds: tuple[float, float] = (0.0, 0.0)
    peak: float = 0.0

    @property
    def whole(self) -> bool:
        """Whether nothing of the way is missing."""
        equal = [each is not None and each <= EQUAL for each in (self.compacted, self.onnx)]
        return self.status == "optimal" and self.removed >= REMOVED and all(equal) and not self.failure


def settled(name: str, side: int = SIDE) -> nn.Module:
    """The network in evaluation mode, its BatchNorms' statistics those of random images of side x side pixels."""
    from torchvision import models

    torch.manual_seed(0)
    network: nn.Module = getattr(models, name)(num_classes=CLASSES, **OPTIONS.get(name, {}))
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = None  # the mean over all that it sees
        elif isinstance(layer, nn.Linear) and not bool(layer.weight.any()):
            layer.reset_parameters()  # a head of zeros would give every image the same logits
    with torch.no_grad():
        network.train()(torch.rand(SETTLING, 3, side, side))
    return network.eval()


def journey(name: str, network: nn.Module, images: Tensor) -> Journey:
    """A network's way through the public verbs, as far as it goes."""
    started = time.process_time()
    with torch.no_grad():
        data = images, network(images).argmax(1)
    made = Journey(name)
    try:
        scored = critical_neurons.score(network, data, images=len(images), settings=SETTINGS)
        made = replace(of_scores(made, scored), seconds=(time.process_time() - started, 0.0))
        pruned = critical_neurons.prune(
            network, data, scores=scored, validation=data, multiply_adds=1 - REMOVED, refit=False, images=len(images)
        )
        made = of_removal(made, network, pruned, images)
    except (FormulationError, TrainingError) as error:
        made = replace(made, failure=str(error))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return replace(made, seconds=(made.seconds[0], time.process_time() - started), peak=peak)


def of_scores(made: Journey, scored: ScoreResult) -> Journey:
    """With what was scored."""
    assert scored.network is not None, "it has just been scored"
    found = formulation.outline(scored.network, scored.images[:1])
    tied = sum(len(found.tied.get(name, ())) for name in scored.scores)
    return replace(
        made,
        way="differentiated" if found.first_order else "lowered",
        status=scored.certificate.status,
        layers=len(scored.scores) + tied,
        units=sum(map(len, scored.scores.values())),
        unscored=tuple(Counter(map(kind_of, found.unscored.values())).items()),
    )


def kind_of(reason: str) -> str:
    """A reason without the names in it."""
    return re.sub(r"'[^']*'", "..", reason)


def of_removal(made: Journey, network: nn.Module, pruned: PruneResult, images: Tensor) -> Journey:
    """With what went, and what masked, compacted and exported networks differ by."""
    masked = training.prune(network, pruned.masks, images[:1])
    with torch.no_grad():
        expected, found = masked(images), pruned.network(images)
    difference = float((expected - found).abs().max() / expected.abs().max())
    made = replace(made, removed=pruned.removal.multiply_adds_removed_share, compacted=difference)
    with tempfile.TemporaryDirectory() as folder:
        written = training.export_onnx(pruned.network, images[:1], Path(folder) / "network.onnx", tolerance=EQUAL)
        (answer,) = InferenceSession(written.path).run(None, {"images": images.numpy()})
    return replace(made, onnx=float((torch.from_numpy(answer) - found).abs().max() / found.abs().max()))


COLUMNS: dict[str, Callable[[Journey], str]] = {
    "network": lambda made: made.name,
    "whole way": lambda made: "yes" if made.whole else "no",
    "scored": lambda made: made.way,
    "status": lambda made: made.status,
    "layers scored": lambda made: str(made.layers),
    "units": lambda made: f"{made.units:,}",
    "layers unscored": lambda made: "; ".join(f"{count}: {reason}" for reason, count in made.unscored) or "0",
    "multiply-adds removed": lambda made: f"{made.removed:.1%}",
    "compacted to masked": lambda made: "" if made.compacted is None else f"{made.compacted:.0e}",
    "ONNX Runtime to compacted": lambda made: "" if made.onnx is None else f"{made.onnx:.0e}",
    "CPU s, score": lambda made: f"{made.seconds[0]:.0f}",
    "CPU s, all": lambda made: f"{made.seconds[1]:.0f}",
    "peak GB": lambda made: f"{made.peak:.1f}",
    "ended by": lambda made: made.failure.replace("|", "/")[:160],
}


def row(made: Journey) -> str:
    """A line of the table."""
    return f"| {' | '.join(cell(made) for cell in COLUMNS.values())} |"


def measured(name: str) -> Journey:
    """The journey of a network of torchvision's, in this process."""
    torch.set_num_threads(1)
    network = settled(name)
    return journey(name, network, torch.rand(IMAGES, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1)))


def apart(name: str) -> tuple[str, bool]:
    """A network's line, measured in a process of its own, and whether it went the whole way."""
    command = [sys.executable, "-m", "benchmarks.coverage", "--alone", name]
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60 * MINUTES)
    except subprocess.TimeoutExpired:
        return row(Journey(name, failure=f"not done in {MINUTES:g} minutes")), False
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [""])[-1]
        return row(Journey(name, failure=f"exit code {done.returncode}: {last}")), False
    line, whole = json.loads(done.stdout.splitlines()[-1])
    return line, whole


def main() -> None:
    parser = argparse.ArgumentParser(description="Which of torchvision's classifiers go the whole way.")
    parser.add_argument("networks", nargs="*", help="by torchvision's names; all of the list by default")
    parser.add_argument("--alone", action="store_true", help="measure in this process, print the line as JSON")
    given = parser.parse_args()
    if given.alone:
        made = measured(given.networks[0])
        print(json.dumps([row(made), made.whole]))
        return
    print(f"| {' | '.join(COLUMNS)} |\n{'|---' * len(COLUMNS)}|", flush=True)
    names, whole = given.networks or NETWORKS, 0
    for name in names:
        line, reached = apart(name)
        whole += reached
        print(line, flush=True)
    print(f"\n{whole} of {len(names)} the whole way")


if __name__ == "__main__":
    main()
