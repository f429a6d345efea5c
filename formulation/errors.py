"""The exceptions of this room: each message says in one line what was found, where, and what to do."""

from typing import Any


class FormulationError(Exception):
    """Base of every error a caller of `formulation` can cause or meet.

    Attributes:
        solutions: what a call that looks for several solutions had found before.
    """

    solutions: tuple[Any, ...] = ()


class InvalidSetting(FormulationError, ValueError):
    """A `ScoreSettings` value outside its range."""


class InvalidImages(FormulationError, ValueError):
    """Images or labels that no program can be written for."""


class InvalidModel(FormulationError, ValueError):
    """A network in training mode, with non-finite weights, or with nothing to score."""


class UnsupportedLayer(FormulationError, NotImplementedError):
    """A layer or operation that cannot be lowered exactly."""


class InvalidBounds(FormulationError, ArithmeticError):
    """Bounds that are inverted or not finite."""


class SolverUnavailable(FormulationError, RuntimeError):
    """A solver that is unknown, not installed, or without a licence."""


class SolverFailed(FormulationError, RuntimeError):
    """A solver that ended without a usable answer: an error, an unbounded or an unknown status."""


class SolverCrashed(SolverFailed):
    """A solver whose process ended before it answered: a crash, or an end by the system for want of memory.

    Attributes:
        relaxation: the `Solution` of the relaxation, which was solved before; None where there is none.
    """

    relaxation: Any = None


class InfeasibleProgram(SolverFailed):
    """The solver calls the program infeasible, although the unpruned network satisfies it."""


class TimeLimitReached(SolverFailed):
    """The time limit passed before any scores better than "everything is critical" were found."""


class CheckFailed(FormulationError, AssertionError):
    """The independent checker refuses a solution."""


class InvalidSolution(FormulationError, ValueError):
    """A stored solution that is damaged or belongs to another network or other images."""


class InvalidEmbedding(FormulationError, ValueError):
    """Inputs, masks or names with which a network cannot be put into a linopy model."""


class InvalidBudget(FormulationError, ValueError):
    """Scores, costs, widths or limits from which no choice of units under a budget can be made."""


class BudgetTooSmall(InvalidBudget):
    """A budget that no allowed choice of widths meets; the message names the smallest that one does."""
