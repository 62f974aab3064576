"""`barque version`: of the client, and of each part of the engine."""

from __future__ import annotations

import sys

from barque import __version__, errors
from barque.api.versions import API_VERSION
from barque.cli import terminal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from barque.cli.flags import Options, Row
    from barque.cli.session import Session

USAGE = "[OPTIONS]"
SUMMARY = "Show the versions of the client and the engine"
ALIASES: tuple[str, ...] = ()
OPTIONS: tuple[Row, ...] = (("format", "f", "string", "Print with this template, or as 'json'"),)
ARGUMENTS = (0, 0)


def run(session: Session, options: Options, arguments: list[str]) -> int:
    failure: errors.BarqueError | None = None
    server: dict[str, Any] | None = None
    try:
        server = session.client.system.version()
    except errors.BarqueError as error:
        failure = error
    client = _client(session)
    if "format" in options:
        from barque.cli.inspection import formatted

        format = options.text("format")
        if format != "json":  # templates know these by other names than JSON
            server = server and {**server, "APIVersion": server.get("ApiVersion")}
            client["APIVersion"] = client["ApiVersion"]
        terminal.out(formatted(format, {"Client": client, "Server": server}))
    else:
        terminal.out(_page(client, server))
    if failure is not None:
        terminal.err(f"{failure}\n")
        return 1
    return 0


def _client(session: Session) -> dict[str, Any]:
    """With Docker's names; the language's version stands where Go's does."""
    python = ".".join(map(str, sys.version_info[:3]))
    return {
        "Platform": {"Name": "Barque"},
        "Version": __version__,
        "ApiVersion": session.client.version,
        "DefaultAPIVersion": API_VERSION,
        "GitCommit": "",
        "GoVersion": f"python{python}",
        "Os": sys.platform,
        "Arch": architecture(),
        "BuildTime": "",
        "Context": session.context,
    }


def architecture() -> str:
    """This machine's, in Go's words."""
    from os import uname

    machine = uname().machine
    return {"x86_64": "amd64", "aarch64": "arm64"}.get(machine, machine)


def _page(client: dict[str, Any], server: dict[str, Any] | None) -> str:
    api = client["ApiVersion"]
    if api != client["DefaultAPIVersion"]:
        api += f" (downgraded from {client['DefaultAPIVersion']})"
    text = "Client: Barque\n" + _lines(
        " ",
        [
            ("Version:", client["Version"]),
            ("API version:", api),
            ("Python version:", client["GoVersion"].removeprefix("python")),
            ("OS/Arch:", f"{client['Os']}/{client['Arch']}"),
            ("Context:", client["Context"]),
        ],
    )
    if server is None:
        return text
    name = (server.get("Platform") or {}).get("Name", "")
    text += f"\nServer:{' ' + name if name else ''}\n"
    for part in server.get("Components") or [_engine(server)]:
        details = part.get("Details") or {}
        lines = _engine_lines if part["Name"] == "Engine" else _other_lines
        text += f" {part['Name']}:\n" + _lines("  ", lines(part["Version"], details))
    return text


def _engine(server: dict[str, Any]) -> dict[str, Any]:
    """An old daemon's answer has no components."""
    return {"Name": "Engine", "Version": server.get("Version", ""), "Details": server}


def _engine_lines(version: str, details: dict[str, Any]) -> list[tuple[str, str]]:
    lines = [("Version:", version)]
    if api := details.get("ApiVersion"):
        minimum = details.get("MinAPIVersion", "")
        lines.append(("API version:", f"{api} (minimum version {minimum})"))
    for key, label in (
        ("GoVersion", "Go version:"),
        ("PythonVersion", "Python version:"),
        ("GitCommit", "Git commit:"),
        ("BuildTime", "Built:"),
    ):
        if key in details:
            text = _date(details[key]) if key == "BuildTime" else str(details[key])
            lines.append((label, text))
    if "Os" in details and "Arch" in details:
        lines.append(("OS/Arch:", f"{details['Os']}/{details['Arch']}"))
    if "Experimental" in details:
        lines.append(("Experimental:", str(details["Experimental"]).lower()))
    return lines


def _other_lines(version: str, details: dict[str, Any]) -> list[tuple[str, str]]:
    return [("Version:", version), *((f"{key}:", str(details[key])) for key in sorted(details))]


def _date(text: str) -> str:
    """RFC 3339 as "Thu May  7 21:09:36 2026"; anything else as it is."""
    from datetime import datetime

    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return text
    return moment.strftime("%a %b ") + f"{moment.day:2d}" + moment.strftime(" %H:%M:%S %Y")


def _lines(indent: str, pairs: list[tuple[str, str]]) -> str:
    """Docker's layout: the values start in column 20."""
    return "".join(f"{indent}{label:<{20 - len(indent)}}{value}\n" for label, value in pairs)
