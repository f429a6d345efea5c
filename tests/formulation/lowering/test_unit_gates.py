"""Groups of units: the program's gates on them are torch's, to first order and at every mask; optima by brute force."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from formulation import Network, lower, score
from formulation.masks.inner_problem.expansion import expand
from formulation.relaxation.propagation import forward
from tests.formulation.cases import Case, densely_connected, inverted, leaky, random_masks, residual
from tests.formulation.paper_settings import paper_settings
from tracing import Instead, TracedNode, run, trace
from tracing.units import unit_groups

GROUPED = {"residual": residual, "inverted": inverted, "densely connected": densely_connected, "leaky": leaky}
every_case = pytest.mark.parametrize("make", list(GROUPED.values()), ids=list(GROUPED))


class Gated:
    """A network in torch with a gate on every unit, where its group is handed on; nothing is lowered."""

    def __init__(self, case: Case, network: Network) -> None:
        self.graph, self.images = trace(case.model, case.images).fitting(), case.images
        self.first = {name: where.start for name, where in network.score_slices.items()}
        self.groups = unit_groups(self.graph).groups
        assert set(self.first) == set(self.groups)

    def logits(self, gates: Tensor) -> Tensor:
        """[classes, images] at gates [scores]."""
        columns: dict[TracedNode, Tensor] = {}
        readers: dict[TracedNode, set[TracedNode]] = {}
        for group in self.groups.values():
            for end in group.ends:
                whole = columns.setdefault(end.source, torch.full((end.source.shape[1],), len(gates)))
                units = self.first[group.name] + torch.arange(group.units).repeat_interleave(end.lying.span)
                whole[end.lying.offset : end.lying.offset + len(units)] = units
                readers.setdefault(end.source, set()).add(end.reader)
        padded = torch.cat([gates, torch.ones(1, dtype=gates.dtype)])

        def multiplied(source: TracedNode) -> Callable[[Tensor], Tensor]:
            return lambda value: value * padded[columns[source]].reshape(1, -1, *[1] * (value.ndim - 2))

        instead = {source: [Instead(multiplied(source), frozenset(own))] for source, own in readers.items()}
        values = {self.graph.inputs[0]: self.images.clone()}
        made = run(self.graph, values, keep={self.graph.output}, instead=instead)
        return made[self.graph.output].T


@every_case
def test_a_mask_of_groups_gates_what_is_handed_on(make: Callable[..., Case]) -> None:
    case = make(4)
    network = lower(case.model, case.images)
    gated = Gated(case, network)
    for draw in range(5):
        masks = random_masks(network.units, np.random.default_rng(draw), 0.6)
        expected = gated.logits(torch.from_numpy(network.stack(masks))).detach()
        np.testing.assert_allclose(network.evaluate(case.pixels, masks), expected, atol=1e-10)


@every_case
@pytest.mark.parametrize("gate", ["linear", "pattern"])
def test_the_first_order_programs_coefficients_are_autograds_derivatives_by_gates_on_groups(
    make: Callable[..., Case], gate: str
) -> None:
    case = make(3)
    reduction = case.reduction(paper_settings(gate=gate, radius=0, relax=True))
    gated, ones = Gated(case, reduction.network), torch.ones(reduction.scores, dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(gated.logits, ones).numpy()
    point = np.random.default_rng(0).uniform(0, 1, reduction.columns)
    found = np.concatenate([forward(reduction, batch, point).logits for batch in reduction.batches], axis=1)
    expected = gated.logits(ones).detach().numpy() + jacobian @ (point - 1)
    np.testing.assert_allclose(found, expected, atol=1e-9)


# a gate at a ReLU and one behind the Hardtanh that follows it differ where a unit is gone
@pytest.mark.parametrize("make", [residual, inverted, densely_connected], ids=lambda make: make.__name__)
def test_the_expansion_at_a_mask_is_autograds(make: Callable[..., Case]) -> None:
    case = make(5)
    network = lower(case.model, case.images)
    mask = network.stack(random_masks(network.units, np.random.default_rng(1), 0.6))
    found = expand(network, case.pixels, mask)
    jacobian = torch.autograd.functional.jacobian(Gated(case, network).logits, torch.from_numpy(mask)).numpy()
    np.testing.assert_allclose(found.slopes.reshape(jacobian.shape), jacobian, atol=1e-9)


@pytest.mark.parametrize(
    "make",
    [
        inverted,
        densely_connected,
        pytest.param(leaky, marks=pytest.mark.slow),
        pytest.param(residual, marks=pytest.mark.slow),
    ],
    ids=lambda make: make.__name__,
)
def test_no_mask_beats_the_optimum_of_exact(make: Callable[..., Case]) -> None:
    case = make(6, images=1)
    settings = paper_settings(
        gate="exact", radius=0.0, integer_scores=True, relax=False, layer_weight="total", gap=1e-6
    )
    solution = score(case.model, case.images, case.labels, settings)
    network = lower(case.model, case.images)
    best = np.inf
    for kept in itertools.product((0.0, 1.0), repeat=network.score_count):
        masks = network.unstack(np.array(kept))
        sparsity = sum((values - 2).sum() for values in masks.values()) / network.score_count
        best = min(best, settings.loss_weight * case.masked_loss(masks) + sparsity)
    assert solution.certificate.checked
    assert solution.certificate.objective == pytest.approx(best, abs=1e-5)


def test_a_groups_way_is_gated_once_however_many_relus_it_passes() -> None:
    """A score of 1/2 halves what every reader is handed, also behind three sums."""
    model = nn.Sequential(nn.Linear(2, 2), Added(), Added(), nn.Linear(2, 2)).double().eval()
    images = torch.rand(3, 2, dtype=torch.float64)
    network = lower(model, images)
    half = {name: np.full(units, 0.5) for name, units in network.units.items()}
    with torch.no_grad():
        body = model[:-1](images)
        expected = model[-1](0.5 * body)
    plain = {"0": half["0"]} | {name: np.ones(units) for name, units in network.units.items() if name != "0"}
    assert list(network.units) == ["0"]
    np.testing.assert_allclose(network.evaluate(images.numpy().T, plain).T, expected, atol=1e-12)


class Added(nn.Module):
    """x + relu(x), a sum of one group's units with themselves."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x + torch.relu(x))
