from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from training.data.splits import Dataset, Split, divide_stratified
from training.errors import DataError, LabelError


def some(images: int = 4, classes: int = 2, side: int = 3) -> Split:
    return Split(torch.full((images, 1, side, side), 0.5), torch.arange(images) % classes)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -0.01, 1.01])
def test_a_pixel_that_is_no_number_in_0_1_is_refused_naming_its_image(value: float) -> None:
    images = torch.zeros(3, 1, 2, 2)
    images[1, 0, 1, 0] = value
    with pytest.raises(DataError, match="image 1 has a pixel of value"):
        Split(images, torch.zeros(3, dtype=torch.int64))


@pytest.mark.parametrize(
    ("images", "labels"),
    [
        (torch.zeros(2, 4), torch.zeros(2, dtype=torch.int64)),
        (torch.zeros(2, 1, 2, 2, dtype=torch.float64), torch.zeros(2, dtype=torch.int64)),
        (torch.zeros(2, 1, 2, 2), torch.zeros(3, dtype=torch.int64)),
        (torch.zeros(2, 1, 2, 2), torch.zeros(2)),
        (torch.zeros(0, 1, 2, 2), torch.zeros(0, dtype=torch.int64)),
    ],
)
def test_wrong_shapes_and_types_are_refused(images: torch.Tensor, labels: torch.Tensor) -> None:
    with pytest.raises(DataError):
        Split(images, labels)


def test_a_negative_label_is_refused() -> None:
    with pytest.raises(LabelError, match="image 1 has label -1"):
        Split(torch.zeros(2, 1, 2, 2), torch.tensor([0, -1]))


def test_a_label_without_a_class_is_refused_naming_split_and_image() -> None:
    with pytest.raises(LabelError, match="test image 2 has label 2, but there are 2 classes"):
        Dataset("own", some(), some(), some(classes=3), ("a", "b"))


def test_splits_of_different_sizes_are_refused() -> None:
    with pytest.raises(DataError, match="validation images are"):
        Dataset("own", some(), some(side=4), some(), ("a", "b"))


def test_the_digest_follows_the_pixels_and_the_labels() -> None:
    split = some()
    assert split.digest() == some().digest()
    assert split.digest() != Split(split.images, 1 - split.labels).digest()
    assert split.digest() != Split(split.images * 0.5, split.labels).digest()


@given(st.lists(st.integers(2, 30), min_size=2, max_size=5), st.floats(0.01, 0.99), st.integers(0, 2**32), st.data())
def test_a_stratified_division_parts_every_class_by_the_share(
    sizes: list[int], share: float, seed: int, data: st.DataObject
) -> None:
    labels = np.array(data.draw(st.permutations(np.repeat(np.arange(len(sizes)), sizes).tolist())))
    rest, part = divide_stratified(labels, share, np.random.default_rng(seed), [str(k) for k in range(len(sizes))])
    assert sorted([*rest, *part]) == list(range(len(labels)))
    for label, size in enumerate(sizes):
        taken = int((labels[part] == label).sum())
        assert 1 <= taken <= size - 1
        assert abs(taken - share * size) <= 1


def test_a_class_of_one_image_cannot_be_divided() -> None:
    with pytest.raises(DataError, match="class 'b' has 1 images"):
        divide_stratified(np.array([0, 0, 1]), 0.5, np.random.default_rng(0), ["a", "b"])
