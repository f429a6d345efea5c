"""Artifacts that stages leave for each other: weights, scoring sets, scores, masks, solutions, settings."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from torch import Tensor, nn

import training
from flows.adapters.artifact_files import arrays_fit, log_values, logged_arrays, logged_file, logged_values
from flows.adapters.library_settings import export, network_for, network_of
from flows.adapters.programs import ProgramSpec
from flows.cache import EarlierResult, StageResult, file_name
from flows.config import Settings, settings_of_run
from flows.errors import ArtifactError, SettingsError
from formulation import InvalidSolution, Solution
from training import Block, Dataset, Exported, Masks, Scores, ScoringSet, Zeros

SETTINGS = "settings.json"
WEIGHTS = "weights.pt"
EARLY = "early.pt"
SCORES = "scores.npz"
SET_SCORES = "set_scores.npz"
IMPORTANCE = "importance.npz"
MASKS = "masks.npz"
CONNECTIONS = "connections.npz"
SCORING_SET = "scoring_set_{}.npz"
CLASSES = "classes.npz"
HEADS = "heads.pt"
PROGRAMS = "programs.npz"
REPRESENTATIONS = "representations/{}"
SOLUTION = "solution"
COMPACT = "compact.pt"
EXPORTS = {"torch": "compact.pt2", "onnx": "compact.onnx"}


def log_settings(result: StageResult, settings: Settings) -> None:
    """Log the settings as they were understood; later stages read them."""
    result.add_json(settings.model_dump(), SETTINGS)


def logged_settings(run: EarlierResult) -> Settings:
    """The settings of an earlier run; raises ArtifactError where they are not those that this version logs."""
    values = run.json(SETTINGS)
    try:
        return settings_of_run(values)
    except SettingsError as error:
        raise ArtifactError(
            f"run_id={run.run_id}: its {SETTINGS} is damaged or of another version of this project ({error}); choose "
            f"another run, or run its stages again"
        ) from error


def log_weights(result: StageResult, network: nn.Module, file: str = WEIGHTS) -> None:
    """Log a network's weights as a state dict."""
    with logged_file(result, file) as path:
        training.save_checkpoint(network, path)


def logged_network(run: EarlierResult, settings: Settings, dataset: Dataset, file: str = WEIGHTS) -> nn.Module:
    """The settings' network with the weights that a run logged, in evaluation mode."""
    return logged_network_for(run, settings, dataset.train.images[:1], len(dataset.classes), file)


def logged_network_for(
    run: EarlierResult, settings: Settings, example: Tensor, classes: int, file: str = WEIGHTS
) -> nn.Module:
    """As `logged_network`, for images like the example [n, C, H, W] and so many classes, without the data set."""
    # The weights come from the run: the checkpoint that training began with may be gone by now.
    network = network_for(settings.model_copy(update={"checkpoint": ""}), example, classes)
    with run.opened(file) as path:
        return training.load_checkpoint(network, path).eval()


def log_scores(result: StageResult, scores: Scores) -> None:
    """Log scores, exactly."""
    log_values(result, SCORES, scores)


def logged_scores(run: EarlierResult) -> Scores:
    """The scores that a run logged."""
    return logged_values(run, SCORES)


def log_importance(result: StageResult, importance: Scores) -> None:
    """Log what ranks the units: scores with the reduced cost that tells ties apart."""
    log_values(result, IMPORTANCE, importance)


def logged_importance(run: EarlierResult) -> Scores:
    """The importance that a score run logged; raises ArtifactError where there is none that can be read."""
    try:
        return logged_values(run, IMPORTANCE)
    except ArtifactError as error:
        raise ArtifactError(
            f"run_id={run.run_id}: its {IMPORTANCE} is missing (an earlier version's run) or cannot be read; score "
            f"again, or give selection=threshold or layer_mean"
        ) from error


def log_set_scores(result: StageResult, scores: Scores) -> None:
    """Log the scores of many scoring sets, [sets, units] by layer."""
    log_values(result, SET_SCORES, scores)


def logged_set_scores(run: EarlierResult) -> Scores:
    """The scores of many scoring sets that a run logged, [sets, units] by layer."""
    return logged_values(run, SET_SCORES)


def log_masks(result: StageResult, masks: Masks) -> None:
    """Log masks."""
    with logged_file(result, MASKS) as path:
        training.save_masks(masks, path)


def logged_masks(run: EarlierResult) -> Masks:
    """The masks that a run logged."""
    with run.opened(MASKS) as path:
        return training.load_masks(path)


def log_connections(result: StageResult, zeros: Zeros) -> None:
    """Log which entries of a state dict are held at 0."""
    log_values(result, CONNECTIONS, {key: removed.numpy() for key, removed in zeros.items()})


def logged_connections(run: EarlierResult) -> Zeros:
    """The entries of the state dict that a run holds at 0."""
    with arrays_fit(run, CONNECTIONS):
        return {key: torch.from_numpy(removed) for key, removed in logged_values(run, CONNECTIONS).items()}


def log_compacted(
    result: StageResult, compacted: nn.Module, masks: Masks, settings: Settings, dataset: Dataset
) -> None:
    """Log a compacted network: its spec and its weights."""
    with logged_file(result, COMPACT) as path:
        training.save_compact(compacted, masks, dataset.input_shape, path, model=settings.model)


