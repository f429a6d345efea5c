"""What stages leave for each other in their runs: weights, scoring sets, scores, masks, solutions, settings."""

import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

import training
from flows import tracking
from flows.errors import HandOverError
from flows.programs import Program
from flows.settings import Settings
from flows.tracking import Run
from flows.translation import export, network_for, network_of
from flows.words import settings_of
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
SCORE_PREFIX = "score/"


def save_settings(run: Run, settings: Settings) -> None:
    """Log the settings as they were understood; later stages read them."""
    tracking.log_json(run, settings.model_dump(), SETTINGS)


def load_settings(run: Run) -> Settings:
    """The settings of an earlier run."""
    return settings_of(tracking.logged_json(run, SETTINGS))


def save_weights(run: Run, network: nn.Module, file: str = WEIGHTS) -> None:
    """Log a network's weights as a state dict."""
    with _logged(run, file) as path:
        training.save_checkpoint(network, path)


def load_network(run: Run, settings: Settings, dataset: Dataset, file: str = WEIGHTS) -> nn.Module:
    """The settings' network with the weights that a run logged, in evaluation mode."""
    return load_network_for(run, settings, dataset.train.images[:1], len(dataset.classes), file)


def load_network_for(run: Run, settings: Settings, example: Tensor, classes: int, file: str = WEIGHTS) -> nn.Module:
    """As `load_network`, for images like the example [n, C, H, W] and so many classes, without the data set."""
    # The weights come from the run: the checkpoint that training began with may be gone by now.
    network = network_for(settings.model_copy(update={"checkpoint": ""}), example, classes)
    with tracking.downloaded(run, file) as path:
        return training.load_checkpoint(network, path).eval()


def save_scores(run: Run, scores: Scores) -> None:
    """Log scores, exactly."""
    _save_values(run, SCORES, scores)


def load_scores(run: Run) -> Scores:
    """The scores that a run logged."""
    return _values(run, SCORES)


def save_importance(run: Run, importance: Scores) -> None:
    """Log what ranks the units: scores with the price that tells ties apart."""
    _save_values(run, IMPORTANCE, importance)


def load_importance(run: Run) -> Scores:
    """The importance that a score run logged; raises HandOverError where there is none that can be read."""
    try:
        return _values(run, IMPORTANCE)
    except HandOverError as error:
        raise HandOverError(
            f"run_id={run.run_id}: its {IMPORTANCE} is missing (an earlier version's run) or cannot be read; score "
            f"again, or give selection=threshold or layer_mean"
        ) from error


def save_set_scores(run: Run, scores: Scores) -> None:
    """Log the scores of many scoring sets, [sets, units] by layer."""
    _save_values(run, SET_SCORES, scores)


def load_set_scores(run: Run) -> Scores:
    """The scores of many scoring sets that a run logged, [sets, units] by layer."""
    return _values(run, SET_SCORES)


def save_masks(run: Run, masks: Masks) -> None:
    """Log masks."""
    with _logged(run, MASKS) as path:
        training.save_masks(masks, path)


def load_masks(run: Run) -> Masks:
    """The masks that a run logged."""
    with tracking.downloaded(run, MASKS) as path:
        return training.load_masks(path)


def save_connections(run: Run, zeros: Zeros) -> None:
    """Log which entries of a state dict are held at 0."""
    _save_values(run, CONNECTIONS, {key: removed.numpy() for key, removed in zeros.items()})


def load_connections(run: Run) -> Zeros:
    """The entries of the state dict that a run holds at 0."""
    return {key: torch.from_numpy(removed) for key, removed in _values(run, CONNECTIONS).items()}


def save_compacted(run: Run, compacted: nn.Module, masks: Masks, settings: Settings, dataset: Dataset) -> None:
    """Log a compacted network: its spec and its weights."""
    with _logged(run, COMPACT) as path:
        training.save_compact(compacted, masks, dataset.input_shape, path, model=settings.model)


def load_compacted(run: Run, settings: Settings, dataset: Dataset) -> nn.Module:
    """The compacted network that a run logged, in evaluation mode."""
    network = network_of(settings.model_copy(update={"checkpoint": ""}), dataset)
    with tracking.downloaded(run, COMPACT) as path:
        return training.load_compact(path, network)


def save_export(run: Run, kind: str, network: nn.Module, example: Tensor) -> Exported:
    """Log a network for another runtime; raises ExportError."""
    with _logged(run, EXPORTS[kind]) as path:
        return export(kind, network, example, path)


def try_export(kind: str, network: nn.Module, example: Tensor) -> None:
    """Export a network to a file that is gone afterwards; raises ExportError."""
    with TemporaryDirectory() as place:
        export(kind, network, example, Path(place) / EXPORTS[kind])


def save_scoring_set(run: Run, scoring_set: ScoringSet, number: int) -> None:
    """Log a scoring set with its pixels: what its solution is about, whatever becomes of the data set."""
    with _logged(run, SCORING_SET.format(number)) as path:
        arrays = {name: getattr(scoring_set, name).numpy() for name in ("images", "labels", "indices")}
        np.savez_compressed(path, allow_pickle=False, **arrays)


