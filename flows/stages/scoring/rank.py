"""Ranking units: by a simple rule, or by the program on the network as it is by then."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from torch import nn

import training
from flows.adapters import (
    ProgramInputs,
    ProgramSpec,
    aggregate_sets,
    artifacts,
    block_instance,
    blocks_of,
    device_of,
    solved,
    whole_instance,
)
from flows.cache import EarlierResult
from flows.config import Settings
from formulation import Certificate, FormulationError, Solution
from training import Dataset, Evidence, Masks, Scores, ScoringSet


@dataclass(frozen=True, eq=False)
class Ranking:
    """Ranks the units of a network that may have lost some.

    Attributes:
        images: what the program sees.
        scores: the program's of the whole network, for rules about them.
        headed: the run that left the heads of the blocks, where units are scored by block; else None.
        certificates: of what the program said so far: per call one, or one per block.
    """

    settings: Settings
    dataset: Dataset
    images: ScoringSet
    scores: Scores
    headed: EarlierResult | None = None
    certificates: list[tuple[Certificate, ...]] = field(default_factory=list)

    def __call__(self, network: nn.Module, masks: Masks) -> Scores:
        """One value per unit, higher = keep; raises FormulationError and TrainingError."""
        if self.settings.rule != "program":
            return rule_values(self.settings, self.settings.rule, network, self.dataset, self.scores)[0]
        found = aggregate_sets([(which, self._solved(which, each)) for which, each in self._instances(network.eval())])
        self.certificates.append(found.certificates)
        return found.importance

    def _solved(self, which: ProgramSpec, instance: ProgramInputs) -> Solution:
        """The program's solution; an error names its block."""
        try:
            return solved(self.settings, instance)
        except FormulationError as error:
            if which.block:
                raise type(error)(f"{which.block}: {error}") from error
            raise

    def _instances(self, network: nn.Module) -> Iterator[tuple[ProgramSpec, ProgramInputs]]:
        """The program of the network as it is, or those of its blocks; heads stay as they learned on the whole one."""
        images, labels = self.images.images, self.images.labels
        if self.headed is None:
            yield ProgramSpec(1), whole_instance(self.settings, network, images, labels)
            return
        blocks = blocks_of(self.settings, network, images)
        heads = artifacts.logged_heads(self.headed, blocks, len(self.dataset.classes))
        with training.torch_threads(self.settings.threads):
            read = training.represent(blocks, images, device=device_of(self.settings))
        for place, block in enumerate(blocks):
            if any(layer in self.scores for layer in block.layers):
                instance = block_instance(self.settings, blocks, heads, block.name, read[block.name], labels)
                yield ProgramSpec(1, block.name, place), instance


def rule_values(
    settings: Settings, rule: str, network: nn.Module, dataset: Dataset, scores: Scores, draws: int = 1
) -> list[Scores]:
    """What a rule makes of the validation images: one value per unit of each layer that has scores, for each draw."""
    split, layers = dataset.validation, tuple(scores)
    evidence = Evidence(network, split.images, split.labels, layers, settings.seed, scores, device=device_of(settings))
    with training.torch_threads(settings.threads):
        return training.draw_scores(rule, evidence, draws)
