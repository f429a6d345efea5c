"""Block by block: training, auxiliary heads, and what each program is about."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict

from torch import nn

import formulation
import training
from flows.adapters import (
    artifacts,
    blocks_of,
    by_block,
    dataset_of,
    device_of,
    fit_settings_of,
    network_of,
    programs_of,
)
from flows.cache import EarlierResult, OnPart, StageResult, key_of, structure_of, unheard
from flows.config import Settings
from flows.reporting import figures
from flows.stages.fitting.fit import log_data
from training import Block, BlockEpoch, Dataset

LOG = logging.getLogger(__name__)
HEADS_TAG = "heads"  # the cuts of the blocks whose heads a run left


def train_by_block(settings: Settings, *, on_part: OnPart = unheard) -> StageResult:
    """Train the settings' network block by block, each from its own head; leaves its weights and the heads."""
    result = StageResult(on_part)
    dataset = dataset_of(settings)
    network = network_of(settings, dataset)
    log_data(settings, result, network, dataset)
    blocks = blocks_of(settings, network, dataset.train.images)
    fitted = training.fit_blocks(
        network,
        _new_heads(settings, blocks, dataset),
        dataset.train,
        dataset.validation,
        fit_settings_of(settings, settings.epochs),
        cuts=_cuts(blocks),
        callbacks=[_report(result, "train", settings.epochs)],
    )
    artifacts.log_weights(result, fitted.model)
    _leave_heads(settings, result, blocks, fitted.heads, fitted.epochs)
    return result


def fit_block_heads(settings: Settings, trained: EarlierResult, *, on_part: OnPart = unheard) -> StageResult:
    """Train an auxiliary head on top of every block but the last of a trained network, which stays as it is."""
    result = StageResult(on_part)
    dataset = dataset_of(settings)
    network = artifacts.logged_network(trained, settings, dataset)
    blocks = blocks_of(settings, network, dataset.train.images)
    heads, epochs = _new_heads(settings, blocks, dataset), settings.head_epochs
    LOG.info("heads    %d blocks: %s", len(blocks), ", ".join(block.name for block in blocks))
    fitted = training.fit_heads(
        network,
        heads,
        dataset.train,
        dataset.validation,
        fit_settings_of(settings, epochs),
        cuts=_cuts(blocks),
        callbacks=[_report(result, "heads", epochs)],
    )
    _leave_heads(settings, result, blocks, fitted.heads, fitted.epochs)
    return result


def lay_out(
    settings: Settings, run: EarlierResult, trained: EarlierResult, sets: int, *, on_part: OnPart = unheard
) -> StageResult:
    """The programs of the `sets` scoring sets that a run has drawn, those that take longest first.

    By block, what every block reads of each set is left for them: whoever solves a program needs no more of the rest.
    """
    result = StageResult(on_part)
    scoring_sets = [artifacts.logged_scoring_set(run, number) for number in range(1, sets + 1)]
    classes, example = len(artifacts.logged_classes(run)), scoring_sets[0].images
    network = artifacts.logged_network_for(trained, settings, example, classes)
    found = formulation.outline(network, example)
    blocks = blocks_of(settings, network, example) if by_block(settings) else ()
    if blocks:
        with training.torch_threads(settings.threads):
            for number, each in enumerate(scoring_sets, start=1):
                read = training.represent(blocks, each.images, device=device_of(settings))
                # The first block reads the images themselves, which are there.
                artifacts.log_representations(result, number, {name: read[name] for name in list(read)[1:]})
        _log_blocks(result, blocks, found.units)
    programs = programs_of(settings, sets, classes, blocks, found.units)
    artifacts.log_programs(result, programs, key_of(structure_of(network)))
    LOG.info("score    programs to solve: %d", len(programs))
    result.returns([asdict(each) for each in programs])
    return result


def _new_heads(settings: Settings, blocks: Sequence[Block], dataset: Dataset) -> dict[str, nn.Module]:
    classes = len(dataset.classes)
    return {block.name: training.make_head(block, classes, seed=settings.seed) for block in blocks[:-1]}


def _cuts(blocks: Sequence[Block]) -> tuple[str, ...]:
    return tuple(block.name for block in blocks[1:])


def _leave_heads(
    settings: Settings,
    result: StageResult,
    blocks: Sequence[Block],
    heads: Mapping[str, nn.Module],
    epochs: Sequence[BlockEpoch],
) -> None:
    artifacts.log_heads(result, heads)
    result.add_tags({HEADS_TAG: settings.blocks})
    if not epochs:
        LOG.warning("heads    no epochs: the heads stay as they were drawn, and scores by block mean little")
        return
    accuracies = epochs[-1].validation_accuracy
    result.add_table(
        {
            "block": [block.name for block in blocks],
            "reads": ["x".join(map(str, block.reads)) for block in blocks],
            "validation_accuracy": [accuracies[block.name] for block in blocks],
            "head_parameters": [
                sum(each.numel() for each in heads[block.name].parameters()) if block.name in heads else None
                for block in blocks
            ],
        },
        "heads.json",
    )
    result.add_figure(figures.accuracy_figure(accuracies), "heads.png")


def _log_blocks(result: StageResult, blocks: Sequence[Block], units: Mapping[str, int]) -> None:
    scored = [[layer for layer in block.layers if layer in units] for block in blocks]
    result.add_table(
        {
            "block": [block.name for block in blocks],
            "layers": [", ".join(block.layers) for block in blocks],
            "scored": [", ".join(layers) for layers in scored],
            "units": [sum(units[layer] for layer in layers) for layers in scored],
            "reads": ["x".join(map(str, block.reads)) for block in blocks],
            "multiply_adds": [block.multiply_adds for block in blocks],
        },
        "blocks.json",
    )
    for block, layers in zip(blocks, scored, strict=True):
        if not layers:
            LOG.info("score    block %s has no layer with scores, and no program", block.name)


def _report(result: StageResult, name: str, epochs: int) -> Callable[[BlockEpoch], None]:
    def report(epoch: BlockEpoch) -> None:
        accuracies = epoch.validation_accuracy
        first, *_, last = accuracies
        LOG.info(
            "%-8s epoch %d of %d: validation accuracy from %.2f %% (%s) to %.2f %% (%s) (%.1f s)",
            *(name, epoch.index, epochs, 100 * accuracies[first], first, 100 * accuracies[last], last, epoch.seconds),
        )
        figures_of = {f"block_accuracy.{block}": value for block, value in accuracies.items()}
        losses = {f"block_loss.{block}": value for block, value in epoch.train_loss.items()}
        result.add_metrics(figures_of | losses, step=epoch.index)

    return report