def logged_compacted(run: EarlierResult, settings: Settings, dataset: Dataset) -> nn.Module:
    """The compacted network that a run logged, in evaluation mode."""
    network = network_of(settings.model_copy(update={"checkpoint": ""}), dataset)
    with run.opened(COMPACT) as path:
        return training.load_compact(path, network)


def log_export(
    result: StageResult, kind: str, network: nn.Module, example: Tensor, metadata: Mapping[str, str]
) -> Exported:
    """Log a network for another runtime, with its metadata in the file; raises ExportError."""
    with logged_file(result, EXPORTS[kind]) as path:
        return export(kind, network, example, path, metadata)


def try_export(kind: str, network: nn.Module, example: Tensor) -> None:
    """Export a network to a file that is gone afterwards; raises ExportError."""
    with TemporaryDirectory() as place:
        export(kind, network, example, Path(place) / EXPORTS[kind])


def log_scoring_set(result: StageResult, scoring_set: ScoringSet, number: int) -> None:
    """Log a scoring set with its pixels: what its solution is about, whatever becomes of the data set."""
    with logged_file(result, SCORING_SET.format(number)) as path:
        arrays = {name: getattr(scoring_set, name).numpy() for name in ("images", "labels", "indices")}
        np.savez_compressed(path, allow_pickle=False, **arrays)


def logged_scoring_set(run: EarlierResult, number: int) -> ScoringSet:
    """The scoring set of that number that a run logged; raises ArtifactError where it cannot be read."""
    file, names = SCORING_SET.format(number), ("images", "labels", "indices")
    arrays = logged_arrays(run, file)
    if missing := ", ".join(name for name in names if name not in arrays):
        raise ArtifactError(f"run_id={run.run_id}: {file} lacks {missing}; run its stage again")
    with arrays_fit(run, file):
        return ScoringSet(*(torch.from_numpy(arrays[name]) for name in names))


def log_classes(result: StageResult, classes: Sequence[str]) -> None:
    """Log the names of the classes, so that whoever solves a program needs no data set."""
    log_values(result, CLASSES, {"names": np.array(classes, dtype=np.str_)})


def logged_classes(run: EarlierResult) -> tuple[str, ...]:
    """The names of the classes that a run logged."""
    with arrays_fit(run, CLASSES):
        return tuple(str(name) for name in logged_values(run, CLASSES)["names"])


def log_heads(result: StageResult, heads: Mapping[str, nn.Module]) -> None:
    """Log the heads of blocks as state dicts."""
    with logged_file(result, HEADS) as path:
        training.save_heads(heads, path)


def logged_heads(run: EarlierResult, blocks: Sequence[Block], classes: int) -> dict[str, nn.Module]:
    """The heads of all blocks but the last that a run logged, in evaluation mode."""
    with run.opened(HEADS) as path:
        return training.load_heads(blocks, classes, path)


def log_representations(result: StageResult, number: int, values: Mapping[str, Tensor]) -> None:
    """Log what blocks read of a scoring set, [n, *reads] by block."""
    with logged_file(result, REPRESENTATIONS.format(number)) as folder:
        folder.mkdir(parents=True)
        for block, each in values.items():
            np.savez_compressed(folder / f"{file_name(block)}.npz", allow_pickle=False, values=each.numpy())


def logged_representation(run: EarlierResult, number: int, block: str) -> Tensor:
    """What a block reads of a scoring set, [n, *reads]; raises ArtifactError where it cannot be read."""
    file = f"{REPRESENTATIONS.format(number)}/{file_name(block)}.npz"
    arrays = logged_arrays(run, file)
    if "values" not in arrays:
        raise ArtifactError(f"run_id={run.run_id}: {file} lacks values; run its stage again")
    with arrays_fit(run, file):
        return torch.from_numpy(arrays["values"])


def log_programs(result: StageResult, programs: Sequence[ProgramSpec], structure: str) -> None:
    """Log which programs there are to solve, and a digest of the structure of the network that they are about."""
    columns = {name: np.array([getattr(each, name) for each in programs]) for name in ProgramSpec.__dataclass_fields__}
    log_values(result, PROGRAMS, {**columns, "structure": np.array(structure)})


def log_solution(result: StageResult, solution: Solution) -> None:
    """Log a solution with its certificate."""
    with logged_file(result, SOLUTION) as folder:
        solution.save(folder)


def logged_joined_set(run: EarlierResult, numbers: int) -> ScoringSet:
    """All scoring sets of a score run, 1 to `numbers`, as one."""
    sets = [logged_scoring_set(run, number) for number in range(1, numbers + 1)]
    return ScoringSet(*(torch.cat([getattr(each, name) for each in sets]) for name in ("images", "labels", "indices")))


def logged_solution(run: EarlierResult) -> Solution:
    """The solution that a run logged; raises ArtifactError where it cannot be read."""
    with run.opened(SOLUTION) as folder:
        try:
            return Solution.load(folder)
        except InvalidSolution as error:
            # The folder is a copy that nobody else sees.
            reason = str(error.__cause__ or error).replace(str(folder), SOLUTION)
            raise ArtifactError(f"run_id={run.run_id}: its solution cannot be read ({reason}); score again") from error
