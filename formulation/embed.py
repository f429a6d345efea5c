"""A trained network as constraints in somebody's own linopy model; what is stable costs nothing there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, assert_never

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from formulation.errors import InvalidBounds, InvalidEmbedding, InvalidModel
from formulation.network import (
    Add,
    Affine,
    Array,
    ChannelGate,
    Differentiable,
    Index,
    MaxPool,
    Network,
    Relu,
    Shift,
    not_lowered,
)
from formulation.relaxation import Box, Encoding, Form, plan_network
from formulation.solve import add_max_pool, add_split_relu, import_linopy, labelled_array, linear_expression

if TYPE_CHECKING:
    from linopy import LinearExpression, Model, Variable

Masks = Mapping[str, Sequence[float] | Array | NDArray[np.bool_]]


def embed(
    model: Model,
    network: Network,
    inputs: Variable | LinearExpression,
    *,
    masks: Masks | None = None,
    name: str = "network",
) -> Variable:
    """Add a network to a linopy model; returns its outputs at `inputs`, exact wherever the inputs are in their bounds.

    The inequalities are those of `relaxation.inequalities` at s = 1. An unstable activation (l < 0 < u) of node k has
    `<name>_hidden_<k>` h in [0, u], `<name>_rest_<k>` r in [0, -l] and the binary `<name>_open_<k>`; its pre-activation
    is split into the two (`<name>_split_<k>`, `<name>_closed_<k>`, `<name>_positive_<k>`).

    An unstable window of a max-pool, over the candidates that can be its maximum, has `<name>_largest_<k>` and one
    binary `<name>_pick_<k>` per candidate; of (5) to (7) (`<name>_above_<k>`, `<name>_below_<k>`, `<name>_one_<k>`) the
    second has the largest upper bound of the *other* candidates.

    The outputs are variables `<name>_output` with their interval bounds, equal to their forms (`<name>_output`).

    Args:
        model: the caller's; changed in place.
        network: as `lower` returns it.
        inputs: variables or expressions of `model` with as many elements as the network has inputs, flattened in
            order. Their variables' bounds are the box: the narrower it is, the fewer binaries are needed.
        masks: kept units (True or 1) by layer; a layer without a mask is whole. A removed unit costs nothing, nor does
            one whose weights are 0 already.
        name: begins the name of everything that is added.

    Returns:
        The outputs over the one dimension `<name>_output`.

    Raises:
        InvalidBounds: an input variable without finite bounds, or weights too large for its bounds.
        InvalidModel: weights that are not finite.
        InvalidEmbedding: a network, input, mask or name that does not fit. All is raised before anything is added.
    """
    import_linopy()
    if not isinstance(network, Network):
        raise InvalidEmbedding(f"{type(network).__name__} is no Network; give formulation.lower(module, example)")
    if not isinstance(name, str) or not name:
        raise InvalidEmbedding(f"name={name!r} is no name; give a word that everything added shall begin with")
    _require_finite(network)
    kept = _kept(network, {} if masks is None else masks)
    labels, form = _read(model, network, inputs)
    unstable, output, bounds = plan_network(network, form, _box(model, labels), kept)
    _require_free_names(model, name, unstable)
    for made in unstable:
        add = _add_relu if isinstance(made.node.op, Relu) else _add_pool
        labels = np.append(labels, add(model, name, made, labels))
    dim = f"{name}_output"
    coords = [(dim, np.arange(network.classes))]
    lower, upper = labelled_array(bounds.lower, coords), labelled_array(bounds.upper, coords)
    outputs = model.add_variables(lower, upper, name=dim)
    model.add_constraints(outputs - _linear(model, output, labels, dim, coords[0][1]) == 0, name=dim)
    return outputs


def _add_relu(model: Model, name: str, made: Encoding, labels: Index) -> Index:
    """Add an encoding's variables and constraints; the labels of its columns."""
    node, positions = made.node.name, made.unstable.activation
    dim = f"{name}_{node}"
    coords = [(dim, positions)]
    hidden = model.add_variables(0.0, labelled_array(made.cap, coords), name=f"{name}_hidden_{node}")
    rest = model.add_variables(0.0, -labelled_array(made.big_m, coords), name=f"{name}_rest_{node}")
    open_ = model.add_variables(coords=coords, binary=True, name=f"{name}_open_{node}")
    # Split, and not as scored ReLUs are: the same relaxation, but W is stored once, not twice, and without a constraint
    # and a column y = W x + b more. On twelve small-change programs (64-24-24-10, 30 to 40 binaries) the three took
    # HiGHS 20, 20 and 22 CPU seconds, within the noise: size decides.
    add_split_relu(
        model, {family: f"{name}_{family}_{node}" for family in ("split", "closed", "positive")},
        y=_linear(model, made.read, labels, dim, positions), hidden=hidden, rest=rest, open_=open_,
        box=(made.big_m, made.cap),
    )  # fmt: skip
    return np.append(hidden.labels.values, open_.labels.values)


def _add_pool(model: Model, name: str, made: Encoding, labels: Index) -> Index:
    """Add an encoding's variables and constraints; the labels of its columns."""
    node, positions, (window, _) = made.node.name, made.unstable.activation, made.unstable.members
    dim, members, each = f"{name}_{node}", f"{name}_candidate_{node}", np.arange(len(window))
    coords = [(dim, positions)]
    lower, upper = labelled_array(made.low, coords), labelled_array(made.cap, coords)
    largest = model.add_variables(lower, upper, name=f"{name}_largest_{node}")
    pick = model.add_variables(coords=[(members, each)], binary=True, name=f"{name}_pick_{node}")
    member = csr_array((np.ones(len(each)), (each, window)), shape=(len(each), len(positions)))
    of_window = Form(member, np.zeros(len(each)))
    of_picks = Form(csr_array(member.T), np.zeros(len(positions)))
    add_max_pool(
        model, {"largest": f"{name}_above_{node}", "picked": f"{name}_below_{node}", "one": f"{name}_one_{node}"},
        output=_linear(model, of_window, largest.labels.values, members, each),
        inputs=_linear(model, made.read, labels, members, each), pick=pick, slack=made.big_m,
        picks=_linear(model, of_picks, pick.labels.values, dim, positions),
    )  # fmt: skip
    return np.append(largest.labels.values, pick.labels.values)


