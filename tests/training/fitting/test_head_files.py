"""Heads in files."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from training import (
    Block,
    BlockError,
    CheckpointError,
    build,
    load_checkpoint,
    load_heads,
    make_head,
    model_digest,
    save_checkpoint,
    save_heads,
    split,
)

SHAPE = (3, 16, 16)


def cut(name: str = "vgg7@0.25", cuts: tuple[str, ...] | None = None) -> tuple[Block, ...]:
    return split(build(name, input_shape=SHAPE, classes=5, seed=0).eval(), torch.zeros(1, *SHAPE), cuts)


def saved(path: Path, blocks: tuple[Block, ...]) -> dict[str, nn.Module]:
    heads: dict[str, nn.Module] = {block.name: make_head(block, 5, seed=3) for block in blocks[:-1]}
    for head in heads.values():
        head(torch.rand(4, *head.get_submodule("conv").weight.shape[1:2], 8, 8))  # statistics of its BatchNorm
    save_heads(heads, path)
    return heads


def test_heads_come_back_bit_for_bit_in_evaluation_mode(tmp_path: Path) -> None:
    blocks = cut()
    heads = saved(tmp_path / "heads.pt", blocks)
    state = torch.random.get_rng_state()
    again = load_heads(blocks, 5, tmp_path / "heads.pt")
    assert torch.equal(torch.random.get_rng_state(), state)
    assert {name: model_digest(head) for name, head in again.items()} == {
        name: model_digest(head) for name, head in heads.items()
    }
    assert list(again) == ["conv1", "conv2", "conv3"]
    assert not any(part.training for head in again.values() for part in head.modules())
    assert all(head.training for head in heads.values())
    assert [entry.name for entry in tmp_path.iterdir()] == ["heads.pt"]
    assert set(torch.load(tmp_path / "heads.pt", weights_only=True)["heads"]) == set(heads)


def test_heads_come_back_in_the_precision_of_their_blocks(tmp_path: Path) -> None:
    model = build("vgg7@0.25", input_shape=SHAPE, classes=5, seed=0).double()
    blocks = split(model, torch.zeros(1, *SHAPE))
    heads = {block.name: make_head(block, 5, seed=3).double() for block in blocks[:-1]}
    save_heads(heads, tmp_path / "heads.pt")
    again = load_heads(blocks, 5, tmp_path / "heads.pt")
    assert all(model_digest(again[name]) == model_digest(head) for name, head in heads.items())


def test_a_network_of_one_block_has_no_heads(tmp_path: Path) -> None:
    save_heads({}, tmp_path / "none.pt")
    assert load_heads(cut("fc3"), 5, tmp_path / "none.pt") == {}


def test_heads_of_other_blocks_are_refused_and_the_first_that_differs_is_named(tmp_path: Path) -> None:
    path = tmp_path / "heads.pt"
    saved(path, cut())
    with pytest.raises(
        CheckpointError, match=r"holds a head of another network, for block 'conv2': give .* for conv1,"
    ):
        load_heads(cut(cuts=("conv3", "conv4")), 5, path)
    with pytest.raises(CheckpointError, match="holds no head for block 'conv5'"):
        load_heads(cut("vgg16@0.25", cuts=("conv2", "conv3", "conv5", "conv7")), 5, path)
    with pytest.raises(CheckpointError, match=r"the head of block 'conv1' for 5 .*misshaped: conv.weight \[16, 16"):
        load_heads(cut("vgg7@0.5"), 5, path)
    with pytest.raises(CheckpointError, match=r"the head of block 'conv1' for 6 .*misshaped: output.weight \[5, 16\]"):
        load_heads(cut(), 6, path)


def test_blocks_on_which_no_head_can_stand_are_refused(tmp_path: Path) -> None:
    blocks = cut(cuts=("fc2",))
    save_heads({blocks[0].name: nn.Linear(2, 2)}, tmp_path / "a.pt")
    with pytest.raises(BlockError, match="a head needs feature maps"):
        load_heads(blocks, 5, tmp_path / "a.pt")


def test_a_missing_or_torn_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "heads.pt"
    with pytest.raises(CheckpointError, match=r"heads\.pt does not exist: give the file of heads"):
        load_heads(cut(), 5, path)
    saved(path, cut())
    whole = path.read_bytes()
    for content in (whole[:-100], b"", b"text"):
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match=r"cannot be read as heads .*: write it with save_heads") as caught:
            load_heads(cut(), 5, path)
        assert "\n" not in str(caught.value)


def spoil(content: dict[str, Any]) -> None:
    """A weight that is no number, with a digest that fits: as somebody saved it."""
    head = make_head(cut()[1], 5, seed=0)
    head.get_submodule("fc").bias.data[0] = float("nan")
    content["heads"]["conv2"] = head.state_dict()
    content["digests"]["conv2"] = model_digest(head)


def touch(content: dict[str, Any]) -> None:
    content["heads"]["conv2"]["fc.bias"][0] += 1


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (touch, "is damaged: the head of block 'conv2' is not the one saved; save it again"),
        (lambda c: c["heads"]["conv3"].pop("fc.bias"), "is damaged: the head of block 'conv3'"),
        (lambda c: c["heads"].update(conv1=3), "is damaged: the head of block 'conv1'"),
        (lambda c: c["heads"]["conv1"].update(more=3), "is damaged: the head of block 'conv1'"),
        (lambda c: c["digests"].clear(), "is damaged: the head of block 'conv1'"),
        (lambda c: c.pop("heads"), "holds no heads: write it with save_heads"),
        (lambda c: c.pop("digests"), "holds no heads: write it with save_heads"),
        (lambda c: c.update(heads=[]), "holds no heads: write it with save_heads"),
        (spoil, r"the head of block 'conv2' for 5 classes: .* 'fc\.bias' holds NaN"),
    ],
)
def test_a_file_that_is_not_as_it_was_written_is_refused(
    tmp_path: Path, change: Callable[[dict[str, Any]], None], said: str
) -> None:
    path = tmp_path / "heads.pt"
    saved(path, cut())
    content = torch.load(path, weights_only=True)
    change(content)
    torch.save(content, path)
    with pytest.raises(CheckpointError, match=said) as caught:
        load_heads(cut(), 5, path)
    assert "\n" not in str(caught.value)


def test_a_file_of_a_network_is_no_file_of_heads(tmp_path: Path) -> None:
    save_checkpoint(build("fc2", input_shape=SHAPE, classes=5, seed=0), tmp_path / "a.pt")
    with pytest.raises(CheckpointError, match="holds no heads"):
        load_heads(cut(), 5, tmp_path / "a.pt")
    saved(tmp_path / "heads.pt", cut())
    with pytest.raises(CheckpointError, match="holds no state dict"):
        load_checkpoint(nn.Linear(2, 2), tmp_path / "heads.pt")
