"""Oracle 1 on calls that move values, on arithmetic in any spelling, casts and whatever else is affine."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import TypeAlias

import pytest
import torch
import torch.nn.functional as F
from hypothesis import event, given
from hypothesis import strategies as st
from torch import Tensor, nn
from torchvision.transforms import Normalize

from formulation import lower, score
from tests.formulation.lowering.test_lowering import assert_same, pictures, shaken
from tests.formulation.oracles import repeatable
from tests.formulation.paper_settings import paper_settings

Change: TypeAlias = Callable[[Tensor], Tensor]


def halves_swapped(x: Tensor) -> Tensor:
    first, second = x.chunk(2, -1)
    return torch.cat([second.flatten(1), first.flatten(1)], 1).unsqueeze(1)


# Of values [n, rows, columns]; each makes such values again.
CHANGES: dict[str, Change] = {
    "transpose": lambda x: x.transpose(1, -1),
    "permute": lambda x: torch.permute(x, (0, 2, 1)),
    "unflatten": lambda x: x.flatten(1).unflatten(1, (1, -1)),
    "squeeze": lambda x: x.unsqueeze(-1).squeeze(-1),
    "flip": lambda x: torch.flip(x, (1, -1)),
    "roll": lambda x: torch.roll(x, 1, -1),
    "slice": lambda x: x[:, :, -3:],
    "stride": lambda x: x[..., ::2],
    "select": lambda x: x.select(-1, 0)[:, None],
    "pad": lambda x: F.pad(x, (1, 2)),
    "pad with a value": lambda x: F.pad(x, (0, 1), value=0.3),
    "chunk": lambda x: torch.chunk(x, 2, -1)[0],
    "split": lambda x: F.pad(x, (1, 1)).split(2, -1)[0],
    "halves": halves_swapped,
    "stack": lambda x: torch.stack([x, 2 * x, x.flip(-1)], 1).flatten(1, 2),
    "stack behind": lambda x: torch.stack((x, x + 1), dim=-1).flatten(2),
    "repeat": lambda x: torch.repeat_interleave(x, 2, -1),
    "clone": lambda x: x.clone().contiguous(),
    "float": lambda x: x.float(),
    "to": lambda x: x.to("cpu").to(torch.float32),
    "detach": lambda x: x.detach(),
    "relu": torch.relu,
    "negate": operator.neg,
    "from a constant": lambda x: 1 - x,
    "methods": lambda x: x.sub(0.5).div(0.2).mul(0.3).add(1),
    "functions": lambda x: torch.true_divide(torch.multiply(torch.subtract(x, 0.5), 2), 255),
    "other functions": lambda x: torch.negative(torch.divide(x, 3)),
    "in place": lambda x: (x * 1).mul_(2).sub_(1),
    "dropout": lambda x: F.alpha_dropout(F.feature_alpha_dropout(x, 0.2), 0.1),
}


class Changed(nn.Module):
    """Changes of the image, a convolution with its ReLU, changes of its maps, a Linear."""

    def __init__(self, before: list[str], behind: list[str], images: Tensor, *, log: bool) -> None:
        super().__init__()
        self.before, self.behind, self.log, self.images = before, behind, log, images
        self.conv = nn.Conv1d(self.changed(images, before).shape[1], 4, 2)
        self.out = nn.Linear(self.features(images).shape[1], 3)

    def changed(self, x: Tensor, names: list[str]) -> Tensor:
        for name in names:
            x = CHANGES[name](x)
        return x

    def features(self, x: Tensor) -> Tensor:
        x = torch.relu(self.conv(F.pad(self.changed(x, self.before), (1, 1))))
        return self.changed(x, self.behind).flatten(1)

    def forward(self, x: Tensor) -> Tensor:
        logits = self.out(self.features(x))
        return F.log_softmax(logits, dim=1) if self.log else logits


@st.composite
def drawn_changes(draw: st.DrawFn) -> Changed:
    names = st.lists(st.sampled_from(sorted(CHANGES)), max_size=4)
    before, behind, seed = draw(names), draw(names), draw(st.integers(0, 1000))
    images = torch.randn(3, 2, 6, generator=torch.Generator().manual_seed(seed))
    # `shaken` gives back what it is given, which its type does not say.
    return shaken(Changed(before, behind, images, log=draw(st.booleans())), seed)  # type: ignore[return-value]


@repeatable
@given(drawn=drawn_changes())
def test_any_changes_of_images_and_maps_equal_the_module(drawn: Changed) -> None:
    network = lower(drawn.eval(), drawn.images[:1])
    found = torch.from_numpy(network.evaluate(drawn.images.double().flatten(1).numpy().T).T)
    found = found.log_softmax(1) if drawn.log else found
    with torch.no_grad():
        expected = drawn(drawn.images)
    scale = max(1.0, float(expected.abs().max()))
    torch.testing.assert_close(found.float() / scale, expected / scale, rtol=0, atol=1e-4)
    assert network.units == {"conv": 4} or "conv" in network.unscored
    event("scored" if network.units else "unscored")


@pytest.mark.parametrize("name", sorted(CHANGES))
def test_each_change_alone_equals_the_module_in_double_precision(name: str) -> None:
    x = pictures(1, 2, 6)
    casts = name in ("float", "to")
    model = shaken(Changed([name], [name], x.float(), log=False), 1)
    if casts:
        assert lower(model.double().eval(), x).units == {"conv": 4}
    else:
        assert_same(model, x)


LAYERS = [
    *(nn.ZeroPad2d((1, 0, 2, 1)), nn.ConstantPad2d(1, 0.7), nn.ReflectionPad2d(1), nn.ReplicationPad2d(2)),
    *(nn.CircularPad2d(1), nn.PixelShuffle(2), nn.PixelUnshuffle(2), nn.ChannelShuffle(2), nn.AlphaDropout(0.2)),
    *(nn.Upsample(scale_factor=2), nn.UpsamplingNearest2d(size=(5, 3)), nn.Unflatten(1, (2, 2))),
    *(nn.FeatureAlphaDropout(0.1), Normalize([0.1, 0.2, 0.3, 0.4], [0.5, 1, 2, 3]), Normalize([0.3], [0.4])),
]


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: str(layer))
def test_layers_that_move_values_equal_the_module_and_keep_the_units(layer: nn.Module) -> None:
    model = nn.Sequential(nn.Conv2d(2, 4, 2), nn.ReLU(), layer, nn.Flatten(), nn.LazyLinear(3)).double().eval()
    model(pictures(3, 2, 5, 5))
    assert assert_same(shaken(model, 3), pictures(3, 2, 5, 5)).units == {"0": 4}


@pytest.mark.parametrize(
    "layer", [nn.ConstantPad2d(1, 0.5), nn.ZeroPad2d(1), nn.ReflectionPad2d(1), nn.Upsample(scale_factor=2)], ids=str
)
def test_moves_before_the_relu_keep_the_units_but_constants_other_than_0_take_them_out(layer: nn.Module) -> None:
    behind = (nn.ReLU(), nn.Conv2d(4, 2, 1), nn.ReLU(), nn.Flatten(), nn.LazyLinear(3))
    model = nn.Sequential(nn.Conv2d(2, 4, 2), layer, *behind).double().eval()
    model(pictures(3, 2, 5, 5))
    network = assert_same(shaken(model, 3), pictures(3, 2, 5, 5))
    if isinstance(layer, nn.ConstantPad2d) and layer.value:
        assert network.unscored == {"0": "'1' reads its pre-activations before a ReLU"}
    else:
        assert network.units == {"0": 4, "3": 2}


@pytest.mark.parametrize("mode", ["reflect", "replicate", "circular"])
@pytest.mark.parametrize("padding", [1, (2, 0), "same"], ids=str)
def test_a_convolution_with_any_padding_mode_equals_the_module(mode: str, padding: int | tuple[int, int] | str) -> None:
    first = nn.Conv2d(2, 4, (3, 2), padding=padding, padding_mode=mode)
    second = nn.Conv2d(4, 6, (2, 3), padding=padding, padding_mode=mode, groups=2, stride=1)
    model = nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), nn.Flatten(), nn.LazyLinear(3)).double()
    model(pictures(0, 2, 5, 5))
    assert assert_same(shaken(model, 2), pictures(0, 2, 5, 5)).units == {"0": 4, "2": 6}
    line = nn.Sequential(nn.Conv1d(2, 3, 3, padding=1, padding_mode=mode), nn.ReLU(), nn.Flatten(), nn.Linear(15, 2))
    assert assert_same(shaken(line, 2), pictures(0, 2, 5)).units == {"0": 3}


def test_a_log_softmax_at_the_output_changes_no_score() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 3)).double().eval()
    images, labels = torch.rand(5, 1, 4, 4), torch.tensor([0, 1, 2, 0, 1])
    plain = score(model, images, labels, paper_settings(radius=0))
    with_logarithms = score(nn.Sequential(*model, nn.LogSoftmax(1)).eval(), images, labels, paper_settings(radius=0))
    assert with_logarithms.certificate.objective == plain.certificate.objective
    assert all((with_logarithms.scores[name] == plain.scores[name]).all() for name in plain.scores)


def test_a_forward_that_writes_over_its_images_is_lowered() -> None:
    class Shifted(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.mul_(2).sub_(1)

    model = nn.Sequential(Shifted(), nn.Flatten(), nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)).double().eval()
    images = pictures(0, 1, 2, 2)
    network = lower(model, images[:1].clone())
    expected = model(images.clone()).detach().numpy().T
    assert abs(network.evaluate(images.flatten(1).numpy().T) - expected).max() < 1e-12
