"""Host ports that no rule of the firewall leads on: a proxy serves them once somebody calls.

Until then a port costs nothing but its socket: the daemon waits for it to become readable, and
hands it to the proxy, which is started when it is first needed. The daemon keeps the sockets too,
so when the proxy dies it waits for callers again. A daemon that starts takes back what it has.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Collection, Coroutine, Iterable
from dataclasses import dataclass

from barque import errors
from barque.daemon.proxy_link import ProxyLink, str_of
from barque.network.ports import HostPort

log = logging.getLogger(__name__)

AGAIN_S = 1.0  # until a proxy that could not be started is tried again


@dataclass(slots=True)
class _Served:
    opened: socket.socket
    target: tuple[str, int]
    given: bool = False  # the proxy has it


class Proxies:
    """Used from the event loop; `versions` are the IP versions of host ports that it serves."""

    def __init__(self, link: ProxyLink, versions: Collection[int]) -> None:
        self.versions = versions
        self._link = link
        self._served: dict[HostPort, _Served] = {}
        self._taken: dict[HostPort, socket.socket] = {}  # back from the proxy of a daemon before
        self._turn = asyncio.Lock()  # one exchange with the proxy at a time
        self._tasks: set[asyncio.Task[None]] = set()
        self._pidfd = -1

    async def settle(self, live: Iterable[HostPort]) -> None:
        """At the daemon's start: of what the proxy serves only ports `live` go on."""
        wanted = {str_of(port): port for port in live if port.host_ip.version in self.versions}
        async with self._turn:
            for name in await asyncio.to_thread(self._link.find):
                try:
                    if name in wanted:
                        given = await asyncio.to_thread(self._link.give, wanted[name])
                        self._taken[wanted[name]] = given
                    else:
                        await asyncio.to_thread(self._link.drop, name)
                except (OSError, errors.BarqueError) as error:
                    log.warning("host port %s: %s", name, error)
            self._watch_proxy()

    def taken(self, port: HostPort) -> socket.socket | None:
        """What has held a port since a daemon before."""
        return self._taken.get(port)

    def publish(self, port: HostPort, opened: socket.socket, target: tuple[str, int]) -> None:
        """Serve `port`, which `opened` holds, by the container's port `target`, if it is ours."""
        if port.host_ip.version not in self.versions:
            return
        given = self._taken.pop(port, None) is opened
        served = self._served[port] = _Served(opened, target, given)
        if not given:
            self._wait(port, served)

    def _wait(self, port: HostPort, served: _Served) -> None:
        asyncio.get_running_loop().add_reader(served.opened.fileno(), self._called, port)

    def _called(self, port: HostPort) -> None:
        asyncio.get_running_loop().remove_reader(self._served[port].opened.fileno())
        self._begin(self._give(port))

    async def _give(self, port: HostPort) -> None:
        """Let the proxy serve a port that somebody calls."""
        async with self._turn:
            served = self._served.get(port)
            if served is None or served.given:
                return
            try:
                await asyncio.to_thread(self._link.put, port, served.opened, served.target)
                served.given = True
            except errors.BarqueError as error:
                log.warning("host port %s is not served: %s", port, error)
            except OSError as error:
                log.warning("host port %s is not served: %s", port, error)
                await self._lose()
            self._watch_proxy()
        if not served.given:
            await asyncio.sleep(AGAIN_S)
            if self._served.get(port) is served:
                self._wait(port, served)

    async def withdraw(self, ports: Iterable[HostPort]) -> None:
        """Serve them no more: afterwards only the daemon has their sockets. Safe to run twice."""
        ours = [port for port in ports if port in self._served]
        for port in ours:
            asyncio.get_running_loop().remove_reader(self._served[port].opened.fileno())
        if not ours:
            return
        async with self._turn:
            for port in ours:
                served = self._served.pop(port, None)
                if served is None or not served.given:
                    continue
                try:
                    await asyncio.to_thread(self._link.drop, str_of(port))
                except (OSError, errors.BarqueError) as error:  # it has died, and has none
                    log.debug("host port %s: %s", port, error)

    def _watch_proxy(self) -> None:
        """Know when the proxy ends."""
        if self._pidfd < 0 <= self._link.pidfd:
            self._pidfd = self._link.pidfd
            asyncio.get_running_loop().add_reader(self._pidfd, self._ended)

    def _unwatch_proxy(self) -> None:
        if self._pidfd >= 0:
            asyncio.get_running_loop().remove_reader(self._pidfd)
            self._pidfd = -1

    def _ended(self) -> None:
        self._unwatch_proxy()
        self._begin(self._succeed())

    async def _succeed(self) -> None:
        async with self._turn:
            await self._lose()

    async def _lose(self) -> None:
        """The proxy died: its connections are lost, its ports are waited for again."""
        self._unwatch_proxy()
        self._link.close()
        await asyncio.to_thread(self._link.reap)
        for port, served in self._served.items():
            if served.given:
                served.given = False
                self._wait(port, served)

    def _begin(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Leave the proxy alone: it goes on with what it has, and ends when that is nothing."""
        loop = asyncio.get_running_loop()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for served in self._served.values():
            loop.remove_reader(served.opened.fileno())
        self._unwatch_proxy()
        self._link.close()
        if not any(served.given for served in self._served.values()):
            await asyncio.to_thread(self._link.reap)
