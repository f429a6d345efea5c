from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from training.data.folders import read_folder
from training.errors import DataError


def write_images(place: Path, names: tuple[str, ...] = ("cat", "dog"), images: int = 4, mode: str = "L") -> None:
    rng = np.random.default_rng(0)
    for name in names:
        (place / name).mkdir(parents=True)
        for number in range(images):
            shape = (5, 6) if mode == "L" else (5, 6, 3)
            Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8)).save(place / name / f"{number}.png")


def test_grey_images_are_read_with_their_pixels_and_sorted_classes(tmp_path: Path) -> None:
    write_images(tmp_path, ("dog", "cat"))
    source = read_folder(tmp_path, image_size=None, channels=None)
    assert source.classes == ("cat", "dog")
    assert source.test is None
    assert source.train.images.shape == (8, 1, 5, 6)
    assert source.train.labels.tolist() == [0] * 4 + [1] * 4
    with Image.open(tmp_path / "cat" / "2.png") as image:
        np.testing.assert_array_equal(source.train.images[2, 0].numpy(), np.asarray(image))


def test_colour_images_keep_three_channels_and_can_be_made_grey_and_square(tmp_path: Path) -> None:
    write_images(tmp_path, mode="RGB")
    assert read_folder(tmp_path, image_size=None, channels=None).train.images.shape == (8, 3, 5, 6)
    assert read_folder(tmp_path, image_size=8, channels=1).train.images.shape == (8, 1, 8, 8)


def test_a_train_and_a_test_folder_are_taken_as_they_are(tmp_path: Path) -> None:
    write_images(tmp_path / "train")
    write_images(tmp_path / "test", images=2)
    source = read_folder(tmp_path, image_size=None, channels=None)
    assert source.test is not None
    assert (len(source.train.labels), len(source.test.labels)) == (8, 4)


def test_a_class_that_one_of_the_two_folders_lacks_is_named(tmp_path: Path) -> None:
    write_images(tmp_path / "train")
    write_images(tmp_path / "test", ("cat", "cow"))
    with pytest.raises(DataError, match="differ in class 'cow'"):
        read_folder(tmp_path, image_size=None, channels=None)


def test_a_missing_folder_an_empty_class_and_a_lone_class_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere does not exist"):
        read_folder(tmp_path / "nowhere", image_size=None, channels=None)
    write_images(tmp_path, ("cat",))
    with pytest.raises(DataError, match="holds 1 class folders"):
        read_folder(tmp_path, image_size=None, channels=None)
    (tmp_path / "dog").mkdir()
    with pytest.raises(DataError, match="dog holds no images"):
        read_folder(tmp_path, image_size=None, channels=None)


@pytest.mark.parametrize("keep", [0, 20, 60])
def test_a_truncated_image_is_named(tmp_path: Path, keep: int) -> None:
    write_images(tmp_path)
    damaged = tmp_path / "dog" / "3.png"
    damaged.write_bytes(damaged.read_bytes()[:keep])
    with pytest.raises(DataError, match=r"3\.png cannot be read"):
        read_folder(tmp_path, image_size=None, channels=None)


def test_images_of_different_sizes_need_an_image_size(tmp_path: Path) -> None:
    write_images(tmp_path)
    Image.new("L", (9, 9)).save(tmp_path / "dog" / "9.png")
    with pytest.raises(DataError, match=r"9\.png is 9x9 but .* give image_size"):
        read_folder(tmp_path, image_size=None, channels=None)
    assert read_folder(tmp_path, image_size=5, channels=None).train.images.shape == (9, 1, 5, 5)


def test_sixteen_bit_pixels_are_refused_rather_than_clipped(tmp_path: Path) -> None:
    write_images(tmp_path)
    Image.fromarray(np.full((5, 6), 40000, dtype=np.uint16)).save(tmp_path / "dog" / "deep.png")
    with pytest.raises(DataError, match=r"deep\.png has pixels of mode I"):
        read_folder(tmp_path, image_size=None, channels=None)