def _linear(model: Model, form: Form, labels: Index, dim: str, positions: Index) -> LinearExpression:
    """Forms as an expression over `dim`; `labels` are linopy's labels of the columns."""
    return linear_expression(model, form.matrix, labels, form.constant, dim).assign_coords({dim: positions})


def _read(model: Model, network: Network, inputs: Variable | LinearExpression) -> tuple[Index, Form]:
    """The labels of the caller's variables and the inputs as forms of them."""
    from linopy import LinearExpression, Variable

    if not isinstance(inputs, Variable | LinearExpression):
        raise InvalidEmbedding(f"inputs are {type(inputs).__name__}; give a linopy Variable or LinearExpression")
    if inputs.model is not model:
        raise InvalidEmbedding("the inputs belong to another linopy model; embed into the model that holds them")
    expression = inputs.to_linexpr() if isinstance(inputs, Variable) else inputs
    constant = expression.const.values.ravel()
    if constant.size != network.inputs:
        shape = expression.const.shape
        raise InvalidEmbedding(f"inputs have {constant.size} elements (shape {shape}), the network {network.inputs}")
    terms = expression.data.transpose(*expression.const.dims, "_term")
    variables, coefficients = (terms[part].values.reshape(network.inputs, -1) for part in ("vars", "coeffs"))
    used = variables >= 0
    missing = isinstance(inputs, Variable) and not used.all()
    if missing or not np.isfinite(constant).all() or not np.isfinite(coefficients[used]).all():
        raise InvalidEmbedding("some inputs are absent or not finite; every element must be a variable or a number")
    labels, column = np.unique(variables[used], return_inverse=True)
    cells = (np.nonzero(used)[0], column)
    return labels, Form(csr_array((coefficients[used], cells), shape=(network.inputs, len(labels))), constant)


def _box(model: Model, labels: Index) -> Box:
    """Bounds of the variables with these labels."""
    box = Box(np.full(len(labels), np.nan), np.full(len(labels), np.nan))
    for name, variable in model.variables.items():
        own = variable.labels.values.ravel()
        read = np.isin(own, labels)
        low, high = variable.lower.values.ravel()[read], variable.upper.values.ravel()[read]
        if unbounded := int((~(np.isfinite(low) & np.isfinite(high))).sum()):
            raise InvalidBounds(
                f"input variable '{name}' has no finite bounds ({unbounded} of {len(low)} elements); "
                "set lower and upper: the big-M of every ReLU comes from them"
            )
        if (low > high).any():
            raise InvalidBounds(f"input variable '{name}' has a lower bound above its upper one; correct its bounds")
        where = np.searchsorted(labels, own[read])
        # a semi-continuous variable may be 0 as well
        box.lower[where] = np.minimum(low, 0.0) if variable.attrs.get("semi_continuous") else low
        box.upper[where] = high
    return box


def _kept(network: Network, masks: Masks) -> Array:
    """One 0 or 1 per unit of all scored layers."""
    if not isinstance(masks, Mapping):
        raise InvalidEmbedding(f"masks is {type(masks).__name__}; give the kept units by layer's name, or None")
    whole: dict[str, Array] = {layer: np.ones(units) for layer, units in network.units.items()}
    for layer, mask in masks.items():
        if layer not in whole:
            raise InvalidEmbedding(f"mask for '{layer}': no such scored layer; the network has {', '.join(whole)}")
        try:
            values = np.asarray(mask, dtype=float)
        except (TypeError, ValueError, RuntimeError):
            values = np.zeros(())  # ragged or no numbers
        if values.shape != whole[layer].shape or not np.isin(values, (0.0, 1.0)).all():
            raise InvalidEmbedding(f"mask for '{layer}' must hold {len(whole[layer])} values that are 0 or 1")
        whole[layer] = values
    return network.stack(whole)


def _require_finite(network: Network) -> None:
    for node in network.nodes:
        match node.op:
            case Affine(weight, bias):
                finite = np.isfinite(weight if isinstance(weight, np.ndarray) else weight.data).all()
                finite &= np.isfinite(bias).all()
            case Shift(_, amount):
                finite = np.isfinite(amount).all()
            case Relu() | ChannelGate() | MaxPool() | Add():
                continue
            case Differentiable():
                raise not_lowered("an embedding")
            case _:
                assert_never(node.op)
        if not finite:
            raise InvalidModel(f"'{node.name}' has weights that are NaN or infinite; load a trained checkpoint")


def _require_free_names(model: Model, name: str, unstable: Sequence[Encoding]) -> None:
    """Raise InvalidEmbedding where the model has something of a name that will be added."""
    names = {f"{name}_output"}
    for made in unstable:
        relu = isinstance(made.node.op, Relu)
        words = "hidden rest open split closed positive" if relu else "largest pick above below one"
        names |= {f"{name}_{word}_{made.node.name}" for word in words.split()}
    if taken := sorted(names & (set(model.variables) | set(model.constraints))):
        raise InvalidEmbedding(f"the model has a '{taken[0]}' already; embed under another name, found name='{name}'")
