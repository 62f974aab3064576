"""A network and address plugin as a server: veth pairs whose host ends are ports of its bridge.

It speaks libnetwork's remote protocols and remembers every call, so that a test can see what was
asked, and whether all that was given came back.
"""

from __future__ import annotations

import subprocess
import threading
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Any

from tests.support.plugin_server import NoMethod, Request


class Plugin:
    def __init__(self, bridge: str) -> None:
        self.bridge = bridge
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.networks: set[str] = set()
        self.endpoints: dict[str, str] = {}  # id -> host end of its pair
        self.pools: dict[str, IPv4Network | IPv6Network] = {}
        self.addresses: set[tuple[str, str]] = set()
        self.external: dict[str, list[dict[str, Any]]] = {}  # endpoint -> its published ports
        self.lacks = ""  # the method that it does not have
        self.refuse = ""  # the method that fails
        self.dies = ""  # the method whose answer never comes
        self.join: dict[str, Any] = {}  # what Join answers beside the interface
        self._lock = threading.Lock()

    def methods(self) -> list[str]:
        return [name for name, _ in self.calls]

    def answer(self, asked: Request) -> dict[str, Any] | None:
        """One after another, whatever asks at once."""
        with self._lock:
            self.calls.append((asked.method, asked.body))
            if asked.method == self.lacks:
                raise NoMethod
            if asked.method == self.refuse:
                return {"Err": f"{asked.method} is refused"}
            protocol, _, name = asked.method.partition(".")
            function = getattr(self, f"_{protocol}_{name}", None)
            if function is None:
                return {"Err": f"no method {asked.method}"}
            found: dict[str, Any] = function(asked.body) or {}
            return None if asked.method == self.dies else found

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

    def _NetworkDriver_ProgramExternalConnectivity(self, body: dict[str, Any]) -> None:
        self.external[body["EndpointID"]] = body["Options"]["com.docker.network.portmap"]

    def _NetworkDriver_RevokeExternalConnectivity(self, body: dict[str, Any]) -> None:
        self.external.pop(body["EndpointID"], None)

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
