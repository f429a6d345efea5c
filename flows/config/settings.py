"""Settings: one frozen object behind the command line, the logged parameters and the flows' parameters."""

from collections.abc import Iterable, Mapping
from typing import TypeVar

from flows.config.groups import (
    DataPart,
    ExperimentPart,
    FitPart,
    PrunePart,
    RunPart,
    ScorePart,
    SettingsGroup,
    Traits,
    declared_traits,
)

P = TypeVar("P", bound=SettingsGroup)


# The last comes first: that is the order in which pydantic takes the fields of several classes.
class Settings(RunPart, ExperimentPart, PrunePart, ScorePart, FitPart, DataPart):
    """Everything a flow can be told, flat and by part: `settings.gap` is `settings.score.gap`.

    A field of :mod:`flows.config.groups` says all about a setting. The command line's help, MLproject, the deployments'
    forms and docs/parameters.md are made from it (:mod:`flows.config.generate`). A function that needs one part only is
    typed by it, `(settings: PrunePart)`, and takes these settings as they are.
    Raises pydantic's ValidationError; :func:`flows.config.command_line.settings_of` turns it into one line.
    """

    def only(self, names: Iterable[str]) -> "Settings":
        """These settings without all others: to read one of them is an AttributeError that names it."""
        copy, kept = self.model_copy(), set(names)
        for name in set(type(self).model_fields) - kept:
            copy.__dict__.pop(name, None)
        return copy

    @property
    def data(self) -> DataPart:
        """The settings of data and network."""
        return self._part(DataPart)

    @property
    def fit(self) -> FitPart:
        """The settings of training."""
        return self._part(FitPart)

    @property
    def score(self) -> ScorePart:
        """The settings of scores."""
        return self._part(ScorePart)

    @property
    def prune(self) -> PrunePart:
        """The settings of pruning and what comes after it."""
        return self._part(PrunePart)

    @property
    def trial(self) -> ExperimentPart:
        """The settings of experiments."""
        return self._part(ExperimentPart)

    @property
    def run(self) -> RunPart:
        """The settings of the run itself."""
        return self._part(RunPart)

    def _part(self, part: type[P]) -> P:
        """A part as far as it is here; the values have been looked at before."""
        view = part.model_construct()
        view.__dict__.clear()
        view.__dict__.update((name, value) for name, value in self.__dict__.items() if name in part.model_fields)
        return view


PARTS: tuple[type[SettingsGroup], ...] = (DataPart, FitPart, ScorePart, PrunePart, ExperimentPart, RunPart)
# In the order in which they are declared.
GROUPS: tuple[type[SettingsGroup], ...] = tuple(
    base for part in PARTS for base in reversed(part.__bases__) if issubclass(base, SettingsGroup)
)
TRAITS: Mapping[str, Traits] = {name: declared_traits(field) for name, field in Settings.model_fields.items()}
# Where things lie and who may work: nothing that a task finds depends on them.
FREE = tuple(name for name, each in TRAITS.items() if each.role == "place")
# Where things lie and what they run on: who repeats a run has places and a machine of their own.
PLACES = tuple(name for name, each in TRAITS.items() if each.role in ("place", "machine"))
IDENTITY = tuple(name for name, each in TRAITS.items() if each.identity)
PRESETS: Mapping[str, Mapping[str, str]] = {
    "none": {},
    "published": {name: each.published for name, each in TRAITS.items() if each.published},
}
REPORTED = tuple(name for name, each in TRAITS.items() if each.report)
COLUMNS = tuple(name for name, each in TRAITS.items() if each.column)
