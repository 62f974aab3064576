"""Requests to one repository: authorized when it asks for that, retried while that may help."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager

from barque import errors
from barque.registry import failures
from barque.registry.addresses import Address
from barque.registry.auth import Authorizer, Credentials
from barque.registry.challenge import choose
from barque.registry.connection import Broken
from barque.registry.transport import Exchange, Transport

MAX_ATTEMPTS = 5
FIRST_DELAY_S = 0.2
MAX_DELAY_S = 10.0
_RETRIED = frozenset({408, 429, 500, 502, 503, 504})

Sleep = Callable[[float], Awaitable[None]]


class Session:
    """`domain` and `path` of a full reference: `docker.io`, `library/busybox`."""

    def __init__(
        self,
        transport: Transport,
        domain: str,
        path: str,
        name: str,
        credentials: Credentials,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self._transport = transport
        self._domain, self._path, self._name = domain, path, name
        self._anonymous = credentials.anonymous
        self._authorizer = Authorizer(transport, credentials)
        self._sleep = sleep

    @asynccontextmanager
    async def ask(
        self,
        method: str,
        target: str,
        headers: Mapping[str, str],
        body: AsyncIterator[bytes] | bytes = b"",
        *,
        push: bool = False,
        source: str = "",
    ) -> AsyncIterator[Exchange]:
        """One answer, whatever its status. `target` is below `/v2/<path>/`, or begins with `/`.

        A body that is an iterator is sent once: its failure is the caller's to repeat. `source` is
        another repository there that the request reads from.
        """
        async with AsyncExitStack() as stack:
            scope = ""
            if self._path:
                scope = f"repository:{self._path}:{'pull,push' if push else 'pull'}"
                scope += f" repository:{source}:pull" if source else ""
            yield await self._answer(stack, method, target, headers, body, scope, push)

    async def _answer(
        self,
        stack: AsyncExitStack,
        method: str,
        target: str,
        headers: Mapping[str, str],
        body: AsyncIterator[bytes] | bytes,
        scope: str,
        push: bool,
    ) -> Exchange:
        base = await self._transport.base(self._domain)
        address = base.at(target if target.startswith("/") else f"/v2/{self._path}/{target}")
        attempts = MAX_ATTEMPTS if isinstance(body, bytes) else 1
        attempt, challenged = 0, False
        while True:
            attempt += 1
            authorization = self._authorizer.header(scope)
            sent = {**headers, "Authorization": authorization} if authorization else dict(headers)
            try:
                answer = await stack.enter_async_context(
                    self._transport.exchange(method, address, sent, body)
                )
            except Broken:
                if attempt >= attempts:
                    raise
                await self.pause(attempt)
                continue
            if answer.head.status == 401 and not challenged and isinstance(body, bytes):
                challenged = True
                attempt -= 1
                await self._authorize(base, answer, scope, push, authorization)
            elif answer.head.status in _RETRIED and attempt < attempts:
                await self.pause(attempt, answer.head.headers.get("retry-after", ""))
            else:
                return answer
            await answer.drain()
            await stack.aclose()

    async def _authorize(
        self, base: Address, answer: Exchange, scope: str, push: bool, sent: str | None
    ) -> None:
        challenge = choose(answer.head.headers.get("www-authenticate", ""))
        try:
            await self._authorizer.answer(base, challenge, scope, sent)
        except errors.Unauthorized as error:
            if push or not self._anonymous:
                raise
            raise failures.access_denied(self._name, str(error)) from error

    async def pause(self, attempt: int, retry_after: str = "") -> None:
        """Waits before the next attempt: twice as long each time, or what the server asks for."""
        delay_s = FIRST_DELAY_S * 2 ** (attempt - 1)
        if retry_after.isdigit():
            delay_s = float(retry_after)
        await self._sleep(min(delay_s, MAX_DELAY_S))
