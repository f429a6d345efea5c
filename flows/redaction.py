"""Redaction: addresses and texts without the secrets that they hold, for whatever is shown, logged or stored.

A secret is a password, a user of a web address without one (a token), the value of a parameter behind a question mark
that says nothing harmless, and what follows a number sign. `redacted` is the one function; errors, log lines, what runs
are told and what Prefect is told all go through it.
"""

import json
import os
import re
from collections.abc import Iterable, Iterator
from urllib.parse import quote, quote_plus, unquote, unquote_plus

MARK = "***"
REMEMBERED = "CRITICAL_NEURONS_SECRET_ADDRESSES"  # of this process and those that it starts
ADDRESSES = (
    *("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI", "MLFLOW_ARTIFACTS_DESTINATION", "MLFLOW_BACKEND_STORE_URI"),
    *("PREFECT_API_URL", "PREFECT_UI_URL", "PREFECT_SERVER_DATABASE_CONNECTION_URL"),
    *("PREFECT_API_DATABASE_CONNECTION_URL", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"),
    *("http_proxy", "https_proxy", "all_proxy"),
)
SECRETS = (
    *("MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN", "PREFECT_API_KEY", "PREFECT_API_AUTH_STRING"),
    *("PREFECT_SERVER_API_AUTH_STRING", "PREFECT_SERVER_DATABASE_PASSWORD", "PGPASSWORD", "MYSQL_PWD"),
    *("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AZURE_STORAGE_ACCESS_KEY", "AZURE_STORAGE_CONNECTION_STRING"),
)
# Parameters of drivers that say nothing about who may come in.
HARMLESS = (
    *("sslmode", "sslrootcert", "sslcert", "sslkey", "connect_timeout", "target_session_attrs", "charset", "driver"),
    *("client_encoding", "keepalives", "keepalives_idle", "gssencmode", "timeout", "check_same_thread", "mode"),
    *("cache", "uri", "ssl", "ssl_ca", "ssl_cert", "ssl_key", "region", "workspace"),
)
NAMED = "password|passwd|pwd|passphrase|token|secret|api_?key|apikey|access_?key|sas|sig|signature|credential|auth"
# What follows the scheme up to a blank, the sign that closes a quotation, or that of a sentence.
ADDRESS = re.compile(r"(?P<scheme>\b[a-zA-Z][a-zA-Z0-9+.-]*://)(?P<rest>[^\s\"'`<>|)\]}]*[^\s\"'`<>|)\]}.,:;])")
VALUE = r"'[^']*'|\"[^\"]*\"|[^\s&;,'\")]+"
PARAMETER = re.compile(rf"(?i)(?P<name>[?&;\s,'\"][\w.-]*(?:{NAMED})\s*=\s*)(?!\*\*\*)(?:{VALUE})")
PIECE = 3  # characters that a piece of a password has at least
HEAD, TAIL = 240, 160  # characters of an error's words that a person is told
LONG = 8  # characters from which a secret is looked for inside of words too


def redacted(text: str, *addresses: str) -> str:
    """A text without secrets: those of `addresses` and of this process's environment, and of every address in it."""
    for each in sorted(_known(addresses), key=len, reverse=True):
        text = each_hidden(text, each)
    text = ADDRESS.sub(lambda found: _shown(found["scheme"], found["rest"]), text)
    return PARAMETER.sub(lambda found: found["name"] + MARK, text)


def remember(address: str) -> None:
    """Let `redacted` know a secret address that this process was given, in the processes too that it starts."""
    known = os.environ.get(REMEMBERED, "").split()
    if address not in known and is_secret(address):
        os.environ[REMEMBERED] = " ".join([*known, "".join(address.split())])


def is_secret(address: str) -> bool:
    """Whether an address holds a secret."""
    return redacted(address) != address


def each_hidden(text: str, secret: str) -> str:
    """A text with a mark in all places of a secret; a short one is hidden only where it is a whole word."""
    if len(secret) >= LONG:
        return text.replace(secret, MARK)
    return re.sub(rf"(?<![\w*]){re.escape(secret)}(?![\w*])", MARK, text)


def reason_of(error: Exception, *addresses: str) -> str:
    """An error's words in one line of limited length, without the secrets that `addresses` hold."""
    # Redacted before it is cut: what is left of a secret would not be known for one.
    reason = redacted(" ".join(str(error).split()) or type(error).__name__, *addresses)
    # The cause comes last where errors have been handed on, and first in those of a database.
    return f"{reason[:HEAD]} ... {reason[-TAIL:]}" if len(reason) > HEAD + TAIL else reason


def _known(addresses: Iterable[str]) -> set[str]:
    remembered = os.environ.get(REMEMBERED, "").split()
    given = [*addresses, *remembered, *(os.environ.get(name, "") for name in ADDRESSES)]
    found = {part for address in given for part in _secrets_of(address)}
    found |= {os.environ[name] for name in SECRETS if os.environ.get(name)}
    return {spelt for secret in found for spelt in _spellings(secret) if spelt and spelt != MARK}


def _secrets_of(address: str) -> Iterator[str]:
    """The secrets of an address as it spells them; a password that holds an @ or a / in pieces as well."""
    scheme, found, rest = address.strip().partition("://")
    if not found:
        return
    user, rest = _parts(rest)
    name, colon, password = user.partition(":")
    if colon:
        yield password
        # Readers of addresses do not agree where a password ends that holds a sign of theirs.
        cuts = [found.start() for found in re.finditer(r"[@/?#:]", password)]
        pieces = {piece for cut in cuts for piece in (password[:cut], password[cut + 1 :])}
        yield from (piece for piece in pieces if len(piece) >= PIECE)
    elif name and scheme.startswith("http"):
        yield name
    elif name:
        yield from (f'"{name}"', f"'{name}'")
    rest, _, fragment = rest.partition("#")
    if not fragment.startswith("/"):
        yield fragment
    query = rest.partition("?")[2]
    for parameter in re.split("[&;]", query):
        key, equals, value = parameter.partition("=")
        if not equals:
            yield key
        elif key.lower() not in HARMLESS:
            yield value


def _parts(rest: str) -> tuple[str, str]:
    """Who comes in, and where: what is before and behind the @ that parts them."""
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    _, colon, port = authority.rpartition("@")[2].rpartition(":")
    strange = "@" in authority or (bool(colon) and not port.isdigit() and not port.endswith("]"))
    # With an @ or a / in the password the last @ is the one: rather too much is hidden than too little.
    before, at, behind = rest.rpartition("@") if strange else ("", "", rest)
    return (before, behind) if at else ("", rest)


def _shown(scheme: str, rest: str) -> str:
    user, where = _parts(rest)
    where, number, fragment = where.partition("#")
    where, question, query = where.partition("?")
    parameters = "&".join(_parameter(each) for each in re.split("[&;]", query)) if query else ""
    # A way inside of a page, as MLflow and Prefect write it, is no secret.
    shown = fragment if fragment.startswith("/") else MARK if fragment else ""
    return f"{scheme}{f'{MARK}@' if user else ''}{where}{question}{parameters}{number}{shown}"


def _parameter(text: str) -> str:
    key, equals, _ = text.partition("=")
    if not equals:
        return MARK if text else ""
    return text if key.lower() in HARMLESS else f"{key}={MARK}"


def _spellings(secret: str) -> Iterator[str]:
    """A secret as addresses, Python, JSON and drivers spell it."""
    for plain in {secret, unquote(secret), unquote_plus(secret)}:
        yield from (plain, quote(plain, safe=""), quote(plain), quote_plus(plain))
        yield from (repr(plain)[1:-1], json.dumps(plain)[1:-1], json.dumps(plain, ensure_ascii=False)[1:-1])