def load_scoring_set(run: Run, number: int) -> ScoringSet:
    """The scoring set of that number that a run logged; raises HandOverError where it cannot be read."""
    file, names = SCORING_SET.format(number), ("images", "labels", "indices")
    arrays = _arrays(run, file)
    if missing := ", ".join(name for name in names if name not in arrays):
        raise HandOverError(f"run_id={run.run_id}: {file} lacks {missing}; run its stage again")
    return ScoringSet(*(torch.from_numpy(arrays[name]) for name in names))


def save_classes(run: Run, classes: Sequence[str]) -> None:
    """Log the names of the classes, so that whoever solves a program needs no data set."""
    _save_values(run, CLASSES, {"names": np.array(classes, dtype=np.str_)})


def load_classes(run: Run) -> tuple[str, ...]:
    """The names of the classes that a run logged."""
    return tuple(str(name) for name in _values(run, CLASSES)["names"])


def save_heads(run: Run, heads: Mapping[str, nn.Module]) -> None:
    """Log the heads of blocks as state dicts."""
    with _logged(run, HEADS) as path:
        training.save_heads(heads, path)


def load_heads(run: Run, blocks: Sequence[Block], classes: int) -> dict[str, nn.Module]:
    """The heads of all blocks but the last that a run logged, in evaluation mode."""
    with tracking.downloaded(run, HEADS) as path:
        return training.load_heads(blocks, classes, path)


def save_representations(run: Run, number: int, values: Mapping[str, Tensor]) -> None:
    """Log what blocks read of a scoring set, [n, *reads] by block."""
    with _logged(run, REPRESENTATIONS.format(number)) as folder:
        folder.mkdir(parents=True)
        for block, each in values.items():
            np.savez_compressed(folder / f"{block}.npz", allow_pickle=False, values=each.numpy())


def load_representation(run: Run, number: int, block: str) -> Tensor:
    """What a block reads of a scoring set, [n, *reads]; raises HandOverError where it cannot be read."""
    file = f"{REPRESENTATIONS.format(number)}/{block}.npz"
    arrays = _arrays(run, file)
    if "values" not in arrays:
        raise HandOverError(f"run_id={run.run_id}: {file} lacks values; run its stage again")
    return torch.from_numpy(arrays["values"])


def save_programs(run: Run, programs: Sequence[Program], structure: str) -> None:
    """Log which programs there are to solve, and a digest of the structure of the network that they are about."""
    columns = {name: np.array([getattr(each, name) for each in programs]) for name in Program.__dataclass_fields__}
    _save_values(run, PROGRAMS, {**columns, "structure": np.array(structure)})


def save_solution(run: Run, solution: Solution) -> None:
    """Log a solution with its certificate."""
    with _logged(run, SOLUTION) as folder:
        solution.save(folder)


def load_joined_set(run: Run, numbers: int) -> ScoringSet:
    """All scoring sets of a score run, 1 to `numbers`, as one."""
    sets = [load_scoring_set(run, number) for number in range(1, numbers + 1)]
    return ScoringSet(*(torch.cat([getattr(each, name) for each in sets]) for name in ("images", "labels", "indices")))


def load_solution(run: Run) -> Solution:
    """The solution that a run logged; raises HandOverError where it cannot be read."""
    with tracking.downloaded(run, SOLUTION) as folder:
        try:
            return Solution.load(folder)
        except InvalidSolution as error:
            # The folder is a copy that nobody else sees.
            reason = str(error.__cause__ or error).replace(str(folder), SOLUTION)
            raise HandOverError(f"run_id={run.run_id}: its solution cannot be read ({reason}); score again") from error


@contextmanager
def _logged(run: Run, name: str) -> Iterator[Path]:
    with TemporaryDirectory() as place:
        path = Path(place) / name
        yield path
        tracking.log_files(run, path, name if path.is_dir() else None)


def _save_values(run: Run, name: str, values: Mapping[str, NDArray[Any]]) -> None:
    with _logged(run, name) as path:
        # Under a prefix, because a layer may bear the name of one of numpy's own arguments.
        np.savez(path, allow_pickle=False, **{SCORE_PREFIX + layer: each for layer, each in values.items()})


def _values(run: Run, name: str) -> dict[str, NDArray[Any]]:
    return {key.removeprefix(SCORE_PREFIX): values for key, values in _arrays(run, name).items()}


def _arrays(run: Run, name: str) -> dict[str, np.ndarray]:
    with tracking.downloaded(run, name) as path:
        try:
            with np.load(path, allow_pickle=False) as archive:
                return {key: archive[key] for key in archive.files}
        except (OSError, ValueError, EOFError, zlib.error, zipfile.BadZipFile) as error:
            raise HandOverError(f"run_id={run.run_id}: {name} cannot be read ({error}); run its stage again") from error
