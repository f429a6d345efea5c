"""The program in score space: activation bounds, gate semantics, the reduction of all that is stable, propagation of
values and coefficients, cuts, the loss and the sparsity term.

No solver and no linopy here.
"""

from formulation.relaxation.bounds import Box, input_box, propagate
from formulation.relaxation.cut_coefficients import coefficients_of_cuts, cuts_at_once, picked_inputs, read_coefficients
from formulation.relaxation.cuts import NO_GATE, Cuts, SolverDuals, gate_cuts, stack_cuts, stack_priced
from formulation.relaxation.forms import Encoding, Form, plan_network
from formulation.relaxation.gates import ACTIVE, NO_PICK, UNSTABLE, Gate, PoolGate
from formulation.relaxation.inequalities import (
    POOL_FAMILIES,
    RELU_FAMILIES,
    Products,
    one_is_picked,
    pool_duals,
    pool_inequalities,
    relu_duals,
    relu_inequalities,
    split_relu_inequalities,
)
from formulation.relaxation.jacobians import with_jacobians
from formulation.relaxation.loss import (
    cross_entropy,
    groups,
    image_losses,
    lifted_loss_cuts,
    tangent_loss_cuts,
    tangents,
)
from formulation.relaxation.propagation import Trace, backward, backward_in_all, forward, nominal_gate_inputs
from formulation.relaxation.reduction import ReducedBatch, Reduction, pool_gate_of, reduce, relu_gate_of
from formulation.relaxation.sparsity import counted, layer_weight, preference, sparsity

__all__ = [
    "ACTIVE",
    "NO_GATE",
    "NO_PICK",
    "POOL_FAMILIES",
    "RELU_FAMILIES",
    "UNSTABLE",
    "Box",
    "Cuts",
    "Encoding",
    "Form",
    "Gate",
    "PoolGate",
    "Products",
    "ReducedBatch",
    "Reduction",
    "SolverDuals",
    "Trace",
    "backward",
    "backward_in_all",
    "coefficients_of_cuts",
    "counted",
    "cross_entropy",
    "cuts_at_once",
    "forward",
    "gate_cuts",
    "groups",
    "image_losses",
    "input_box",
    "layer_weight",
    "lifted_loss_cuts",
    "nominal_gate_inputs",
    "one_is_picked",
    "picked_inputs",
    "plan_network",
    "pool_duals",
    "pool_gate_of",
    "pool_inequalities",
    "preference",
    "propagate",
    "read_coefficients",
    "reduce",
    "relu_duals",
    "relu_gate_of",
    "relu_inequalities",
    "sparsity",
    "split_relu_inequalities",
    "stack_cuts",
    "stack_priced",
    "tangent_loss_cuts",
    "tangents",
    "with_jacobians",
]
