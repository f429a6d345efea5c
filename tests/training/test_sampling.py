from __future__ import annotations

import pytest
import torch
from torch import nn

from training import Dataset
from training.data.splits import Split
from training.errors import FitSettingsError, LabelError, SamplingError
from training.inference import predict
from training.sampling import draw, draw_sets


@pytest.mark.parametrize("order", ["random", "least_confident"])
def test_a_scoring_set_is_balanced_correct_and_without_repeats(trained: nn.Module, digits: Dataset, order: str) -> None:
    drawn = draw(trained, digits.validation, images_per_class=3, classes=digits.classes, seed=0, order=order)
    assert torch.bincount(drawn.labels).tolist() == [3] * 10
    assert len(set(drawn.indices.tolist())) == len(drawn) == 30
    assert torch.equal(drawn.images, digits.validation.images[drawn.indices])
    assert torch.equal(predict(trained, drawn.images).argmax(1), drawn.labels)


def test_any_prefix_of_a_scoring_set_is_balanced(trained: nn.Module, digits: Dataset) -> None:
    drawn = draw(trained, digits.validation, images_per_class=2, classes=digits.classes, seed=0)
    assert drawn.labels.tolist() == [*range(10), *range(10)]


def test_the_seed_decides_the_draw(trained: nn.Module, digits: Dataset) -> None:
    draws = [
        draw(trained, digits.validation, images_per_class=2, classes=digits.classes, seed=seed).digest()
        for seed in (0, 0, 1)
    ]
    assert draws[0] == draws[1] != draws[2]


def test_the_least_confident_come_first(trained: nn.Module, digits: Dataset) -> None:
    drawn = draw(
        trained, digits.validation, images_per_class=2, classes=digits.classes, seed=0, order="least_confident"
    )
    sure = predict(trained, digits.validation.images).softmax(1)
    right = sure.argmax(1) == digits.validation.labels
    for label in range(10):
        members = right & (digits.validation.labels == label)
        chosen = sure[drawn.indices[drawn.labels == label], label]
        lowest = sure[members, label].sort().values[:2]
        assert torch.allclose(chosen.sort().values, lowest)


def test_several_sets_share_no_image(trained: nn.Module, digits: Dataset) -> None:
    sets = draw_sets(trained, digits.validation, sets=3, images_per_class=2, classes=digits.classes, seed=0)
    positions = torch.cat([part.indices for part in sets]).tolist()
    assert len(positions) == len(set(positions)) == 60
    assert all(torch.bincount(part.labels).tolist() == [2] * 10 for part in sets)


@pytest.mark.parametrize("order", ["random", "least_confident"])
def test_images_can_be_drawn_whatever_the_model_makes_of_them(digits: Dataset, order: str) -> None:
    blind = nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
    nn.init.zeros_(blind[1].weight)
    nn.init.zeros_(blind[1].bias)
    sets = draw_sets(
        blind, digits.validation, sets=2, images_per_class=3, classes=digits.classes, seed=0, order=order,
        correct_only=False,
    )  # fmt: skip
    assert all(torch.bincount(part.labels).tolist() == [3] * 10 for part in sets)
    positions = torch.cat([part.indices for part in sets])
    assert len(positions.unique()) == 60
    assert torch.equal(digits.validation.labels[positions], torch.cat([part.labels for part in sets]))


@pytest.mark.parametrize("order", ["random", "least_confident"])
def test_an_unbalanced_draw_takes_as_many_correct_images_of_whatever_class(
    trained: nn.Module, digits: Dataset, order: str
) -> None:
    sets = draw_sets(
        trained, digits.validation, sets=3, images_per_class=4, classes=digits.classes, seed=0, order=order,
        balanced=False,
    )  # fmt: skip
    assert [len(part) for part in sets] == [40] * 3
    assert any(torch.bincount(part.labels, minlength=10).tolist() != [4] * 10 for part in sets)
    positions = torch.cat([part.indices for part in sets])
    assert len(positions.unique()) == 120
    sure = predict(trained, digits.validation.images).softmax(1)
    assert torch.equal(sure[positions].argmax(1), digits.validation.labels[positions])
    if order == "least_confident":
        confidence = sure[positions, digits.validation.labels[positions]]
        assert torch.equal(confidence, confidence.sort().values)


