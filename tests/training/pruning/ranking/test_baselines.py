from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.functional import cross_entropy

from tests.training.networks import Forked, Functional, chains, example, mixed, stir
from training.digests import model_digest
from training.errors import LabelError, ModelError, SelectionError, UnsupportedGraph
from training.pruning import by_counts, consumers, counts, masks_digest, prune
from training.pruning.ranking import RULES, Evidence, draw_scores

GRADIENT_RULES = ("taylor", "mean_taylor", "squared_taylor")


def evidence_of(model: nn.Module, images: int = 7, seed: int = 0, layers: tuple[str, ...] = ()) -> Evidence:
    drawn = example(model, images, seed)
    labels = torch.arange(images) % 2
    names = layers or tuple(consumers(model, drawn))
    rng = np.random.default_rng(seed)
    scores = {layer: rng.random(model.get_submodule(layer).weight.shape[0]) for layer in names}
    return Evidence(model, drawn, labels, names, seed, scores, batch_size=3)


class Gated(nn.Module):
    """One hidden layer behind a gate per unit, so that autograd gives what a gate's closing would change."""

    input_shape = (1, 2, 2)

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.first, self.output = nn.Conv2d(1, 5, 2, padding=1), nn.Linear(45, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.output(torch.relu(self.first(x)).flatten(1))

    def gated(self, x: Tensor, gates: Tensor) -> Tensor:
        return self.output((torch.relu(self.first(x)) * gates[:, None, None]).flatten(1))


@settings(max_examples=15, deadline=None)
@given(chains(), st.integers(0, 100))
def test_every_rule_scores_every_unit_and_leaves_the_model_as_it_was(model: nn.Sequential, seed: int) -> None:
    evidence = evidence_of(model.train(), seed=seed)
    before = model_digest(model)
    for name, rule in RULES.items():
        scores = rule(evidence)
        widths = {layer: values.shape for layer, values in scores.items()}
        assert widths == {layer: (model.get_submodule(layer).weight.shape[0],) for layer in evidence.layers}, name
        assert all(values.dtype == np.float64 and np.isfinite(values).all() for values in scores.values())
    assert model_digest(model) == before
    assert model.training
    assert all(value.grad is None for value in model.parameters())


@pytest.mark.parametrize("name", sorted(set(RULES) - {"random"}))
def test_the_batch_size_and_frozen_weights_change_nothing(name: str) -> None:
    evidence = evidence_of(mixed())
    frozen = replace(evidence, model=mixed().requires_grad_(False), batch_size=100)
    for layer, values in RULES[name](evidence).items():
        np.testing.assert_allclose(RULES[name](frozen)[layer], values, rtol=1e-4, atol=1e-9)


def test_taylor_rules_are_those_of_a_gate_behind_each_relu() -> None:
    model = Gated()
    evidence = evidence_of(model)
    slopes = torch.stack(
        [
            torch.autograd.functional.jacobian(
                lambda gates, i=i: cross_entropy(
                    model.gated(evidence.images[i : i + 1], gates), evidence.labels[i : i + 1]
                ),
                torch.ones(5),
            )
            for i in range(len(evidence.labels))
        ]
    ).double()
    expected = {
        "taylor": (slopes / 9).abs().mean(0),
        "mean_taylor": slopes.mean(0).abs(),
        "squared_taylor": slopes.square().mean(0),
    }
    for name, values in expected.items():
        np.testing.assert_allclose(RULES[name](evidence)["first"], values.numpy(), rtol=1e-4, atol=1e-9)


def test_closing_a_unit_of_a_network_that_is_linear_behind_it_changes_the_loss_as_taylor_says() -> None:
    model = Gated().double()
    # So small that the cross-entropy is linear within the step.
    model.output.weight.data *= 1e-4
    evidence = evidence_of(model)
    found = RULES["mean_taylor"](evidence)["first"]

    def loss(network: nn.Module) -> float:
        with torch.no_grad():
            return float(cross_entropy(network(evidence.images.double()), evidence.labels))

    for unit in range(5):
        closed = prune(model, {"first": np.arange(5) != unit}, evidence.images[:1])
        assert abs(loss(closed) - loss(model)) == pytest.approx(found[unit], rel=1e-2)


def test_snip_is_the_gradient_of_a_factor_on_each_weight() -> None:
    model = Gated()
    evidence = evidence_of(model)
    weight = model.first.weight.detach()

    def loss(factors: Tensor) -> Tensor:
        hidden = torch.relu(functional.conv2d(evidence.images, weight * factors, model.first.bias, padding=1))
        return cross_entropy(model.output(hidden.flatten(1)), evidence.labels)

    slopes = torch.autograd.functional.jacobian(loss, torch.ones_like(weight))
    np.testing.assert_allclose(RULES["snip"](evidence)["first"], slopes.abs().flatten(1).sum(1).numpy(), rtol=1e-4)


def test_norms_and_activations_by_hand() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2))
    model[1].weight.data = torch.tensor([[3.0, -4.0], [1.0, 1.0], [-1.0, -1.0]])
    model[1].bias.data = torch.tensor([0.0, 1.0, 0.0])
    images = torch.tensor([[1.0, 0.0], [0.0, 1.0]]).reshape(2, 1, 1, 2)
    evidence = Evidence(model, images, torch.tensor([0, 1]), ("1",))
    assert RULES["l1_norm"](evidence)["1"].tolist() == [7.0, 2.0, 2.0]
    assert RULES["l2_norm"](evidence)["1"] == pytest.approx([5.0, 2**0.5, 2**0.5])
    assert RULES["mean_activation"](evidence)["1"].tolist() == [1.5, 2.0, 0.0]
    assert RULES["dead"](evidence)["1"].tolist() == [0.5, 1.0, 0.0]


