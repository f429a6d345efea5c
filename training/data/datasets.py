"""Data sets by name: seeded train, validation and test splits of float images in [0, 1]."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from naming import did_you_mean, first_missing
from training.data.folders import read_folder
from training.data.sources import DataSource, Raw, read_digits
from training.data.splits import Dataset, Split, divide_stratified
from training.errors import DataError, FitSettingsError, LabelError, UnknownDataset
from training.memory import require_room

__all__ = ["DATASETS", "Dataset", "Split", "load"]

DATASETS = ("digits", "mnist", "fashion_mnist", "kmnist", "cifar10", "cifar100")
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
    """A data set by name in three splits: one of DATASETS, `folder:<path>`, or a path to a folder of images per class.

    Official test images are the test split; where there are none, 20 % of every class, seeded, are.

    Args:
        name: of the data set.
        root: where torchvision's sets lie (`root/MNIST/raw/...`); digits and folders need none.
        seed: of the splits.
        validation_share: of every class of the rest; None means 0.2 for digits, else 0.1.
        image_size: height and width in pixels to resize to; None: as they are (digits: 28).
        channels: 1 makes grey, 3 colour.
        download: whether a missing set of torchvision may be fetched.
        limit: keep the first n of the seeded permutation of the training images, for quick trials.

    Returns:
        Splits of float images [n, C, H, W] in [0, 1] with labels [n], and the names of the classes.

    Raises:
        FitSettingsError: a value out of range.
        UnknownDataset: a name that is none.
        DataError: missing, truncated or unreadable files; as all others before anything is written.
    """
    _check_settings(seed, validation_share, image_size, channels, limit)
    source = _read(name, root, image_size, channels, download)
    if name == "digits":
        image_size = image_size or DIGITS_SIZE
    if validation_share is None:
        validation_share = 0.2 if name == "digits" else 0.1
    rng = np.random.default_rng(seed)
    _check_labels(name, source)
    _check_room(name, source, image_size, channels, limit)
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
        raise FitSettingsError(f"seed={seed} is out of range: use 0 or more")
    if validation_share is not None and not 0.0 < validation_share < 1.0:
        raise FitSettingsError(f"validation_share={validation_share} is out of range: use a value between 0 and 1")
    if image_size is not None and image_size < 1:
        raise FitSettingsError(f"image_size={image_size} is out of range: use 1 or more pixels")
    if channels not in (None, 1, 3):
        raise FitSettingsError(f"channels={channels} is out of range: use 1 (grey) or 3 (colour)")
    if limit is not None and limit < 1:
        raise FitSettingsError(f"limit={limit} is out of range: use 1 or more training images")


def _read(
    name: str, root: str | Path | None, image_size: int | None, channels: int | None, download: bool
) -> DataSource:
    if name == "digits":
        if missing := first_missing("sklearn"):
            raise DataError(f"dataset 'digits': {missing}")
        return read_digits()
    if name in DATASETS:
        if root is None:
            raise DataError(f"dataset {name!r} needs a root folder: give one or set DATA_ROOT")
        if missing := first_missing("torchvision"):
            raise DataError(f"dataset {name!r}: {missing}")
        from training.data.torchvision_sets import read_torchvision  # here, because torchvision takes seconds to import

        return read_torchvision(name, Path(root), download=download)
    # An empty path would mean the current folder.
    if name.removeprefix(FOLDER_PREFIX) and (name.startswith(FOLDER_PREFIX) or Path(name).is_dir()):
        place = Path(name.removeprefix(FOLDER_PREFIX)).expanduser()
        return read_folder(place, image_size=image_size, channels=channels)
    hint = did_you_mean(name, DATASETS)
    guess = f" ({hint})" if hint else ""
    raise UnknownDataset(
        f"dataset {name!r} is unknown{guess}: use one of {', '.join(DATASETS)}, or folder:<path> with a folder "
        f"of images per class"
    )


def _check_labels(name: str, source: DataSource) -> None:
    for raw, role in ((source.train, "training"), (source.test, "test")):
        if raw is None:
            continue
        wrong = np.flatnonzero((raw.labels < 0) | (raw.labels >= len(source.classes)))
        if len(wrong):
            raise LabelError(
                f"dataset {name!r}: {role} image {wrong[0]} has label {raw.labels[wrong[0]]}, but there are "
                f"{len(source.classes)} classes (labels 0 to {len(source.classes) - 1})"
            )


def _check_room(name: str, source: DataSource, image_size: int | None, channels: int | None, limit: int | None) -> None:
    """Raise DataError where the splits would not fit into memory, before any of them is made."""
    _, found, height, width = source.train.images.shape
    whole = len(source.train.labels)
    test = int(TEST_SHARE * whole) if source.test is None else len(source.test.labels)
    rest = whole - test if source.test is None else whole
    # The limit is one of training images alone; what is tested with is made in full.
    least = min(rest, limit or rest) + test
    require_room(name, least, (channels or found, image_size or height, image_size or width))


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
