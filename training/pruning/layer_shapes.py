"""Layer shapes: what each layer with weights reads and emits for one image, however its weights are called."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from tracing import WEIGHTED, FewerHeads
from training.inference import evaluating, weight_type

_Call = tuple[str, torch.Size, torch.Size]  # the layer, what it reads and what it emits
_Attended = tuple[str, nn.MultiheadAttention, torch.Size, torch.Size, torch.Size]


def layer_shapes(model: nn.Module, example_input: Tensor) -> dict[str, tuple[torch.Size, torch.Size]]:
    """The shapes that each Linear and convolutional layer reads and emits for one image, in the order of the calls.

    Args:
        model: left as it was.
        example_input: [n, ...], of which one image is passed through.

    Returns:
        By layer, of its last call: (shape read, shape emitted), both without the axis of images. Of a Linear layer that
        is not called itself, but whose weight is used (by attention), both with an axis of all places that it is
        applied at.
    """
    return {name: (read, emitted) for name, read, emitted in _calls(model, example_input)}


def layer_places(model: nn.Module, example_input: Tensor) -> dict[str, int]:
    """At how many places of one image each Linear and convolutional layer is applied, all its calls together.

    Args:
        model: left as it was.
        example_input: [n, ...], of which one image is passed through.
    """
    found: dict[str, int] = {}
    for name, _, emitted in _calls(model, example_input):
        layer = model.get_submodule(name)
        assert isinstance(layer, WEIGHTED)
        # The units as they are emitted: a compacted layer may put back among zeros what it has no weights for.
        units = emitted[-1 if isinstance(layer, nn.Linear) else 0]
        found[name] = found.get(name, 0) + emitted.numel() // units
    return found


def attention_multiply_adds(model: nn.Module, example_input: Tensor) -> dict[str, int]:
    """The multiply-adds for one image of the projections that attention layers hold themselves, by the layers' names.

    Queries, keys and values each count with their own tokens, at every call.

    Args:
        model: left as it was.
        example_input: [n, ...], of which one image is passed through.
    """
    found: dict[str, int] = {}
    for name, module, *given in _attentions(model, example_input):
        # A token of width w costs w times the width of what it is projected to.
        found[name] = found.get(name, 0) + module.out_proj.in_features * sum(tokens.numel() for tokens in given)
    return found


def _calls(model: nn.Module, example_input: Tensor) -> list[_Call]:
    """Each use of the layers' weights for one image; those of attention come last."""
    found: list[_Call] = []
    layers = {name: part for name, part in model.named_modules() if isinstance(part, WEIGHTED)}
    inside: set[str] = set()

    def note(name: str, module: nn.Module, args: Any, kwargs: Any, output: Tensor) -> None:
        inside.discard(name)
        found.append((name, _given(module, args, kwargs)[0].shape[1:], output.shape[1:]))

    with ExitStack() as stack:
        for name, part in layers.items():
            entered = part.register_forward_pre_hook(lambda *_, name=name: inside.add(name))
            stack.callback(entered.remove)
        stack.enter_context(_hooked({part: partial(note, name) for name, part in layers.items()}))
        stack.enter_context(_WeightsUsed(layers, inside, found))
        _passed(model, example_input)
    for name, module, queries, _, _ in _attentions(model, example_input):
        if isinstance(module, FewerHeads):
            continue  # it calls the layer
        places = queries.numel() // module.embed_dim
        read, emitted = (torch.Size([places, width]) for width in (module.out_proj.in_features, module.embed_dim))
        found.append((f"{name}.out_proj", read, emitted))
    return found


def _attentions(model: nn.Module, example_input: Tensor) -> list[_Attended]:
    """The calls of attention layers, each with the shapes of queries, keys and values of one image."""
    layers = {name: part for name, part in model.named_modules() if isinstance(part, nn.MultiheadAttention)}
    found: list[_Attended] = []
    if not layers:
        return found

    def note(name: str, module: nn.MultiheadAttention, args: Any, kwargs: Any, _: Any) -> None:
        queries, keys, values, *_ = _given(module, args, kwargs)
        found.append((name, module, queries.shape, keys.shape, values.shape))

    with _hooked({part: partial(note, name) for name, part in layers.items()}):
        _passed(model, example_input)
    return found


def _given(module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> list[Any]:
    """What a call hands over, in the order of the layer's parameters, whether by position or by keyword."""
    return list(inspect.signature(module.forward).bind(*args, **kwargs).arguments.values())


@contextmanager
def _hooked(hooks: Mapping[nn.Module, Callable[..., None]]) -> Iterator[None]:
    with ExitStack() as stack:
        for module, hook in hooks.items():
            stack.callback(module.register_forward_hook(hook, with_kwargs=True).remove)
        yield


def _passed(model: nn.Module, example_input: Tensor) -> None:
    weight = next(model.parameters(), example_input)
    with evaluating(model), torch.no_grad():
        model(example_input[:1].to(weight.device, weight_type(model)))


class _WeightsUsed(TorchFunctionMode):
    """Inside the block, a function that uses a Linear layer's weight outside a call of the layer is noted."""

    def __init__(self, layers: Mapping[str, nn.Module], inside: Collection[str], found: list[_Call]) -> None:
        super().__init__()
        self.names = {id(part.weight): name for name, part in layers.items() if isinstance(part, nn.Linear)}
        self.inside, self.found = inside, found

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        if func is nn.functional.linear:
            given = dict(zip(("input", "weight"), args, strict=False)) | (kwargs or {})
            if (name := self.names.get(id(given["weight"]))) is not None and name not in self.inside:
                self.found.append((name, _places(given["input"]), _places(made)))
        return made


def _places(values: Tensor) -> torch.Size:
    return torch.Size([values.numel() // values.shape[-1], values.shape[-1]])
