"""A network and address plugin as a server: veth pairs whose host ends are ports of its bridge.

It speaks libnetwork's remote protocols and remembers every call, so that a test can see what was
asked, and whether all that was given came back.
"""

from __future__ import annotations

import http.server
import json
import socketserver
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Any


class _Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True
    plugin: Plugin


class _Handler(http.server.BaseHTTPRequestHandler):
    server: _Server

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])) or b"{}")
        method = self.path.strip("/")
        text = json.dumps(self.server.plugin.answer(method, body)).encode()
        if method == self.server.plugin.dies:  # having done it, before it has said so
            self.close_connection = True
            self.connection.close()
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def address_string(self) -> str:
        return "unix"

    def log_message(self, *_: object) -> None:
        pass


class Plugin:
    def __init__(self, bridge: str) -> None:
        self.bridge = bridge
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.networks: set[str] = set()
        self.endpoints: dict[str, str] = {}  # id -> host end of its pair
        self.pools: dict[str, IPv4Network | IPv6Network] = {}
        self.addresses: set[tuple[str, str]] = set()
        self.refuse = ""  # the method that fails
        self.dies = ""  # the method whose answer never comes
        self.join: dict[str, Any] = {}  # what Join answers beside the interface
        self._lock = threading.Lock()

    def methods(self) -> list[str]:
        return [name for name, _ in self.calls]

    def answer(self, method: str, body: dict[str, Any]) -> dict[str, Any]:
        with self._lock:
            self.calls.append((method, body))
            if method == self.refuse:
                return {"Err": f"{method} is refused"}
            protocol, _, name = method.partition(".")
            function = getattr(self, f"_{protocol}_{name}", None)
            if function is None:
                return {"Err": f"no method {method}"}
            found: dict[str, Any] = function(body) or {}
            return found

    def _Plugin_Activate(self, body: dict[str, Any]) -> dict[str, Any]:
        return {"Implements": ["NetworkDriver", "IpamDriver"]}

    def _NetworkDriver_CreateNetwork(self, body: dict[str, Any]) -> None:
        self.networks.add(body["NetworkID"])

    def _NetworkDriver_DeleteNetwork(self, body: dict[str, Any]) -> dict[str, Any]:
        if body["NetworkID"] not in self.networks:
            return {"Err": "no such network"}
        self.networks.discard(body["NetworkID"])
        return {}

    def _NetworkDriver_CreateEndpoint(self, body: dict[str, Any]) -> dict[str, Any]:
        if body["NetworkID"] not in self.networks:
            return {"Err": f"network {body['NetworkID']} not found"}
        self.endpoints[body["EndpointID"]] = f"pp{body['EndpointID'][:8]}"
        mac = body["Interface"]["MacAddress"]
        return {"Interface": {} if mac else {"MacAddress": f"02:aa:{_pairs(body['EndpointID'])}"}}

    def _NetworkDriver_Join(self, body: dict[str, Any]) -> dict[str, Any]:
        outer = self.endpoints[body["EndpointID"]]
        inner = f"pi{body['EndpointID'][:8]}"
        _ip("link", "add", outer, "type", "veth", "peer", "name", inner)
        _ip("link", "set", outer, "up", "master", self.bridge)
        return {"InterfaceName": {"SrcName": inner, "DstPrefix": "eth"}, **self.join}

    def _NetworkDriver_Leave(self, body: dict[str, Any]) -> None:
        return None

    def _NetworkDriver_DeleteEndpoint(self, body: dict[str, Any]) -> None:
        outer = self.endpoints.pop(body["EndpointID"], "")
        if outer:
            subprocess.run(["ip", "link", "del", outer], capture_output=True, check=False)

    def _IpamDriver_GetDefaultAddressSpaces(self, body: dict[str, Any]) -> dict[str, Any]:
        return {"LocalDefaultAddressSpace": "here", "GlobalDefaultAddressSpace": "all"}

    def _IpamDriver_RequestPool(self, body: dict[str, Any]) -> dict[str, Any]:
        name = f"pool{len(self.pools)}"
        chosen = "fd00:77::/120" if body["V6"] else "10.77.0.0/24"
        self.pools[name] = ip_network(body["Pool"] or chosen)
        return {"PoolID": name, "Pool": str(self.pools[name]), "Data": {}}

    def _IpamDriver_ReleasePool(self, body: dict[str, Any]) -> None:
        del self.pools[body["PoolID"]]

    def _IpamDriver_RequestAddress(self, body: dict[str, Any]) -> dict[str, Any]:
        pool = self.pools[body["PoolID"]]
        taken = {address for name, address in self.addresses if name == body["PoolID"]}
        free = (str(host) for host in list(pool.hosts())[::-1] if str(host) not in taken)
        address = body["Address"] or next(free)
        if address in taken:
            return {"Err": f"{address} is taken"}
        self.addresses.add((body["PoolID"], address))
        return {"Address": f"{address}/{pool.prefixlen}", "Data": {}}

    def _IpamDriver_ReleaseAddress(self, body: dict[str, Any]) -> dict[str, Any]:
        key = (body["PoolID"], body["Address"])
        if key not in self.addresses:
            return {"Err": f"{body['Address']} was not given"}
        self.addresses.discard(key)
        return {}


def _pairs(text: str) -> str:
    return ":".join(text[at : at + 2] for at in range(0, 8, 2))


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], capture_output=True, check=True)


@contextmanager
def serving(path: Path, plugin: Plugin) -> Iterator[Plugin]:
    """The plugin on the socket `path`, in a thread of this process."""
    server = _Server(str(path), _Handler)
    server.plugin = plugin
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield plugin
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
        path.unlink(missing_ok=True)
