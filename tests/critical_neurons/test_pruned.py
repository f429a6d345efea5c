"""The verb prune: every goal is kept, the network is plain and smaller, and the account of it is the true one."""

import io
import pickle
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import critical_neurons as cn
import training
from critical_neurons import PruneResult, ScoreResult
from critical_neurons.scored import DEFAULTS
from formulation import InvalidSetting
from training import Dataset, SelectionError, Split


@pytest.fixture(scope="module")
def tolerant(network: nn.Module, digits: Dataset, scored: ScoreResult) -> PruneResult:
    return cn.prune(network, digits.train, scores=scored, validation=digits.validation, tolerance=1.0)


def test_a_tolerance_is_kept_on_the_validation_images_and_more_than_nothing_goes(
    tolerant: PruneResult, network: nn.Module, digits: Dataset
) -> None:
    after = training.evaluate(tolerant.network, digits.validation).accuracy
    assert tolerant.accuracy == pytest.approx(after)
    assert tolerant.accuracy_before == training.evaluate(network, digits.validation).accuracy
    assert after >= tolerant.accuracy_before - 0.01
    assert tolerant.removal.units_removed > 3
    assert tolerant.images == len(digits.validation)


def test_the_network_is_plain_and_as_small_as_the_account_says(tolerant: PruneResult, network: nn.Module) -> None:
    assert {type(each) for each in tolerant.network.modules()} == {type(each) for each in network.modules()}
    assert sum(each.numel() for each in tolerant.network.parameters()) == tolerant.removal.parameters_after
    assert tolerant.network[1].out_features == tolerant.masks["1"].sum()


def test_a_result_can_be_pickled_and_its_network_saved_by_torch(tolerant: PruneResult, digits: Dataset) -> None:
    again = pickle.loads(pickle.dumps(tolerant))
    assert str(again) == str(tolerant)
    images, file = digits.test.images[:5], io.BytesIO()
    torch.save(tolerant.network.state_dict(), file)
    file.seek(0)
    again.network.load_state_dict(torch.load(file, weights_only=True))
    assert torch.equal(again.network(images), tolerant.network(images))


def test_print_says_what_went_what_it_cost_and_what_is_proved(tolerant: PruneResult) -> None:
    text = str(tolerant)
    assert f"{tolerant.removal.parameters_after:,}" in text
    assert f"{tolerant.accuracy:.2%}" in text
    assert "asked: as much as costs at most 1 points of accuracy; survivors refitted" in text
    assert "proved: of the scores, optimal" in text
    assert "measured, not proved: the accuracies" in text


def test_a_share_goes_of_each_layer_within_limits_by_a_ranking_of_ones_own(network: nn.Module, digits: Dataset) -> None:
    norms = {layer: network.get_submodule(layer).weight.norm(dim=1).detach().numpy() for layer in ("1", "3")}
    found = cn.prune(network, digits.train, share=0.5, scores=norms, leave_alone=["3"], round_to=4, refit=False)
    assert {layer: int(mask.sum()) for layer, mask in found.masks.items()} == {"1": 12, "3": 12}
    assert norms["1"][found.masks["1"]].min() >= norms["1"][~found.masks["1"]].max()
    assert found.scores is None
    assert not found.refitted
    assert "proved: nothing, the ranking was given" in str(found)


def test_units_that_cost_the_answers_least_go_where_that_is_better(network: nn.Module, digits: Dataset) -> None:
    usual, own = (
        cn.prune(network, digits.train, share=0.7, validation=digits.validation, images=50, scores=scores)
        for scores in (None, cn.score(network, digits.train, images=50))
    )
    assert training.counts(usual.masks) == training.counts(own.masks)
    assert usual.accuracy >= own.accuracy
    costs = training.answer_costs(network, digits.train.images[:1000], ("1", "3"))
    cheapest = training.by_counts(costs, training.counts(usual.masks))
    took_over = all(np.array_equal(usual.masks[layer], cheapest[layer]) for layer in cheapest)
    assert took_over == (usual.accuracy > own.accuracy) == ("cost the network's answers least" in str(usual))
    assert "cost the network's answers least" not in str(own)


