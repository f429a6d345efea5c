from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from tests.training.networks import mixed
from training.digests import model_digest
from training.errors import CheckpointError
from training.models.checkpoints import load_checkpoint, save_checkpoint


def test_saved_weights_come_back_bit_for_bit_into_a_copy(tmp_path: Path) -> None:
    source, target = mixed(0), mixed(1)
    before = model_digest(target)
    save_checkpoint(source, tmp_path / "weights.pt")
    loaded = load_checkpoint(target, tmp_path / "weights.pt")
    assert model_digest(loaded) == model_digest(source)
    assert model_digest(target) == before
    assert [path.name for path in tmp_path.iterdir()] == ["weights.pt"]


def test_a_state_dict_inside_a_dict_is_found(tmp_path: Path) -> None:
    torch.save({"state_dict": mixed(0).state_dict(), "epoch": 3}, tmp_path / "c.pt")
    assert model_digest(load_checkpoint(mixed(1), tmp_path / "c.pt")) == model_digest(mixed(0))


def test_keys_that_do_not_fit_are_named_by_kind_in_one_line(tmp_path: Path) -> None:
    torch.save({"0.weight": torch.zeros(2, 9), "head.bias": torch.zeros(1)}, tmp_path / "c.pt")
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(nn.Sequential(nn.Linear(4, 2)), tmp_path / "c.pt")
    said = str(caught.value)
    assert "missing: 0.bias" in said
    assert "unexpected: head.bias" in said
    assert "misshaped: 0.weight [2, 9] instead of [2, 4]" in said
    assert "\n" not in said


def test_many_differing_keys_are_counted_instead_of_listed(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(1)}, tmp_path / "c.pt")
    with pytest.raises(CheckpointError, match=r"missing: 0\.weight, 0\.bias, 1\.weight and \d+ more"):
        load_checkpoint(mixed(), tmp_path / "c.pt")


def test_missing_truncated_and_foreign_files_are_refused(tmp_path: Path) -> None:
    model = mixed()
    with pytest.raises(CheckpointError, match="does not exist"):
        load_checkpoint(model, tmp_path / "none.pt")
    save_checkpoint(model, tmp_path / "c.pt")
    whole = (tmp_path / "c.pt").read_bytes()
    for content in (whole[: len(whole) // 2], b"", b"just some text"):
        (tmp_path / "c.pt").write_bytes(content)
        with pytest.raises(CheckpointError, match="cannot be read as a state dict"):
            load_checkpoint(model, tmp_path / "c.pt")


def test_a_pickled_model_is_refused_without_being_run(tmp_path: Path) -> None:
    torch.save(mixed(), tmp_path / "model.pt")
    with pytest.raises(CheckpointError, match=r"write it with torch\.save\(model\.state_dict\(\), path\)"):
        load_checkpoint(mixed(), tmp_path / "model.pt")


@pytest.mark.parametrize("content", [[1, 2], {}, {"a": 1}])
def test_a_file_without_a_state_dict_is_refused(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "c.pt")
    with pytest.raises(CheckpointError, match="holds no state dict"):
        load_checkpoint(mixed(), tmp_path / "c.pt")


def test_a_checkpoint_with_a_weight_that_is_no_number_is_refused(tmp_path: Path) -> None:
    model = nn.Linear(2, 2)
    model.bias.data[0] = float("inf")
    save_checkpoint(model, tmp_path / "c.pt")
    with pytest.raises(CheckpointError, match="'bias' holds NaN or infinite"):
        load_checkpoint(nn.Linear(2, 2), tmp_path / "c.pt")
