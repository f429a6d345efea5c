"""Structured OBS: its first choice is the unit whose removal costs least after a refit, tried one by one."""

import numpy as np
import pytest
import torch
from torch import nn

from training.errors import SelectionError
from training.pruning.ranking.evidence import Evidence
from training.pruning.ranking.readings import DAMPING, TEMPERATURE, answer_sensitivity
from training.pruning.ranking.structured_obs import fisher_obs, structured_obs
from training.pruning.refit import refit


def dense_network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(12, 7), nn.ReLU(), nn.Linear(7, 3)).double().eval()


def images_of(count: int) -> torch.Tensor:
    return torch.rand(count, 1, 3, 4, generator=torch.Generator().manual_seed(1))


def convolutional_network() -> nn.Module:
    torch.manual_seed(0)
    layers = (nn.Conv2d(1, 6, 3), nn.ReLU(), nn.Conv2d(6, 4, 2), nn.ReLU(), nn.Flatten(), nn.Linear(100, 3))
    return nn.Sequential(nn.Identity(), *layers).double().eval()


def evidence_of(network: nn.Module, images: torch.Tensor, *layers: str) -> Evidence:
    return Evidence(network, images, torch.zeros(len(images), dtype=torch.int64), layers)


@pytest.mark.parametrize("kind", ["dense", "convolutional"])
def test_the_first_to_go_costs_least_after_a_refit(kind: str) -> None:
    if kind == "dense":
        network, images, units, read = dense_network(), images_of(300), 7, 3
    else:
        network, units, read = convolutional_network(), 6, 3
        images = torch.rand(60, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    scores = structured_obs(evidence_of(network, images, "1"))["1"]
    assert sorted(scores) == pytest.approx([(position + 1) / units for position in range(units)])

    def cost(unit: int) -> float:
        found = refit(network, {"1": np.arange(units) != unit}, images, ridge=DAMPING)
        with torch.no_grad():
            return float((found[: read + 1](images.double()) - network[: read + 1](images.double())).square().sum())

    costs = [cost(unit) for unit in range(units)]
    assert int(scores.argmin()) == int(np.argmin(costs))


def test_a_unit_that_another_one_repeats_goes_before_those_that_none_does() -> None:
    network = dense_network()
    with torch.no_grad():
        network[1].weight[5], network[1].bias[5] = 2 * network[1].weight[1], 2 * network[1].bias[1]
    scores = structured_obs(evidence_of(network, images_of(300), "1"))["1"]
    assert int(scores.argmin()) in (1, 5)


def test_a_grouped_convolution_reads_each_unit_in_its_own_group() -> None:
    torch.manual_seed(0)
    layers = (nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3, groups=2), nn.ReLU(), nn.Flatten(), nn.Linear(64, 2))
    network = nn.Sequential(*layers).eval()
    with torch.no_grad():
        network[2].weight[2:, 1] = 0.0  # the second group does not look at the last unit
    images = torch.rand(40, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    scores = structured_obs(evidence_of(network, images, "0"))["0"]
    assert int(scores.argmin()) == 3


def test_a_layer_that_none_reads_alone_is_named() -> None:
    class Summed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Linear(4, 4), nn.Linear(4, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            flat = x.flatten(1)
            return self.last(flat + torch.relu(self.first(flat)))

    with pytest.raises(SelectionError, match="no layer reads 'first' alone"):
        structured_obs(evidence_of(Summed(), torch.rand(9, 1, 2, 2), "first"))


def test_the_network_is_not_touched() -> None:
    network = dense_network()
    before = [parameter.clone() for parameter in network.parameters()]
    structured_obs(evidence_of(network, images_of(50), "1"))
    assert all(torch.equal(one, other) for one, other in zip(before, network.parameters(), strict=True))


def test_sensitivity_of_the_logits_is_the_covariance_of_the_answers() -> None:
    network, images = dense_network(), images_of(4000)
    found = answer_sensitivity(network, ["3"], images, temperature=0.5)["3"]
    with torch.no_grad():
        answers = torch.softmax(network(images.double()) / 0.5, 1)
    exact = torch.diag(answers.mean(0)) - answers.mT @ answers / len(images)
    torch.testing.assert_close(found, exact, rtol=0.1, atol=0.01)


def test_a_score_is_the_divergence_of_the_answers_after_a_refit() -> None:
    network, images = dense_network(), images_of(2000)
    scores = fisher_obs(evidence_of(network, images, "1"))["1"]
    gone = int(scores.argmin())
    refitted = refit(network, {"1": np.arange(7) != gone}, images, ridge=DAMPING)
    with torch.no_grad():
        before, after = (torch.log_softmax(each(images.double()) / TEMPERATURE, 1) for each in (network, refitted))
    drift = float((before.exp() * (before - after)).sum(1).mean())
    assert scores[gone] / TEMPERATURE**2 == pytest.approx(drift, rel=0.1)


def test_what_the_answers_do_not_see_costs_nothing() -> None:
    network = dense_network()
    with torch.no_grad():
        network[3].weight[:, 2] = 5.0  # moves all logits alike
    evidence = evidence_of(network, images_of(300), "1")
    assert int(fisher_obs(evidence)["1"].argmin()) == 2
    assert int(structured_obs(evidence)["1"].argmin()) != 2


def test_activations_in_place_change_no_sensitivity() -> None:
    network, images = convolutional_network(), torch.rand(20, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    before = answer_sensitivity(network, ["1", "3"], images)
    for layer in (network[2], network[4]):
        layer.inplace = True
    after = answer_sensitivity(network, ["1", "3"], images)
    for name, moments in before.items():
        torch.testing.assert_close(after[name], moments)
