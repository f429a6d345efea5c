"""The mixed-integer program that scores the units of a trained network, with a dual bound behind the answer.

It knows torch only where a module is lowered, and nothing of training, tracking and orchestration.
"""

from formulation.budget import BudgetSolution, CostTerm, keep_within
from formulation.embed import Masks, embed
from formulation.errors import (
    BudgetTooSmall,
    CheckFailed,
    FormulationError,
    InfeasibleProgram,
    InvalidBounds,
    InvalidBudget,
    InvalidEmbedding,
    InvalidImages,
    InvalidModel,
    InvalidSetting,
    InvalidSolution,
    SolverCrashed,
    SolverFailed,
    SolverUnavailable,
    TimeLimitReached,
    UnsupportedLayer,
)
from formulation.explanation import Pull, Support, explain, find_support
from formulation.importance import importance
from formulation.lowering import Outline, lower, outline
from formulation.masks import (
    CostLimit,
    Distance,
    MaskBudget,
    MaskCertificate,
    MaskData,
    MaskSettings,
    MaskSolution,
    MaskVerdict,
    check_joint_mask,
    check_mask,
    choose_distinct_masks,
    choose_joint_mask,
    choose_mask,
    objective_of,
)
from formulation.network import Layer, Network, Scores, Unstable
from formulation.program_export import linopy_program, write_program
from formulation.ranges import score_ranges
from formulation.score_merging import mean_scores, merged_scores
from formulation.score_settings import ScoreSettings
from formulation.scoring import confirm, propose, score
from formulation.solution import Certificate, DualBound, Round, Solution
from formulation.solve.solvers import require_solver
from formulation.verify import Verdict, check, prove_bound

__all__ = [
    "BudgetSolution",
    "BudgetTooSmall",
    "Certificate",
    "CheckFailed",
    "CostLimit",
    "CostTerm",
    "Distance",
    "DualBound",
    "FormulationError",
    "InfeasibleProgram",
    "InvalidBounds",
    "InvalidBudget",
    "InvalidEmbedding",
    "InvalidImages",
    "InvalidModel",
    "InvalidSetting",
    "InvalidSolution",
    "Layer",
    "MaskBudget",
    "MaskCertificate",
    "MaskData",
    "MaskSettings",
    "MaskSolution",
    "MaskVerdict",
    "Masks",
    "Network",
    "Outline",
    "Pull",
    "Round",
    "ScoreSettings",
    "Scores",
    "Solution",
    "SolverCrashed",
    "SolverFailed",
    "SolverUnavailable",
    "Support",
    "TimeLimitReached",
    "Unstable",
    "UnsupportedLayer",
    "Verdict",
    "check",
    "check_joint_mask",
    "check_mask",
    "choose_distinct_masks",
    "choose_joint_mask",
    "choose_mask",
    "confirm",
    "embed",
    "explain",
    "find_support",
    "importance",
    "keep_within",
    "linopy_program",
    "lower",
    "mean_scores",
    "merged_scores",
    "objective_of",
    "outline",
    "propose",
    "prove_bound",
    "require_solver",
    "score",
    "score_ranges",
    "write_program",
]
