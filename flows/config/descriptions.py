"""Descriptions of settings: help, type, bounds, choices and default, wherever a person reads them."""

from collections.abc import Iterable
from functools import cache
from typing import Any, get_args

from flows.checkout import own_command
from flows.config.entry_points import COMMANDS, EntryPoint
from flows.config.groups import SettingsGroup
from flows.config.presets import preset_values
from flows.config.settings import GROUPS, PRESETS, Settings

REQUIRED, EMPTY = "required", "empty"
KINDS = {str: "text", int: "whole number", float: "number"}
BOUNDS = {"minimum": "at least", "exclusiveMinimum": "above", "maximum": "at most", "exclusiveMaximum": "below"}
SHOWN = 10**6  # larger bounds say nothing to a person


def help_of(point: EntryPoint) -> str:
    """The entry point's help: its settings by group, a line each with choices or bounds and the default."""
    lines = [f"{own_command()} {point.name} [--name value ...]", "", point.summary]
    for group, names in grouped(point.own):
        lines += ["", f"{title_of(group)}:", *(_help_line(point, name, default_of(point, name)) for name in names)]
    if point.after:
        lines += ["", "As in the earlier run, unless given:"]
        lines += [_help_line(point, name, "as before") for name in point.free]
        lines += ["", "As in the earlier run; another value is refused:", "  " + ", ".join(point.fixed)]
    return "\n".join(lines)


def overview() -> str:
    """The help of the command line as a whole."""
    lines = [
        "python -m flows <flow> [--name value ...]    (installed: critical-neurons <flow> ...)",
        f"{own_command()} <flow> --help",
        f"{own_command()} --version",
        f'{own_command()} --completion bash            (for: eval "$(critical-neurons --completion bash)")',
        "",
    ]
    return "\n".join(lines + [f"  {point.name:<10} {point.summary}" for point in COMMANDS.values()])


def grouped(names: Iterable[str]) -> list[tuple[type[SettingsGroup], list[str]]]:
    """Settings by group, groups and settings in the order in which they are declared; empty groups are left out."""
    wanted = set(names)
    found = [(group, [name for name in group.model_fields if name in wanted]) for group in GROUPS]
    return [(group, inside) for group, inside in found if inside]


def title_of(group: type[SettingsGroup]) -> str:
    """The title of a group: its docstring's sentence."""
    return (group.__doc__ or group.__name__).strip().removesuffix(".")


def description_of(name: str, point: EntryPoint | None = None) -> str:
    """A setting's line of help, at an entry point or wherever it is taken."""
    said = Settings.model_fields[name].description or ""
    if name != "preset":
        return said
    values = {word: PRESETS[word] if point is None else preset_values(point, word) for word in PRESETS}
    sets = [f"{word}: {', '.join(f'{each}={value}' for each, value in all_.items())}" for word, all_ in values.items()]
    return f"{said} ({'; '.join(each for each in sets if not each.endswith(': '))})"


def default_of(point: EntryPoint, name: str) -> str:
    """A setting's default at an entry point, as it would be typed; `required` where there is none."""
    if name == "run_id":
        return REQUIRED
    if name in point.defaults:
        return point.defaults[name]
    default = Settings.model_fields[name].default
    return str(default).lower() if isinstance(default, bool) else str(default) or EMPTY


def is_number(name: str) -> bool:
    """Whether a setting is a number."""
    return Settings.model_fields[name].annotation in (int, float)


def choices_of(name: str) -> tuple[str, ...]:
    """What a setting may be, where that is a list."""
    kind = Settings.model_fields[name].annotation
    return ("true", "false") if kind is bool else tuple(str(each) for each in get_args(kind))


def bounds_of(name: str) -> str:
    """The bounds of a number in words; empty where there are none."""
    found = [(words, _schemas()[name].get(key)) for key, words in BOUNDS.items()]
    return ", ".join(f"{words} {bound:g}" for words, bound in found if bound is not None and bound < SHOWN)


def values_of(name: str) -> str:
    """What a setting may be: its choices, or its type with its bounds."""
    if choices := choices_of(name):
        return _listed(choices)
    kind, bounds = Settings.model_fields[name].annotation, bounds_of(name)
    words = KINDS[kind] if kind in KINDS else str(kind)
    return f"{words}, {bounds}" if bounds else words


@cache
def _schemas() -> dict[str, dict[str, Any]]:
    return dict(Settings.model_json_schema()["properties"])


def _help_line(point: EntryPoint, name: str, default: str) -> str:
    said, choices, bounds = description_of(name, point), choices_of(name), bounds_of(name)
    if choices and choices != ("true", "false") and not all(each in said for each in choices):
        said = f"{said}: {_listed(choices)}"
    elif bounds:
        said = f"{said} ({bounds})"
    return f"  --{name:<17} {said} [{default}]"


def _listed(words: tuple[str, ...]) -> str:
    return f"{', '.join(words[:-1])} or {words[-1]}"
