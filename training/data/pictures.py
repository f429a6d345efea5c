"""Pictures of a stranger: opened only where they are files, of a known format, and of a size that can be decoded."""

from __future__ import annotations

import os
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from training.errors import DataError
from training.file_kinds import obstacle_at

# Without EPS and the like: Pillow goes by content, and would start another program for those.
FORMATS = ("PNG", "JPEG", "PPM", "BMP", "TIFF", "WEBP", "GIF")
PIXELS = 2**26  # of one picture, 8192 x 8192: a file of a few bytes can promise any number of them
# What Pillow's decoders raise over a damaged file, and of a picture that is too large for Pillow itself.
DAMAGED = (
    *(OSError, EOFError, SyntaxError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError),
    *(
        RuntimeError,
        MemoryError,
        struct.error,
        zlib.error,
        Image.DecompressionBombError,
        Image.DecompressionBombWarning,
    ),
)


@contextmanager
def opened(path: Path) -> Iterator[Image.Image]:
    """The picture in a file, its header read and nothing decoded yet; what fails inside the block is the file's fault.

    Raises DataError where the path leads to no file, the file holds no picture, or one of more than PIXELS pixels.
    """
    obstacle = obstacle_at(path)
    if obstacle is not None:
        raise DataError(f"image {path} is {obstacle}: remove it, or put a file in its place")
    try:
        # Without waiting for whoever may write to a pipe that has come to lie there since.
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(file, formats=FORMATS) as picture:
                _require_size(picture, path)
                yield picture
    except DAMAGED as error:
        said = _short(error, path)
        raise DataError(f"image {path} cannot be read ({said}): remove or replace it") from error


def _require_size(picture: Image.Image, path: Path) -> None:
    width, height = picture.size
    if width * height > PIXELS:
        raise DataError(
            f"image {path} says that it is {width}x{height}, more than {PIXELS} pixels: make it smaller or remove it"
        )


def _short(error: BaseException, path: Path) -> str:
    """What went wrong, without the path, which the line names anyway, and never empty."""
    if isinstance(error, UnidentifiedImageError):
        return f"no picture of a format that is taken: {', '.join(FORMATS)}"
    said = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return said.replace(f" {str(path)!r}", "") or type(error).__name__
