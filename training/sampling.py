"""Scoring sets: the labelled images that the program sees."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from training.data import Split
from training.digests import digest_tensors
from training.errors import FitSettingsError, LabelError, SamplingError
from training.inference import check_fits, predict

ORDERS = ("random", "least_confident")


@dataclass(frozen=True, eq=False)
class ScoringSet:
    """Images [n, C, H, W] and labels [n] with their positions [n] in the split they were drawn from.

    A balanced set comes in rounds of one image per class, so any prefix is as balanced as it can be.
    """

    images: Tensor
    labels: Tensor
    indices: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def digest(self) -> str:
        """SHA-256 (hex) of the images and labels in their order."""
        return digest_tensors([("images", self.images), ("labels", self.labels)])


def draw(
    model: nn.Module,
    split: Split,
    *,
    images_per_class: int,
    classes: Sequence[str],
    seed: int,
    order: str = "random",
    correct_only: bool = True,
    device: str = "cpu",
    batch_size: int = 512,
) -> ScoringSet:
    """One scoring set of correctly classified images, equally many of every class, without replacement.

    Args:
        model, split, images_per_class, classes, seed, order, correct_only, device, batch_size: as for `draw_sets`.

    Raises:
        FitSettingsError, SamplingError, LabelError, ModelError, DeviceError: as `draw_sets`.
    """
    sets = draw_sets(
        model,
        split,
        sets=1,
        images_per_class=images_per_class,
        classes=classes,
        seed=seed,
        order=order,
        correct_only=correct_only,
        device=device,
        batch_size=batch_size,
    )
    return sets[0]


def draw_sets(
    model: nn.Module,
    split: Split,
    *,
    sets: int,
    images_per_class: int,
    classes: Sequence[str],
    seed: int,
    order: str = "random",
    correct_only: bool = True,
    balanced: bool = True,
    fewer: bool = False,
    device: str = "cpu",
    batch_size: int = 512,
) -> tuple[ScoringSet, ...]:
    """Disjoint scoring sets of correctly classified images, equally many of every class, without replacement.

    Args:
        model: whose classification counts; left as it was.
        split: images [n, C, H, W] and labels [n] to draw from.
        sets: how many.
        images_per_class: of each set.
        classes: `classes[k]` names label k.
        seed: of the permutation.
        order: "random": a seeded permutation of each class's correctly classified images; "least_confident": those to
            whose class the model gives the lowest probability first, ties by position.
        correct_only: false draws from all images of a class, whatever the model makes of them: of an untrained one.
        balanced: false draws as many images in all, but regardless of their class; in their order of drawing.
        fewer: true takes as many of each class as the one with the fewest has for every set, where that is less than
            `images_per_class`; at least one.
        device: where the model runs.
        batch_size: images per pass.

    Returns:
        Sets in rounds of one image per class.

    Raises:
        FitSettingsError: a value out of range.
        SamplingError: a class (balanced) is missing or too few of its images are classified correctly; names its
            counts.
        LabelError: a label has no class.
        ModelError, DeviceError: as `predict`.
    """
    if images_per_class < 1 or sets < 1:
        raise FitSettingsError(f"images_per_class={images_per_class}, sets={sets}: both must be 1 or more")
    if order not in ORDERS:
        raise FitSettingsError(f"order={order!r} is unknown: use one of {', '.join(ORDERS)}")
    if seed < 0:
        raise FitSettingsError(f"seed={seed} is out of range: use 0 or more")
    _check_present(split, classes, sets * (1 if fewer else images_per_class) if balanced else 1)
    check_fits(model, split)
    probabilities = predict(model, split.images, batch_size=batch_size, device=device).double().softmax(1)
    generator = torch.Generator().manual_seed(seed) if order == "random" else None
    right = probabilities.argmax(1) == split.labels if correct_only else torch.ones(len(split), dtype=torch.bool)
    if fewer:
        images_per_class = min(images_per_class, _most_of_each(split, right, sets, len(classes), balanced=balanced))
    wanted = sets * images_per_class
    if not balanced:
        rows = _draw_any(split, probabilities, right, wanted * len(classes), generator)
        return tuple(_take(split, each) for each in rows.reshape(sets, -1))
    chosen = [
        _draw_class(split, probabilities, right, label, name, wanted, generator) for label, name in enumerate(classes)
    ]
    # [sets, images_per_class, classes]: flattening the last two gives rounds of one image per class.
    table = torch.stack(chosen, dim=1).reshape(sets, images_per_class, len(classes))
    return tuple(_take(split, rows.reshape(-1)) for rows in table)


def _most_of_each(split: Split, right: Tensor, sets: int, classes: int, *, balanced: bool) -> int:
    """How many images of each class every set can have; at least one."""
    counts = torch.bincount(split.labels[right], minlength=classes)
    found = int(counts.min()) if balanced else int(counts.sum()) // classes
    return max(1, found // sets)


def _draw_class(
    split: Split,
    probabilities: Tensor,
    right: Tensor,
    label: int,
    name: str,
    wanted: int,
    generator: torch.Generator | None,
) -> Tensor:
    """Positions of `wanted` of the right images of one class: permuted by the generator, or the least confident."""
    members = torch.nonzero((split.labels == label) & right)[:, 0]
    if len(members) < wanted:
        raise SamplingError(
            f"class {name!r}: {len(members)} of its {int((split.labels == label).sum())} images are classified "
            f"correctly, {wanted} are wanted (of all {len(split)} images {_accuracy(split, probabilities):.1%} are); "
            f"train longer, or lower images_per_class or scoring_sets"
        )
    return _first(members, probabilities[members, label], wanted, generator)


def _accuracy(split: Split, probabilities: Tensor) -> float:
    return float((probabilities.argmax(1) == split.labels).double().mean())


def _draw_any(
    split: Split, probabilities: Tensor, right: Tensor, wanted: int, generator: torch.Generator | None
) -> Tensor:
    """Positions of `wanted` of the right images, whatever their class."""
    members = torch.nonzero(right)[:, 0]
    if len(members) < wanted:
        raise SamplingError(
            f"{len(members)} of {len(split)} images are classified correctly, {wanted} are wanted; train longer, or "
            f"lower images_per_class or scoring_sets"
        )
    return _first(members, probabilities[members, split.labels[members]], wanted, generator)


def _first(members: Tensor, confidence: Tensor, wanted: int, generator: torch.Generator | None) -> Tensor:
    if generator is None:
        ranked = torch.argsort(confidence, stable=True)
    else:
        ranked = torch.randperm(len(members), generator=generator)
    return members[ranked[:wanted]]


def _take(split: Split, indices: Tensor) -> ScoringSet:
    return ScoringSet(split.images[indices], split.labels[indices], indices)


def _check_present(split: Split, classes: Sequence[str], wanted: int) -> None:
    if int(split.labels.max()) >= len(classes):
        raise LabelError(f"a label is {int(split.labels.max())} but there are {len(classes)} classes")
    for label, name in enumerate(classes):
        found = int((split.labels == label).sum())
        if found == 0:
            raise SamplingError(f"class {name!r} is missing from the split: no image has label {label}")
        if found < wanted:
            raise SamplingError(
                f"class {name!r} has {found} images in the split, {wanted} are wanted; lower images_per_class or "
                f"scoring_sets, or raise validation_share"
            )