def test_images_held_back_are_neither_scored_on_nor_fitted_to(network: nn.Module, digits: Dataset) -> None:
    held = torch.arange(len(digits.train)) % 4 == 3
    rest = Split(digits.train.images[~held], digits.train.labels[~held])
    other = digits.train.images.clone()
    other[held] = other[held].flip(0)
    one, two = (
        cn.prune(network, (pixels, digits.train.labels), share=0.4, images=20)
        for pixels in (digits.train.images, other)
    )
    assert one.scores is not None
    assert two.scores is not None
    assert torch.equal(one.scores.images, cn.score(network, rest, images=20).images)
    assert torch.equal(one.scores.images, two.scores.images)
    assert one.images == int(held.sum())
    assert one.accuracy_before != two.accuracy_before


@pytest.mark.parametrize(
    ("goals", "words"),
    [
        ({"share": 0.5, "tolerance": 1.0}, "share=0.5, tolerance=1 are two goals|tolerance=1, share=0.5 are two goals"),
        ({"share": 1.0}, "share=1 is out of range"),
        ({"parameters": -0.1}, "parameters=-0.1 is out of range"),
        ({"tolerance": 200.0}, "tolerance=200 is out of range"),
        ({"share": "0.5"}, "share='0.5' is no number"),
        ({"tolerance": True}, "tolerance=True is no number"),
        ({"share": 0.5, "refit": "false"}, "refit='false': use True or False"),
        ({"share": 0.5, "floor": 0}, "floor=0 is out of range"),
        ({"parameters": 0.5, "leave_alone": ["1", "3"]}, "every layer is left alone"),
        ({"share": 0.5, "leave_alone": ["conv"]}, "layer 'conv' has no scores"),
    ],
)
def test_a_goal_that_cannot_be_is_refused_in_one_line(
    network: nn.Module, digits: Dataset, scored: ScoreResult, goals: dict[str, Any], words: str
) -> None:
    with pytest.raises(SelectionError, match=words) as raised:
        cn.prune(network, digits.train, scores=scored, **goals)
    assert "\n" not in str(raised.value)


def test_too_few_images_to_hold_some_back_are_refused(network: nn.Module, digits: Dataset) -> None:
    with pytest.raises(SelectionError, match="3 images are too few to hold some back"):
        cn.prune(network, (digits.train.images[:3], digits.train.labels[:3]))


@pytest.mark.parametrize("scores", [3, {"1": 4.0}, {"1": ["a"]}, {"1": [[1.0], [2.0, 3.0]]}])
def test_what_ranks_nothing_is_refused_in_one_line(network: nn.Module, digits: Dataset, scores: Any) -> None:
    with pytest.raises(training.PruningError, match="give") as raised:
        cn.prune(network, digits.train, share=0.5, scores=scores)
    assert "\n" not in str(raised.value)


def test_scores_of_other_layers_are_refused(network: nn.Module, digits: Dataset) -> None:
    with pytest.raises(training.PruningError, match=r"the scores do not fit the network, .*mask for 'fc'"):
        cn.prune(network, digits.train, share=0.5, scores={"fc": np.arange(4.0)})


@pytest.mark.parametrize("left", [(), ("1",)], ids=["removed", "left alone"])
def test_fewer_scores_than_units_are_refused(network: nn.Module, digits: Dataset, left: tuple[str, ...]) -> None:
    """Ten numbers for twenty units are no attention heads of two rows each."""
    scores = {"1": np.arange(10.0), "3": np.arange(12.0)}
    with pytest.raises(SelectionError, match="scores of '1' are 10 numbers: one for each of its 20 units is needed"):
        cn.prune(network, digits.train, share=0.5, scores=scores, leave_alone=left)


