"""Pictures of a stranger: whatever lies among the images ends in one line, in time, and before it is decoded."""

from __future__ import annotations

import io
import os
import socket
import struct
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.busy import BUSY
from tests.training.data.test_folders import write_images
from training.data.datasets import load
from training.data.folders import read_folder
from training.data.pictures import PIXELS, opened
from training.errors import DataError
from training.file_kinds import obstacle_at

FORMATS = {"png": "PNG", "jpg": "JPEG", "ppm": "PPM", "bmp": "BMP", "tiff": "TIFF", "webp": "WEBP"}


def encoded(form: str, width: int = 24, height: int = 17) -> bytes:
    rng = np.random.default_rng(1)
    kept = io.BytesIO()
    Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(kept, FORMATS[form])
    return kept.getvalue()


def png_of(width: int, height: int) -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(9))) + chunk(b"IEND", b"")


def huge(form: str, side: int) -> bytes:
    """A few bytes that say they are a picture of side x side."""
    if form == "png":
        return png_of(side, side)
    if form == "ppm":
        return b"P5 %d %d 255\n" % (side, side) + bytes(9)
    content = bytearray(encoded(form))
    if form == "bmp":
        content[18:26] = struct.pack("<ii", side, side)
    elif form == "jpg":
        at = content.index(b"\xff\xc0") + 5
        content[at : at + 4] = struct.pack(">HH", side, side)
    elif form == "tiff":
        for tag in (256, 257):
            at = content.index(struct.pack("<H", tag))
            content[at : at + 12] = struct.pack("<HHII", tag, 4, 1, side)
    return bytes(content)


@pytest.mark.parametrize("form", ["png", "jpg", "ppm", "bmp", "tiff"])
@pytest.mark.parametrize("side", [30000, 10000, 8193])
@pytest.mark.filterwarnings("error")
def test_a_picture_that_promises_too_many_pixels_is_refused_before_it_is_decoded(
    form: str, side: int, tmp_path: Path
) -> None:
    write_images(tmp_path)
    (tmp_path / "cat" / f"bomb.{form}").write_bytes(huge(form, side))
    start = time.monotonic()
    with pytest.raises(
        DataError, match=rf"bomb\.{form} (says that it is {side}x{side}|cannot be read .*exceeds limit)"
    ):
        read_folder(tmp_path, image_size=8, channels=None)
    assert time.monotonic() - start < BUSY
    assert side * side > PIXELS


LAID: dict[str, Callable[[Path], object]] = {
    "is a pipe": os.mkfifo,
    "is a folder": Path.mkdir,
    "is a link that leads nowhere": lambda path: path.symlink_to("nowhere"),
    "is a link that leads to itself": lambda path: path.symlink_to(path.name),
    "is a device": lambda path: path.symlink_to("/dev/zero"),
    r"cannot be read \(no picture of": lambda path: path.write_bytes(b""),
    r"cannot be read \(no picture of a format that is taken": lambda path: Image.new("L", (9, 9)).save(path, "EPS"),
}


@pytest.mark.parametrize("says", LAID)
def test_whatever_is_named_like_a_picture_and_is_none_is_named_in_time(says: str, tmp_path: Path) -> None:
    write_images(tmp_path)
    LAID[says](tmp_path / "dog" / "x.png")
    start = time.monotonic()
    with pytest.raises(DataError, match=rf"dog/x\.png {says}") as refusal:
        read_folder(tmp_path, image_size=None, channels=None)
    assert time.monotonic() - start < BUSY
    assert "\n" not in str(refusal.value)


def test_a_socket_among_the_images_and_one_in_place_of_a_known_data_set_are_named(tmp_path: Path) -> None:
    write_images(tmp_path / "set")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "s"))
        (tmp_path / "set" / "dog" / "x.png").symlink_to(tmp_path / "s")
        with pytest.raises(DataError, match=r"x\.png is a socket"):
            read_folder(tmp_path / "set", image_size=None, channels=None)
        raw = tmp_path / "MNIST" / "raw"
        raw.mkdir(parents=True)
        (tmp_path / "s").rename(raw / "train-images-idx3-ubyte")
        with pytest.raises(DataError, match="train-images-idx3-ubyte is a socket"):
            load("mnist", root=tmp_path, seed=0)


@pytest.mark.parametrize("kind", ["pipe", "device", "folder", "link"])
def test_what_is_no_file_in_place_of_a_known_data_set_is_never_opened(kind: str, tmp_path: Path) -> None:
    place = tmp_path / "cifar-10-batches-py" / "data_batch_1"
    place.parent.mkdir()
    lay: dict[str, Callable[[Path], object]] = {
        "pipe": os.mkfifo, "device": lambda path: path.symlink_to("/dev/zero"), "folder": Path.mkdir,
        "link": lambda path: path.symlink_to("nowhere"),
    }  # fmt: skip
    lay[kind](place)
    with pytest.raises(DataError, match=f"data_batch_1 is a {kind}"):
        load("cifar10", root=tmp_path, seed=0)


