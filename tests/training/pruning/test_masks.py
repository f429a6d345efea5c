from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from tests.training.networks import (
    Bypassed,
    Functional,
    Series,
    chains,
    compact_by_hand,
    drawn_masks,
    example,
    mixed,
    stir,
)
from training.digests import model_digest
from training.errors import MaskError, UnsupportedGraph
from training.pruning import consumers, load_masks, masks_digest, prune, save_masks, validate_masks


def gate_outputs(model: nn.Module, images: Tensor) -> dict[int, Tensor]:
    """What every ReLU of a chain emits, by its position."""
    found = {}
    for position, part in enumerate(model.children()):
        images = part(images)
        if isinstance(part, nn.ReLU):
            found[position] = images
    return found


def gate_of(model: nn.Sequential, layer: str) -> int:
    return next(k for k, part in enumerate(model) if k > int(layer) and isinstance(part, nn.ReLU))


@settings(max_examples=40, deadline=None)
@given(chains(), st.integers(0, 1000), st.sampled_from([0.2, 0.5, 0.8]))
def test_a_removed_unit_emits_exactly_0_and_the_rest_equals_the_network_compacted_by_hand(
    model: nn.Sequential, seed: int, keep: float
) -> None:
    images = example(model)
    masks = drawn_masks(model, list(consumers(model, images)), seed, keep)
    pruned = prune(model, masks, images)
    for layer, emitted in ((layer, gate_outputs(pruned, images)[gate_of(model, layer)]) for layer in masks):
        assert not emitted[:, ~masks[layer]].any()
    torch.testing.assert_close(pruned(images), compact_by_hand(model, masks)(images), atol=1e-5, rtol=1e-4)


def test_removal_equals_gating_the_units_of_the_network_as_it_was() -> None:
    """Zeroing what the ReLUs emit is the definition; grouped convolutions and two readers included."""
    chain = {"0": "2", "4": "6", "9": "11"}
    for model, gates in (
        (mixed(), chain),
        (Functional().eval(), {}),
        (Bypassed().eval(), {}),
        (stir(Series(), 1), {"first": "norm"}),
    ):
        images = example(model)
        masks = drawn_masks(model, list(consumers(model, images)), seed=2)
        hooks = []
        for layer, mask in masks.items():
            kept = torch.from_numpy(mask)
            # Without a module to hook at the gate: a pre-activation of minus infinity is a gate at 0.
            target = model.get_submodule(gates.get(layer, layer))
            fill = 0.0 if layer in gates else -torch.inf
            hooks.append(target.register_forward_hook(lambda _, __, out, k=kept, f=fill: shut(out, k, f)))
        expected = model(images)
        for hook in hooks:
            hook.remove()
        torch.testing.assert_close(prune(model, masks, images)(images), expected, atol=1e-6, rtol=1e-5)


def shut(out: Tensor, kept: Tensor, fill: float) -> Tensor:
    shape = [1, -1] + [1] * (out.ndim - 2)
    return torch.where(kept.reshape(shape), out, torch.tensor(fill))


def test_nothing_that_is_kept_changes_and_the_model_passed_in_is_not_touched() -> None:
    model = mixed()
    images = example(model)
    before = model_digest(model)
    whole = {layer: np.ones(link.units, dtype=bool) for layer, link in consumers(model, images).items()}
    assert model_digest(prune(model, whole, images)) == before
    part = {"0": np.array([True, False, True, True, True, True])}
    pruned = prune(model, part, images)
    assert model_digest(model) == before
    assert torch.equal(pruned[0].weight[2:], model[0].weight[2:])
    # The removed map belongs to the first of the two groups of the next convolution.
    assert not pruned[4].weight[:4, 1].any()
    assert torch.equal(pruned[4].weight[4:], model[4].weight[4:])
    assert torch.equal(pruned[13].weight, model[13].weight)


@pytest.mark.parametrize(
    ("masks", "said"),
    [
        ({"7": np.ones(3, dtype=bool)}, "no such Linear, Conv1d or Conv2d layer; it has 0, 4, 9, 13"),
        ({"1": np.ones(6, dtype=bool)}, "no such Linear, Conv1d or Conv2d layer"),
        ({"0": np.ones(5, dtype=bool)}, r"is bool of shape \(5,\): one bool for each of its 6 units"),
        ({"0": np.ones(6)}, "is float64"),
        ({"0": [True] * 6}, "is list"),
        ({"0": np.zeros(6, dtype=bool)}, "removes all 6 units"),
    ],
)
def test_masks_that_do_not_fit_are_refused_by_layer(masks: dict[str, np.ndarray], said: str) -> None:
    with pytest.raises(MaskError, match=said):
        validate_masks(mixed(), masks)
    with pytest.raises(MaskError, match=said):
        prune(mixed(), masks, example(mixed()))


def test_the_output_layer_cannot_be_masked() -> None:
    with pytest.raises(UnsupportedGraph, match="layer '13' reaches the model's output"):
        prune(mixed(), {"13": np.array([True, False, True])}, example(mixed()))


@settings(max_examples=20)
@given(st.dictionaries(st.sampled_from(["file", "a.b", "conv1", "0"]), st.lists(st.booleans(), min_size=1), min_size=1))
def test_saved_masks_come_back(tmp_path_factory: pytest.TempPathFactory, drawn: dict[str, list[bool]]) -> None:
    masks = {layer: np.array(kept) for layer, kept in drawn.items()}
    path = tmp_path_factory.mktemp("masks") / "masks.npz"
    save_masks(masks, path)
    again = load_masks(path)
    assert list(again) == list(masks)
    assert masks_digest(again) == masks_digest(masks)
    assert masks_digest(dict(reversed(masks.items()))) == masks_digest(masks)
    assert [entry.name for entry in path.parent.iterdir()] == ["masks.npz"]


def test_unreadable_masks_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "masks.npz"
    with pytest.raises(MaskError, match="cannot be read"):
        load_masks(path)
    save_masks({"a": np.array([True])}, path)
    for content in (path.read_bytes()[:30], b"", b"text"):
        path.write_bytes(content)
        with pytest.raises(MaskError, match="cannot be read"):
            load_masks(path)
    np.savez(path, a=np.zeros(3))
    with pytest.raises(MaskError, match="'a' is float64"):
        load_masks(path)
