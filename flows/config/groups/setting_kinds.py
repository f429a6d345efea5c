"""Kinds of settings: the bounds of their types, the groups that they stand in, and what is said of them elsewhere."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic.fields import FieldInfo

LONGEST = 10_000  # characters of a text
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Part = Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)]
MOST = 2**31 - 1  # what every library takes as a number of things
Count = Annotated[int, Field(ge=1, le=MOST)]
CountOrNone = Annotated[int, Field(ge=0, le=MOST)]
# More start no faster, and the system refuses to start them.
Threads = Annotated[int, Field(ge=1, le=1024)]
# Longer than any wait that an operating system knows: 31 years.
Seconds = Annotated[float, Field(gt=0, le=1e9, allow_inf_nan=False)]
# training.RULES, spelled out because importing torch takes seconds and help needs none of it.
Control = Literal[
    "random", "critical", "l1_norm", "l2_norm", "mean_activation", "dead", "taylor", "mean_taylor", "squared_taylor",
    "snip", "structured_obs", "fisher_obs",
]  # fmt: skip
RuleName = Literal["program", Control]
CONTROLS: tuple[str, ...] = get_args(Control)
UNRANKED, NEVER = 100, -1  # ranks in a title: after those that people compare; not as name=value


@dataclass(frozen=True)
class Traits:
    """What is said of a setting outside of its field: a field has them in its annotation.

    Attributes:
        title: rank in the titles of runs, the smallest first, fields of one rank as they are declared; NEVER: it stands
            in titles otherwise, or says nothing there.
        report: whether the table of the report shows it.
        sweep: the values of a sweep over it where none are given, by commas; empty: there is no such sweep.
        published: its value in `preset=published`; empty: the preset leaves it alone.
        identity: whether it says which network and which data a run was about, so that who continues it cannot change
            it.
        role: `choice`; `place`: where things lie and who may work, which no result depends on; `machine`: what a run
            is computed on. Whoever repeats a run has places and a machine of their own.
        later: whether earlier runs do not have it: its default says what was done before there was a choice.
        column: whether it has a column in the table of runs.
    """

    title: int = UNRANKED
    report: bool = False
    sweep: str = ""
    published: str = ""
    identity: bool = False
    role: Literal["choice", "machine", "place"] = "choice"
    later: bool = False
    column: bool = False


PLACE, IDENTITY = Traits(role="place"), Traits(identity=True)


class SettingsGroup(BaseModel):
    """Settings that are about one thing: its first sentence is their title, in the help and in the documents."""

    # Deferred, because groups and parts are only looked at: one validator is needed, that of all settings.
    model_config = ConfigDict(
        frozen=True, extra="forbid", protected_namespaces=(), str_max_length=LONGEST, defer_build=True
    )

    # mypy knows the fields; what is seen here is missing from one object.
    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            """Refuse a setting that this object was made without (:meth:`flows.config.settings.Settings.only`)."""
            if name in type(self).model_fields:
                raise AttributeError(f"setting {name!r} is outside of the part that is given here: have it named there")
            return super().__getattr__(name)


def declared_traits(field: FieldInfo) -> Traits:
    """The traits that a field declares."""
    return next((each for each in field.metadata if isinstance(each, Traits)), Traits())


def require_each_once(items: list[str]) -> None:
    """Raise ValueError for an empty item of a list, and for one that is there twice."""
    if not all(items):
        raise ValueError("an item of the list is empty: write the items with one comma between two")
    for item in items:
        if items.count(item) > 1:
            raise ValueError(f"{item!r} is in the list {items.count(item)} times: give it once")


def _not_empty(value: str) -> str:
    if not value.strip():
        raise ValueError("must not be empty")
    return value


NotEmpty = Annotated[str, AfterValidator(_not_empty)]
