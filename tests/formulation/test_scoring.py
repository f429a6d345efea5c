"""The public verb: what its answer says, that it repeats, and oracle 7, what must not change the optimum."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from formulation import FormulationError, ScoreSettings, Solution, lower, score
from tests.formulation.cases import SMALL, Case, concatenated, conv_pool, dense, max_pooled
from tests.formulation.paper_settings import paper_settings

SETTINGS = {
    "published": paper_settings(radius=0.05, gap=1e-7, loss_weight=20),
    "published, integer": paper_settings(radius=0.05, gap=1e-7, loss_weight=20, relax=False),
    "pattern": ScoreSettings(gate="pattern", radius=0, gap=1e-7, loss_weight=20),
    "linear": ScoreSettings(gate="linear", radius=0, gap=1e-7, loss_weight=20),
    "exact": ScoreSettings(gate="exact", relax=False, radius=0, gap=1e-7, loss_weight=20),
    "exact, relaxed": ScoreSettings(gate="exact", allow_degenerate=True, radius=0, gap=1e-7, loss_weight=20),
}
CLOSE = 1e-6
every_semantics = pytest.mark.parametrize("name", SETTINGS)


def scored(case: Case, settings: ScoreSettings) -> Solution:
    solution = score(case.model, case.images, case.labels, settings)
    assert solution.certificate.status == "optimal"
    return solution


def optimum(case: Case, settings: ScoreSettings) -> float:
    return scored(case, settings).certificate.objective


def changed(case: Case, change: Callable[[nn.Sequential], None]) -> Case:
    model = copy.deepcopy(case.model)
    with torch.no_grad():
        change(model)
    return replace(case, model=model)


# What the answer says -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("operation", sorted(SMALL))
@pytest.mark.parametrize("name", ["published", "published, integer", "pattern", "linear", "exact, relaxed"])
def test_there_is_one_score_in_0_to_1_per_unit_of_every_gated_layer(name: str, operation: str) -> None:
    case = SMALL[operation]()
    solution = scored(case, replace(SETTINGS[name], gap=1e-3))
    assert {n: len(v) for n, v in solution.scores.items()} == lower(case.model, case.images).units
    for values in solution.scores.values():
        assert values.dtype == np.float64
        assert ((values >= 0) & (values <= 1)).all()


@every_semantics
def test_the_certificate_adds_up(name: str) -> None:
    case, settings = dense(1), SETTINGS[name]
    solution = scored(case, settings)
    made = solution.certificate
    assert made.objective == pytest.approx(20 * made.cross_entropy + made.sparsity, abs=1e-9)
    assert made.gap == pytest.approx(max(0, made.objective - made.bound) / max(1, abs(made.objective)), abs=1e-12)
    assert made.gap <= settings.gap
    assert made.rounds == len(solution.rounds) > 0
    assert made.columns == 11 + 2 * made.unstable
    assert made.unstable == sum(len(values.value) for values in solution.unstable.values())
    assert (made.solver, made.images, made.checked) == ("highs", 3, True)
    assert made.settings == settings.to_dict()
    assert made.largest_residual is not None
    assert made.largest_residual <= 1e-6
    assert 0 < made.seconds < settings.time_limit


def test_the_degenerate_relaxation_says_so_and_nothing_else_carries_a_note() -> None:
    assert "degenerate" in scored(dense(1), SETTINGS["exact, relaxed"]).certificate.notes[0]
    assert scored(dense(1), SETTINGS["exact"]).certificate.notes == ()
    assert scored(dense(1), SETTINGS["published"]).certificate.notes == ()


@every_semantics
def test_the_same_call_twice_gives_the_same_scores_to_the_bit(name: str) -> None:
    first, second = (scored(dense(2, images=5), SETTINGS[name]) for _ in range(2))
    for layer, values in first.scores.items():
        assert values.tobytes() == second.scores[layer].tobytes()
    assert first.certificate.objective == second.certificate.objective
    assert first.certificate.bound == second.certificate.bound


def test_the_model_the_images_and_torchs_state_are_left_as_they_were() -> None:
    case = dense(1)
    before = copy.deepcopy(case.model.state_dict())
    images, random, threads = case.images.clone(), torch.get_rng_state(), torch.get_num_threads()
    scored(case, SETTINGS["published"])
    assert all(torch.equal(before[key], value) for key, value in case.model.state_dict().items())
    assert torch.equal(images, case.images)
    assert torch.equal(random, torch.get_rng_state())
    assert torch.get_num_threads() == threads


# Oracle 7 -------------------------------------------------------------------------------------------------------------


@every_semantics
def test_the_order_of_the_units_does_not_matter(name: str) -> None:
    case, order = dense(1), torch.tensor([3, 0, 5, 1, 4, 2])

    def permute(model: nn.Sequential) -> None:
        model[1].weight.copy_(model[1].weight[order])
        model[1].bias.copy_(model[1].bias[order])
        model[3].weight.copy_(model[3].weight[:, order])

    assert optimum(changed(case, permute), SETTINGS[name]) == pytest.approx(optimum(case, SETTINGS[name]), abs=CLOSE)


@pytest.mark.parametrize("name", ["published", "pattern", "linear"])
def test_the_order_of_the_feature_maps_does_not_matter(name: str) -> None:
    case, order = conv_pool(1), torch.tensor([2, 0, 1])

    def permute(model: nn.Sequential) -> None:
        model[0].weight.copy_(model[0].weight[order])
        model[0].bias.copy_(model[0].bias[order])
        model[3].weight.copy_(model[3].weight[:, order])

    assert optimum(changed(case, permute), SETTINGS[name]) == pytest.approx(optimum(case, SETTINGS[name]), abs=CLOSE)


@every_semantics
def test_the_order_of_the_images_does_not_matter(name: str) -> None:
    case = dense(1, images=4)
    turned = replace(case, images=case.images.flip(0), labels=case.labels.flip(0))
    assert optimum(turned, SETTINGS[name]) == pytest.approx(optimum(case, SETTINGS[name]), abs=CLOSE)


@every_semantics
def test_the_order_of_the_classes_does_not_matter(name: str) -> None:
    case, order = dense(1), torch.tensor([2, 0, 1])

    def permute(model: nn.Sequential) -> None:
        model[5].weight.copy_(model[5].weight[order])
        model[5].bias.copy_(model[5].bias[order])

    turned = replace(changed(case, permute), labels=torch.argsort(order)[case.labels])
    assert optimum(turned, SETTINGS[name]) == pytest.approx(optimum(case, SETTINGS[name]), abs=CLOSE)


@every_semantics
def test_a_scoring_set_given_twice_is_the_same_scoring_set(name: str) -> None:
    case = dense(1)
    doubled = replace(case, images=torch.cat([case.images] * 2), labels=torch.cat([case.labels] * 2))
    assert optimum(doubled, SETTINGS[name]) == pytest.approx(optimum(case, SETTINGS[name]), abs=CLOSE)


@pytest.mark.parametrize("factor", [0.01, 8.0])
@every_semantics
def test_a_unit_scaled_up_and_its_outgoing_weights_scaled_down_scores_the_same(name: str, factor: float) -> None:
    """h, u+ and M scale with the unit: inequalities (1) to (4) are homogeneous, in every semantics."""
    case = dense(1)

    def scale(model: nn.Sequential) -> None:
        for unit in (0, 2):
            model[1].weight[unit] *= factor
            model[1].bias[unit] *= factor
            model[3].weight[:, unit] /= factor

    assert optimum(changed(case, scale), SETTINGS[name]) == pytest.approx(optimum(case, SETTINGS[name]), abs=CLOSE)


@pytest.mark.parametrize("make", [max_pooled, concatenated])
@pytest.mark.parametrize("name", ["published", "pattern", "linear", "exact, relaxed"])
def test_feature_maps_before_max_pools_and_concatenations_may_be_reordered_and_scaled(
    name: str, make: Callable[[], Case]
) -> None:
    """The way back through the second layer undoes both, so the optimum stays: (5) to (7) are homogeneous too."""
    case = make()
    maps = case.model[0].out_channels
    order, factor = torch.arange(maps).flip(0), torch.tensor([0.25, 3.0, 1.5])[:maps].double()

    def change(model: nn.Sequential) -> None:
        model[0].weight.copy_(model[0].weight[order] * factor[:, None, None, None])
        model[0].bias.copy_(model[0].bias[order] * factor)
        readers = [model[3]] if make is max_pooled else [model[2].point, model[2].square, model[2].pooled]
        for reader in readers:
            reader.weight.copy_(reader.weight[:, order] / factor[:, None, None])

    assert optimum(changed(case, change), SETTINGS[name]) == pytest.approx(optimum(case, SETTINGS[name]), abs=CLOSE)


@pytest.mark.parametrize("make", [max_pooled, concatenated])
@pytest.mark.parametrize("name", ["published", "pattern", "linear", "exact, relaxed"])
def test_images_may_be_reordered_and_doubled_with_max_pools_and_concatenations(
    name: str, make: Callable[[], Case]
) -> None:
    case = make()
    turned = torch.tensor([1, 0, 1, 0])
    other = replace(case, images=case.images[turned], labels=case.labels[turned])
    assert optimum(other, SETTINGS[name]) == pytest.approx(optimum(case, SETTINGS[name]), abs=CLOSE)


@every_semantics
def test_a_shift_of_all_logits_does_not_matter(name: str) -> None:
    case = dense(1)

    def shift(model: nn.Sequential) -> None:
        model[5].bias += 50.0

    assert optimum(changed(case, shift), SETTINGS[name]) == pytest.approx(optimum(case, SETTINGS[name]), abs=CLOSE)


@every_semantics
def test_the_more_the_loss_weighs_the_lower_the_loss_at_the_optimum(name: str) -> None:
    case = dense(1)
    losses, terms = [], []
    for weight in (0.5, 4.0, 32.0):
        certificate = scored(case, replace(SETTINGS[name], loss_weight=weight)).certificate
        losses.append(certificate.cross_entropy)
        terms.append(certificate.sparsity)
    assert (np.diff(losses) <= CLOSE).all()
    assert (np.diff(terms) >= -CLOSE).all()
    assert losses[0] > losses[-1]  # the weight does something


@pytest.mark.parametrize("layer_weight", ["units", "kernel", "network", "total"])
def test_a_unit_that_nothing_reads_scores_0_in_a_layer_that_counts(layer_weight: str) -> None:
    """One hidden layer, so that its term is the one that is summed."""
    case = dense(1, hidden=(5,))

    def cut(model: nn.Sequential) -> None:
        model[3].weight[:, 2] = 0.0

    settings = replace(SETTINGS["pattern"], layer_weight=layer_weight)
    assert scored(changed(case, cut), settings).scores["1"][2] == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize("layer", [0, 1, 2])
@pytest.mark.parametrize("factor", [1e-12, 1e8])
@pytest.mark.parametrize("gate", ["pattern", "linear", "published"])
def test_extreme_weights_are_named_with_their_magnitudes(gate: str, factor: float, layer: int) -> None:
    """The scores come with a note, or a solver that cannot cope is an error that says why: never nothing."""
    case = dense(1, images=5)
    linear = [module for module in case.model if isinstance(module, nn.Linear)][layer]
    with torch.no_grad():
        linear.weight.mul_(factor)
        linear.bias.mul_(factor)
    labels = case.model(case.images).argmax(1)
    settings = paper_settings(gate=gate, radius=0.01 if gate == "published" else 0)
    try:
        said = score(case.model, case.images, labels, settings).certificate.notes[-1]
    except FormulationError as error:
        said = str(error)
    assert "magnitudes" in said
    assert re.search(r"up to \de[+-]\d\d|up to \d\.\de[+-]\d\d", said)
    assert len(said.splitlines()) == 1


@pytest.mark.parametrize("settings", [None, {}, {"gate": "pattern"}, ScoreSettings])
def test_anything_but_settings_is_refused(settings: object) -> None:
    case = dense(1)
    with pytest.raises(FormulationError, match="ScoreSettings"):
        score(case.model, case.images, case.labels, settings)
