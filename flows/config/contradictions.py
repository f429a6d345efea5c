"""Contradictions between settings: what can be refused from the words alone, before anything heavy is imported."""

from collections.abc import Mapping

from flows.config.command_line import chosen, settings_of
from flows.config.entry_points import EntryPoint
from flows.config.presets import with_preset
from flows.config.settings import Settings
from flows.errors import SettingsError

# Settings that say how much goes, each with the selections that read it.
READ_BY: Mapping[str, tuple[str, ...]] = {
    "threshold": ("threshold",),
    "share": ("share", "quantile", "program"),
    "budget": ("budget",),
    "budget_on": ("budget",),
    "refit_weight": ("program",),
    "temperature": ("program",),
    "tolerance": ("tolerance",),
}


def require_agreeing_words(point: EntryPoint, words: Mapping[str, object], *, all_given: bool = False) -> None:
    """As `require_agreement`, of words as they are typed; `all_given` as for :func:`flows.config.with_preset`."""
    require_agreement(point, settings_of({**point.defaults, **with_preset(point, words, all_given=all_given)}))


def require_agreement(point: EntryPoint, settings: Settings) -> None:
    """Raise SettingsError where settings of an entry point contradict each other, or its purpose."""
    if point.name == "robustness" and settings.scoring_sets == 1:
        raise SettingsError("scoring_sets=1: agreement is one of pairs of sets; give 2 or more")
    if point.name == "reproduce" and not settings.epochs:
        raise SettingsError("epochs=0 trains nothing, and the table is about trained networks: give 1 or more")
    if "selection" not in point.own:
        return
    _require_read(point, settings)
    _require_selection(point, settings)


def _require_read(point: EntryPoint, settings: Settings) -> None:
    """Raise SettingsError for a setting of another selection that was chosen where the selection was not."""
    given = chosen(point, settings)
    if "selection" in given:
        return
    for name, readers in READ_BY.items():
        if name in given and settings.selection not in readers:
            raise SettingsError(
                f"{name}={given[name]} says nothing to selection={settings.selection}: give "
                f"selection={' or '.join(readers)} too, or leave {name} out"
            )


def _require_selection(point: EntryPoint, settings: Settings) -> None:
    if settings.selection == "threshold" and settings.rule != "program":
        raise SettingsError(
            f"selection=threshold is one of the program's scores, found rule={settings.rule}: give selection="
            f"layer_mean, share, quantile or budget"
        )
    if settings.selection == "program" and settings.rule != "program":
        raise SettingsError(f"selection=program ranks nothing by rule={settings.rule}: leave rule out")
    if settings.selection == "program" and point.name == "robustness":
        raise SettingsError("selection=program reads no scores, whose sets robustness compares: give another")
    if point.name == "gradual" and settings.rule == "critical":
        raise SettingsError(
            "rule=critical turns round the scores of a score stage, which gradual has none of: give another"
        )
    if settings.selection == "tolerance" and point.name in ("robustness", "gradual"):
        raise SettingsError(
            f"selection=tolerance measures pruned networks in a prune stage, which {point.name} has none of: give "
            f"selection=share, quantile or budget"
        )
