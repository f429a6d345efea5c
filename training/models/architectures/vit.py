"""A small vision transformer for small images: patches as tokens, four blocks of attention and an MLP on tokens."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn

from training.errors import ModelError

BLOCKS_OF_VIT = {"vit_tiny": 4}
PATCH, WIDTH, HEADS, HIDDEN_UNITS = 4, 64, 4, 128
POSITION_SCALE = 0.02


class PatchTokens(nn.Module):
    """Patches of PATCH x PATCH pixels as tokens [n, patches, WIDTH], each with what is learned of its place."""

    def __init__(self, input_shape: tuple[int, int, int]) -> None:
        super().__init__()
        channels, height, width = input_shape
        self.patches = nn.Conv2d(channels, WIDTH, PATCH, stride=PATCH)
        places = (height // PATCH) * (width // PATCH)
        self.places = nn.Parameter(POSITION_SCALE * torch.randn(1, places, WIDTH))

    def forward(self, images: Tensor) -> Tensor:
        """Tokens of images [n, C, H, W]."""
        tokens: Tensor = self.patches(images).flatten(2).transpose(1, 2) + self.places
        return tokens


class TransformerBlock(nn.Module):
    """x + attention(norm1(x)), then that plus fc2(act(fc1(norm2(.)))), tokens [n, tokens, WIDTH]."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.attention = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True)
        self.fc1, self.act, self.fc2 = nn.Linear(WIDTH, HIDDEN_UNITS), nn.GELU(), nn.Linear(HIDDEN_UNITS, WIDTH)

    def forward(self, tokens: Tensor) -> Tensor:
        """The block's tokens, of the same shape."""
        normed = self.norm1(tokens)
        mixed: Tensor = tokens + self.attention(normed, normed, normed, need_weights=False)[0]
        made: Tensor = mixed + self.fc2(self.act(self.fc1(self.norm2(mixed))))
        return made


class TokenMean(nn.Module):
    """The mean over tokens, [n, WIDTH]."""

    def forward(self, tokens: Tensor) -> Tensor:
        """The mean of tokens [n, tokens, WIDTH]."""
        return tokens.mean(1)


def make_vit(input_shape: tuple[int, int, int], blocks: int, classes: int) -> nn.Module:
    """A vision transformer; children tokens, block1, ..., norm, mean, output.

    Args:
        input_shape: of one image, (C, H, W).
        blocks: of attention and an MLP.
        classes: outputs.

    Raises:
        ModelError: the patches do not cover the images.

    Source: Dosovitskiy et al., "An Image is Worth 16x16 Words", ICLR 2021.
    Departs from the paper: small patches, and the mean over tokens in place of a class token.
    """
    _, height, width = input_shape
    if height % PATCH or width % PATCH:
        raise ModelError(
            f"model 'vit_tiny' cannot take images of {height}x{width}: its patches are {PATCH}x{PATCH}; give an "
            f"image_size that is a multiple of {PATCH}"
        )
    children: OrderedDict[str, nn.Module] = OrderedDict(tokens=PatchTokens(input_shape))
    for number in range(1, blocks + 1):
        children[f"block{number}"] = TransformerBlock()
    children.update(norm=nn.LayerNorm(WIDTH), mean=TokenMean(), output=nn.Linear(WIDTH, classes))
    return nn.Sequential(children)