@pytest.mark.parametrize("name", ["mean_activation", "dead"])
def test_activations_are_what_the_relu_emits_behind_batchnorm(name: str) -> None:
    model = mixed()
    evidence = evidence_of(model)
    with torch.no_grad():
        emitted = {"0": model[:3](evidence.images), "4": model[:7](evidence.images), "9": model[:12](evidence.images)}
    for layer, values in RULES[name](evidence).items():
        maps = emitted[layer].flatten(2) if emitted[layer].ndim > 2 else emitted[layer][:, :, None]
        expected = maps.mean((0, 2)) if name == "mean_activation" else (maps > 0).any(2).double().mean(0)
        np.testing.assert_allclose(values, expected.numpy(), rtol=1e-5)


class Joined(nn.Module):
    """Two layers, one of them twice, read by one ReLU that writes over what it reads, as the sum after it does."""

    input_shape = (1, 2, 2)

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.left, self.right, self.norm = nn.Linear(4, 3), nn.Linear(4, 2), nn.BatchNorm1d(8)
        self.output = nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.flatten(x, 1)
        right = self.right(x)
        both = functional.relu_(self.norm(torch.cat([right, self.left(x), self.left_again(x)], 1)))
        both += 1.0 * both
        return self.output(both)

    def left_again(self, x: Tensor) -> Tensor:
        return functional.linear(x, torch.zeros(3, 4))


def test_units_are_found_in_a_concatenation_and_under_operations_in_place() -> None:
    model = stir(Joined(), 0)
    evidence = evidence_of(model, layers=("left", "right"))
    with torch.no_grad():
        flat = evidence.images.flatten(1)
        both = torch.relu(model.norm(torch.cat([model.right(flat), model.left(flat), torch.zeros(7, 3)], 1)))
    found = RULES["mean_activation"](evidence)
    np.testing.assert_allclose(found["right"], both.mean(0)[:2].numpy(), rtol=1e-5)
    np.testing.assert_allclose(found["left"], both.mean(0)[2:5].numpy(), rtol=1e-5)
    logits = (2 * both).requires_grad_()
    cross_entropy(model.output(logits), evidence.labels, reduction="sum").backward()
    slopes = (both * 2 * logits.grad)[:, :5]
    squared = RULES["squared_taylor"](evidence)
    np.testing.assert_allclose(squared["left"], slopes[:, 2:].square().mean(0).numpy(), rtol=1e-4, atol=1e-12)


@pytest.mark.parametrize("model", [Functional(), Forked()], ids=["functional", "forked"])
def test_functional_relus_are_found(model: nn.Module) -> None:
    evidence = evidence_of(model)
    for name in ("dead", *GRADIENT_RULES):
        assert set(RULES[name](evidence)) == set(evidence.layers)


