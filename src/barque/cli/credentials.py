"""Where the client keeps what it logs in with: config.json, or a helper program of the user's.

A helper is `docker-credential-NAME`, chosen by `credHelpers` for one registry or `credsStore` for
all. It is called with one word (get, list, store, erase); the registry, or a JSON document, comes
on its standard input, the answer on its standard output. Source: docker-credential-helpers,
"Protocol".
"""

from __future__ import annotations

import os

from barque import errors
from barque.client import json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

TOKEN_USER = "<token>"  # such a user's secret is an identity token
NOT_FOUND = "credentials not found in native keychain"
MAX_ANSWER_BYTES = 1 << 20


def helper_of(settings: dict[str, Any], registry: str) -> str:
    """The name of the helper that keeps the credentials of `registry`, "" for config.json."""
    helpers = settings.get("credHelpers")
    named = helpers.get(registry) if isinstance(helpers, dict) else None
    return str(named or settings.get("credsStore") or "")


def get(helper: str, registry: str) -> dict[str, Any]:
    """An auth config of `registry`, {} where the helper has none. Raises Unavailable."""
    code, out = _call(helper, "get", registry.encode())
    if code != 0:
        if NOT_FOUND in out:
            return {}
        raise errors.Unavailable(f"error getting credentials - helper {helper}: {_line(out)}")
    try:
        found = json.loads(out.encode())
        user, secret = str(found["Username"]), str(found["Secret"])
    except (ValueError, KeyError, TypeError):
        raise errors.Unavailable(
            f"error getting credentials - helper {helper}: its answer cannot be read"
        ) from None
    if user == TOKEN_USER:
        return {"identitytoken": secret}
    return {"username": user, "password": secret}


def servers(helper: str) -> list[str]:
    """What the helper has credentials of. Raises Unavailable."""
    code, out = _call(helper, "list", b"")
    if code != 0:
        raise errors.Unavailable(f"error listing credentials - helper {helper}: {_line(out)}")
    try:
        return list(json.loads(out.encode()))
    except (ValueError, TypeError):
        raise errors.Unavailable(
            f"error listing credentials - helper {helper}: its answer cannot be read"
        ) from None


def store(helper: str, registry: str, entry: dict[str, Any]) -> None:
    """Raises Unavailable."""
    token = entry.get("identitytoken")
    document = {
        "ServerURL": registry,
        "Username": TOKEN_USER if token else entry.get("username", ""),
        "Secret": token or entry.get("password", ""),
    }
    code, out = _call(helper, "store", json.dumps(document).encode())
    if code != 0:
        raise errors.Unavailable(f"error storing credentials - helper {helper}: {_line(out)}")


def erase(helper: str, registry: str) -> None:
    """Raises Unavailable; what the helper does not have is fine."""
    code, out = _call(helper, "erase", registry.encode())
    if code != 0 and NOT_FOUND not in out:
        raise errors.Unavailable(f"error erasing credentials - helper {helper}: {_line(out)}")


def _line(text: str) -> str:
    return " ".join(text.split())[:300]


def _call(helper: str, word: str, given: bytes) -> tuple[int, str]:
    program = f"docker-credential-{helper}"
    if "/" in helper:
        raise errors.InvalidArgument(f"invalid credential helper {helper!r}")
    in_read, in_write = os.pipe()
    out_read, out_write = os.pipe()
    ours = [in_write, out_read]
    try:
        pid = os.posix_spawnp(
            program,
            (program, word),
            os.environ,
            file_actions=[
                (os.POSIX_SPAWN_DUP2, in_read, 0),
                (os.POSIX_SPAWN_DUP2, out_write, 1),
            ],
        )
    except OSError as error:
        for fd in ours:
            os.close(fd)
        reason = "executable file not found in $PATH" if error.errno == 2 else error.strerror
        raise errors.Unavailable(f'exec: "{program}": {reason}') from None
    finally:
        os.close(in_read)
        os.close(out_write)
    return _talk(pid, in_write, out_read, given)


def _talk(pid: int, in_write: int, out_read: int, given: bytes) -> tuple[int, str]:
    try:
        try:
            os.write(in_write, given)  # far less than a pipe holds
        except BrokenPipeError:
            pass  # it needs none of it
        finally:
            os.close(in_write)
        out = b""
        while len(out) < MAX_ANSWER_BYTES and (piece := os.read(out_read, 65536)):
            out += piece
    finally:
        os.close(out_read)
        _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status), out.decode("utf-8", "replace")
