"""The errors a person can cause here: one line each, with what was found, where, and what to do."""

from flows.redaction import redacted


class FlowError(Exception):
    """Base of every error of the flows that a person can cause; its text holds no secret.

    `exit_code` is what the command line ends with.
    """

    exit_code = 2

    def __init__(self, text: str = "") -> None:
        super().__init__(redacted(text))


class SettingsError(FlowError):
    """A parameter that is unknown, missing, of the wrong type or out of range."""


class ArtifactError(FlowError):
    """An earlier run that is missing, or lacks what this stage continues from."""


class StoreError(FlowError):
    """A tracking store that cannot be reached or opened, or goes away in the middle."""


class ServerError(FlowError):
    """A Prefect server that is named but not there, does not start, or goes away in the middle."""


class ClusterError(FlowError):
    """A Dask scheduler that goes away in the middle, or all of its workers."""


class CompactRefused(FlowError):
    """A compacted network whose outputs are not those of the network it was made from."""


class CheckRefused(FlowError):
    """At least one stored solution that does not hold when it is computed again."""


class NotProvedOptimal(FlowError):
    """Solutions that hold, at least one of which was ended before its gap was closed."""

    exit_code = 3


class BudgetExceeded(FlowError):
    """Masks under which a network costs more than its budget."""


class CacheError(FlowError):
    """A folder of finished work that cannot be written to."""


class LockError(FlowError):
    """A folder of the cores' locks that is not this user's alone."""
