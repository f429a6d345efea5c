"""A folder of images per class as raw arrays: root/<class>/*, or root/train/<class>/* with root/test/<class>/*."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from training.data.pictures import opened
from training.data.sources import DataSource, Raw
from training.errors import DataError
from training.memory import require_room

# Those that torchvision's folders of images take.
PICTURES = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
GREY_MODES = ("1", "L", "LA")
COLOUR_MODES = ("RGB", "RGBA", "P", "PA", "CMYK", "YCbCr", "LAB", "HSV", "RGBX")


@dataclass(frozen=True)
class _Shape:
    size: tuple[int, int]
    grey: bool


def read_folder(root: Path, *, image_size: int | None, channels: int | None) -> DataSource:
    """The images below `root`, classes in the order of their sorted names.

    Without `image_size` all images must be of one size; without `channels` they are grey if every one of them is.
    Raises DataError that names a missing folder, an empty class, an unreadable image or one of another size.
    """
    if not root.is_dir():
        raise DataError(f"image folder {root} does not exist: give a folder that holds one folder of images per class")
    try:
        return _read_root(root, image_size, channels)
    except OSError as error:
        raise DataError(f"image folder {root} cannot be read ({error})") from error


def _read_root(root: Path, image_size: int | None, channels: int | None) -> DataSource:
    divided = (root / "train").is_dir() and (root / "test").is_dir()
    places = [root / "train", root / "test"] if divided else [root]
    classes = _class_names(places[0])
    for place in places[1:]:
        if _class_names(place) != classes:
            differing = sorted(set(_class_names(place)) ^ set(classes))
            raise DataError(f"{place} and {places[0]} differ in class {differing[0]!r}: both need the same classes")
    listed = [_list_files(place, classes) for place in places]
    shapes = {path: _measure(path) for files in listed for path, _ in files}
    size = _common_size(shapes) if image_size is None else (image_size, image_size)
    mode = "L" if channels == 1 or (channels is None and all(shape.grey for shape in shapes.values())) else "RGB"
    require_room(str(root), len(shapes), (1 if mode == "L" else 3, size[1], size[0]))
    raws = [_read(files, size, mode) for files in listed]
    return DataSource(classes, raws[0], raws[1] if divided else None)


def _class_names(place: Path) -> tuple[str, ...]:
    names = tuple(sorted(entry.name for entry in place.iterdir() if entry.is_dir() and entry.name[0] != "."))
    for name in names:
        _require_plain(place / name, "class folder")
    if len(names) < 2:
        raise DataError(f"{place} holds {len(names)} class folders, at least 2 are needed: one folder per class")
    return names


def _list_files(place: Path, classes: tuple[str, ...]) -> list[tuple[Path, int]]:
    listed = []
    for label, name in enumerate(classes):
        files = _pictures_below(place / name)
        if not files:
            raise DataError(f"class folder {place / name} holds no images: add some or remove the folder")
        listed += [(path, label) for path in files]
    return listed


def _pictures_below(folder: Path) -> list[Path]:
    """Whatever is named like a picture, folders too: what cannot be read is named, never left out in silence."""

    def refuse(error: OSError) -> None:
        raise error

    found = []
    for place, folders, files in os.walk(folder, onerror=refuse):
        found += [Path(place) / name for name in (*folders, *files) if Path(name).suffix.lower() in PICTURES]
    for path in sorted(found):
        _require_plain(path, "image")
    return sorted(found)


def _require_plain(path: Path, what: str) -> None:
    """Raise DataError for a name that no log, table or picture could show."""
    try:
        plain = path.name.isprintable() and bool(path.name.encode())
    except UnicodeEncodeError:
        plain = False
    if not plain:
        raise DataError(
            f"{what} {os.fsencode(path.name)!r} in {str(path.parent)!r} has a name that is not UTF-8 or cannot be "
            f"printed: rename it"
        )


def _measure(path: Path) -> _Shape:
    with opened(path) as picture:
        size, mode = picture.size, picture.mode
    if mode not in GREY_MODES + COLOUR_MODES:
        raise DataError(f"image {path} has pixels of mode {mode}: save it with 8 bits per channel")
    return _Shape(size, mode in GREY_MODES)


def _common_size(shapes: dict[Path, _Shape]) -> tuple[int, int]:
    first, *others = shapes.items()
    for path, shape in others:
        if shape.size != first[1].size:
            raise DataError(
                f"image {path} is {shape.size[0]}x{shape.size[1]} but {first[0]} is "
                f"{first[1].size[0]}x{first[1].size[1]}: give image_size to bring all to one size"
            )
    return first[1].size


def _read(files: list[tuple[Path, int]], size: tuple[int, int], mode: str) -> Raw:
    width, height = size
    images = np.empty((len(files), 1 if mode == "L" else 3, height, width), dtype=np.uint8)
    for row, (path, _) in enumerate(files):
        with opened(path) as found:
            picture = found.convert(mode)
        if picture.size != size:
            picture = picture.resize(size, Image.Resampling.BILINEAR)
        pixels = np.asarray(picture)
        images[row] = pixels[None] if mode == "L" else pixels.transpose(2, 0, 1)
    return Raw(torch.from_numpy(images), np.array([label for _, label in files], dtype=np.int64))
