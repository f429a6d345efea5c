"""Data sets by name: seeded train, validation and test splits of float images in [0, 1]."""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from training.errors import DataError, LabelError, SettingsError, UnknownDataset
from training.folders import read_folder
from training.sources import CIFAR_LIKE, MNIST_LIKE, Raw, Source, read_digits, read_torchvision
from training.splits import Dataset, Split, divide_stratified

__all__ = ["DATASETS", "Dataset", "Split", "load"]

DATASETS = ("digits", *MNIST_LIKE, *CIFAR_LIKE)
FOLDER_PREFIX = "folder:"
DIGITS_SIZE = 28
TEST_SHARE = 0.2
# ITU-R BT.601, the weights with which Pillow makes a colour image grey.
LUMA = (0.299, 0.587, 0.114)
CHUNK = 4096


def load(
    name: str,
    *,
    root: str | Path | None,
    seed: int,
    validation_share: float | None = None,
    image_size: int | None = None,
    channels: int | None = None,
    download: bool = True,
    limit: int | None = None,
) -> Dataset:
    """The data set `name` in three splits: one of DATASETS, `folder:<path>`, or a path to a folder of images per class.

    - `root`: where torchvision's sets lie (`root/MNIST/raw/...`); digits and folders need none.
    - official test images are the test split; where there are none, 20 % of every class, seeded, are.
    - `validation_share` of every class of the rest is the validation split; None means 0.2 for digits, else 0.1.
    - `image_size` resizes to that height and width (digits: 28 if None); `channels` 1 or 3 makes grey or colour.
    - `limit` keeps the first n of the seeded permutation of the training images, for quick trials.

    Raises SettingsError for a value out of range, UnknownDataset for a name that is none, DataError for missing,
    truncated or unreadable files; all before anything is written.
    """
    _check_settings(seed, validation_share, image_size, channels, limit)
    source = _read(name, root, image_size, channels, download)
    if name == "digits":
        image_size = image_size or DIGITS_SIZE
    if validation_share is None:
        validation_share = 0.2 if name == "digits" else 0.1
    rng = np.random.default_rng(seed)
    _check_labels(name, source)
    whole, test = source.train, source.test
    rest = np.arange(len(whole.labels))
    if test is None:
        rest, held = divide_stratified(whole.labels, TEST_SHARE, rng, source.classes)
        test = Raw(whole.images[held], whole.labels[held])
    kept, chosen = divide_stratified(whole.labels[rest], validation_share, rng, source.classes)
    train = rng.permutation(rest[kept])[:limit]
    chosen = rest[chosen]
    return Dataset(
        name=name,
        train=_to_split(Raw(whole.images[train], whole.labels[train]), image_size, channels),
        validation=_to_split(Raw(whole.images[chosen], whole.labels[chosen]), image_size, channels),
        test=_to_split(test, image_size, channels),
        classes=source.classes,
    )


def _check_settings(
    seed: int, validation_share: float | None, image_size: int | None, channels: int | None, limit: int | None
) -> None:
    if seed < 0:
        raise SettingsError(f"seed={seed} is out of range: use 0 or more")
    if validation_share is not None and not 0.0 < validation_share < 1.0:
        raise SettingsError(f"validation_share={validation_share} is out of range: use a value between 0 and 1")
    if image_size is not None and image_size < 1:
        raise SettingsError(f"image_size={image_size} is out of range: use 1 or more pixels")
    if channels not in (None, 1, 3):
        raise SettingsError(f"channels={channels} is out of range: use 1 (grey) or 3 (colour)")
    if limit is not None and limit < 1:
        raise SettingsError(f"limit={limit} is out of range: use 1 or more training images")


def _read(name: str, root: str | Path | None, image_size: int | None, channels: int | None, download: bool) -> Source:
    if name == "digits":
        return read_digits()
    if name in DATASETS:
        if root is None:
            raise DataError(f"dataset {name!r} needs a root folder: give one or set DATA_ROOT")
        return read_torchvision(name, Path(root), download=download)
    # An empty path would mean the current folder.
    if name.removeprefix(FOLDER_PREFIX) and (name.startswith(FOLDER_PREFIX) or Path(name).is_dir()):
        place = Path(name.removeprefix(FOLDER_PREFIX)).expanduser()
        return read_folder(place, image_size=image_size, channels=channels)
    near = get_close_matches(name.lower(), DATASETS, n=1, cutoff=0.5)
    guess = f" (did you mean {near[0]!r}?)" if near else ""
    raise UnknownDataset(
        f"dataset {name!r} is unknown{guess}: use one of {', '.join(DATASETS)}, or folder:<path> with a folder "
        f"of images per class"
    )


def _check_labels(name: str, source: Source) -> None:
    for raw, role in ((source.train, "training"), (source.test, "test")):
        if raw is None:
            continue
        wrong = np.flatnonzero((raw.labels < 0) | (raw.labels >= len(source.classes)))
        if len(wrong):
            raise LabelError(
                f"dataset {name!r}: {role} image {wrong[0]} has label {raw.labels[wrong[0]]}, but there are "
                f"{len(source.classes)} classes (labels 0 to {len(source.classes) - 1})"
            )


def _to_split(raw: Raw, image_size: int | None, channels: int | None) -> Split:
    # In chunks, so that a large set is never held in more than one float copy.
    images = torch.cat([_to_float(part, image_size, channels) for part in torch.split(raw.images, CHUNK)])
    return Split(images, torch.from_numpy(raw.labels))


def _to_float(images: Tensor, image_size: int | None, channels: int | None) -> Tensor:
    pixels = images.to(torch.float32) / 255.0 if images.dtype == torch.uint8 else images
    if channels == 1 and pixels.shape[1] == 3:
        pixels = (pixels * pixels.new_tensor(LUMA)[None, :, None, None]).sum(1, keepdim=True)
    if channels == 3 and pixels.shape[1] == 1:
        pixels = pixels.expand(-1, 3, -1, -1)
    if image_size is not None and tuple(pixels.shape[2:]) != (image_size, image_size):
        size = (image_size, image_size)
        pixels = interpolate(pixels, size=size, mode="bilinear", align_corners=False, antialias=True)
    return pixels.clamp(0.0, 1.0).contiguous()
