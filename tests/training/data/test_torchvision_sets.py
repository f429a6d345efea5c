from __future__ import annotations

import hashlib
import pickle
from pathlib import Path

import numpy as np
import pytest
from torchvision import datasets as tv
from torchvision.datasets.folder import IMG_EXTENSIONS

from training.data.datasets import DATASETS
from training.data.folders import PICTURES
from training.data.torchvision_sets import CIFAR_LIKE, MNIST_LIKE, read_torchvision
from training.errors import DataError

COUNTS = {"train": 30, "t10k": 20}


def write_idx(path: Path, values: np.ndarray) -> None:
    header = bytes([0, 0, 8, values.ndim]) + b"".join(size.to_bytes(4, "big") for size in values.shape)
    path.write_bytes(header + values.astype(np.uint8).tobytes())


def write_mnist(root: Path, name: str = "MNIST") -> Path:
    """A root with ten classes of 4x4 images in MNIST's own file format."""
    folder = root / name / "raw"
    folder.mkdir(parents=True)
    for role, count in COUNTS.items():
        labels = np.arange(count) % 10
        images = np.random.default_rng(0).integers(0, 256, (count, 4, 4))
        write_idx(folder / f"{role}-labels-idx1-ubyte", labels)
        write_idx(folder / f"{role}-images-idx3-ubyte", images)
    return folder


@pytest.mark.parametrize(
    ("name", "folder"), [("mnist", "MNIST"), ("fashion_mnist", "FashionMNIST"), ("kmnist", "KMNIST")]
)
def test_files_that_are_there_are_read_even_where_a_download_is_allowed(tmp_path: Path, name: str, folder: str) -> None:
    write_mnist(tmp_path, folder)
    source = read_torchvision(name, tmp_path, download=True)
    assert source.train.images.shape == (30, 1, 4, 4)
    assert source.test is not None
    assert source.test.labels.tolist() == [k % 10 for k in range(20)]
    assert len(source.classes) == 10


@pytest.mark.parametrize("keep", [0, 3, 10, 100])
def test_a_truncated_file_is_named(tmp_path: Path, keep: int) -> None:
    damaged = write_mnist(tmp_path) / "t10k-images-idx3-ubyte"
    damaged.write_bytes(damaged.read_bytes()[:keep])
    with pytest.raises(DataError, match="t10k-images-idx3-ubyte is truncated"):
        read_torchvision("mnist", tmp_path, download=True)


def test_a_file_of_another_format_or_length_is_named(tmp_path: Path) -> None:
    folder = write_mnist(tmp_path)
    labels = folder / "train-labels-idx1-ubyte"
    sound = labels.read_bytes()
    labels.write_bytes(sound + b"more")
    with pytest.raises(DataError, match="train-labels-idx1-ubyte is too long"):
        read_torchvision("mnist", tmp_path, download=False)
    labels.write_bytes(b"<html>not found</html>")
    with pytest.raises(DataError, match="no IDX file"):
        read_torchvision("mnist", tmp_path, download=False)
    write_idx(labels, np.zeros(7))
    with pytest.raises(DataError, match="30 train images but 7 labels"):
        read_torchvision("mnist", tmp_path, download=False)


@pytest.mark.parametrize("name", ["mnist", "cifar10", "cifar100"])
def test_a_missing_file_is_named_where_no_download_is_allowed(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match=r"is missing; give the root that holds it \(DATA_ROOT\)"):
        read_torchvision(name, tmp_path / "nowhere", download=False)
    assert not (tmp_path / "nowhere").exists()


def test_a_download_into_a_place_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    with pytest.raises(DataError, match="the download failed"):
        read_torchvision("mnist", blocked, download=True)


class TinyCIFAR(tv.CIFAR10):
    """CIFAR-10's format with checksums of the files that a test wrote."""

    train_list: list[list[str]]
    test_list: list[list[str]]
    meta: dict[str, str]


def write_cifar(root: Path) -> Path:
    folder = root / TinyCIFAR.base_folder
    folder.mkdir()
    sums = {}
    for name in ("data_batch_1", "test_batch", "batches.meta"):
        content = {"data": np.arange(2 * 3072, dtype=np.uint8).reshape(2, 3072), "labels": [0, 1]}
        content["label_names"] = ["cat", "dog"]
        raw = pickle.dumps(content)
        (folder / name).write_bytes(raw)
        sums[name] = hashlib.md5(raw).hexdigest()
    TinyCIFAR.train_list = [["data_batch_1", sums["data_batch_1"]]]
    TinyCIFAR.test_list = [["test_batch", sums["test_batch"]]]
    TinyCIFAR.meta = {"filename": "batches.meta", "key": "label_names", "md5": sums["batches.meta"]}
    return folder


def test_cifar_images_come_with_channels_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_cifar(tmp_path)
    monkeypatch.setitem(CIFAR_LIKE, "cifar10", TinyCIFAR)
    source = read_torchvision("cifar10", tmp_path, download=False)
    assert source.classes == ("cat", "dog")
    assert source.train.images.shape == (2, 3, 32, 32)
    # Channels are planes in the file: green follows the 1024 red pixels.
    assert int(source.train.images[0, 1, 0, 5]) == (1024 + 5) % 256


def test_an_altered_cifar_file_is_named_and_never_unpickled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CIFAR_LIKE, "cifar10", TinyCIFAR)
    damaged = write_cifar(tmp_path) / "test_batch"
    damaged.write_bytes(damaged.read_bytes()[:-9])
    with pytest.raises(DataError, match="test_batch is truncated or altered"):
        read_torchvision("cifar10", tmp_path, download=True)


def test_every_data_set_has_a_source() -> None:
    assert ("digits", *MNIST_LIKE, *CIFAR_LIKE) == DATASETS


def test_folders_take_the_pictures_that_torchvision_takes() -> None:
    assert PICTURES == IMG_EXTENSIONS
