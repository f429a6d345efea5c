"""How words on a command line become settings, and which words there are."""

from collections.abc import Mapping, Sequence
from pathlib import PurePath

from pydantic import ValidationError

from flows.entry_points import COMMANDS, ENTRY_POINTS, EntryPoint, nearest
from flows.errors import SettingsError
from flows.settings import Settings

# Where things lie and what they run on: who repeats a run has places and a machine of their own.
PLACES = (
    *("data_root", "cache", "tracking_uri", "experiment", "device", "threads"),
    *("workers", "task_runner", "dask_address"),
)


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
        words[name] = value
    require_words(point, words)
    return words


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
        raise SettingsError("; ".join(_fault(values, item["loc"], item["msg"]) for item in error.errors())) from error


def inherit(point: EntryPoint, words: Mapping[str, object], earlier: Settings) -> Settings:
    """The settings of a stage that continues an earlier run.

    Its own settings are as given or by default, all others as in the earlier run; SettingsError where a given value
    contradicts the network or the data of that run.
    """
    given = settings_of(words)
    for name in point.fixed:
        was, now = getattr(earlier, name), getattr(given, name)
        if name in words and now != was:
            raise SettingsError(f"{name}={now}: run {given.run_id} has {name}={was}; leave {name} out, or train anew")
    taken = {name: getattr(given, name) for name in point.accepted if name in point.own or name in words}
    return earlier.model_copy(update=taken)


def data_name(dataset: str) -> str:
    """A data set in titles and pictures: its name, or that of its folder alone."""
    return PurePath(dataset.removeprefix("folder:")).name or dataset


def subject_of(settings: Settings) -> str:
    """What a run is about in a title: the network and the data."""
    return f"{settings.model} on {data_name(settings.dataset)}"


def chosen(point: EntryPoint, settings: Settings) -> dict[str, object]:
    """What an entry point's settings say apart from its defaults; places and machine are left out."""
    usual = settings_of(point.defaults)
    values = {name: getattr(settings, name) for name in point.own if name not in PLACES}
    return {name: value for name, value in values.items() if value != getattr(usual, name)}


def help_of(point: EntryPoint) -> str:
    """The entry point's help: one line per setting, with its default."""
    lines = [f"python -m flows {point.name} [--name value ...]", "", point.summary, ""]
    lines += [_help_line(name, point.defaults.get(name) or _default(name)) for name in point.own]
    if point.after:
        lines += ["", "as in the earlier run, unless given:"]
        lines += [_help_line(name, "as before") for name in point.free]
        lines += ["", "as in the earlier run; another value is refused:", "  " + ", ".join(point.fixed)]
    return "\n".join(lines)


def overview() -> str:
    """The help of the command line as a whole."""
    lines = ["python -m flows <flow> [--name value ...]", "python -m flows <flow> --help", ""]
    return "\n".join(lines + [f"  {point.name:<10} {point.summary}" for point in COMMANDS.values()])


def _help_line(name: str, default: str) -> str:
    return f"  --{name:<17} {Settings.model_fields[name].description} [{default}]"


def _default(name: str) -> str:
    default = Settings.model_fields[name].default
    if name == "run_id":
        return "required"
    return str(default).lower() if isinstance(default, bool) else str(default) or "empty"


def _require_known(point: EntryPoint, name: str) -> None:
    if name in point.accepted:
        return
    if name in Settings.model_fields:
        takers = ", ".join(other.name for other in ENTRY_POINTS.values() if name in other.accepted)
        raise SettingsError(f"flow {point.name} takes no parameter {name!r}; it belongs to: {takers}")
    remedy = f"see python -m flows {point.name} --help"
    raise SettingsError(f"unknown parameter {name!r}{nearest(name, point.accepted)}; {remedy}")


def _fault(values: Mapping[str, object], place: tuple[int | str, ...], message: str) -> str:
    name = str(place[0]) if place else "settings"
    text = message.removeprefix("Value error, ")
    if text.startswith("Input should be"):
        text = "must be" + text.removeprefix("Input should be")
    elif text.startswith("Extra inputs"):
        return f"unknown parameter {name!r}{nearest(name, list(Settings.model_fields))}"
    return f"{name}={values.get(name)}: {text}"
