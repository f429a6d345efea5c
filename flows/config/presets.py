"""Presets: several settings by one word, which what is given beside it overrules."""

from collections.abc import Mapping

from pydantic import ValidationError

from flows.config.entry_points import EntryPoint
from flows.config.settings import PRESETS, Settings


def preset_values(point: EntryPoint, word: object) -> dict[str, str]:
    """What a preset sets of an entry point's own settings; nothing for `none` and for a word that is no preset."""
    return {name: value for name, value in PRESETS.get(str(word), {}).items() if name in point.own}


def with_preset(point: EntryPoint, words: Mapping[str, object], *, all_given: bool = False) -> dict[str, object]:
    """The words of an entry point with what their preset sets and they do not.

    Args:
        point: the entry point; of the preset only its own settings count.
        words: settings by name, as text or typed.
        all_given: whether every parameter was passed, chosen or not, as `mlflow run` and forms do: what is at its
            default then counts as not given.

    Returns:
        The words, and those of the preset.
    """
    values = preset_values(point, words.get("preset"))
    kept = {name for name in values if name in words and not (all_given and _is_default(point, name, words[name]))}
    return {**words, **{name: value for name, value in values.items() if name not in kept}}


def _is_default(point: EntryPoint, name: str, value: object) -> bool:
    usual = point.defaults.get(name, Settings.model_fields[name].default)
    try:
        return bool(_typed(name, value) == _typed(name, usual))
    except ValidationError:
        # It is told when all settings are looked at.
        return False


def _typed(name: str, value: object) -> object:
    return getattr(Settings.model_validate({name: value}), name)
