"""The command line: its words become settings, and settings its words."""

import os
from collections.abc import Mapping, Sequence
from pathlib import PurePath

from pydantic import ValidationError

from flows.checkout import own_command
from flows.config.entry_points import ENTRY_POINTS, EntryPoint, nearest
from flows.config.presets import preset_values
from flows.config.settings import PLACES, TRAITS, Settings
from flows.errors import SettingsError

STORED = ("runs", "models")  # kinds of addresses of models in MLflow
FAULTS, LONGEST = 5, 100  # faults told at once; characters of a value that are shown


def words_of(point: EntryPoint, arguments: Sequence[str]) -> dict[str, str]:
    """The settings named on a command line, `--name value` or `--name=value`, still as text.

    Raises SettingsError for an unknown or repeated name, a stray word, a missing value and a missing run_id.
    """
    words: dict[str, str] = {}
    rest = list(arguments)
    while rest:
        word = rest.pop(0)
        if not word.startswith("--"):
            raise SettingsError(f"stray word {word!r}: parameters are written --name value")
        name, has_value, value = word[2:].partition("=")
        name = name.replace("-", "_")
        _require_known(point, name)
        if name in words:
            raise SettingsError(f"{name} is given twice: give it once")
        if not has_value:
            if not rest:
                raise SettingsError(f"{name} has no value: write --{name} value")
            value = rest.pop(0)
        _require_text(name, value)
        words[name] = value
    require_words(point, words)
    return words


def _require_text(name: str, value: str) -> None:
    """Raise SettingsError for a value that no store, log or file could take down."""
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise SettingsError(f"{name}={os.fsencode(value)!r}: must be UTF-8") from error


def require_words(point: EntryPoint, words: Mapping[str, object]) -> None:
    """Raise SettingsError for a name that the entry point does not take, and for a missing run_id."""
    for name in words:
        _require_known(point, name)
    if point.after and not words.get("run_id"):
        stages = " or ".join(point.continues)
        raise SettingsError(f"run_id is missing: {point.name} continues the run of a {stages} stage")


def settings_of(values: Mapping[str, object]) -> Settings:
    """Settings from named values, text or typed; raises SettingsError with every fault in one line."""
    try:
        return Settings.model_validate(dict(values))
    except ValidationError as error:
        raise SettingsError(_faults(values, error)) from error


def settings_of_run(values: Mapping[str, object]) -> Settings:
    """Settings as a run logged them, every one and typed; raises SettingsError with every fault in one line.

    What was added later may be missing: its default says what was done before there was a choice.
    """
    if missing := sorted(set(Settings.model_fields) - set(values) - _added_later()):
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        raise SettingsError(f"it lacks {', '.join(missing[:3])}{more}")
    try:
        return Settings.model_validate(dict(values), strict=True)
    except ValidationError as error:
        raise SettingsError(_faults(values, error)) from error


def _added_later() -> set[str]:
    return {name for name, traits in TRAITS.items() if traits.later}


def inherit(point: EntryPoint, words: Mapping[str, object], earlier: Settings) -> Settings:
    """The settings of a stage that continues an earlier run.

    Its own settings are as given or by default, and so are places and machine that it does not take; all others are as
    in the earlier run. SettingsError where a given value contradicts the network or the data of that run.
    """
    given = settings_of(words)
    for name in point.fixed:
        was, now = getattr(earlier, name), getattr(given, name)
        if name in words and now != was:
            raise SettingsError(f"{name}={now}: run {given.run_id} has {name}={was}; leave {name} out, or train anew")
    taken = {name: getattr(given, name) for name in point.accepted if name in point.own or name in words}
    elsewhere = {name: getattr(given, name) for name in PLACES if name not in point.accepted}
    return earlier.model_copy(update=elsewhere | taken)


def data_name(dataset: str) -> str:
    """A data set in titles and pictures: its name, or that of its folder alone."""
    return PurePath(dataset.removeprefix("folder:")).name or dataset


def model_name(model: str) -> str:
    """A network in titles: the last name of what builds it, without its file or package; a stored model's own name."""
    kind, _, rest = model.partition(":")
    if kind in STORED and rest.strip("/"):
        name, *version = rest.strip("/").split("/")
        return "/".join(version) or name if kind == "runs" else "/".join([name, *version])
    return model.rpartition(":")[2].rpartition(".")[2] if rest else model


def subject_of(settings: Settings) -> str:
    """What a run is about in a title: the network and the data."""
    return f"{model_name(settings.model)} on {data_name(settings.dataset)}"


def chosen(point: EntryPoint, settings: Settings) -> dict[str, object]:
    """What an entry point's settings say apart from its defaults and their preset; places and machine are left out."""
    usual = settings_of({**point.defaults, **preset_values(point, settings.preset)})
    values = {name: getattr(settings, name) for name in point.own if name not in PLACES}
    return {name: value for name, value in values.items() if value != getattr(usual, name)}


def _require_known(point: EntryPoint, name: str) -> None:
    if name in point.accepted:
        return
    if name in Settings.model_fields:
        takers = ", ".join(other.name for other in ENTRY_POINTS.values() if name in other.accepted)
        raise SettingsError(f"flow {point.name} takes no parameter {name!r}; it belongs to: {takers}")
    remedy = f"see {own_command()} {point.name} --help"
    raise SettingsError(f"unknown parameter {name!r}{nearest(name, point.accepted)}; {remedy}")


def _faults(values: Mapping[str, object], error: ValidationError) -> str:
    found = [_fault(values, item["loc"], item["msg"]) for item in error.errors(include_url=False, include_input=False)]
    more = f"; and {len(found) - FAULTS} more" if len(found) > FAULTS else ""
    return "; ".join(found[:FAULTS]) + more


def _shown(value: object) -> str:
    text = str(value) if isinstance(value, str | int | float | bool | None) else f"a {type(value).__name__}"
    text = " ".join(text.split()) if text.split() else text
    return f"{text[:LONGEST]}..." if len(text) > LONGEST else text


def _fault(values: Mapping[str, object], place: tuple[int | str, ...], message: str) -> str:
    name = str(place[0]) if place else "settings"
    text = message.removeprefix("Value error, ")
    for subject in ("Input", "String"):
        if text.startswith(f"{subject} should "):
            text = "must " + text.removeprefix(f"{subject} should ")
    if text.startswith("Extra inputs"):
        return f"unknown parameter {_shown(name)!r}{nearest(name, list(Settings.model_fields))}"
    return f"{name}={_shown(values.get(name))}: {text}"
