"""The programs of a score stage: one per scoring set, block and class, and what each is about.

By block the network is cut, and every block is scored by a program of its own: the block with its auxiliary head on
top, which reads what the blocks before it make of the scoring images. The last block has the network's own classifier.
Source: ElAraby, Wolf, Carvalho (2023), section 4.3. Departure: a positive radius is that of a box around what the block
reads, in its own units; it is not carried through the blocks before.
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from torch import Tensor, nn

import formulation
import training
from flows.adapters.library_settings import score_settings_of, split_names, takes_fewer
from flows.config import Settings
from flows.errors import SettingsError
from formulation import ScoreSettings
from training import Block

V = TypeVar("V")
WHOLE, AUTO = "whole", "auto"
ALL_CLASSES = -1
UNBOUNDED = (-sys.float_info.max, sys.float_info.max)
# What a program costs grows, for each image, with the multiply-adds and the values of its layers, in passes, and with
# the square of its units, in the solver: a value, and a pair of units, take about as long as so many multiply-adds.
# Fitted to the seconds of the blocks of VGG-16 (two widths, several numbers of images) and vgg7; a block put too far in
# front costs less than one left for the end.
VALUE, PAIR = 200.0, 30.0


@dataclass(frozen=True)
class ProgramSpec:
    """Which program: the number of its scoring set, its block (empty: the whole network) and that block's place among
    the blocks, its class (-1: all).
    """

    number: int
    block: str = ""
    place: int = 0
    label: int = ALL_CLASSES

    def __str__(self) -> str:
        block = f", {self.block}" if self.block else ""
        return f"set {self.number}{block}{f', class {self.label}' if self.label != ALL_CLASSES else ''}"


@dataclass(frozen=True, eq=False)
class ProgramInputs:
    """A program with its data: a network, what it reads [n, ...], labels [n], and how to score it."""

    network: nn.Module
    images: Tensor
    labels: Tensor
    settings: ScoreSettings


def by_block(settings: Settings) -> bool:
    """Whether every block has a program of its own."""
    return settings.blocks != WHOLE


def scoring_in_words(settings: Settings) -> str:
    """How the settings score, in a sentence's part."""
    per = [*(["block"] if by_block(settings) else []), *(["class"] if settings.by_class else [])]
    apart = f", one for each {' and '.join(per)}" if per else ""
    sets = "one scoring set" if settings.scoring_sets == 1 else f"{settings.scoring_sets} scoring sets"
    number = f"up to {settings.images_per_class}" if takes_fewer(settings) else settings.images_per_class
    return (
        f"every unit scored by a mixed-integer program{apart} ({settings.gate} gate, {sets} of {number} images per "
        f"class)"
    )


def blocks_of(settings: Settings, network: nn.Module, example: Tensor) -> tuple[Block, ...]:
    """The blocks of the settings' cuts; raises BlockError, and SettingsError where there is nothing to cut."""
    cuts = None if settings.blocks == AUTO else split_names(settings.blocks)
    blocks = training.split(network, example[:1], cuts)
    if len(blocks) == 1:
        raise SettingsError(
            f"blocks={settings.blocks}: model={settings.model} has no convolution with another layer before it, where "
            f"it could be cut; give blocks=whole"
        )
    return blocks


def programs_of(
    settings: Settings, sets: int, classes: int, blocks: Sequence[Block], units: Mapping[str, int]
) -> list[ProgramSpec]:
    """The programs of so many scoring sets, those that take longest first; blocks without a scored layer have none."""
    order = [block.name for block in blocks]
    longest = longest_first(blocks, units)
    places = [(block.name, order.index(block.name)) for block in longest] if blocks else [("", 0)]
    labels = range(classes) if settings.by_class else [ALL_CLASSES]
    return [ProgramSpec(number, *place, label) for place in places for number in range(1, sets + 1) for label in labels]


def longest_first(blocks: Sequence[Block], units: Mapping[str, int]) -> list[Block]:
    """The blocks that have scored layers, those whose programs should take longest first."""
    scored = [block for block in blocks if any(layer in units for layer in block.layers)]
    return sorted(scored, key=lambda block: _work(block, units), reverse=True)


def whole_instance(settings: Settings, network: nn.Module, images: Tensor, labels: Tensor) -> ProgramInputs:
    """The program of the whole network."""
    return ProgramInputs(network, images, labels, score_settings_of(settings))


def block_instance(
    settings: Settings, blocks: Sequence[Block], heads: Mapping[str, nn.Module], name: str, read: Tensor, labels: Tensor
) -> ProgramInputs:
    """The program of a block, of what it reads [n, *reads]."""
    block, last = next(each for each in blocks if each.name == name), blocks[-1]
    network = block.module.eval() if block is last else training.headed(block, heads[name])
    held = _followers(block, network, read)
    if block is not last and settings.head_units == "held":
        held = (*held, *training.head_layers())
    how = replace(score_settings_of(settings), held=held)
    if block is not blocks[0]:
        how = replace(how, pixel_range=UNBOUNDED)
    return ProgramInputs(network, read, labels, how)


def _followers(block: Block, network: nn.Module, read: Tensor) -> tuple[str, ...]:
    """Layers that the block's network would score, but whose units the whole one has under an earlier layer's name."""
    if not block.followers:
        return ()
    units = formulation.outline(network, read[:1]).units
    return tuple(layer for layer in block.followers if layer in units)


def without_heads(values: Mapping[str, V]) -> dict[str, V]:
    """Those of the values that are of the network's own layers."""
    return {layer: each for layer, each in values.items() if not training.is_of_head(layer)}


def _work(block: Block, units: Mapping[str, int]) -> float:
    scored = sum(units.get(layer, 0) for layer in block.layers)
    return block.multiply_adds + VALUE * block.activations + PAIR * scored**2
