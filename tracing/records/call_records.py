"""Call records: the calls that a forward makes, as torch.fx writes them down, where need be with the example's shapes.

torch.fx follows a forward without values, and so stops where Python itself asks for a shape, as in `len(x)` or
`if x.dim() == 4`. Such a forward is followed again with values, which answer these questions and no others, each time
with another number of images. Numbers that differ must be multiples of the number of images, and become it.
"""

from __future__ import annotations

import contextlib
import inspect
import operator
import threading
import traceback
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, fx, nn

from tracing import table
from tracing.attention import written_out, zeroes_padding
from tracing.errors import REFUSALS, UnfitExample, Untraceable, first_line
from tracing.records.image_counts import CONSTANT, for_any_number

# Numbers of images: two and three have the same half and the same place in most comparisons, seven has neither.
COUNTS = (2, 3, 7)
ALONE = 1  # image: asked too, where the forward takes it
# What may be asked of a tensor: none of it depends on the values.
ASKED = (
    *("shape", "ndim", "dtype", "device", "layout", "size", "dim", "ndimension", "numel", "nelement", "is_cuda"),
    *("is_floating_point", "is_complex", "element_size", "itemsize", "is_quantized", "is_sparse", "is_meta"),
)
ASKING = (torch.numel, torch.is_floating_point, torch.is_complex)


def recorded_calls(model: nn.Module, example: Tensor) -> fx.GraphModule:
    """The calls of the model on images, however many; the model is left as it was.

    Args:
        model: in evaluation mode.
        example: images [n, ...] as the model takes them; the first one alone is used, where its shape is asked for.

    Raises:
        UnfitExample: the forward, or a call of it, does not take the example, in a forward that asks for shapes.
        Untraceable: such a forward computes something else for another number of images.
        Exception: whatever else the forward or torch.fx raises where neither way leads through it.
    """
    try:
        return _traced(OwnThreadTracer(), model)
    except REFUSALS:
        records = {COUNTS[0]: _answered(model, example, COUNTS[0])}
    try:
        records |= {count: _answered(model, example, count) for count in COUNTS[1:]}
    except UnfitExample as error:
        raise _depends(model, str(error)) from error
    with contextlib.suppress(UnfitExample):
        records[ALONE] = _answered(model, example, ALONE)
    try:
        return for_any_number(records)
    except TypeError as error:
        raise _depends(model, str(error)) from error


def _depends(model: nn.Module, found: str) -> Untraceable:
    return Untraceable(
        f"{type(model).__name__} does not do the same for any number of images: {found}; let the forward ask for the "
        "number of images only to reshape, as x.flatten(1) or x.reshape(len(x), -1) do"
    )


def _answered(model: nn.Module, example: Tensor, count: int) -> fx.GraphModule:
    """The calls on so many images.

    Raises UnfitExample also where the forward itself refuses them, as by an assertion on their shape.
    """
    images = example[:1].repeat(count, *[1] * (example.ndim - 1))
    try:
        return _traced(_AnsweringTracer(images), model)
    except REFUSALS as error:
        if not _is_of_the_forward(error):
            raise
        raise UnfitExample(
            f"{type(model).__name__} does not take {count} images of shape {tuple(images.shape[1:])} "
            f"({type(error).__name__}: {first_line(error)}); check the images' shape"
        ) from error


def _is_of_the_forward(error: BaseException) -> bool:
    """Whether the code that is followed raised an error, and not torch.fx, which cannot follow it."""
    *_, last = traceback.walk_tb(error.__traceback__)
    return not last[0].f_globals.get("__name__", "").startswith(("torch.fx", __name__))


def _traced(tracer: OwnThreadTracer, model: nn.Module) -> fx.GraphModule:
    before = set(vars(model))
    try:
        return fx.GraphModule(model, tracer.trace(model), type(model).__name__)
    finally:
        for name in set(vars(model)) - before:
            if name.startswith(CONSTANT):
                delattr(model, name)


