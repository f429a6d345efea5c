"""A finished score run in a store whose files, database and tags a test rewrites, and its check."""

import hashlib
import json
import sqlite3
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from mlflow import MlflowClient

from flows import stages, tracking
from flows.adapters import artifacts
from flows.errors import ArtifactError, CheckRefused
from flows.tracking import Run
from flows.tracking.file_digests import digest_tag
from formulation import Solution

CERTIFICATE = "solution/certificate.json"


@dataclass(frozen=True)
class ScoredStore:
    """A score run of two sets, the first of them, and the files of the store that holds them."""

    client: MlflowClient
    database: Path
    scored: Run
    solved: Run

    @property
    def solution(self) -> Solution:
        return artifacts.logged_solution(self.solved)

    def folder(self, run: Run) -> Path:
        return Path(urlparse(self.client.get_run(run.run_id).info.artifact_uri).path)

    def rewrite(self, **changes: Any) -> None:
        """Change fields of the certificate, on disk and in the tag of the file's digest."""
        path = self.folder(self.solved) / CERTIFICATE
        path.write_text(json.dumps(json.loads(path.read_text()) | changes, indent=2))
        self.vouch(self.solved, CERTIFICATE)

    def vouch(self, run: Run, file: str) -> None:
        """Let the tag of a file's digest say that the file is what was logged, as whoever changes it would."""
        name = digest_tag(file)
        _, _, task = run.tags()[name].partition(" ")
        digest = hashlib.sha256((self.folder(run) / file).read_bytes()).hexdigest()
        self.tag(run, name, f"{digest} {task}".strip())

    def tell(self, run: Run, **metrics: float) -> None:
        """Change metrics in the database, whatever their step."""
        with sqlite3.connect(self.database, timeout=30) as connection:
            for name, value in metrics.items():
                for table in ("metrics", "latest_metrics"):
                    done = connection.execute(
                        f"UPDATE {table} SET value = ? WHERE run_uuid = ? AND key = ?", (value, run.run_id, name)
                    )
                    assert done.rowcount, name

    def forget_steps(self, run: Run, step: int) -> None:
        """Take the metrics of one step out of the database."""
        with sqlite3.connect(self.database, timeout=30) as connection:
            connection.execute("DELETE FROM metrics WHERE run_uuid = ? AND step = ?", (run.run_id, step))

    def param(self, name: str, value: str) -> None:
        with sqlite3.connect(self.database, timeout=30) as connection:
            done = connection.execute(
                "UPDATE params SET value = ? WHERE run_uuid = ? AND key = ?", (value, self.scored.run_id, name)
            )
            assert done.rowcount

    def tag(self, run: Run, name: str, value: str) -> None:
        self.client.set_tag(run.run_id, name, value)


def check_run(store: ScoredStore) -> str:
    """Check the score run; all reasons for which it is refused, empty where it holds."""
    trained = tracking.find_stage(store.scored, "train")
    with tracking.open_run(store.scored, "check", {"stage": "check"}) as run:
        try:
            stages.check_solutions(
                artifacts.logged_settings(store.scored), store.scored, trained, on_part=tracking.teller(run)
            )
        except CheckRefused as error:
            reasons = [str(error)]
            for number in (1, 2):
                with suppress(ArtifactError):  # refused before its programs were looked at
                    reasons.append(str(run.json(f"scoring_set_{number}.json").get("reason", "")))
            return " ".join(reasons)
    return ""


Forgery = Callable[[ScoredStore], None]


def refusal_of(store: ScoredStore, forgery: Forgery) -> str:
    """The reasons for which a forged run is refused."""
    forgery(store)
    return check_run(store)
