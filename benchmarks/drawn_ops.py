"""Networks drawn at random from the op table: torch, lowered, masked, compacted, exported and differentiated compared.

    python -m benchmarks.drawn_ops --draws 200

Each has one to four steps (forms of the op table, convolutions, residual sums, depthwise convolutions, concatenations,
BatchNorms) and any form at the end. Two of five units of each scored layer are masked. The tests draw twelve, without
the export. No data set is needed.
"""

from __future__ import annotations

import argparse
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path

from tests.formulation.lowering.drawn_ops import differences

COMPARED = {
    "lowered": "lowered to torch, float64",
    "masked": "masked in the program to masked in torch",
    "compacted": "compacted to masked",
    "differentiated": "objective of `linear`, autograd to lowered",
    "exported": "ONNX Runtime to compacted, float32",
}
EXACT, SINGLE = 1e-9, 1e-4


def main() -> None:
    """Compare so many drawn networks, and print a table; exits with 1 where any two differ."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--draws", type=int, default=200, help="networks (200)")
    parser.add_argument("--first", type=int, default=0, help="seed of the first one (0)")
    parser.add_argument("--no-export", action="store_true", help="leave ONNX out, which takes most of the time")
    asked = parser.parse_args()
    warnings.filterwarnings("ignore")
    with tempfile.TemporaryDirectory() as folder:
        seeds = range(asked.first, asked.first + asked.draws)
        found = {seed: differences(seed, None if asked.no_export else Path(folder)) for seed in seeds}
    print("\n".join(table(found)))
    if bad := differing(found):
        raise SystemExit(f"seeds that differ: {bad}")


def table(found: dict[int, dict[str, float]]) -> Iterator[str]:
    """The lines of the table: what was compared, for how many networks, and the largest difference.

    Args:
        found: by seed what `differences` returned.
    """
    yield "| compared | networks | equal | largest difference |"
    yield "|---|---|---|---|"
    for name, said in COMPARED.items():
        values = [each[name] for each in found.values() if each.get(name, -1.0) >= 0]
        if values:
            equal = sum(value <= _allowed(name) for value in values)
            yield f"| {said} | {len(values)} | {equal} | {max(values):.1e} |"


def differing(found: dict[int, dict[str, float]]) -> list[int]:
    """Seeds of networks of which two forms differ.

    Args:
        found: by seed what `differences` returned.
    """
    return [seed for seed, each in found.items() if any(value > _allowed(name) for name, value in each.items())]


def _allowed(name: str) -> float:
    return SINGLE if name == "exported" else EXACT


if __name__ == "__main__":
    main()
