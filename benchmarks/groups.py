"""Groups benchmark: how much of a network can be removed with and without units that sums and convolutions tie.

    python -m benchmarks.groups

Networks with random weights, because only shapes are counted. The same share of every layer's units goes; `alone` are
layers that one ReLU reads and nothing ties, `groups` those and the tied ones. Compaction is tried and compared with
the masked network. No data set is needed.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

import training
from tracing import ops, trace
from tracing.units import UnitGroups, unit_groups
from training import Masks

OWN = ("resnet20", "resnet56")
TORCHVISION = ("resnet18", "resnet50", "mobilenet_v2", "mnasnet0_5", "densenet121")
SHARES = (0.3, 0.8)
CLASSES, OWN_SIDE, SIDE = 10, 32, 224
COMPARED = 2
HEAD = (
    *("network", "layers", "scored, alone", "scored, groups", "scores, alone", "scores, groups"),
    *(f"multiply-adds gone at {share:.0%} of units, {kind}" for share in SHARES for kind in ("alone", "groups")),
    "compacted to masked",
)


@dataclass(frozen=True)
class Counted:
    """What of a network can be scored and removed, alone and with groups.

    Attributes:
        layers: Linear and convolution layers, the last one included.
        covered: of these, those whose units have scores: alone, with groups.
        scores: how many scores there are: alone, with groups.
        removed: by share of the units the multiply-adds that go, as parts of all: alone, with groups.
        difference: of the compacted network's outputs to the masked one's at the first share, of their scale.
    """

    layers: int
    covered: tuple[int, ...]
    scores: tuple[int, ...]
    removed: tuple[tuple[float, ...], ...]
    difference: float


def count(network: nn.Module, example: torch.Tensor) -> Counted:
    """All figures of one network.

    Args:
        network: in evaluation mode.
        example: [1, C, H, W].
    """
    graph = trace(network, example).fitting()
    found = unit_groups(graph)
    alone = [name for name, group in found.groups.items() if not group.coupled]
    both = (alone, list(found.groups))
    removed = tuple(
        tuple(
            training.removal(network, masks_of(found, names, share), example).multiply_adds_removed_share
            for names in both
        )
        for share in SHARES
    )
    return Counted(
        layers=len(graph.calls(ops.LINEAR, ops.CONVOLUTION)),
        covered=tuple(sum(len(found.groups[name].members) for name in names) for names in both),
        scores=tuple(sum(found.groups[name].units for name in names) for names in both),
        removed=removed,
        difference=_difference(network, masks_of(found, both[1], SHARES[0]), example),
    )


def masks_of(found: UnitGroups, names: Sequence[str], share: float) -> Masks:
    """Masks that remove a share of each group's units, at least one stays.

    Args:
        found: the groups of a network.
        names: of those that lose units.
        share: of the units, rounded down.
    """
    masks: Masks = {}
    for name in names:
        units = found.groups[name].units
        masks[name] = np.arange(units) >= min(int(share * units), units - 1)
    return masks


def _difference(network: nn.Module, masks: Masks, example: torch.Tensor) -> float:
    images = torch.rand(COMPARED, *example.shape[1:], generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = training.prune(network, masks, example)(images)
        made = training.compact(network, masks, example)(images)
    return float((made - expected).abs().max() / expected.abs().max().clamp(min=1e-12))


def networks() -> Iterator[tuple[str, nn.Module, torch.Tensor]]:
    """The networks by name, in evaluation mode, each with an image of zeros."""
    for name in OWN:
        shape = (3, OWN_SIDE, OWN_SIDE)
        yield name, training.build(name, input_shape=shape, classes=CLASSES, seed=0).eval(), torch.zeros(1, *shape)
    for name in TORCHVISION:
        shape = (3, SIDE, SIDE)
        made = training.build(f"torchvision:{name}", input_shape=shape, classes=CLASSES, seed=0)
        yield f"torchvision {name}", made.eval(), torch.zeros(1, *shape)


def row(name: str, found: Counted) -> str:
    """A line of the table."""
    cells = [name, found.layers, *found.covered, *(f"{each:,}" for each in found.scores)]
    cells += [f"{100 * each:.1f} %" for pair in found.removed for each in pair]
    return f"| {' | '.join(map(str, cells))} | {found.difference:.1e} |"


def main(arguments: Sequence[str]) -> int:
    """Print the table; `arguments` may name networks, by default all."""
    torch.set_num_threads(1)
    print(f"| {' | '.join(HEAD)} |\n|{'---|' * len(HEAD)}")
    for name, network, example in networks():
        if not arguments or name.split()[-1] in arguments:
            print(row(name, count(network, example)), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
