"""Redaction of addresses and of texts about them: no secret is left, and all else is."""

import pytest

from flows.config.settings import Settings
from flows.errors import StoreError
from flows.redaction import is_secret, redacted

SECRET = {
    "http://u:S3cretWord@h:5000": "http://***@h:5000",
    "http://S3cretWord@h:5000/x": "http://***@h:5000/x",
    "https://:S3cretWord@h": "https://***@h",
    "http://u:S3cret%40Word@h:5000": "http://***@h:5000",
    "http://u:S3cret/Word@h:5000": "http://***@h:5000",
    "http://u:S3cret#/Word@h:5000": "http://***@h:5000",
    "postgresql+psycopg2://u:S3cret@Word@h:5432/db": "postgresql+psycopg2://***@h:5432/db",
    "postgresql://u@h/db?sslmode=require&password=S3cretWord": "postgresql://***@h/db?sslmode=require&password=***",
    "postgresql:///db?user=u;token=S3cretWord": "postgresql:///db?user=***&token=***",
    "mysql+pymysql://u:S3cret;Word=1@h/db": "mysql+pymysql://***@h/db",
    "http://h:5000?S3cretWord": "http://h:5000?***",
    "http://h:5000/#S3cretWord": "http://h:5000/#***",
    "ftp://u:S3cretWord@h/root": "ftp://***@h/root",
    "http://u:S3cretWord@h/path@v2": "http://***@v2",
}
HARMLESS = (
    *("sqlite:////home/a@b/m.db", "https://h/#/experiments/1/runs/2", "file:///x/y@z", "http://[::1]:5000"),
    *("tcp://127.0.0.1:8786", "postgresql://h1:1,h2:2/db?connect_timeout=2", "models:/name/1", "folder:a@b", ""),
)


@pytest.mark.parametrize(("address", "shown"), SECRET.items())
def test_an_address_is_shown_without_its_secret(address: str, shown: str) -> None:
    assert redacted(address) == shown
    assert redacted(f"store {address}: away, see {address}") == f"store {shown}: away, see {shown}"
    assert redacted(shown) == shown
    assert is_secret(address)


@pytest.mark.parametrize("address", HARMLESS)
def test_an_address_without_a_secret_is_shown_as_it_is(address: str) -> None:
    assert redacted(address) == address
    assert not is_secret(address)


@pytest.mark.parametrize("address", SECRET)
@pytest.mark.parametrize("known", ["given", "environment"])
def test_what_others_quote_of_a_known_address_is_hidden(
    address: str, known: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = 'no host "S3cretWord", "S3cret@Word" (S3cret%40Word), S3cret/Word S3cret#/Word S3cret;Word=1'
    if known == "environment":
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    found = redacted(said, *([address] if known == "given" else []))
    assert found != said
    # As this address spells it, and as it is meant.
    for spelt in ("S3cretWord", "S3cret%40Word", "S3cret/Word", "S3cret#/Word", "S3cret@Word", "S3cret;Word=1"):
        assert spelt not in address or spelt not in found
    assert "S3cret@Word" not in found or "%40" not in address


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("host=h password=S3cret user=u", "host=h password=*** user=u"),
        ("host=h password='S3 cret' user=u", "host=h password=*** user=u"),
        ("with url: /?token=S3cret/api/2.0", "with url: /?token=***"),
        ("author=Bob design=1 run_id=12 tokens=3", "author=Bob design=1 run_id=12 tokens=3"),
    ],
)
def test_a_named_secret_is_hidden_in_any_text(text: str, shown: str) -> None:
    assert redacted(text) == shown


def test_a_word_that_is_a_short_password_is_hidden_as_a_word_alone() -> None:
    assert (
        redacted("role db is not in mydb or db2 or (db)", "mysql://u:db@h") == "role *** is not in mydb or db2 or (***)"
    )


def test_errors_and_settings_hold_no_secret_where_they_are_shown_or_stored() -> None:
    address = "http://u:S3cretWord@h:5000"
    settings = Settings(tracking_uri=address)
    assert settings.tracking_uri == address
    assert str(StoreError(f"tracking store {address} is away")) == "tracking store http://***@h:5000 is away"
    for shown in (repr(settings), str(settings), settings.model_dump_json(), repr(settings.model_dump())):
        assert "S3cretWord" not in shown
