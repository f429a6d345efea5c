"""Time limits: whole score calls of torchvision's VGG-11 at 32x32 and of FC-3 with 1,000 images; one table row each.

python -m benchmarks.limits [--networks vgg11 fc3] [--limits 1 5 20 60] [--gates pattern published]

A call may take its limit, 5 % of it, and one pass of an image; weights and images are random, the labels are the
network's own. Exits with 1 where a call took longer.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torchvision.models import vgg11

from formulation import ScoreSettings, TimeLimitReached, lower, score
from formulation.relaxation.reduction import reduce

SHARE = 0.05


def fc3() -> nn.Module:
    """784-300-100-10."""
    layers = (nn.Linear(784, 300), nn.ReLU(), nn.Linear(300, 100), nn.ReLU(), nn.Linear(100, 10))
    return nn.Sequential(nn.Flatten(), *layers)


NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], int]] = {
    "vgg11": (lambda: vgg11(num_classes=10), (3, 32, 32), 10),
    "fc3": (fc3, (1, 28, 28), 1000),
}
FIGURES = "network | images | gate | limit, s | call, s | over | allowed, s | one image's pass, s | outcome"


def main() -> int:
    """Score with every limit and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS), choices=list(NETWORKS))
    parser.add_argument("--limits", nargs="+", type=float, default=[1.0, 5.0, 20.0, 60.0])
    parser.add_argument("--gates", nargs="+", default=["pattern", "published"], choices=["pattern", "published"])
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    print(f"| {FIGURES} |\n|{'---|' * len(FIGURES.split('|'))}")
    late = 0
    for name in chosen.networks:
        make, shape, count = NETWORKS[name]
        torch.manual_seed(0)
        model, images = make().eval(), torch.rand(count, *shape)
        with torch.no_grad():
            labels = model(images).argmax(dim=1)
        for gate in chosen.gates:
            asked = [settings_of(gate, limit) for limit in sorted(chosen.limits)]
            rows = [(settings, *timed(model, images, labels, settings)) for settings in asked]
            one = pass_seconds(model, images[:1], labels[:1], asked[0])
            for settings, seconds, outcome in rows:
                limit = settings.time_limit
                allowed = (1 + SHARE) * limit + one
                late += seconds > allowed
                figures = f"{limit:g} | {seconds:.2f} | {seconds / limit - 1:+.1%} | {allowed:.2f} | {one:.3f}"
                print(f"| {name} | {count} | {gate} | {figures} | {outcome} |", flush=True)
    print(f"\n{late} calls took longer than allowed")
    return int(late > 0)


def settings_of(gate: str, limit: float) -> ScoreSettings:
    """Settings with that gate, at the radius that is usual for it."""
    if gate == "pattern":
        return ScoreSettings(gate="pattern", loss_weight=5.0, time_limit=limit)
    return ScoreSettings(gate="published", radius=1e-5, loss_weight=5.0, time_limit=limit)


def timed(model: nn.Module, images: Tensor, labels: Tensor, settings: ScoreSettings) -> tuple[float, str]:
    """Wall seconds of a score call, and how it ended."""
    started = time.monotonic()
    try:
        found = score(model, images, labels, settings).certificate
        outcome = f"{found.status}, gap {found.gap:.2g}, {found.rounds} rounds"
    except TimeLimitReached as reached:
        outcome = f"TimeLimitReached: {str(reached).partition(';')[0]}"
    return time.monotonic() - started, outcome


def pass_seconds(model: nn.Module, image: Tensor, label: Tensor, settings: ScoreSettings) -> float:
    """Wall seconds of reducing one image: its bounds and gates."""
    network = lower(model, image)
    started = time.monotonic()
    reduce(network, image.flatten(1).double().numpy().T, label.numpy(), settings)
    return time.monotonic() - started


if __name__ == "__main__":
    sys.exit(main())
