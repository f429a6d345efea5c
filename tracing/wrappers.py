"""Wrappers and reparametrised layers: what stands before a model's own layers and weights, with the way past it."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.parameter import UninitializedBuffer, UninitializedParameter
from torch.nn.utils.parametrize import is_parametrized
from torch.nn.utils.prune import BasePruningMethod

from tracing.errors import Untraceable

# Each holds the network that it runs as the attribute of that name.
WRAPPERS: tuple[tuple[type[nn.Module], str, str], ...] = (
    (nn.DataParallel, "a DataParallel", "module"),
    (nn.parallel.DistributedDataParallel, "a DistributedDataParallel", "module"),
    (torch.optim.swa_utils.AveragedModel, "an AveragedModel", "module"),
)
# What computes a layer's weight before each call, by its class's own name: torch's older ways.
REMOVALS = {
    "WeightNorm": "torch.nn.utils.remove_weight_norm({layer})",
    "SpectralNorm": "torch.nn.utils.remove_spectral_norm({layer})",
}


def require_plain(model: nn.Module) -> None:
    """Raise Untraceable where a wrapper hides the layers' names, or a layer's weights are not parameters with values.

    Names and weights are what masks act on: a verb that took such a module would give another what it refuses.

    Args:
        model: looked at, never called.

    Raises:
        Untraceable: one line with the module to give instead, or the call that makes it plain.
    """
    if not isinstance(model, nn.Module):
        raise Untraceable(f"the model is a {type(model).__name__}: give a torch.nn.Module, not its weights")
    for name, module in model.named_modules():
        where = f"'{name}' of the model" if name else "the model"
        access = f"model.get_submodule({name!r})" if name else "model"
        fault = next(_faults(module, access, whole=not name), None)
        if fault is not None:
            raise Untraceable(f"{where} {fault}")


def _faults(module: nn.Module, access: str, *, whole: bool) -> Iterator[str]:
    for kind, what, held in (*WRAPPERS, *_compiled()):
        if isinstance(module, kind):
            yield f"is {what}: give {access}.{held}" + ("" if whole else " in its place")
    if isinstance(module, torch.jit.ScriptModule):
        yield "is a torch.jit module, whose layers cannot be read: give the torch module that it was made of"
    if whole and isinstance(module, fx.GraphModule) and list(module.parameters()) and not _calls_layers(module):
        yield "is an exported program, which has no layers: give the torch module that it was exported from"
    held_by = dict(module.named_children()).get("parametrizations")
    if is_parametrized(module) and isinstance(held_by, nn.ModuleDict):
        first = next(iter(held_by))
        yield (
            f"has its {first!r} computed by a parametrisation: call "
            f"torch.nn.utils.parametrize.remove_parametrizations({access}, {first!r})"
        )
    for hook in module._forward_pre_hooks.values():
        if isinstance(hook, BasePruningMethod):
            called = f"torch.nn.utils.prune.remove({access}, {hook._tensor_name!r})"
            yield f"has its {hook._tensor_name!r} masked by torch.nn.utils.prune: call {called}"
        elif (removal := REMOVALS.get(type(hook).__name__)) is not None:
            yield f"has its weight computed by {type(hook).__name__}: call {removal.format(layer=access)}"
    for name, value in (*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)):
        if isinstance(value, UninitializedParameter | UninitializedBuffer):
            yield f"has a {name!r} without a shape yet: call the model once on an image, then score it"
        elif value.is_meta:
            yield f"has {name!r} on the meta device: call model.to_empty(device='cpu') and load its weights"
    for name, kept in vars(module).items():
        if not name.startswith("_") and _is_computed(kept):
            yield f"keeps the computed tensor {name!r}, which cannot be copied: set {access}.{name} = None"


def _is_computed(kept: Any) -> bool:
    """Whether a value on the tape is kept, by itself or among others."""
    if isinstance(kept, Tensor):
        return kept.grad_fn is not None
    if isinstance(kept, Mapping):
        return any(_is_computed(each) for each in kept.values())
    return isinstance(kept, list | tuple | set) and any(_is_computed(each) for each in kept)


def _compiled() -> Iterator[tuple[type[nn.Module], str, str]]:
    """torch.compile's wrapper, where torch's compiler is imported: nothing is compiled before, and it takes seconds."""
    kind = getattr(sys.modules.get("torch._dynamo"), "OptimizedModule", None)
    if kind is not None:
        yield kind, "torch.compile's wrapper", "_orig_mod"


def _calls_layers(module: fx.GraphModule) -> bool:
    """Whether the graph calls a module with parameters; an exported program reads them by themselves."""
    called = [module.get_submodule(str(call.target)) for call in module.graph.nodes if call.op == "call_module"]
    return any(list(layer.parameters()) for layer in called)
