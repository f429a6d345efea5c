"""Benchmarks of masks for several data sets and of carried masks: shared bodies, filled masks, widths, figures."""

from types import SimpleNamespace

import numpy as np
import torch

import training
from benchmarks import joint_masks, transfer_shares
from benchmarks.shared_body import train_shared


def test_networks_with_a_shared_body_have_one_and_learn_at_once() -> None:
    digits = training.load("digits", root=None, seed=0, image_size=16)
    datasets = {"one": digits, "other": digits}
    networks = train_shared("lenet5", datasets, epochs=1, seed=0)
    one, other = networks.values()
    assert one.conv1.weight is other.conv1.weight
    assert one.fc2.weight is other.fc2.weight
    assert one.output.weight is not other.output.weight
    fresh = training.build("lenet5", input_shape=digits.input_shape, classes=10, seed=0)
    assert not torch.equal(one.conv1.weight, fresh.conv1.weight)
    assert not torch.equal(other.output.weight, fresh.output.weight)


def test_what_both_keep_is_filled_up_in_turns_to_the_same_widths() -> None:
    one, other = (
        SimpleNamespace(masks={"a": np.array(mask, dtype=bool)}, scores={"a": np.array(scores)})
        for mask, scores in (
            ([1, 1, 1, 0, 0, 0], [0.9, 0.8, 0.3, 0, 0, 0]),
            ([1, 0, 0, 1, 1, 0], [0.9, 0, 0, 0.2, 0.7, 0]),
        )
    )
    assert joint_masks.filled([one, other])["a"].tolist() == [True, True, False, False, True, False]


def test_uniform_widths_remove_as_many_units_and_the_same_share_of_each_layer() -> None:
    draw = np.random.default_rng(0)
    scores = {"a": draw.random(300), "b": draw.random(100)}
    for removed in (320, 201, 7):
        gone = training.counts(transfer_shares.uniform(scores, removed))
        assert sum(gone.values()) == removed
        assert abs(gone["a"] / 300 - gone["b"] / 100) < 0.02


def test_the_best_single_mask_is_that_which_loses_least_where_it_loses_most() -> None:
    cells = [{"dense": [98, 88], "arms": {"mnist": [97, 80], "fashion_mnist": [95, 87]}, "proved": {}}]
    assert joint_masks.best_alone(cells) == "fashion_mnist"
    assert joint_masks.losses(cells, "mnist").tolist() == [[1, 8]]
    assert "+0.00" not in joint_masks.table(70, cells)[1]
    assert joint_masks.interval(np.array([1.0, 2.0, 3.0])) == "+2.00 [-0.48, +4.48]"
