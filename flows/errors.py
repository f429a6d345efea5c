"""The errors a person can cause here: one line each, with what was found, where, and what to do."""


class FlowError(Exception):
    """Base of every error of the flows that a person can cause."""


class SettingsError(FlowError):
    """A parameter that is unknown, missing, of the wrong type or out of range."""


class HandOverError(FlowError):
    """An earlier run that is missing, or lacks what this stage continues from."""


class StoreError(FlowError):
    """A tracking store that cannot be reached or opened."""


class ServerError(FlowError):
    """A Prefect server that is named but not there."""


class CompactRefused(FlowError):
    """A compacted network whose outputs are not those of the network it was made from."""


class CheckRefused(FlowError):
    """At least one stored solution that does not hold when it is computed again."""


class BudgetExceeded(FlowError):
    """Masks under which a network costs more than its budget."""


class CacheError(FlowError):
    """A folder of finished work that cannot be written to."""
