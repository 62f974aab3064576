"""What the command line says of a context: its endpoint, the TLS files to keep with it."""

from __future__ import annotations

from barque import errors
from barque.cli.contexts.store import (
    DEFAULT_DESCRIPTION,
    ENDPOINT,
    LARGEST_FILE,
    TLS_FILES,
    description_of,
    endpoint_of,
)
from barque.cli.session import DEFAULT_CONTEXT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from barque.cli.contexts.store import Contexts
    from barque.cli.flags import Row
    from barque.cli.session import Session

# The parts of a context that commands take.
PARTS: tuple[Row, ...] = (
    ("description", "", "string", "Description of the context"),
    (
        "docker",
        "",
        "stringToString",
        "Where the daemon is: host, ca, cert, key, skip-tls-verify, from",
        "[]",
    ),
)

KEYS = ("from", "host", "ca", "cert", "key", "skip-tls-verify")
TRUE = ("1", "t", "T", "TRUE", "true", "True")
FALSE = ("0", "f", "F", "FALSE", "false", "False")


def default(session: Session) -> dict[str, Any]:
    """The context that no file keeps: what the environment and the flags say."""
    from barque.api.versions import DEFAULT_HOST
    from barque.client.connection import Host

    host = Host(session.host() or DEFAULT_HOST)
    endpoint = {"Host": host.text, "SkipTLSVerify": False}
    return {"Name": DEFAULT_CONTEXT, "Metadata": {}, "Endpoints": {ENDPOINT: endpoint}}


def described(
    session: Session, contexts: Contexts, name: str
) -> tuple[dict[str, Any], dict[str, bytes]]:
    """The document and the TLS files of a context, the default one too. Raises NotFound."""
    if name != DEFAULT_CONTEXT:
        return contexts.read(name), contexts.tls(name)
    return {**default(session), "Metadata": {"Description": DEFAULT_DESCRIPTION}}, {}


def endpoint_from(
    session: Session, contexts: Contexts, pairs: list[str]
) -> tuple[dict[str, Any], dict[str, bytes]]:
    """An endpoint and its TLS files from `key=value` words. Raises InvalidArgument."""
    given = dict(pair.split("=", 1) for pair in pairs)
    for key in given:
        if key not in KEYS:
            raise _invalid(f"unrecognized config key: {key}")
    if "from" in given:
        document, tls = described(session, contexts, given["from"] or DEFAULT_CONTEXT)
        return endpoint_of(document), tls
    tls = {
        name: _pem(path, name)
        for name in TLS_FILES
        if (path := given.get(name.removesuffix(".pem"), ""))
    }
    _check_pair(given.get("cert", ""), given.get("key", ""))
    insecure = _truth(given.get("skip-tls-verify", ""))
    return {"Host": given.get("host", ""), "SkipTLSVerify": insecure}, tls


def copied(document: dict[str, Any]) -> dict[str, Any]:
    """What a context made from another begins with."""
    text = description_of(document)
    return {
        "Metadata": {"Description": text} if text else {},
        "Endpoints": {ENDPOINT: endpoint_of(document)},
    }


def _truth(text: str) -> bool:
    if text and text not in TRUE + FALSE:
        raise _invalid(f"skip-tls-verify: invalid value {text!r}")
    return text in TRUE


def _pem(path: str, name: str) -> bytes:
    try:
        with open(path, "rb") as file:
            data = file.read(LARGEST_FILE)
    except OSError as error:
        reason = (error.strerror or "").lower()
        raise _invalid(f"failed to retrieve context tls info: open {path}: {reason}") from None
    if b"-----BEGIN " not in data:
        raise _invalid(
            f"invalid docker endpoint options: failed to retrieve context tls info: "
            f"{name} seems invalid"
        )
    return data


def _check_pair(cert: str, key: str) -> None:
    """Both, where both are given, belong together."""
    if not (cert and key):
        return
    import ssl

    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(cert, key)
    except (OSError, ValueError):
        raise _invalid(
            "invalid docker endpoint options: failed to retrieve context tls info: "
            "the certificate and the key do not belong together"
        ) from None


def _invalid(reason: str) -> errors.InvalidArgument:
    return errors.InvalidArgument(f"unable to create docker endpoint config: {reason}")