def test_an_unbalanced_draw_of_more_images_than_are_correct_is_refused(trained: nn.Module, digits: Dataset) -> None:
    with pytest.raises(SamplingError, match="of 287 images are classified correctly, 290 are wanted"):
        draw_sets(
            trained, digits.validation, sets=29, images_per_class=1, classes=digits.classes, seed=0, balanced=False
        )


def test_too_few_correct_images_are_refused_with_class_and_counts(digits: Dataset) -> None:
    blind = nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
    nn.init.zeros_(blind[1].weight)
    nn.init.zeros_(blind[1].bias)
    with pytest.raises(
        SamplingError, match=r"class '1': 0 of its 29 .*, 2 are wanted \(of all 287 images 9\.\d% are\)"
    ):
        draw(blind, digits.validation, images_per_class=2, classes=digits.classes, seed=0)


def test_a_missing_class_and_one_with_too_few_images_are_named(trained: nn.Module, digits: Dataset) -> None:
    few = Split(digits.validation.images[:40], digits.validation.labels[:40])
    without = few.labels != 4
    with pytest.raises(SamplingError, match="class '4' is missing"):
        draw(
            trained, Split(few.images[without], few.labels[without]), images_per_class=1, classes=digits.classes, seed=0
        )
    with pytest.raises(SamplingError, match="images in the split, 40 are wanted"):
        draw(trained, few, images_per_class=40, classes=digits.classes, seed=0)


def test_a_label_without_a_class_is_refused(trained: nn.Module, digits: Dataset) -> None:
    with pytest.raises(LabelError, match="a label is 9 but there are 5 classes"):
        draw(trained, digits.validation, images_per_class=1, classes=digits.classes[:5], seed=0)


@pytest.mark.parametrize("wrong", [{"images_per_class": 0}, {"order": "hardest"}, {"seed": -1}])
def test_a_value_out_of_range_is_refused_by_name(trained: nn.Module, digits: Dataset, wrong: dict[str, object]) -> None:
    settings = {"images_per_class": 1, "classes": digits.classes, "seed": 0, **wrong}
    with pytest.raises(FitSettingsError, match=next(iter(wrong))):
        draw(trained, digits.validation, **settings)


@pytest.mark.parametrize("balanced", [True, False])
def test_fewer_images_are_drawn_where_one_class_has_no_more_and_that_is_allowed(
    trained: nn.Module, digits: Dataset, balanced: bool
) -> None:
    right = predict(trained, digits.validation.images).argmax(1) == digits.validation.labels
    counts = torch.bincount(digits.validation.labels[right], minlength=10)
    most = int(counts.min()) // 2 if balanced else int(counts.sum()) // 10 // 2
    words = {"sets": 2, "classes": digits.classes, "seed": 0, "balanced": balanced}
    sets = draw_sets(trained, digits.validation, images_per_class=100, fewer=True, **words)
    assert [len(each) for each in sets] == [10 * most] * 2
    as_asked = draw_sets(trained, digits.validation, images_per_class=most, **words)
    assert all(torch.equal(few.indices, exact.indices) for few, exact in zip(sets, as_asked, strict=True))


def test_a_class_that_is_never_right_is_refused_where_fewer_images_are_allowed(digits: Dataset) -> None:
    blind = nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
    nn.init.zeros_(blind[1].weight)
    nn.init.zeros_(blind[1].bias)
    with pytest.raises(SamplingError, match="class '1': 0 of its 29 images are classified correctly, 1 are wanted"):
        draw_sets(blind, digits.validation, sets=1, images_per_class=20, classes=digits.classes, seed=0, fewer=True)
