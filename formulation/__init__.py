"""Which units of a trained network matter, with a solver's proof behind the answer."""

from formulation.budget import BudgetSolution, keep_within
from formulation.checker import Verdict, check
from formulation.costs import Cost
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
    SolverFailed,
    SolverUnavailable,
    TimeLimitReached,
    UnsupportedLayer,
)
from formulation.explanation import Pull, explain
from formulation.export import linopy_program, write_program
from formulation.importance import importance
from formulation.lowering import TRACING, Outline, lower, outline
from formulation.network import Layer, Network, Scores
from formulation.ranges import score_ranges
from formulation.scores import mean_scores, merged_scores
from formulation.scoring import confirm, propose, score
from formulation.settings import ScoreSettings
from formulation.solution import Certificate, Proof, Round, Solution, Undecided
from formulation.solvers import require_solver

__all__ = [
    "TRACING",
    "BudgetSolution",
    "BudgetTooSmall",
    "Certificate",
    "CheckFailed",
    "Cost",
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
    "Masks",
    "Network",
    "Outline",
    "Proof",
    "Pull",
    "Round",
    "ScoreSettings",
    "Scores",
    "Solution",
    "SolverFailed",
    "SolverUnavailable",
    "TimeLimitReached",
    "Undecided",
    "UnsupportedLayer",
    "Verdict",
    "check",
    "confirm",
    "embed",
    "explain",
    "importance",
    "keep_within",
    "linopy_program",
    "lower",
    "mean_scores",
    "merged_scores",
    "outline",
    "propose",
    "require_solver",
    "score",
    "score_ranges",
    "write_program",
]