@pytest.mark.parametrize("goal", [{"share": 0.4}, {"parameters": 0.8}, {"tolerance": 100.0}])
def test_a_layer_whose_units_cannot_be_followed_may_be_left_alone(goal: dict[str, Any]) -> None:
    """A LayerNorm before GELU: its units are scored and cannot be cut out."""
    torch.manual_seed(0)
    layers = [nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 4), nn.LayerNorm(4), nn.GELU(), nn.Linear(4, 3)]
    network, images = nn.Sequential(*layers).eval(), torch.rand(12, 6)
    ranking, data = {"0": np.arange(5.0), "2": np.arange(4.0)}, (images, network(images).argmax(1))
    with pytest.raises(training.UnsupportedGraph, match="LayerNorm"):
        cn.prune(network, data, scores=ranking, share=0.5)
    found = cn.prune(network, data, scores=ranking, leave_alone=["2"], **goal)
    assert not found.masks["0"].all()
    assert found.masks["2"].all()
    assert found.removal.units_total == 9
    assert found.network[0].out_features == found.masks["0"].sum()
    with cn.hold(network, found.masks, images):
        assert not network[0].weight[~torch.from_numpy(found.masks["0"])].any()
    with pytest.raises(SelectionError, match="mask for 'fc'"):
        cn.prune(network, data, scores={**ranking, "fc": np.arange(2.0)}, leave_alone=["2", "fc"], **goal)


@pytest.mark.filterwarnings("ignore::critical_neurons.DoubtfulScores")  # it is not trained
@pytest.mark.parametrize(("threads", "used"), [(None, 2), (1, 1)])
def test_the_threads_are_those_of_the_settings_where_no_others_are_given(
    digits: Dataset, threads: int | None, used: int
) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(784, 3), nn.ReLU(), nn.Linear(3, 10)).eval()
    settings = replace(DEFAULTS, threads=2)
    found = cn.prune(network, digits.validation, share=0.4, images=5, settings=settings, threads=threads)
    assert found.scores is not None
    assert found.scores.certificate.settings["threads"] == used


def test_each_network_that_is_tried_is_told_and_one_layer_is_left_alone_by_its_name(
    network: nn.Module, digits: Dataset
) -> None:
    said: list[str] = []
    ranking = {name: np.arange(len(part.weight)) for name, part in network.named_modules() if name in ("1", "3")}
    found = cn.prune(
        network, digits.validation, tolerance=2.0, scores=ranking, refit=False, leave_alone="3", progress=said.append
    )
    assert found.masks["3"].all()
    assert len(said) == found.tried
    assert said[0].startswith("prune    network 1: ")
    assert f"{found.tried} networks tried, " in str(found)


def test_a_word_that_prune_does_not_take_is_met_with_one_that_it_does(network: nn.Module, digits: Dataset) -> None:
    with pytest.raises(InvalidSetting, match=r"prune takes no sharee \(did you mean 'share'"):
        cn.prune(network, digits.validation, sharee=0.5)


@pytest.mark.filterwarnings("ignore::critical_neurons.DoubtfulScores")  # so few images
def test_a_scored_layer_whose_units_cannot_be_followed_keeps_them_and_a_note_says_so() -> None:
    torch.manual_seed(0)
    layers = [nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 4), nn.LayerNorm(4), nn.GELU(), nn.Linear(4, 3)]
    network, images = nn.Sequential(*layers).eval(), torch.rand(12, 6)
    found = cn.prune(network, (images, network(images).argmax(1)), share=0.4, images=6)
    assert not found.masks["0"].all()
    assert found.masks["2"].all()
    assert found.notes[0].startswith("scored layer '2' keeps all units, which cannot be followed: layer '2'")


@pytest.mark.parametrize("goal", [{"tolerance": 1.0}, {"share": 0.5}, {"multiply_adds": 0.5}])
def test_where_every_layer_is_left_alone_nothing_can_go(
    goal: dict[str, float], network: nn.Module, digits: Dataset
) -> None:
    ranking = {"1": np.arange(20.0)}
    with pytest.raises(SelectionError, match="every layer is left alone: name fewer"):
        cn.prune(network, digits.validation, scores=ranking, leave_alone="*", **goal)
