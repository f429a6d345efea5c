"""Loaders: whatever a person has is read alike, no further than needed, and refused in one line."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from critical_neurons.loaders import read_samples, read_scoring_set
from training import DataError, Dataset, LabelError, ModelError, ScoringSet

IMAGES, LABELS = torch.arange(24.0).reshape(6, 1, 2, 2), torch.tensor([0, 1, 2, 0, 1, 2])
PAIRS = TensorDataset(IMAGES, LABELS)


@pytest.mark.parametrize(
    "data",
    [
        (IMAGES, LABELS),
        [IMAGES.numpy(), LABELS.numpy()],
        (IMAGES, LABELS.tolist()),
        PAIRS,
        DataLoader(PAIRS, batch_size=4),
        [(IMAGES[:5], LABELS[:5].int()), (IMAGES[5:], [2])],
        ScoringSet(IMAGES, LABELS, torch.arange(6)),
        list(zip(IMAGES, LABELS.tolist(), strict=True)),
        [(image.numpy(), label) for image, label in PAIRS],
    ],
    ids=["pair", "arrays", "labels", "data set", "loader", "batches", "scoring set", "one by one", "arrays one by one"],
)
def test_whatever_holds_images_and_labels_is_read_alike(data: Any) -> None:
    read = read_samples(data, 5)
    assert torch.equal(read.images, IMAGES[:5])
    assert torch.equal(read.labels, LABELS[:5])


def test_no_more_batches_are_asked_for_than_needed() -> None:
    def endless() -> Iterator[tuple[Tensor, Tensor]]:
        while True:
            yield IMAGES, LABELS

    assert len(read_samples(endless(), 15)) == 15


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (3, "data is int"),
        ("images", "data is str"),
        ([], "the data hold no batch"),
        ([IMAGES], "a batch is Tensor, not"),
        ([(IMAGES, LABELS, 1)], "a batch is tuple of 3, not"),
        ([(IMAGES, LABELS[:5])], "labels are torch.int64 of shape (5,)"),
        ([(IMAGES, LABELS.float())], "labels are torch.float32 of shape (6,): give one whole number for each of 6 "),
        ((IMAGES, LABELS.float()), "as labels.long() does"),
        ((IMAGES, LABELS[:, None]), "as labels.reshape(-1).long() does"),
        ((IMAGES, torch.eye(3)[LABELS]), "as labels.argmax(1) does"),
        ([(torch.zeros(4), LABELS)], "no batch [n, ...]"),
        ([("a", "b")], "cannot be read as tensors"),
        ([(Image.new("L", (2, 2)), 0)], "give it a transform that makes tensors of one shape"),
        ([(IMAGES[0], 0), (IMAGES[1, :, :1], 1)], "give it a transform that makes tensors of one shape"),
        ([(IMAGES, LABELS), (IMAGES[..., :1], LABELS)], "images of shapes (1, 2, 1), (1, 2, 2)"),
    ],
)
def test_what_holds_none_is_refused_in_one_line(data: Any, words: str) -> None:
    with pytest.raises(DataError) as raised:
        read_samples(data, 100)
    assert words in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_scoring_set_is_right_and_balanced_and_comes_in_rounds(network: nn.Module, digits: Dataset) -> None:
    found = read_scoring_set(network, digits.train, 30).samples
    assert Counter(found.labels.tolist()) == dict.fromkeys(range(10), 3)
    assert found.labels[:10].tolist() == list(range(10))
    assert torch.equal(network(found.images).argmax(1), found.labels)


def test_a_class_without_images_is_no_error_and_its_place_stays_empty(network: nn.Module, digits: Dataset) -> None:
    few = digits.train.labels < 3
    drawn = read_scoring_set(network, (digits.train.images[few], digits.train.labels[few]), 50)
    assert Counter(drawn.samples.labels.tolist()) == {0: 5, 1: 5, 2: 5}
    assert "no image of class 3, 4, 5, 6, 7" in " ".join(drawn.notes())
    assert int(drawn.seen[3:].sum()) == 0 < int(drawn.right[:3].min())


def test_data_that_do_not_fit_the_network_are_refused_in_the_libraries_words(
    network: nn.Module, digits: Dataset
) -> None:
    images, labels = digits.train.images[:20], digits.train.labels[:20]
    with pytest.raises(LabelError, match=r"label \d+ is out of range: the network has outputs 0 to 9"):
        read_scoring_set(network, (images, labels + 10), 10)
    with pytest.raises(ModelError, match="give images that fit"):
        read_scoring_set(network, (images[..., :3], labels), 10)
    with pytest.raises(DataError, match="classifies none of these images correctly"):
        read_scoring_set(network, (images, (network(images).argmax(1) + 1) % 10), 10)
    with pytest.raises(ModelError, match=r"one output.*append nn\.Linear\(1, 2, bias=False\)"):
        read_scoring_set(nn.Sequential(nn.Flatten(), nn.Linear(28 * 28, 1)), (images, labels % 2), 10)
    with pytest.raises(DataError, match="images=0 is out of range"):
        read_scoring_set(network, (images, labels), 0)


@pytest.mark.parametrize("count", [0, -1, 2.5, True, "9"])
def test_a_number_of_images_that_is_none_is_refused(network: nn.Module, count: Any) -> None:
    for read in (lambda: read_scoring_set(network, PAIRS, count), lambda: read_samples(PAIRS, count)):
        with pytest.raises(DataError, match=f"images={count!r} is (out of range|no whole number)"):
            read()
