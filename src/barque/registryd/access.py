"""Who may do what: everyone everything, users of an htpasswd file, or bearers of a token.

Passwords are bcrypt hashes (`htpasswd -B`), as docker-registry has them. Tokens are ours: `/token`
gives one to a user of the htpasswd file, signed with a key that this process made; or those of a
token server whose public key the registry was given (`tokens.Verifier`).
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import hmac
import json
import secrets
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Protocol

from barque import errors
from barque.registryd.http import Answer, Request
from barque.registryd.refusals import Refusal

REALM = "Barque registry"
TOKEN_LIFE_S = 300
MAX_KNOWN = 4096
MAX_SCOPES = 32


class Passwords:
    """The users of an htpasswd file. A password that was right is remembered as a keyed hash."""

    def __init__(self, text: str, hashed: Callable[[bytes, bytes], bytes]) -> None:
        """Raises InvalidArgument for a line that is no user with a bcrypt hash."""
        self._users: dict[str, bytes] = {}
        self._hashed = hashed
        self._key = secrets.token_bytes(32)
        self._known: dict[str, bytes] = {}
        for number, line in enumerate(text.splitlines(), start=1):
            if not line.strip() or line.startswith("#"):
                continue
            user, colon, value = line.strip().partition(":")
            if not colon or not user or not value.startswith(("$2y$", "$2b$", "$2a$")):
                raise errors.InvalidArgument(
                    f"htpasswd: line {number}: not a user with a bcrypt hash (htpasswd -B)"
                )
            self._users[user] = value.encode()

    async def right(self, user: str, password: str) -> bool:
        secret = password.encode()
        mark = hmac.digest(self._key, secret, "sha256")
        known = self._known.get(user)
        if known is not None and hmac.compare_digest(known, mark):
            return True
        # An unknown user takes as long as a wrong password.
        setting = self._users.get(user) or next(iter(self._users.values()), b"")
        if not setting or len(secret) > 1024 or b"\0" in secret:
            return False
        found = await asyncio.to_thread(self._hashed, secret, setting)
        if user not in self._users or not hmac.compare_digest(found, setting):
            return False
        if len(self._known) >= MAX_KNOWN:
            self._known.clear()
        self._known[user] = mark
        return True


class Verifier(Protocol):
    def allows(self, token: str, name: str, action: str) -> bool | None:
        """Whether a token gives the right; None for a token that is not good at all."""


@dataclass(slots=True)
class OwnTokens:
    """Tokens that this registry gives and takes: a document and its HMAC."""

    path: str = "/token"
    key: bytes = field(default_factory=lambda: secrets.token_bytes(32), repr=False)
    clock_s: Callable[[], float] = time.time

    def make(self, user: str, scopes: list[list[str]]) -> str:
        document = {"sub": user, "exp": int(self.clock_s()) + TOKEN_LIFE_S, "access": scopes}
        text = base64.urlsafe_b64encode(json.dumps(document).encode())
        return f"{text.decode()}.{hmac.new(self.key, text, hashlib.sha256).hexdigest()}"

    def allows(self, token: str, name: str, action: str) -> bool | None:
        text, _, signature = token.partition(".")
        raw = text.encode("ascii", "replace")
        made = hmac.new(self.key, raw, hashlib.sha256).hexdigest()
        if not hmac.compare_digest(made.encode(), signature.encode("ascii", "replace")):
            return None
        document = json.loads(base64.urlsafe_b64decode(raw))
        if document["exp"] < self.clock_s():
            return None
        access: list[list[str]] = document["access"]
        return not name or any(
            one == name and (not action or action in may) for one, *may in access
        )


class Access:
    """`check` is asked for every request. Anonymous users may pull where `open_pull` says so."""

    def __init__(
        self,
        passwords: Passwords | None = None,
        *,
        tokens: OwnTokens | None = None,
        verifier: Verifier | None = None,
        challenge: str = "",
        open_pull: bool = False,
        pushers: Collection[str] = (),
    ) -> None:
        """`pushers`: the only users who may push and delete; () is all of them."""
        self._pushers = frozenset(pushers)
        self._passwords, self.tokens = passwords, tokens
        self._verifier: Verifier | None = verifier or tokens
        self._challenge, self._open_pull = challenge, open_pull

    async def check(self, request: Request, name: str, actions: str) -> None:
        """Raises Refusal: 401 with a challenge."""
        wanted = [action for action in actions.split(",") if action]
        for action in wanted or [""]:
            if not await self.allows(request, name, action):
                if request.user:
                    raise Refusal("DENIED", f"requested access to {name} is denied")
                raise self._refusal(request, name, actions)

    async def allows(self, request: Request, name: str, action: str) -> bool:
        if self._passwords is None and self._verifier is None:
            return True
        if self._open_pull and name and action == "pull":
            return True
        scheme, _, value = request.headers.get("authorization", "").partition(" ")
        if self._verifier is not None:
            if scheme.lower() != "bearer":
                return False
            return bool(self._verifier.allows(value.strip(), name, action))
        user = request.user = await self._user(request)
        return bool(user) and (action in {"", "pull"} or self._may_push(user))

    def _may_push(self, user: str) -> bool:
        return not self._pushers or user in self._pushers

    async def _user(self, request: Request) -> str:
        scheme, _, value = request.headers.get("authorization", "").partition(" ")
        if self._passwords is None or scheme.lower() != "basic":
            return ""
        try:
            user, _, password = base64.b64decode(value, validate=True).decode().partition(":")
        except (binascii.Error, ValueError):
            return ""
        return user if await self._passwords.right(user, password) else ""

    def _refusal(self, request: Request, name: str, actions: str) -> Refusal:
        if self._verifier is None:
            challenge = f'Basic realm="{REALM}"'
        else:
            challenge = self._challenge or self._own_challenge(request)
            if name:
                scope = name if ":" in name else f"repository:{name}:{actions}"
                challenge += f',scope="{scope}"'
        return _unauthorized(challenge, name, actions)

    def _own_challenge(self, request: Request) -> str:
        assert self.tokens is not None
        host = "".join(c for c in request.headers.get("host", "") if c.isalnum() or c in ".:-[]")
        scheme = "https" if request.secure else "http"
        return f'Bearer realm="{scheme}://{host}{self.tokens.path}",service="{host}"'

    async def give(self, request: Request) -> Answer:
        """A token for a user, or for nobody where everyone may pull."""
        assert self.tokens is not None
        user = await self._user(request)
        asked = "authorization" in request.headers
        if not user and (asked or not self._open_pull):
            raise _unauthorized(f'Basic realm="{REALM}"', "", "")
        scopes = []
        for text in " ".join(request.query.get("scope", ())).split()[:MAX_SCOPES]:
            kind, _, rest = text.partition(":")
            name, _, actions = rest.rpartition(":")
            may = actions.split(",") if user and self._may_push(user) else ["pull"]
            scopes.append([name if kind == "repository" else text, *may])
        token = self.tokens.make(user, scopes)
        document = {"token": token, "access_token": token, "expires_in": TOKEN_LIFE_S}
        headers = {"Content-Type": "application/json", "Cache-Control": "no-store"}
        return Answer(200, headers, json.dumps(document).encode())


def _unauthorized(challenge: str, name: str, actions: str) -> Refusal:
    """With what was wanted as its detail: without one, Docker's clients leave the message out."""
    wanted = [
        {"Type": "repository", "Class": "", "Name": name, "Action": action}
        for action in actions.split(",")
        if name and action
    ]
    headers = {"WWW-Authenticate": challenge}
    return Refusal("UNAUTHORIZED", "authentication required", headers=headers, detail=wanted)
