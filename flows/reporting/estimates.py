"""A mean over repetitions, how far it is known, and the two in words."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean

LEVEL = 0.95


@dataclass(frozen=True)
class Estimate:
    """A mean over n values, its standard error s / sqrt(n) and its 95 % interval; the last three None where n is 1.

    The interval is mean +- t stderr, t the 97.5 % quantile of Student's distribution with n - 1 degrees of freedom: it
    takes the values for independent and about normal.
    """

    mean: float
    values: int
    stderr: float | None = None
    low: float | None = None
    high: float | None = None

    def metrics(self, name: str) -> dict[str, float]:
        """What is known of it, as metrics whose names begin with `name`."""
        known = {"mean": self.mean, "stderr": self.stderr, "low": self.low, "high": self.high}
        return {f"{name}_{part}": value for part, value in known.items() if value is not None}

    def in_percent(self) -> str:
        """Mean and, in parentheses, standard error in %."""
        error = "" if self.stderr is None else f" ({100 * self.stderr:.2f})"
        return f"{100 * self.mean:.2f}{error}"

    def in_points(self) -> str:
        """A difference in percentage points, signed, with its interval."""
        if self.low is None or self.high is None:
            return f"{100 * self.mean:+.2f}"
        return f"{100 * self.mean:+.2f} [{100 * self.low:+.2f}, {100 * self.high:+.2f}]"


def estimate(values: Sequence[float]) -> Estimate:
    """The estimate from one value or more."""
    if len(values) == 1:
        return Estimate(values[0], 1)
    from scipy.stats import sem  # here, because it takes seconds to import
    from scipy.stats import t as student

    centre, error = mean(values), float(sem(values))
    # At scale 1, for at scale 0, where all values are alike, scipy's interval is NaN.
    low, high = (centre + error * float(end) for end in student.interval(LEVEL, len(values) - 1))
    return Estimate(centre, len(values), error, low, high)
