"""Auxiliary heads in a file: those of all blocks of a network together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import Tensor, nn

from training.digests import state_digest
from training.errors import CheckpointError
from training.fitting.blocks import Block
from training.fitting.heads import make_head
from training.inference import weight_type
from training.models import fault_in, load_state, read_file, write_file

REMEDY = "write it with save_heads"


def save_heads(heads: Mapping[str, nn.Module], path: str | Path) -> None:
    """Write the state dicts of heads, by their blocks' names and on the CPU; the file is there whole or not at all.

    `torch.load(path, weights_only=True)` gives {"heads": {block: state dict}, "digests": {block: SHA-256}}.

    Args:
        heads: by the block's name.
        path: of the file.
    """
    states = {
        name: {key: value.detach().cpu() for key, value in head.state_dict().items()} for name, head in heads.items()
    }
    write_file({"heads": states, "digests": {name: state_digest(state) for name, state in states.items()}}, path)


def load_heads(blocks: Sequence[Block], classes: int, path: str | Path) -> dict[str, nn.Module]:
    """The heads in a file of `save_heads`, by their blocks' names, in evaluation mode.

    Each is one of `make_head`, in the precision of its block's weights.

    Args:
        blocks: all blocks of the network; the last has no head.
        classes: outputs of each head.
        path: of the file.

    Raises:
        CheckpointError: the file is missing, damaged or none of `save_heads`, or its heads are those of other blocks or
            classes; names the first block that differs.
        BlockError, FitSettingsError: as `make_head`.
    """
    states = _read_states(path)
    wanted = [block.name for block in blocks[:-1]]
    for name in (*wanted, *states):
        if (name in wanted) != (name in states):
            said = "holds no head" if name in wanted else "holds a head of another network,"
            raise CheckpointError(
                f"{path} {said} for block {name!r}: give a file of heads for {', '.join(wanted) or 'no block'}"
            )
    return {block.name: _load_head(block, classes, states[block.name], path) for block in blocks[:-1]}


def _load_head(block: Block, classes: int, state: Mapping[str, Tensor], path: str | Path) -> nn.Module:
    head = make_head(block, classes, seed=0).to(weight_type(block.module))
    try:
        return load_state(head, state, path).eval()
    except CheckpointError as error:
        raise CheckpointError(f"the head of block {block.name!r} for {classes} classes: {error}") from error


def _read_states(path: str | Path) -> dict[str, dict[str, Tensor]]:
    """The state dicts of a file; raises CheckpointError where it is not as it was written."""
    content = read_file(path, what="heads", remedy=REMEDY)
    found, digests = (content.get(key) for key in ("heads", "digests")) if isinstance(content, Mapping) else (None,) * 2
    if not isinstance(found, Mapping) or not isinstance(digests, Mapping):
        raise CheckpointError(f"{path} holds no heads: {REMEDY}")
    for name, state in found.items():
        sound = isinstance(name, str) and isinstance(state, Mapping) and fault_in(state) is None
        if not sound or state_digest(state) != digests.get(name):
            raise CheckpointError(f"{path} is damaged: the head of block {name!r} is not the one saved; save it again")
    return dict(found)
