"""The exceptions of this room: one line each, saying what was found, where, and what to do."""

from __future__ import annotations

# What torch raises where a call does not take its arguments.
REFUSALS = (RuntimeError, TypeError, ValueError, AttributeError, LookupError, AssertionError, ArithmeticError)


class TracingError(Exception):
    """Base of every error that a model or an example can cause in `tracing`."""

    def __init__(self, message: str) -> None:
        # Messages may quote torch, which can run over several lines.
        super().__init__(" ".join(message.split()))


class Untraceable(TracingError):
    """A model whose forward torch.fx cannot follow, as where it branches on values."""


class UnfitExample(TracingError):
    """An example that a call of the model does not take."""


class UnknownSpelling(TracingError):
    """Something other than a module class, a function or a method's name was to be registered as an operation."""


class Unfollowable(TracingError):
    """Units whose way through the network cannot be followed, or that reach the network's output."""


def first_line(error: BaseException) -> str:
    """What an error says, in its first line; its type where it says nothing."""
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
