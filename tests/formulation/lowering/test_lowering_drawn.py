"""Oracle 1 on networks drawn at random: convolutions, norms, pools, sums and concatenations in any order."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from hypothesis import event, given
from hypothesis import strategies as st
from torch import Tensor, nn

from formulation import lower
from formulation.network import INPUT, ChannelGate, Relu
from tests.formulation.lowering.test_lowering import assert_same, shaken
from tests.formulation.oracles import repeatable

# Of each pool one that keeps the image's size, so that any two values can be joined.
POOLS = (nn.MaxPool2d(3, 1, 1), nn.AvgPool2d((1, 3), 1, (0, 1)), nn.MaxPool2d((3, 1), 1, (1, 0)))


@dataclass(frozen=True)
class Step:
    """What is done to which of the values so far; `module` is its name in the network."""

    what: str
    reads: tuple[int, ...]
    module: str = ""


class Drawn(nn.Module):
    """Steps over a growing list of values, the last of which are joined and read by one Linear."""

    def __init__(self, steps: list[Step], modules: dict[str, nn.Module], images: Tensor, features: int) -> None:
        super().__init__()
        self.steps, self.images = steps, images
        self.parts = nn.ModuleDict(modules)
        self.out = nn.Linear(features, 3)

    def forward(self, x: Tensor) -> Tensor:
        values = [x]
        for step in self.steps:
            read = [values[k] for k in step.reads]
            match step.what:
                case "add":
                    values.append(read[0] + read[1])
                case "cat":
                    values.append(torch.cat(read, 1))
                case "relu":
                    values.append(torch.relu(read[0]))
                case "scale":
                    values.append(read[0] * 0.7)
                case _:
                    values.append(self.parts[step.module](*read))
        used = {k for step in self.steps for k in step.reads}
        ends = [value.flatten(1) for k, value in enumerate(values) if k not in used]
        return self.out(torch.cat(ends, 1))


@st.composite
def drawn_networks(draw: st.DrawFn) -> Drawn:
    """A network in double precision with three images of its own; at least its first convolution is scored."""
    height, width = draw(st.integers(1, 4)), draw(st.integers(2, 4))
    steps = [Step("conv", (0,), "conv0"), Step("relu", (1,))]
    channels = [1, 3, 3]
    modules: dict[str, nn.Module] = {"conv0": nn.Conv2d(1, 3, 3, padding=1)}
    for number in range(1, draw(st.integers(2, 9))):
        last = len(channels) - 1
        first = draw(st.integers(2, last))
        what = draw(st.sampled_from(["conv", "conv", "relu", "relu", "norm", "pool", "add", "cat", "scale"]))
        if what == "add":
            alike = [k for k in range(2, last + 1) if channels[k] == channels[first]]
            steps.append(Step(what, (first, draw(st.sampled_from(alike)))))
            channels.append(channels[first])
            continue
        if what == "cat":
            second = draw(st.integers(2, last))
            steps.append(Step(what, (first, second)))
            channels.append(channels[first] + channels[second])
            continue
        name = f"{what}{number}"
        made = channels[first]
        if what == "conv":
            made = draw(st.integers(1, 3))
            groups = made if channels[first] % made == 0 and draw(st.booleans()) else 1
            modules[name] = nn.Conv2d(channels[first], made, 3, padding=1, groups=groups, bias=draw(st.booleans()))
        elif what == "norm":
            modules[name] = nn.BatchNorm2d(made, affine=draw(st.booleans()))
        elif what == "pool":
            modules[name] = draw(st.sampled_from(POOLS))
        steps.append(Step(what, (first,), name))
        channels.append(made)
        if what == "conv" and draw(st.booleans()):
            steps.append(Step("relu", (len(channels) - 1,)))
            channels.append(made)
    used = {k for step in steps for k in step.reads}
    features = sum(c for k, c in enumerate(channels) if k not in used) * height * width
    seed = draw(st.integers(0, 1000))
    images = torch.randn(3, 1, height, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return shaken(Drawn(steps, modules, images, features), seed).double().eval()


@repeatable
@given(drawn=drawn_networks())
def test_any_drawn_network_equals_the_module(drawn: Drawn) -> None:
    network = assert_same(drawn, drawn.images)
    assert network.units["parts.conv0"] == 3
    known = {INPUT}
    for node in network.nodes:
        assert known.issuperset(node.sources)
        known.add(node.name)
    relus = [np.unique(node.op.score) for node in network.nodes if isinstance(node.op, Relu)]
    gates = [node.op.score for node in network.nodes if isinstance(node.op, ChannelGate)]
    acting, handed_on = np.concatenate(relus), np.unique(np.concatenate([np.zeros(0, dtype=int), *gates]))
    # one ReLU each, or the gates of a group, never both
    found = np.concatenate([acting[acting >= 0], handed_on[handed_on >= 0]])
    np.testing.assert_array_equal(np.sort(found), np.arange(sum(network.units.values())))
    event(f"{len(network.units)} scored, {len(network.unscored)} not")


@repeatable
@given(drawn=drawn_networks())
def test_lowering_twice_gives_the_same_network(drawn: Drawn) -> None:
    assert lower(drawn, drawn.images).digest() == lower(drawn, drawn.images[1:]).digest()
