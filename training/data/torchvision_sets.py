"""torchvision's data sets as raw arrays, their files checked before they are read.

Imported where one of them is read: torchvision takes seconds.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torchvision import datasets as tv
from torchvision.datasets.utils import check_integrity

from training.data.sources import DataSource, Raw
from training.errors import DataError
from training.file_kinds import obstacle_at
from training.memory import in_words, lacking

MNIST_LIKE: dict[str, type[tv.MNIST]] = {"mnist": tv.MNIST, "fashion_mnist": tv.FashionMNIST, "kmnist": tv.KMNIST}
LARGEST = 2**30  # bytes of one file; the largest known has 180 MB
CIFAR_LIKE: dict[str, type[tv.CIFAR10]] = {"cifar10": tv.CIFAR10, "cifar100": tv.CIFAR100}


def read_torchvision(name: str, root: Path, *, download: bool) -> DataSource:
    """One of torchvision's sets from `root`, downloaded only where its files are missing.

    Raises DataError that names the missing or damaged file, or says why the download failed.
    """
    try:
        if name in MNIST_LIKE:
            return _read_mnist_like(name, MNIST_LIKE[name], root, download)
        return _read_cifar_like(name, CIFAR_LIKE[name], root, download)
    except OSError as error:
        raise DataError(f"dataset {name!r}: its files cannot be read ({error})") from error


def _read_mnist_like(name: str, kind: type[tv.MNIST], root: Path, download: bool) -> DataSource:
    folder = root / kind.__name__ / "raw"
    files = [folder / Path(address).name.removesuffix(".gz") for address, _ in kind.resources]
    _supply(name, files, download, lambda: kind(str(root), train=True, download=True))
    counts = {path.name: _check_idx(path, axes=3 if "images" in path.name else 1) for path in files}
    for role in ("train", "t10k"):
        images, labels = counts[f"{role}-images-idx3-ubyte"], counts[f"{role}-labels-idx1-ubyte"]
        if images != labels:
            raise DataError(f"dataset {name!r}: {folder} holds {images} {role} images but {labels} labels")
    raws = []
    for train in (True, False):
        part = kind(str(root), train=train, download=False)
        raws.append(Raw(part.data[:, None], part.targets.numpy().astype(np.int64)))
    classes = tuple(str(digit) for digit in range(10)) if name == "mnist" else tuple(kind.classes)
    return DataSource(classes, *raws)


def _check_idx(path: Path, *, axes: int) -> int:
    """How many items an IDX file holds; its header promises a length, and the MD5 of a repacked file would differ."""
    with path.open("rb") as file:
        header = file.read(4 + 4 * axes)
    if header[:4] != bytes([0, 0, 8, axes]) or len(header) < 4 + 4 * axes:
        raise DataError(
            f"{path} is truncated or no IDX file of bytes with {axes} axes: delete it and let it be downloaded again"
        )
    sizes = [int.from_bytes(header[4 + 4 * axis : 8 + 4 * axis], "big") for axis in range(axes)]
    promised, found = 4 + 4 * axes + math.prod(sizes), path.stat().st_size
    if promised != found:
        word = "truncated" if found < promised else "too long"
        raise DataError(
            f"{path} is {word}: {found} bytes where its header promises {promised}; delete it and let it be "
            f"downloaded again"
        )
    if said := lacking(promised):
        raise DataError(f"{path} would take {said}: delete it and let it be downloaded again")
    return sizes[0]


def _read_cifar_like(name: str, kind: type[tv.CIFAR10], root: Path, download: bool) -> DataSource:
    folder = root / kind.base_folder
    sums = {folder / file: md5 for file, md5 in [*kind.train_list, *kind.test_list]}
    sums[folder / kind.meta["filename"]] = kind.meta["md5"]
    _supply(name, list(sums), download, lambda: kind(str(root), download=True))
    for path, md5 in sums.items():
        if path.stat().st_size > LARGEST:
            raise DataError(f"{path} is {in_words(path.stat().st_size)} long, far too much: delete it")
        # These files are pickles: nothing but the known bytes may be loaded.
        if not check_integrity(str(path), md5):
            raise DataError(f"{path} is truncated or altered (its MD5 is not {md5}): delete it and download it again")
    train, test = (kind(str(root), train=flag, download=False) for flag in (True, False))
    raws = [
        Raw(torch.from_numpy(part.data.transpose(0, 3, 1, 2)), np.asarray(part.targets, dtype=np.int64))
        for part in (train, test)
    ]
    return DataSource(tuple(train.classes), *raws)


def _supply(name: str, files: list[Path], download: bool, fetch: Callable[[], object]) -> None:
    for path in files:
        obstacle = obstacle_at(path)
        if obstacle is not None:
            raise DataError(f"dataset {name!r}: {path} is {obstacle}: remove it, or put the file in its place")
    missing = [path for path in files if not path.is_file()]
    if not missing:
        return
    if not download:
        raise DataError(
            f"dataset {name!r}: {missing[0]} is missing; give the root that holds it (DATA_ROOT) or allow the download"
        )
    try:
        fetch()
    except (RuntimeError, OSError, EOFError) as error:
        raise DataError(
            f"dataset {name!r}: {missing[0]} is missing and the download failed ({error}); "
            f"put the files there or give another root (DATA_ROOT)"
        ) from error
