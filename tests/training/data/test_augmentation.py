"""Images mirrored and shifted, against a slow way of doing the same."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from training.data.augmentation import SHIFT, draw_moves, flip_crop
from training.errors import FitSettingsError


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def slowly(image: Tensor, mirrored: int, down: int, right: int) -> Tensor:
    """Pixel by pixel."""
    seen = image.flip(2) if mirrored else image
    made = torch.zeros_like(image)
    _, height, width = image.shape
    for y in range(height):
        for x in range(width):
            if 0 <= y - down < height and 0 <= x - right < width:
                made[:, y, x] = seen[:, y - down, x - right]
    return made


@given(st.integers(1, 5), st.integers(1, 3), st.integers(2, 9), st.integers(2, 9), st.integers(0, 1000))
@settings(max_examples=40, deadline=None)
def test_images_are_moved_as_pixel_by_pixel(images: int, channels: int, height: int, width: int, seed: int) -> None:
    drawn = torch.rand(images, channels, height, width, generator=seeded(seed))
    moves = draw_moves(images, seeded(seed + 1))
    expected = torch.stack([slowly(image, *move) for image, move in zip(drawn, moves.tolist(), strict=True)])
    assert torch.equal(flip_crop(drawn, moves), expected)


def test_a_picture_moves_by_hand() -> None:
    picture = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])[None, None]
    moved = flip_crop(picture.repeat(3, 1, 1, 1), torch.tensor([[0, 0, 0], [0, 1, 0], [1, 0, -1]]))
    assert moved[:, 0].tolist() == [
        [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]],
        [[0.0, 0.0, 0.0], [1.0, 2.0, 3.0]],
        [[2.0, 1.0, 0.0], [5.0, 4.0, 0.0]],
    ]


def test_moves_are_drawn_alike_likely_from_their_generator_alone() -> None:
    state = torch.random.get_rng_state()
    moves = draw_moves(9000, seeded(0))
    assert torch.equal(moves, draw_moves(9000, seeded(0)))
    assert not torch.equal(moves, draw_moves(9000, seeded(1)))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert moves[:, 0].unique().tolist() == [0, 1]
    assert moves[:, 0].double().mean() == pytest.approx(0.5, abs=0.02)
    for shifts in (moves[:, 1], moves[:, 2]):
        values, counts = shifts.unique(return_counts=True)
        assert values.tolist() == list(range(-SHIFT, SHIFT + 1))
        assert (counts - 1000).abs().max() < 150
    assert abs(float(torch.corrcoef(moves.T.double())[1, 2])) < 0.05


@pytest.mark.parametrize("shape", [(2, 8), (2, 1, 8), (2, 1, 1, 8), (2, 1, 8, 1)])
def test_what_is_no_picture_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(FitSettingsError, match=r"augment=flip_crop cannot mirror and shift images of shape .* or use"):
        flip_crop(torch.zeros(shape), draw_moves(2, seeded(0)))
