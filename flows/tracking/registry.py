"""The model registry: new versions of a name, and the alias of the best of them."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass

import mlflow
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from flows.errors import StoreError
from flows.redaction import reason_of
from flows.tracking.logged_run import Run
from flows.tracking.stores import reached, shown

CHAMPION = "champion"
VERSIONS_TAG = "mlflow.modelVersions"  # on a model: MLflow's own list of its versions
VALIDATION, COST, IMAGES, SOURCE = "validation_accuracy", "multiply_adds", "dataset", "source_run_id"
IMAGES_DIGEST = "dataset_digest"
QUOTES = "'\"`\\"
MISSING, TAKEN = "RESOURCE_DOES_NOT_EXIST", "RESOURCE_ALREADY_EXISTS"


@dataclass(frozen=True)
class NewVersion:
    """A network that is to be a new version of a name.

    Attributes:
        name: in the registry.
        model_uri: the address of the MLflow model, `models:/<model id>`.
        description: in Markdown.
        tags: as text: the figures `VALIDATION` (a share) and `COST` decide, `IMAGES` and `IMAGES_DIGEST` say on which
            images, and `SOURCE` is the run whose network it is, which has one version of a name.
    """

    name: str
    model_uri: str
    description: str
    tags: Mapping[str, str]


@dataclass(frozen=True)
class ChampionChoice:
    """Whether a candidate takes the champion's place, and why."""

    better: bool
    why: str


def judged(
    candidate: Mapping[str, str], champion: Mapping[str, str] | None, rule: str, tolerance: float
) -> ChampionChoice:
    """Compare a candidate with the champion, if there is one, by their tags.

    Args:
        candidate: its tags.
        champion: those of the present champion; None: there is none.
        rule: `accuracy`: higher validation accuracy; `multiply_adds`: fewer multiply-adds, at a validation accuracy
            that is lower by no more than the tolerance.
        tolerance: in points, hundredths of a share.

    Returns:
        The choice. Equals stay behind, and so does whoever was measured on other data or whose figures are missing.
    """
    if champion is None:
        return ChampionChoice(True, "there was none")
    if champion.get(IMAGES_DIGEST) != candidate[IMAGES_DIGEST]:
        other = champion.get(IMAGES, "unknown data")
        other = f"other images of {other}" if other == candidate[IMAGES] else other
        return ChampionChoice(False, f"that one was measured on {other}, not on these of {candidate[IMAGES]}")
    before, now = ({name: _number(each.get(name)) for name in (VALIDATION, COST)} for each in (champion, candidate))
    if missing := [name for name, value in before.items() if not math.isfinite(value)]:
        return ChampionChoice(False, f"that one has no figure {' and '.join(missing)} to compare with")
    points = 100 * (now[VALIDATION] - before[VALIDATION])
    words = f"validation accuracy {100 * now[VALIDATION]:.2f} % against {100 * before[VALIDATION]:.2f} %"
    if rule == "accuracy":
        return ChampionChoice(points > 0, words)
    words = f"{now[COST]:,.0f} multiply-adds against {before[COST]:,.0f}, {words}, {tolerance:g} points allowed"
    return ChampionChoice(now[COST] < before[COST] and points >= -tolerance, words)


def require_registry(uri: str, name: str) -> None:
    """Raise StoreError where the store has no model registry, or none that takes such a name; nothing is written."""
    if found := sorted(set(QUOTES) & set(name)):
        raise StoreError(f"register_as={name}: must not contain {' '.join(found)}")
    try:
        MlflowClient(uri).get_registered_model(name)
    except MlflowException as error:
        if error.error_code != MISSING:
            raise StoreError(
                f"register_as={name}: the model registry of {shown(uri)} refuses it: {reason_of(error, uri)}"
            ) from error


def register_network(run: Run, candidate: NewVersion, rule: str, tolerance: float) -> str:
    """Register a run's model as a version of a name, once, and make it the champion where it is better.

    Args:
        run: the run that logged the model.
        candidate: what is registered.
        rule, tolerance: as of :func:`judged`.

    Returns:
        A line that says what was done, and why.

    Raises:
        StoreError: the store does not answer, or refuses.
    """
    name = candidate.name
    with reached(run.uri) as client:
        version = _version(client, run, candidate)
        champion = client.get_registered_model(name).aliases.get(CHAMPION)
        what = f"{name} version {version.version}"
        if str(champion) == str(version.version):
            return f"{what} is the {CHAMPION} already"
        present = None if champion is None else client.get_model_version(name, champion).tags
        verdict = judged(candidate.tags, present, rule, tolerance)
        if verdict.better:
            client.set_registered_model_alias(name, CHAMPION, version.version)
            was = "" if champion is None else f" in place of version {champion}"
            return f"{what} registered, and made {CHAMPION}{was}: {verdict.why} (champion_rule={rule})"
        return f"{what} registered; the {CHAMPION} stays version {champion}: {verdict.why} (champion_rule={rule})"


def _version(client: MlflowClient, run: Run, candidate: NewVersion) -> ModelVersion:
    """The version of the network that was registered before, or a new one; the UI finds it from the model as well."""
    try:
        client.create_registered_model(candidate.name)
    except MlflowException as error:
        if error.error_code != TAKEN:
            raise
    model_id = candidate.model_uri.rpartition("/")[2]
    # By the run whose network it is: the run on top is another when `mlflow run` goes on with an interrupted one.
    found = client.search_model_versions(f"name='{candidate.name}' and tags.`{SOURCE}`='{candidate.tags[SOURCE]}'")
    # The registry looks the model up by MLflow's own address of the store.
    mlflow.set_tracking_uri(run.uri)
    version = found[0] if found else _new_version(client, run, candidate, model_id)
    listed = json.loads(client.get_logged_model(model_id).tags.get(VERSIONS_TAG, "[]"))
    own = {"name": candidate.name, "version": version.version}
    if own not in listed:
        client.set_logged_model_tags(model_id, {VERSIONS_TAG: json.dumps([*listed, own])})
    return version


def _new_version(client: MlflowClient, run: Run, candidate: NewVersion, model_id: str) -> ModelVersion:
    return client.create_model_version(
        candidate.name,
        candidate.model_uri,
        run_id=run.run_id,
        tags=dict(candidate.tags),
        description=candidate.description,
        model_id=model_id,
    )


def _number(text: str | None) -> float:
    try:
        return float(text or "nan")
    except ValueError:
        return math.nan
