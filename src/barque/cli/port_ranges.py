"""Published ports in one cell, neighbours drawn together: "0.0.0.0:80-82->80-82/tcp, 90/tcp"."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def display(ports: list[dict[str, Any]]) -> str:
    """From the `Ports` of a container in a list."""
    groups: dict[tuple[str, str], list[list[int]]] = {}
    alone = []
    for port in sorted(ports, key=_order):
        private, public = port["PrivatePort"], port.get("PublicPort", 0)
        address, protocol = port.get("IP", ""), port["Type"]
        if address and public != private:
            alone.append(f"{_bracketed(address)}:{public}->{private}/{protocol}")
            continue
        runs = groups.setdefault((address, protocol), [])
        if runs and runs[-1][1] + 1 == private:
            runs[-1][1] = private
        elif not runs or runs[-1][1] != private:
            runs.append([private, private])
    drawn = [
        _run(address, protocol, first, last)
        for (address, protocol), runs in groups.items()
        for first, last in runs
    ]
    return ", ".join(drawn + alone)


def _order(port: dict[str, Any]) -> tuple[int, str, int, str]:
    return port["PrivatePort"], port.get("IP", ""), port.get("PublicPort", 0), port["Type"]


def _bracketed(address: str) -> str:
    return f"[{address}]" if ":" in address else address


def _run(address: str, protocol: str, first: int, last: int) -> str:
    text = str(first) if first == last else f"{first}-{last}"
    return f"{_bracketed(address)}:{text}->{text}/{protocol}" if address else f"{text}/{protocol}"
