"""Large images benchmark: what `gate="linear"` takes from a module to a checked solution on images of 224x224.

    python -m benchmarks.large_images [network ...] [--images 100]

Networks of torchvision's with ten classes, seeded random weights and settled BatchNorm, random images labelled by the
network itself. Each is scored in a process of its own, so that its CPU seconds and its peak of memory are its own.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import torch

import formulation
from benchmarks.coverage import SETTINGS, settled

ROOT = Path(__file__).resolve().parents[1]
NETWORKS = ("resnet18", "mobilenet_v2")
SIDE, IMAGES = 224, 100
UNLIMITED = replace(SETTINGS, time_limit=86400.0)  # on machines that others use, seconds by the clock say nothing
HEAD = ("network", "images", "units", "status", "gap", "rounds", "largest residual", "CPU s", "peak GB")


def row(name: str, images: int) -> str:
    """The line of a network, scored in this process on one thread.

    Args:
        name: torchvision's.
        images: how many it is scored on.
    """
    torch.set_num_threads(1)
    network = settled(name, SIDE)
    drawn = torch.rand(images, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        labels = torch.cat([network(some).argmax(1) for some in torch.split(drawn, 10)])
    started = time.process_time()
    solution = formulation.score(network, drawn, labels, UNLIMITED)
    seconds = time.process_time() - started
    found, peak = solution.certificate, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    assert found.checked, "a score call returns what has been checked"
    units = sum(map(len, solution.scores.values()))
    figures = (f"{found.gap:.1e}", found.rounds, f"{found.largest_residual:.0e}", f"{seconds:.0f}", f"{peak:.1f}")
    return f"| {' | '.join(map(str, (name, images, units, found.status, *figures)))} |"


def main() -> int:
    parser = argparse.ArgumentParser(description="What scoring by derivatives takes on images of 224x224.")
    parser.add_argument("networks", nargs="*", help="torchvision's names; resnet18 and mobilenet_v2 by default")
    parser.add_argument("--images", type=int, default=IMAGES)
    parser.add_argument("--alone", action="store_true", help="in this process, the line alone")
    given = parser.parse_args()
    if given.alone:
        print(row(given.networks[0], given.images), flush=True)
        return 0
    print(f"| {' | '.join(HEAD)} |\n|{'---|' * len(HEAD)}", flush=True)
    failed = 0
    for name in given.networks or NETWORKS:
        command = [sys.executable, "-m", "benchmarks.large_images", "--alone", name, "--images", str(given.images)]
        failed += subprocess.run(command, cwd=ROOT, check=False).returncode != 0
    return failed


if __name__ == "__main__":
    sys.exit(main())
