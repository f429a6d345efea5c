"""The points of a sweep: the same settings with one value after another of one of them."""

from flows.config.command_line import settings_of
from flows.config.groups import RANGES
from flows.config.settings import Settings
from flows.errors import SettingsError
from naming import FIRST_ORDER


def points_of(settings: Settings) -> tuple[Settings, ...]:
    """The settings of every point, `settings.over` set to each of `settings.values` in turn.

    Raises SettingsError that names the value which is out of range, given twice, or not to be had together with the
    other settings.
    """
    if settings.over == "threshold" and settings.selection != "threshold":
        raise SettingsError(
            f"over=threshold: selection={settings.selection} looks at no threshold; leave selection out, or sweep over "
            f"another setting"
        )
    words = [word.strip() for word in (settings.values or RANGES[settings.over]).split(",")]
    points = tuple(_point(settings, word) for word in words)
    values = [value_of(point) for point in points]
    for place, value in enumerate(values):
        if value in values[:place]:
            raise SettingsError(f"values={settings.values}: {settings.over}={value} is given twice; give it once")
    return points


def value_of(point: Settings) -> object:
    """The value that a point has of the setting swept over."""
    return getattr(point, point.over)


def point_title(point: Settings) -> str:
    """A point's name: the setting swept over and its value."""
    value = value_of(point)
    return f"{point.over}={value:g}" if isinstance(value, float) else f"{point.over}={value}"


def _point(settings: Settings, word: str) -> Settings:
    if not word:
        raise SettingsError(f"values={settings.values}: a value is empty; give values of {settings.over} by commas")
    try:
        point = settings_of({**dict(settings), settings.over: word})
    except SettingsError as error:
        raise SettingsError(f"values={settings.values}: {error}") from error
    if point.gate in FIRST_ORDER and point.radius > 0:
        remedy = "gate=published or gate=exact" if settings.over == "radius" else "radius=0"
        raise SettingsError(
            f"values: {point_title(point)} asks for gate={point.gate} at radius={point.radius:g}, which "
            f"is defined at radius 0 only; give {remedy}, or leave that value out"
        )
    return point
