"""The output layer of a model, and a new one in its place for data with another number of classes."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from training.errors import ModelError
from training.inference import check_forward


def find_head(model: nn.Module, images: Tensor) -> str:
    """The qualified name of the model's output layer: the Linear called last, whose outputs are the model's classes.

    Args:
        model: left as it was.
        images: [n, C, H, W], of which one is passed through.

    Raises:
        ModelError: the image does not fit, or no such layer is a module of the model by itself.
    """
    called: list[str] = []
    hooks = [
        module.register_forward_hook(lambda *_, name=name: called.append(name))
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and name
    ]
    try:
        outputs = check_forward(model, images)
    finally:
        for hook in hooks:
            hook.remove()
    last = model.get_submodule(called[-1]) if called else None
    if not isinstance(last, nn.Linear) or last.out_features != outputs:
        found = f"the last Linear is {called[-1]!r} with {last.out_features} outputs" if last else "it calls no Linear"
        raise ModelError(
            f"the output layer of a model with {outputs} outputs cannot be found ({found}): end the model with an "
            f"nn.Linear, or give one with as many outputs as the data has classes"
        )
    return called[-1]


def with_new_head(model: nn.Module, classes: int, images: Tensor, *, seed: int) -> nn.Module:
    """A copy of the model with a new output layer; all other weights are the model's.

    Args:
        model: left as it was, as is torch's global generator.
        classes: outputs of the new layer.
        images: [n, C, H, W], of which one is passed through to find the layer.
        seed: the new weights are drawn from it as torch draws them.

    Raises:
        ModelError: as `find_head`.
    """
    name = find_head(model, images)
    changed = copy.deepcopy(model)
    old = changed.get_submodule(name)
    assert isinstance(old, nn.Linear)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        new = nn.Linear(old.in_features, classes, bias=old.bias is not None)
    new = new.to(old.weight.device, old.weight.dtype).train(old.training)
    above, _, child = name.rpartition(".")
    setattr(changed.get_submodule(above), child, new)
    return changed