class OwnThreadTracer(fx.Tracer):
    """torch.fx's tracer for its own thread: modules that others call meanwhile are called as ever."""

    def __init__(self) -> None:
        super().__init__()
        self.thread = threading.get_ident()
        self.entered: set[nn.Module] = set()  # layers of torch whose calls are followed

    @property
    def idle(self) -> bool:
        """Whether calls are to be made, not recorded."""
        return threading.get_ident() != self.thread

    def create_args_for_root(
        self,
        root_fn: Callable[..., Any],
        is_module: bool,
        concrete_args: dict[str, Any] | tuple[Any, ...] | None = None,
    ) -> tuple[Any, list[Any]]:
        """Images alone: all else that the forward takes has its default, so that Python can branch on it."""
        _, *taken = inspect.signature(root_fn).parameters.values()
        if not taken:
            raise Untraceable("the model's forward takes no images")
        for each in taken[1:]:
            if each.default is each.empty and each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD):
                raise Untraceable(f"the model takes a second input {each.name!r}; it must take images alone")
        return root_fn, [self.root, self.create_proxy("placeholder", taken[0].name, (), {})]

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        leaf = super().is_leaf_module(m, module_qualified_name) or table.is_layer(m)
        return leaf and m not in self.entered

    def call_module(
        self, m: nn.Module, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        if self.idle:
            return forward(*args, **kwargs)
        if zeroes_padding(m, args, kwargs):
            raise Untraceable(
                f"encoder {self.path_of_module(m)!r} with src_key_padding_mask puts 0 at padded tokens in some passes "
                "alone (nested tensors, in evaluation mode without gradients): set its use_nested_tensor = False"
            )
        if (parts := written_out(m, args, kwargs)) is not None:
            self.entered.add(m)
        else:
            self.entered.discard(m)
        return super().call_module(m, forward if parts is None else parts, args, kwargs)

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, Any]) -> Any:
        if self.idle:
            return attr_val
        return super().getattr(attr, attr_val, parameter_proxy_cache)


class _AnsweringTracer(OwnThreadTracer):
    """Computes every call as it is recorded, and answers what is asked of a tensor's form."""

    def __init__(self, images: Tensor) -> None:
        super().__init__()
        self.images, self.computing = images, False
        self.values: dict[fx.Node, Any] = {}

    @property
    def idle(self) -> bool:
        return self.computing or super().idle

    def create_proxy(self, kind: str, target: Any, *more: Any, **named: Any) -> Any:
        made = super().create_proxy(kind, target, *more, **named)
        node = made.node
        value = self._computed(node)
        if (target in ASKED or target in ASKING or _attribute(node) in ASKED) and not isinstance(value, Tensor):
            self.graph.erase_node(node)
            return value
        self.values[node] = value
        return made

    def proxy(self, node: fx.Node) -> fx.Proxy:
        return _Answering(node, self)

    def iter(self, obj: fx.Proxy) -> Iterator[Any]:
        return iter([operator.getitem(obj, k) for k in range(len(self.values[obj.node]))])

    def _computed(self, node: fx.Node) -> Any:
        args, kwargs = fx.map_arg((node.args, node.kwargs), self._value)
        self.computing = True
        try:
            return self._called(node, args, kwargs)
        except REFUSALS as error:
            shapes = [str(tuple(each.shape[1:])) for each in (*args, *kwargs.values()) if isinstance(each, Tensor)]
            raise UnfitExample(
                f"{node.name if callable(node.target) else str(node.target)!r} does not take a value of shape "
                f"{' and '.join(shapes)}: {str(error).splitlines()[0]}; check the image size"
            ) from error
        finally:
            self.computing = False

    def _value(self, node: fx.Node) -> Any:
        # torch.fx makes nodes of a forward's own tensors by itself.
        return self.values[node] if node in self.values else operator.attrgetter(str(node.target))(self.root)

    def _called(self, node: fx.Node, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        match node.op:
            case "placeholder":
                return self.images.clone()
            case "get_attr":
                return operator.attrgetter(str(node.target))(self.root)
            case "call_module":
                return self.root.get_submodule(str(node.target))(*args, **kwargs)
            case "call_method":
                return getattr(args[0], str(node.target))(*args[1:], **kwargs)
            case "call_function" if callable(node.target):
                return node.target(*args, **kwargs)
        return None


def _attribute(node: fx.Node) -> str:
    """The attribute that a call reads; empty for any other call."""
    return str(node.args[1]) if node.op == "call_function" and node.target is getattr else ""


class _Answering(fx.Proxy):
    """A value that says how long it is, and what its attributes are."""

    tracer: _AnsweringTracer

    def __len__(self) -> int:
        return len(self.tracer.values[self.node])

    def __getattr__(self, k: str) -> Any:
        value = self.tracer.values.get(self.node)
        if k in ASKED and isinstance(value, Tensor) and not callable(getattr(value, k)):
            return getattr(value, k)
        if isinstance(value, Tensor) and isinstance(getattr(value, k, None), Tensor):
            return self.tracer.create_proxy("call_function", getattr, (self, k), {})
        return super().__getattr__(k)