def test_an_idx_file_whose_header_promises_more_than_there_is_memory_is_refused(tmp_path: Path) -> None:
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for role, count in (("train", 2**31), ("t10k", 10)):
        for name, axes in ((f"{role}-images-idx3-ubyte", (count, 28, 28)), (f"{role}-labels-idx1-ubyte", (count,))):
            with (raw / name).open("wb") as file:
                file.write(bytes([0, 0, 8, len(axes)]) + struct.pack(f">{len(axes)}I", *axes))
                file.truncate(4 + 4 * len(axes) + int(np.prod(np.array(axes, dtype=object))))
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte would take 1\.68 TB of memory"):
        load("mnist", root=tmp_path, seed=0)


def test_a_number_of_pixels_that_wraps_around_is_not_taken_for_a_whole_file(tmp_path: Path) -> None:
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    axes = (2**31, 2**31, 4)  # 2**64 pixels, 0 in 64 bits
    for name in ("train-images-idx3-ubyte", "t10k-images-idx3-ubyte"):
        (raw / name).write_bytes(bytes([0, 0, 8, 3]) + struct.pack(">3I", *axes))
    for name in ("train-labels-idx1-ubyte", "t10k-labels-idx1-ubyte"):
        (raw / name).write_bytes(bytes([0, 0, 8, 1]) + struct.pack(">I", 0))
    with pytest.raises(DataError, match="train-images-idx3-ubyte is truncated"):
        load("mnist", root=tmp_path, seed=0)


@pytest.mark.parametrize("name", [b"caf\xe9", b"tab\there", b"esc\x1b[31m"])
def test_a_class_folder_or_image_whose_name_cannot_be_shown_is_named(name: bytes, tmp_path: Path) -> None:
    write_images(tmp_path / "classes")
    (tmp_path / "classes" / "dog").rename(tmp_path / "classes" / os.fsdecode(name))
    with pytest.raises(DataError, match=r"class folder b'\S+' in .* that is not UTF-8 or cannot be printed: rename"):
        read_folder(tmp_path / "classes", image_size=None, channels=None)
    write_images(tmp_path / "images")
    (tmp_path / "images" / "dog" / "1.png").rename(tmp_path / "images" / "dog" / os.fsdecode(name + b".png"))
    with pytest.raises(DataError, match=r"image b'\S+' in .* that is not UTF-8 or cannot be printed: rename") as said:
        read_folder(tmp_path / "images", image_size=None, channels=None)
    str(said.value).encode()


def test_images_that_would_not_fit_in_memory_are_refused_with_what_they_would_take(tmp_path: Path) -> None:
    write_images(tmp_path)
    with pytest.raises(DataError, match=r"8 images of 1x60000x60000 would take 144 GB of memory, where this process"):
        read_folder(tmp_path, image_size=60000, channels=None)
    with pytest.raises(DataError, match=r"'digits': 1797 images of 1x60000x60000 would take 32\.3 TB of memory"):
        load("digits", root=None, seed=0, image_size=60000)
    with pytest.raises(DataError, match=r"would take more than 1000 EB of memory"):
        load("digits", root=None, seed=0, image_size=10**12, limit=10)


@pytest.mark.parametrize("form", FORMATS)
def test_a_picture_cut_in_the_middle_is_refused(form: str, tmp_path: Path) -> None:
    write_images(tmp_path)
    whole = encoded(form, 64, 64)
    (tmp_path / "dog" / f"x.{form}").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=rf"x\.{form} cannot be read \("):
        read_folder(tmp_path, image_size=8, channels=None)


@pytest.mark.parametrize("form", FORMATS)
@settings(max_examples=150, deadline=None, derandomize=True)
@given(data=st.data())
def test_a_damaged_picture_is_a_picture_or_refused(
    form: str, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / f"damaged.{form}"
    content = bytearray(encoded(form))
    for _ in range(data.draw(st.integers(0, 4))):
        # Most of what a format means stands in its first bytes.
        content[data.draw(st.integers(0, min(120, len(content) - 1)))] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(content[: data.draw(st.one_of(st.just(len(content)), st.integers(0, len(content))))])
    said = "taken"
    try:
        with opened(path) as picture:
            assert picture.convert("RGB").size == picture.size
    except DataError as error:
        said = str(error)
    assert "\n" not in said


def test_a_path_that_leads_to_a_file_or_to_nothing_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "link").symlink_to("file")
    assert [obstacle_at(tmp_path / name) for name in ("file", "link", "none", "file/below")] == [None] * 4
    assert obstacle_at(tmp_path / "zero\0byte") == "no path"
