"""Networks of quantities: scored by the squared error, pruned within points of R^2, bad targets a line each."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import critical_neurons as cn
from critical_neurons.removal.removal_trial import measured
from formulation import FormulationError, InvalidModel, InvalidSetting, ScoreSettings
from training import DataError, ModelError, SelectionError


@pytest.fixture(scope="module")
def data() -> tuple[Tensor, Tensor]:
    points = torch.rand(400, 3, generator=torch.Generator().manual_seed(0))
    return points, torch.sin(4 * points[:, 0]) + points[:, 1] * points[:, 2]


@pytest.fixture(scope="module")
def regressor(data: tuple[Tensor, Tensor]) -> nn.Module:
    torch.manual_seed(0)
    points, targets = data
    network = nn.Sequential(nn.Linear(3, 24), nn.ReLU(), nn.Linear(24, 12), nn.ReLU(), nn.Linear(12, 1))
    optimiser = torch.optim.Adam(network.parameters(), 0.01)
    for _ in range(300):
        optimiser.zero_grad()
        nn.functional.mse_loss(network(points)[:, 0], targets).backward()
        optimiser.step()
    return network.eval()


def r_squared(network: nn.Module, data: tuple[Tensor, Tensor]) -> float:
    points, targets = data
    with torch.no_grad():
        errors = network(points)[:, 0] - targets
    return 1 - float(errors.square().sum() / (targets - targets.mean()).square().sum())


def test_units_are_scored_by_the_squared_error_on_the_first_images(
    regressor: nn.Module, data: tuple[Tensor, Tensor], tmp_path
) -> None:
    scored = cn.score(regressor, DataLoader(TensorDataset(*data), batch_size=64), images=50, loss="squared")
    assert scored.certificate.status == "optimal"
    torch.testing.assert_close(scored.labels, data[1][:50])
    assert "of class" not in str(scored.explain())
    again = cn.load_scores(scored.save(tmp_path))
    assert str(again) == str(scored)


def test_a_tolerance_is_of_r_squared(regressor: nn.Module, data: tuple[Tensor, Tensor]) -> None:
    points, targets = data
    working, judging = (points[:300], targets[:300]), (points[300:], targets[300:])
    told: list[str] = []
    made = cn.prune(
        regressor, working, validation=judging, tolerance=2.0, images=60, loss="squared", progress=told.append
    )
    assert made.measure == "R^2"
    assert made.accuracy_before == pytest.approx(r_squared(regressor, judging), abs=1e-6)
    assert made.accuracy == pytest.approx(r_squared(made.network, judging), abs=1e-5)
    assert made.accuracy >= made.accuracy_before - 0.02
    assert made.removal.units_removed > 0
    assert "asked: as much as costs at most 2 points of R^2" in str(made)
    assert "measured, not proved: every R^2" in str(made)
    assert any("R^2" in line for line in told)


def test_given_scores_say_what_the_network_is_judged_by(regressor: nn.Module, data: tuple[Tensor, Tensor]) -> None:
    scored = cn.score(regressor, data, images=60, loss="squared")
    for goal in ({"share": 0.3}, {"multiply_adds": 0.7}):
        made = cn.prune(regressor, data, scores=scored, **goal)
        assert made.measure == "R^2"
        assert made.network(data[0][:5]).shape == (5, 1)
        assert made.removal.units_removed > 0


def test_a_loss_that_is_not_that_of_the_given_scores_is_refused(
    regressor: nn.Module, data: tuple[Tensor, Tensor]
) -> None:
    scored = cn.score(regressor, data, images=60, loss="squared")
    with pytest.raises(InvalidSetting, match="loss='cross_entropy', and the scores were made with loss='squared'"):
        cn.prune(regressor, data, scores=scored, share=0.3, loss="cross_entropy")
    assert cn.prune(regressor, data, scores=scored, share=0.3, loss="squared").measure == "R^2"


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda z: z.long(), "targets are torch.int64"),
        (lambda z: z.where(torch.arange(400) != 7, torch.inf), "target 7 of a batch is NaN or infinite"),
        (
            lambda z: z.double().where(torch.arange(400) != 2, 1e150),
            r"the target of image 2 is 1e\+150.* at most 1e\+08",
        ),
        (lambda z: z[:, None, None], "targets are of shape"),
        (lambda z: z[:, None].repeat(1, 2), "targets have 2 numbers per image"),
        (lambda z: torch.ones_like(z), "the targets of all images are the same"),
    ],
)
def test_bad_targets_are_one_line(regressor: nn.Module, data: tuple[Tensor, Tensor], spoil, said: str) -> None:
    with pytest.raises((DataError, FormulationError), match=said) as caught:
        cn.prune(regressor, (data[0], spoil(data[1])), loss="squared", images=40, tolerance=1.0)
    assert "\n" not in str(caught.value)


def test_quantities_without_the_squared_loss_are_told_of_it(regressor: nn.Module, data: tuple[Tensor, Tensor]) -> None:
    with pytest.raises(DataError, match="loss='squared'"):
        cn.score(regressor, data)


def test_classes_for_one_output_are_told_of_it_too(regressor: nn.Module, data: tuple[Tensor, Tensor]) -> None:
    with pytest.raises(ModelError, match=r"has one output.*append nn.Linear\(1, 2.*quantity, set loss='squared'"):
        cn.score(regressor, (data[0], torch.ones(400, dtype=torch.long)))


class Squeezed(nn.Module):
    """One number per image, without an axis for the outputs."""

    def __init__(self, chain: nn.Module) -> None:
        super().__init__()
        self.chain = chain

    def forward(self, x: Tensor) -> Tensor:
        return self.chain(x).squeeze(-1)


@pytest.mark.parametrize("derivatives", ["auto", "lowering", "autograd"])
def test_one_number_without_an_axis_is_told_of_the_axis(
    regressor: nn.Module, data: tuple[Tensor, Tensor], derivatives: str
) -> None:
    squeezed = Squeezed(regressor).eval()
    with pytest.raises(InvalidModel, match=r"\[images, 1\] where it is a quantity, as logits\[:, None\]") as caught:
        cn.score(squeezed, data, loss="squared", images=20, derivatives=derivatives)
    assert "\n" not in str(caught.value)
    with pytest.raises(ModelError, match=r"\[1, 1\] where it is a quantity, as logits\[:, None\]"):
        cn.prune(squeezed, data, loss="squared", scores={"chain.0": np.arange(24.0)}, share=0.3)


def test_few_images_are_a_note(regressor: nn.Module, data: tuple[Tensor, Tensor]) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        scored = cn.score(regressor, (data[0][:20], data[1][:20]), images=30, settings=ScoreSettings(loss="squared"))
    assert [str(each.message) for each in caught if issubclass(each.category, cn.DoubtfulScores)] == list(scored.notes)
    assert "20 images, 30 were asked for" in scored.notes[0]


def test_r_squared_is_that_of_the_definition() -> None:
    rng = np.random.default_rng(0)
    outputs, targets = torch.as_tensor(rng.normal(size=(9, 2))), torch.as_tensor(rng.normal(size=(9, 2)))
    assert measured(targets, targets, "R^2") == 1.0
    assert measured(targets.mean(0).expand(9, 2), targets, "R^2") == pytest.approx(0.0)
    expected = 1 - ((outputs - targets) ** 2).mean(0).sum() / targets.var(0, correction=0).sum()
    assert measured(outputs, targets, "R^2") == pytest.approx(float(expected))


@pytest.mark.parametrize("constant", [0.1, -1 / 3, 1e7])
@pytest.mark.parametrize("images", [1, 3, 7])
def test_constant_targets_are_refused_whatever_their_mean_is_rounded_to(constant: float, images: int) -> None:
    targets = torch.full((images, 2), constant, dtype=torch.float64)
    with pytest.raises(DataError, match="the targets of all images are the same"):
        measured(targets + 1e-3, targets, "R^2")


def test_a_tolerance_out_of_range_is_refused(regressor: nn.Module, data: tuple[Tensor, Tensor]) -> None:
    with pytest.raises(SelectionError, match="tolerance=101"):
        cn.prune(regressor, data, loss="squared", tolerance=101)
