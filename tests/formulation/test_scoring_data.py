"""Images and labels: what is refused, by name and with the remedy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from formulation import InvalidImages, InvalidModel, InvalidSolution, check, lower, score
from formulation.scoring_data import flatten_images, images_digest, read_scoring_data
from tests.formulation.cases import dense
from tests.formulation.paper_settings import paper_settings

GOOD = torch.rand(3, 1, 1, 4, generator=torch.Generator().manual_seed(0))


def with_pixel(value: float) -> torch.Tensor:
    images = GOOD.clone()
    images[1, 0, 0, 2] = value
    return images


BAD: dict[str, tuple[Any, Any, str]] = {
    "label too large": (GOOD, [0, 1, 3], "label 3 is out of range.*0 to 2"),
    "negative label": (GOOD, [0, -1, 2], "label -1 is out of range"),
    "labels missing": (GOOD, [0, 1], r"3 images but labels of shape \(2,\)"),
    "labels as a column": (GOOD, [[0], [1], [2]], "one label per image"),
    "labels as logits": (GOOD, torch.eye(3), r"one row per image; .* as labels\.argmax\(1\) does"),
    "labels as a column, with the remedy": (GOOD, [[0], [1], [2]], r"as labels\.reshape\(-1\) does"),
    "labels in bfloat16": (GOOD, torch.ones(3).bfloat16(), "float64; give whole numbers, the class of each image"),
    "labels as floats": (GOOD, [0.0, 1.0, 2.0], r"float64; give whole numbers.*, as labels\.long\(\) does"),
    "quantities as labels": (GOOD, [0.3, 1.2, 2.0], "the loss is the cross-entropy over classes"),
    "labels as booleans": (GOOD, [True, False, True], r"bool; .* as labels\.long\(\) does"),
    "empty set": (GOOD[:0], torch.zeros(0, dtype=torch.int64), "empty"),
    "one number": (np.array(1.0), [0], "empty or has no batch"),
    "NaN pixel": (with_pixel(float("nan")), [0, 1, 2], "image 1 holds NaN or infinite"),
    "infinite pixel": (with_pixel(float("inf")), [0, 1, 2], "image 1 holds NaN or infinite"),
    "ragged images": ([[1.0, 2.0], [3.0]], [0, 1], "images cannot be read"),
    "images in words": (["cat", "dog", "cow"], [0, 1, 2], "not numbers"),
    "complex images": (GOOD.to(torch.complex64), [0, 1, 2], "images are complex64; give real numbers"),
    "complex labels": (GOOD, [0j, 1j, 2j], "labels are complex128; give real numbers"),
    "labels in words": (GOOD, ["cat", "dog", "cow"], "not numbers"),
    "pixel above the range": (with_pixel(1.5), [0, 1, 2], r"outside pixel_range=\(0, 1\); normalise inside the model"),
    "pixel below the range": (with_pixel(-0.5), [0, 1, 2], r"\[-0\.5, "),
}


@pytest.mark.parametrize("what", BAD)
def test_bad_images_and_labels_are_refused_in_one_line(what: str) -> None:
    images, labels, says = BAD[what]
    with pytest.raises(InvalidImages, match=says) as refusal:
        score(dense().model, images, labels, paper_settings())
    assert len(str(refusal.value).splitlines()) == 1


def test_pixels_outside_their_range_are_taken_at_radius_0_or_in_a_wider_range() -> None:
    for settings in (paper_settings(radius=0), paper_settings(pixel_range=(-2, 2))):
        assert score(dense().model, with_pixel(1.5), [0, 1, 2], settings).certificate.status == "optimal"


@pytest.mark.parametrize(
    "images", [GOOD.half(), GOOD.bfloat16(), GOOD.clone().requires_grad_(), GOOD.double()], ids=lambda x: str(x.dtype)
)
def test_images_of_any_type_and_on_the_tape_are_scored_as_their_numbers(images: torch.Tensor) -> None:
    expected = score(dense().model, images.detach().double().numpy(), [0, 1, 2], paper_settings(radius=0))
    found = score(dense().model, images, [0, 1, 2], paper_settings(radius=0))
    assert found.certificate.images_hash == expected.certificate.images_hash
    assert found.certificate.objective == expected.certificate.objective


LABELS = torch.tensor([0, 1, 2])
AMOUNTS = torch.tensor([[0.5], [1.5], [2.5]])
BATCHES: dict[str, Callable[[], Any]] = {
    "images and labels": lambda: DataLoader(TensorDataset(GOOD, LABELS), batch_size=2),
    "images and quantities": lambda: DataLoader(TensorDataset(GOOD, AMOUNTS), batch_size=2),
    "images alone": lambda: DataLoader(TensorDataset(GOOD), batch_size=2),
    "tensors": lambda: iter(GOOD.split(2)),
    "pairs in a list": lambda: [(GOOD[:2], LABELS[:2]), (GOOD[2:], LABELS[2:])],
    "lists in a list": lambda: list(DataLoader(TensorDataset(GOOD, LABELS), batch_size=2)),
    "an array": lambda: GOOD,
    "a list of images": lambda: list(GOOD),
    "a list of numbers": GOOD.tolist,
}


@pytest.mark.parametrize("data", BATCHES)
def test_batches_are_gathered_also_where_no_loss_reads_labels_or_these_are_given_apart(data: str) -> None:
    expected = flatten_images(GOOD)
    _, pixels, classes = read_scoring_data(dense().model, BATCHES[data](), None, (), labelled=False)
    np.testing.assert_allclose(pixels, expected)
    labelled = "labels" in data or data in ("pairs in a list", "lists in a list")
    assert classes.tolist() == ([0, 1, 2] if labelled else [0, 0, 0])
    if labelled or data == "images and quantities":
        with pytest.raises(InvalidImages, match="labels are given too; give labels=None"):
            read_scoring_data(dense().model, BATCHES[data](), LABELS, ())
    else:
        _, pixels, classes = read_scoring_data(dense().model, BATCHES[data](), LABELS, ())
        np.testing.assert_allclose(pixels, expected)
        assert classes.tolist() == [0, 1, 2]


def test_a_check_on_images_in_another_order_names_the_loader_that_shuffles() -> None:
    found = score(dense().model, GOOD, LABELS, paper_settings(radius=0))
    with pytest.raises(InvalidSolution, match=r"in another order .* a DataLoader that does not shuffle"):
        check(dense().model, [(GOOD.flip(0), LABELS.flip(0))], None, found)


def test_a_loader_of_images_and_labels_is_scored_as_the_tensors() -> None:
    labels = torch.tensor([0, 1, 2])
    expected = score(dense().model, GOOD, labels, paper_settings(radius=0))
    for data in (DataLoader(TensorDataset(GOOD, labels), batch_size=2), [(GOOD[:2].numpy(), [0, 1]), (GOOD[2:], [2])]):
        found = score(dense().model, data, None, paper_settings(radius=0))
        assert found.certificate.images_hash == expected.certificate.images_hash
        check(dense().model, data, None, found)
        assert lower(dense().model, data).units == lower(dense().model, GOOD).units


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (GOOD, "labels are missing"),
        ([], "hold no batches"),
        ([GOOD], "hold no batches"),
        ([(GOOD, [0, 1, 2]), (GOOD[..., :1], [0, 1, 2])], "cannot be put together"),
    ],
)
def test_data_without_labels_or_of_several_sizes_are_refused_in_one_line(data: object, says: str) -> None:
    with pytest.raises(InvalidImages, match=says) as refusal:
        score(dense().model, data, None, paper_settings(radius=0))
    assert len(str(refusal.value).splitlines()) == 1


def one_output(*behind: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 1), *behind).eval()


def test_a_network_with_one_output_is_refused_and_the_remedy_scores_it() -> None:
    with pytest.raises(InvalidModel, match=r"one output.*append nn\.Linear\(1, 2, bias=False\)"):
        score(one_output(), GOOD, [0, 1, 1], paper_settings(radius=0))
    two = nn.Linear(1, 2, bias=False)
    two.weight.data = torch.tensor([[0.0], [1.0]])
    model = one_output(two)
    assert torch.allclose(model(GOOD).softmax(1)[:, 1:], one_output()(GOOD).sigmoid())
    assert score(model, GOOD, [0, 1, 1], paper_settings(radius=0, loss_weight=50.0)).scores["1"].max() > 0


def test_lists_arrays_and_tensors_are_the_same_images() -> None:
    expected = flatten_images(GOOD)
    assert expected.shape == (4, 3)
    np.testing.assert_array_equal(flatten_images(GOOD.numpy()), expected)
    np.testing.assert_array_equal(flatten_images(GOOD.tolist()), expected)
    np.testing.assert_array_equal(expected[:, 1], GOOD[1].ravel())


def test_the_digest_follows_pixels_labels_and_their_order() -> None:
    pixels, labels = flatten_images(GOOD), np.array([0, 1, 2])
    before = images_digest(pixels, labels)
    assert images_digest(pixels.copy(), labels.copy()) == before
    assert images_digest(np.nextafter(pixels, 2), labels) != before
    assert images_digest(pixels, np.array([0, 1, 1])) != before
    assert images_digest(pixels[:, ::-1], labels[::-1].copy()) != before
