"""The golden instances: certified optima of the published program, met to two gaps; one table row each.

python -m benchmarks.golden
"""

from __future__ import annotations

import sys
import time

import torch

from formulation import score
from tests.formulation.test_golden import CERTIFIED, FC3, LENET5, instance, settings_at

NAMES = {FC3: "FC-3", LENET5: "LeNet-5"}


def main() -> int:
    """Score every instance at both gaps and print the table."""
    torch.set_num_threads(1)
    heads = ("instance, images", "certified", "gap asked for", "objective", "bound", "largest residual")
    print(f"| {' | '.join(heads)} | rounds | cuts | CPU seconds |")
    print("|---|---|---|---|---|---|---|---|---|")
    for (name, images), certified in CERTIFIED.items():
        model, pixels, labels = instance(name, images)
        for gap in ("1e-4", "1e-7"):
            started = time.process_time()
            found = score(model, pixels, labels, settings_at(float(gap))).certificate
            seconds = time.process_time() - started
            values = f"{found.objective:.7f} | {found.bound:.7f} | {found.largest_residual:.0e}"
            figures = f"{values} | {found.rounds} | {found.cuts} | {seconds:.1f}"
            print(f"| {NAMES[name]}, {images} | {certified} | {gap} | {figures} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