@given(st.integers(0, 2**31), st.integers(1, 4), st.integers(0, 5))
@settings(max_examples=20, deadline=None)
def test_random_draws_follow_their_seed_and_not_how_many_are_asked_for(seed: int, draws: int, removed: int) -> None:
    evidence = replace(evidence_of(mixed()), seed=seed)
    few, many = draw_scores("random", evidence, draws), draw_scores("random", evidence, draws + 1)
    masks = [[by_counts(scores, {"0": removed}) for scores in drawn] for drawn in (few, many[:draws])]
    assert [masks_digest(each) for each in masks[0]] == [masks_digest(each) for each in masks[1]]
    assert all(counts(each) == {"0": removed} for each in masks[0])


def test_draws_differ_from_each_other_and_between_seeds() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(144, 100), nn.ReLU(), nn.Linear(100, 2))
    evidence = evidence_of(model)
    drawn = draw_scores("random", evidence) + draw_scores("random", replace(evidence, seed=1))
    assert len({masks_digest(by_counts(scores, {"1": 50})) for scores in drawn}) == 10


def test_every_unit_is_removed_about_equally_often() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 10), nn.ReLU(), nn.Linear(10, 2))
    model.input_shape = (1, 2, 2)
    drawn = draw_scores("random", evidence_of(model), 500)
    removed = sum(~by_counts(scores, {"1": 3})["1"] for scores in drawn)
    assert np.abs(removed / 500 - 0.3).max() < 0.08


def test_rules_without_chance_are_drawn_once() -> None:
    assert len(draw_scores("l1_norm", evidence_of(mixed()), 5)) == 1


def test_critical_removes_the_highest_scored_units_first() -> None:
    evidence = evidence_of(mixed())
    (scores,) = draw_scores("critical", evidence)
    for layer, mask in by_counts(scores, {"0": 2, "9": 3}).items():
        assert evidence.scores[layer][~mask].min() >= evidence.scores[layer][mask].max()


@pytest.mark.parametrize("name", ["l1_norm", "snip", "taylor", "random"])
def test_a_layer_that_no_relu_gates_is_refused_by_name(name: str) -> None:
    with pytest.raises(UnsupportedGraph, match="'13'"):
        RULES[name](replace(evidence_of(mixed()), layers=("13",)))


def test_evidence_that_no_rule_can_use_is_refused() -> None:
    evidence = evidence_of(mixed())
    with pytest.raises(SelectionError, match="name one layer or more, each once"):
        replace(evidence, layers=())
    with pytest.raises(SelectionError, match="each once"):
        replace(evidence, layers=("0", "0"))
    with pytest.raises(SelectionError, match="seed=-1"):
        replace(evidence, seed=-1)
    with pytest.raises(LabelError, match="has label 9 but the model has 3 outputs"):
        RULES["taylor"](replace(evidence, labels=torch.full((7,), 9)))
    with pytest.raises(SelectionError, match=r"rule 'critical' needs one for each of 6 units"):
        RULES["critical"](replace(evidence, scores=None))
    with pytest.raises(SelectionError, match="rule 'magic' with draws=5"):
        draw_scores("magic", evidence)
    with pytest.raises(SelectionError, match="draws=0"):
        draw_scores("random", evidence, 0)


def test_scores_that_are_not_finite_are_refused_by_rule_layer_and_unit() -> None:
    evidence = evidence_of(mixed())
    broken = {**evidence.scores, "4": np.array([0.5, np.nan] * 4)}
    with pytest.raises(SelectionError, match="rule 'critical': score of unit 1 of '4' is nan"):
        RULES["critical"](replace(evidence, scores=broken))
    huge = mixed().double()
    huge[0].weight.data[2] = 1e200
    with pytest.raises(SelectionError, match="rule 'l2_norm': score of unit 2 of '0' is inf"):
        RULES["l2_norm"](replace(evidence, model=huge))
    sick = mixed()
    sick[4].weight.data[1] = np.nan
    with pytest.raises(ModelError, match="model weight '4"):
        RULES["taylor"](replace(evidence, model=sick))
