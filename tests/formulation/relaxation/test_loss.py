"""Oracle 4: no cut ever exceeds the loss, the two forms agree, and both close in on it where they were made."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from formulation import score
from formulation.relaxation import loss as loss_module
from formulation.relaxation.cuts import Cuts, stack_cuts
from formulation.relaxation.loss import cross_entropy, groups, lifted_loss_cuts, tangent_loss_cuts, tangents
from formulation.relaxation.reduction import Reduction
from tests.formulation.cases import batchnorm_after_relu, conv_pool, dense, logits_at, max_pooled, strided_grouped
from tests.formulation.oracles import repeatable
from tests.formulation.paper_settings import paper_settings

REDUCTIONS = {
    "dense": dense(2, classes=5).reduction(paper_settings(radius=0.3), batch_size=2),
    "pool": conv_pool(2).reduction(paper_settings(gate="pattern", radius=0)),
    "grouped": strided_grouped(2).reduction(paper_settings(gate="exact", relax=False, radius=0.05), batch_size=1),
    "max-pooled": max_pooled(2).reduction(paper_settings(radius=0.05), batch_size=1),
    "norm after relu": batchnorm_after_relu(2).reduction(paper_settings(gate="exact", relax=False, radius=0.0)),
}
points = st.tuples(st.integers(0, 10_000), st.sampled_from([0.1, 1.0, 4.0]))


def point_of(reduction: Reduction, drawn: tuple[int, float]) -> np.ndarray:
    """Anywhere in and around the box of the columns: the loss cuts must hold there too."""
    seed, reach = drawn
    return np.random.default_rng(seed).normal(0.5, reach, reduction.columns)


def tangent_cuts(reduction: Reduction, point: np.ndarray) -> Cuts:
    logits = logits_at(reduction, point)
    return tangent_loss_cuts(
        reduction, logits, [tangents(reduction, batch, logits[:, batch.where], point) for batch in reduction.batches]
    )


def lifted_cuts(reduction: Reduction, point: np.ndarray) -> Cuts:
    logits = logits_at(reduction, point)
    blocks = [lifted_loss_cuts(reduction, batch, logits[:, batch.where], point) for batch in reduction.batches]
    return stack_cuts(blocks, reduction.columns + reduction.images * (1 + reduction.network.classes))


def loss_at(reduction: Reduction, point: np.ndarray) -> np.ndarray:
    logits = torch.as_tensor(logits_at(reduction, point).T)
    return torch.nn.functional.cross_entropy(logits, torch.as_tensor(reduction.labels), reduction="none").numpy()


def least_theta(cuts: Cuts, reduction: Reduction, point: np.ndarray) -> np.ndarray:
    """The smallest theta per image that the tangents leave at a point."""
    width = reduction.columns
    value = cuts.lower - cuts.matrix[:, :width] @ point
    theta = np.full(len(reduction.labels), -np.inf)
    np.maximum.at(theta, cuts.matrix[:, width:].tocoo().col, value)
    return theta


@pytest.mark.parametrize("name", sorted(REDUCTIONS))
@repeatable
@given(made_at=points, seen_from=points)
def test_no_tangent_exceeds_the_loss_anywhere(name, made_at, seen_from):
    reduction = REDUCTIONS[name]
    cuts = tangent_cuts(reduction, point_of(reduction, made_at))
    elsewhere = point_of(reduction, seen_from)
    loss = loss_at(reduction, elsewhere)
    assert (least_theta(cuts, reduction, elsewhere) <= loss + 1e-9 * np.maximum(1, loss)).all()


@pytest.mark.parametrize("name", sorted(REDUCTIONS))
@repeatable
@given(made_at=points)
def test_a_tangent_touches_the_loss_where_it_was_made(name, made_at):
    reduction = REDUCTIONS[name]
    point = point_of(reduction, made_at)
    touching = least_theta(tangent_cuts(reduction, point), reduction, point)
    np.testing.assert_allclose(touching, loss_at(reduction, point), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", sorted(REDUCTIONS))
@repeatable
@given(made_at=points, seen_from=points)
def test_the_true_loss_satisfies_every_lifted_loss_cut_anywhere(name, made_at, seen_from):
    """With theta the loss and e_c = exp(d_c - theta), all loss cuts hold and the masses sum to 1."""
    reduction = REDUCTIONS[name]
    cuts = lifted_cuts(reduction, point_of(reduction, made_at))
    elsewhere = point_of(reduction, seen_from)
    logits, each = logits_at(reduction, elsewhere), np.arange(len(reduction.labels))
    loss = loss_at(reduction, elsewhere)
    mass = np.exp(logits - logits[reduction.labels, each] - loss).T
    np.testing.assert_allclose(mass.sum(axis=1), 1)
    full = np.concatenate([elsewhere, loss, mass.ravel()])
    slack = 1e-9 * (1 + abs(cuts.matrix) @ np.abs(full))
    value = cuts.matrix @ full
    assert (value >= cuts.lower - slack).all()
    assert (value <= cuts.upper + slack).all()


@pytest.mark.parametrize("name", sorted(REDUCTIONS))
@repeatable
@given(made_at=points, short=st.floats(0.01, 1.0))
def test_lifted_loss_cuts_cut_off_every_smaller_loss_at_the_point(name, made_at, short):
    """Any theta below the loss asks for more mass than 1, whatever e is chosen."""
    reduction = REDUCTIONS[name]
    point = point_of(reduction, made_at)
    cuts = lifted_cuts(reduction, point)
    width, images = reduction.columns, len(reduction.labels)
    theta = loss_at(reduction, point) - short
    least = np.zeros(images * reduction.network.classes)
    needed = cuts.lower - cuts.matrix[:, : width + images] @ np.concatenate([point, theta])
    np.maximum.at(least, cuts.matrix[:, width + images :].tocoo().col, needed)
    assert (least.reshape(images, -1).sum(axis=1) > 1 + short / 2).all()


@pytest.mark.parametrize("gate", ["published", "pattern"])
@pytest.mark.parametrize("seed", range(2))
def test_the_two_forms_score_to_the_same_optimum(gate: str, seed: int) -> None:
    case = dense(seed, hidden=(7, 6, 5), classes=4, images=5)
    found = [
        score(
            case.model, case.images, case.labels,
            paper_settings(gate=gate, radius=0.0 if gate == "pattern" else 0.05, cuts=cuts, gap=1e-7),
        ).certificate
        for cuts in ("tangent", "lifted")
    ]  # fmt: skip
    assert found[0].objective == pytest.approx(found[1].objective, abs=1e-6)
    assert max(c.bound for c in found) <= min(c.objective for c in found) + 1e-9


def test_cross_entropy_is_torchs_also_where_logits_are_huge() -> None:
    logits = np.array([[800.0, -3.0], [0.0, 900.0], [-800.0, 1.0]])
    np.testing.assert_allclose(cross_entropy(logits, np.array([1, 0])), [800.0, 903.0])
    expected = torch.nn.functional.cross_entropy(
        torch.as_tensor(logits.T), torch.tensor([1, 0]), reduction="none"
    ).numpy()
    np.testing.assert_allclose(cross_entropy(logits, np.array([1, 0])), expected)


def test_stacking_pads_to_the_width_and_keeps_every_bound() -> None:
    reduction = REDUCTIONS["dense"]
    cuts = tangent_cuts(reduction, np.ones(reduction.columns))
    wide = stack_cuts([cuts, cuts], cuts.matrix.shape[1] + 3)
    assert wide.matrix.shape == (2 * len(cuts), cuts.matrix.shape[1] + 3)
    np.testing.assert_array_equal(wide.lower, np.tile(cuts.lower, 2))
    assert len(stack_cuts([], 4)) == 0


# Loss cuts of groups -----------------


@pytest.mark.parametrize("images", [1, 2, 3, 7, 8, 9, 20])
def test_groups_are_neighbours_of_nearly_one_size(images: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loss_module, "GROUPS", 8)
    group = groups(images, "tangent")
    sizes = np.bincount(group)
    assert (np.diff(group) >= 0).all()
    assert len(sizes) == min(images, 8)
    assert sizes.max() - sizes.min() <= 1
    np.testing.assert_array_equal(groups(images, "lifted"), np.arange(images))


@pytest.mark.parametrize("count", [1, 2, 3])
@repeatable
@given(made_at=points, seen_from=points)
def test_a_groups_loss_cut_is_below_its_mean_loss_and_touches_it_where_it_was_made(count, made_at, seen_from):
    reduction = dense(2, classes=5, images=5).reduction(paper_settings(radius=0.3), batch_size=2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loss_module, "GROUPS", count)
        point, elsewhere = point_of(reduction, made_at), point_of(reduction, seen_from)
        cuts, group = tangent_cuts(reduction, point), groups(reduction.images, "tangent")
    assert len(cuts) == count

    def mean_loss(at: np.ndarray) -> np.ndarray:
        return np.bincount(group, loss_at(reduction, at)) / np.bincount(group)

    width = reduction.columns
    np.testing.assert_array_equal(cuts.matrix[:, width:].toarray(), np.eye(count))
    touching = cuts.lower - cuts.matrix[:, :width] @ point
    np.testing.assert_allclose(touching, mean_loss(point), rtol=1e-9, atol=1e-9)
    below = cuts.lower - cuts.matrix[:, :width] @ elsewhere
    assert (below <= mean_loss(elsewhere) * (1 + 1e-9) + 1e-9).all()


@pytest.mark.parametrize("gate", ["published", "pattern"])
def test_averaged_loss_cuts_and_one_loss_cut_an_image_score_to_the_same_optimum(
    gate: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = dense(1, hidden=(7, 6, 5), classes=4, images=9)
    settings = paper_settings(gate=gate, radius=0.0 if gate == "pattern" else 0.05, gap=1e-7)
    found = []
    for count in (100, 4, 1):
        monkeypatch.setattr(loss_module, "GROUPS", count)
        found.append(score(case.model, case.images, case.labels, settings).certificate)
        assert found[-1].status == "optimal"
    assert max(c.bound for c in found) <= min(c.objective for c in found) + 1e-9
    assert max(c.objective for c in found) - min(c.objective for c in found) <= 1e-6


@pytest.mark.parametrize("name", sorted(REDUCTIONS))
@pytest.mark.parametrize("cuts", [tangent_cuts, lifted_cuts])
def test_what_a_loss_cut_takes_off_each_logit_is_what_it_takes_off_the_columns(name, cuts) -> None:
    """matrix . d on the columns = - on_logits . (o(p + d) - o(p)), because logits are affine in the columns."""
    reduction = REDUCTIONS[name]
    rng = np.random.default_rng(0)
    p, d = rng.normal(0.5, 1, (2, reduction.columns))
    made = cuts(reduction, p)
    moved = (logits_at(reduction, p + d) - logits_at(reduction, p)).ravel()
    np.testing.assert_allclose(made.matrix[:, : reduction.columns] @ d, -(made.on_logits @ moved), atol=1e-9)
