from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from training.data.datasets import DATASETS, load
from training.errors import DataError, FitSettingsError, LabelError, UnknownDataset

DATA_ROOT = os.environ.get("DATA_ROOT")
needs_data = pytest.mark.skipif(DATA_ROOT is None, reason="DATA_ROOT is not set: no real data sets to read")


def write_mnist(root: Path, labels: np.ndarray) -> None:
    folder = root / "MNIST" / "raw"
    folder.mkdir(parents=True)
    images = np.tile(np.arange(16).reshape(4, 4), (len(labels), 1, 1)) * 16 + labels[:, None, None]
    for role in ("train", "t10k"):
        for kind, values in (("images-idx3", images), ("labels-idx1", labels)):
            header = bytes([0, 0, 8, values.ndim]) + b"".join(size.to_bytes(4, "big") for size in values.shape)
            (folder / f"{role}-{kind}-ubyte").write_bytes(header + values.astype(np.uint8).tobytes())


def test_digits_come_as_28x28_grey_images_in_three_disjoint_stratified_splits() -> None:
    data = load("digits", root=None, seed=0)
    assert data.input_shape == (1, 28, 28)
    sizes = [len(split) for split in (data.train, data.validation, data.test)]
    assert sum(sizes) == 1797
    assert sizes[2] == pytest.approx(0.2 * 1797, abs=5)
    assert sizes[1] == pytest.approx(0.2 * 0.8 * 1797, abs=5)
    for split in (data.train, data.validation, data.test):
        assert float(split.images.max()) == 1.0
        shares = torch.bincount(split.labels) / len(split)
        assert float((shares - 0.1).abs().max()) < 0.01


def test_the_same_seed_gives_the_same_splits_and_another_seed_others() -> None:
    first, again, other = (load("digits", root=None, seed=seed, limit=50) for seed in (3, 3, 4))
    assert first.train.digest() == again.train.digest()
    assert first.validation.digest() == again.validation.digest()
    assert first.test.digest() != other.test.digest()


def test_a_limit_takes_the_first_of_the_same_permutation() -> None:
    short, long = (load("digits", root=None, seed=1, limit=limit) for limit in (20, 60))
    assert torch.equal(short.train.images, long.train.images[:20])
    assert short.validation.digest() == long.validation.digest()


def test_size_and_channels_can_be_chosen() -> None:
    data = load("digits", root=None, seed=0, image_size=8, channels=3)
    assert data.input_shape == (3, 8, 8)
    assert torch.equal(data.train.images[:, 0], data.train.images[:, 2])
    # The digits' own pixels are sixteenths: at their own size nothing is resampled.
    assert torch.equal(data.train.images * 16, (data.train.images * 16).round())


def test_a_set_with_official_test_images_keeps_them_and_parts_only_the_rest(tmp_path: Path) -> None:
    write_mnist(tmp_path, np.arange(100) % 10)
    data = load("mnist", root=tmp_path, seed=0, download=False)
    assert [len(split) for split in (data.train, data.validation, data.test)] == [90, 10, 100]
    assert data.test.labels.tolist() == [k % 10 for k in range(100)]
    # The writer adds the label to every pixel, so pixel 0 tells whether images and labels stayed together.
    for split in (data.train, data.validation, data.test):
        assert torch.equal((split.images[:, 0, 0, 0] * 255).round().long(), split.labels)


def test_a_label_beyond_the_classes_is_refused_naming_the_image(tmp_path: Path) -> None:
    labels = np.arange(40) % 10
    labels[7] = 11
    write_mnist(tmp_path, labels)
    with pytest.raises(LabelError, match="training image 7 has label 11, but there are 10 classes"):
        load("mnist", root=tmp_path, seed=0, download=False)


def test_a_class_without_images_is_refused_by_name(tmp_path: Path) -> None:
    write_mnist(tmp_path, np.arange(40) % 9)
    with pytest.raises(DataError, match="class '9' has 0 images"):
        load("mnist", root=tmp_path, seed=0, download=False)


@pytest.mark.parametrize("prefix", ["folder:", ""])
def test_a_folder_of_images_per_class_is_divided_in_three(tmp_path: Path, prefix: str) -> None:
    for name, level in (("dark", 10), ("light", 200)):
        (tmp_path / name).mkdir()
        for number in range(20):
            Image.new("RGB", (6, 6), (level, level, level)).save(tmp_path / name / f"{number}.png")
    data = load(f"{prefix}{tmp_path}", root=None, seed=0, channels=1)
    assert data.classes == ("dark", "light")
    assert data.input_shape == (1, 6, 6)
    assert [len(split) for split in (data.train, data.validation, data.test)] == [28, 4, 8]
    expected = torch.tensor([10 / 255, 200 / 255])[data.train.labels]
    assert torch.allclose(data.train.images[:, 0, 0, 0], expected, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "guess"), [("fashion-mnist", "fashion_mnist"), ("MNIST", "mnist"), ("digit", "digits")]
)
def test_an_unknown_name_is_refused_with_the_nearest_and_all_known(name: str, guess: str) -> None:
    with pytest.raises(UnknownDataset, match=f"did you mean '{guess}'") as caught:
        load(name, root=None, seed=0)
    assert all(known in str(caught.value) for known in DATASETS)


@pytest.mark.parametrize("name", ["", "folder:", "/no/such/place"])
def test_a_name_that_is_no_folder_is_unknown(name: str) -> None:
    with pytest.raises(UnknownDataset, match="is unknown: use one of"):
        load(name, root=None, seed=0)


@pytest.mark.parametrize(
    "wrong",
    [
        {"seed": -1},
        {"validation_share": 0.0},
        {"validation_share": float("nan")},
        {"validation_share": 1.0},
        {"image_size": 0},
        {"channels": 2},
        {"limit": 0},
    ],
)
def test_a_value_out_of_range_is_refused_by_name(wrong: dict[str, object]) -> None:
    with pytest.raises(FitSettingsError, match=next(iter(wrong))):
        load("digits", **{"root": None, "seed": 0, **wrong})


def test_a_set_that_needs_a_root_says_so() -> None:
    with pytest.raises(DataError, match="needs a root folder"):
        load("mnist", root=None, seed=0)


@needs_data
@pytest.mark.real_data
@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
def test_the_real_images_are_read_in_full(name: str) -> None:
    data = load(name, root=DATA_ROOT, seed=0, download=False)
    assert data.input_shape == (1, 28, 28)
    assert len(data.train) + len(data.validation) == 60_000
    assert len(data.test) == 10_000
