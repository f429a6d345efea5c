"""Trust in another's run: what its settings name is run or read only where whoever continues it names it as well."""

import json
import shlex
from collections.abc import Mapping

import training
from flows.adapters.library_settings import MODEL_URIS, data_folder
from flows.config import FREE, EntryPoint, Settings, settings_of
from flows.errors import ArtifactError

EXACTLY = ("model", "dataset")  # of the others that lead out of a run one may give one's own


def require_named(point: EntryPoint, words: Mapping[str, object], earlier: Settings) -> None:
    """Raise ArtifactError, with the words to type, where an earlier run names something that `words` do not.

    Needs no name: one of the project's own models and data sets, or torchvision's, and a folder of data that would be
    read anyway. `earlier` are the settings that the run logged. Nothing that they name is touched.
    """
    given = settings_of(words)
    taken = [name for name in leading(earlier) if name in (*point.free, *point.fixed)]
    wrong = [name for name in taken if not _is_named(name, words, given, earlier)]
    if not wrong:
        return
    found = ", ".join(f"{name}={_shown(getattr(earlier, name))}" for name in wrong)
    said = ", ".join(f"{name}={_shown(getattr(given, name))}" for name in wrong if name in words)
    other = f" where this command says {said}" if said else ""
    raise ArtifactError(
        f"run_id={given.run_id}: its settings name {found}{other}; nothing that a run names is run or read unless you "
        f"name it too: {_remedy(wrong, given, earlier)}"
    )


def leading(settings: Settings) -> tuple[str, ...]:
    """Those of the settings that name something outside of the project: code, a folder, options of a solver."""
    # What a run may name that leads out of it: code, folders that are read, options that a solver acts on.
    known = {
        "model": training.is_known(settings.model),
        "dataset": settings.dataset in training.DATASETS,
        "data_root": data_folder(settings) == data_folder(settings.model_copy(update={"data_root": ""})),
        "solver_options": not json.loads(settings.solver_options),
    }
    return tuple(name for name, of_ours in known.items() if not of_ours)


def vouched(logged: Settings, own: Settings) -> Settings:
    """The settings that a run logged, with places of the person's own, whose model they must name.

    Who serves a run may give other settings at the second look than at the first. Raises ArtifactError.
    """
    if logged.model != own.model:
        raise ArtifactError(
            f"the settings of a run name model={_shown(logged.model)} where model={_shown(own.model)} was asked for: "
            f"they have changed meanwhile; start again, and do not trust its store"
        )
    return logged.model_copy(update={name: getattr(own, name) for name in FREE})


def _is_named(name: str, words: Mapping[str, object], given: Settings, earlier: Settings) -> bool:
    if words.get(name) is None:
        return False
    return name not in EXACTLY or getattr(given, name) == getattr(earlier, name)


def _remedy(wrong: list[str], given: Settings, earlier: Settings) -> str:
    values = {name: getattr(earlier, name) for name in wrong}
    if not all(value.isprintable() for value in values.values()):
        return "this cannot be typed, and no honest run says it: train anew"
    if earlier.model.startswith(MODEL_URIS) and "model" in wrong and not given.allow_pickle:
        values["allow_pickle"] = "true"
    typed = " ".join(f"--{name} {shlex.quote(value)}" for name, value in values.items())
    free = [name for name in wrong if name not in EXACTLY]
    own = f" (or {' and '.join(free)} of your own)" if free else ""
    return f"if you trust it, type {typed}{own}"


def _shown(value: str) -> str:
    return value if value.isprintable() else repr(value)
