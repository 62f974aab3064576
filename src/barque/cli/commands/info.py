"""`barque info`: the engine as a whole."""

from __future__ import annotations

from barque import __version__, errors
from barque.cli import main, plugins, terminal, units

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from barque.cli.flags import Options, Row
    from barque.cli.session import Session

USAGE = "[OPTIONS]"
SUMMARY = "Show the engine as a whole"
ALIASES = ("system info", "info")
OPTIONS: tuple[Row, ...] = (("format", "f", "string", "Print with this template, or as 'json'"),)
ARGUMENTS = (0, 0)


def run(session: Session, options: Options, arguments: list[str]) -> int:
    found = plugins.all_of(session, {name.split()[0] for name in main.COMMANDS})
    client = {
        "Version": __version__,
        "Context": session.context,
        "Debug": session.debug,
        "Plugins": [plugin.document() for plugin in found],
    }
    format = options.text("format")
    try:
        info = session.client.system.info()
    except errors.BarqueError as error:
        if not format:
            terminal.out(_client(client, found) + "\nServer:\n")
        terminal.err(f"{_invalid(found)}{error}\n")
        return 1
    if format:
        from barque.cli.inspection import formatted

        terminal.out(formatted(format, {**info, "ClientInfo": client}))
        return 0
    terminal.out(_client(client, found) + "\nServer:\n" + _server(info) + "\n")
    terminal.err(_invalid(found))
    for warning in info.get("Warnings") or ():
        terminal.err(f"{warning}\n")
    return 0


def _client(client: dict[str, Any], found: Sequence[plugins.Plugin]) -> str:
    return (
        "Client: Barque\n"
        f" Version:    {client['Version']}\n Context:    {client['Context']}\n"
        f" Debug Mode: {_truth(client['Debug'])}\n"
        + "".join([" Plugins:\n", *map(_plugin, found)] if found else [])
    )


def _plugin(plugin: plugins.Plugin) -> str:
    if plugin.error:
        return ""
    told = plugin.metadata
    text = f"  {plugin.name}: {plugin.summary} ({told['Vendor']})\n"
    if told.get("Version"):
        text += f"    Version:  {told['Version']}\n"
    return text + f"    Path:     {plugin.path}\n"


def _invalid(found: Sequence[plugins.Plugin]) -> str:
    return "".join(
        f'WARNING: Plugin "{plugin.path}" is not valid: {plugin.error}\n'
        for plugin in found
        if plugin.error
    )


# A line each; (label, key), where the answer has the key.
_LINES = (
    ("Kernel Version", "KernelVersion"),
    ("Operating System", "OperatingSystem"),
    ("OSType", "OSType"),
    ("Architecture", "Architecture"),
    ("CPUs", "NCPU"),
)
_PROXIES = (
    ("HTTP Proxy", "HttpProxy"),
    ("HTTPS Proxy", "HttpsProxy"),
    ("No Proxy", "NoProxy"),
)


def _server(info: dict[str, Any]) -> str:
    out = _Page()
    out.line("Containers", info["Containers"])
    for state in ("Running", "Paused", "Stopped"):
        out.line(state, info[f"Containers{state}"], 2)
    out.line("Images", info["Images"])
    out.given(info, "Server Version", "ServerVersion")
    out.line("Storage Driver", info["Driver"])
    for key, value in info.get("DriverStatus") or ():
        out.line(key, value, 2)
    for label, key in (
        ("Logging Driver", "LoggingDriver"),
        ("Cgroup Driver", "CgroupDriver"),
        ("Cgroup Version", "CgroupVersion"),
    ):
        out.given(info, label, key)
    _plugins(out, info)
    out.line("Swarm", (info.get("Swarm") or {}).get("LocalNodeState") or "inactive")
    _runtimes(out, info)
    _security(out, info.get("SecurityOptions") or ())
    for label, key in _LINES:
        out.given(info, label, key)
    out.line("Total Memory", units.binary_size(info["MemTotal"]))
    out.given(info, "Name", "Name")
    out.given(info, "ID", "ID")
    out.given(info, "Docker Root Dir", "DockerRootDir")
    out.line("Debug Mode", _truth(info["Debug"]))
    if info["Debug"]:
        out.line("File Descriptors", info.get("NFd", 0), 2)
        out.line("Goroutines", info.get("NGoroutines", 0), 2)
        out.line("System Time", info.get("SystemTime", ""), 2)
        out.line("EventsListeners", info.get("NEventsListener", 0), 2)
    for label, key in _PROXIES:
        out.given(info, label, key)
    out.list("Labels", info.get("Labels") or ())
    out.line("Experimental", _truth(info.get("ExperimentalBuild")))
    _registries(out, info.get("RegistryConfig") or {})
    out.line("Live Restore Enabled", _truth(info.get("LiveRestoreEnabled")))
    out.given(info, "Product License", "ProductLicense")
    for n, pool in enumerate(info.get("DefaultAddressPools") or ()):
        if not n:
            out.heading("Default Address Pools")
        out.heading(f"  Base: {pool['Base']}, Size: {pool['Size']}", end="")
    return out.text


def _plugins(out: _Page, info: dict[str, Any]) -> None:
    plugins = info.get("Plugins") or {}
    out.heading("Plugins")
    out.line("Volume", " ".join(plugins.get("Volume") or ()), 2)
    out.line("Network", " ".join(plugins.get("Network") or ()), 2)
    if plugins.get("Authorization"):
        out.line("Authorization", " ".join(plugins["Authorization"]), 2)
    out.line("Log", " ".join(plugins.get("Log") or ()), 2)


def _runtimes(out: _Page, info: dict[str, Any]) -> None:
    if runtimes := info.get("Runtimes"):
        out.line("Runtimes", " ".join(sorted(runtimes)))
        out.line("Default Runtime", info.get("DefaultRuntime", ""))
    if info.get("OSType") == "linux":
        out.given(info, "Init Binary", "InitBinary")
        for label, key in (
            ("containerd version", "ContainerdCommit"),
            ("runc version", "RuncCommit"),
            ("init version", "InitCommit"),
        ):
            if info.get(key) is not None:
                out.line(label, info[key].get("ID", ""))


def _security(out: _Page, options: Any) -> None:
    if not options:
        return
    out.heading("Security Options")
    for text in options:
        pairs = [part.partition("=") for part in text.split(",")]
        for key, _, value in pairs:
            if key == "name":
                out.heading(f" {value}", end="")
            else:
                out.line(key.capitalize(), value, 3)


def _registries(out: _Page, config: dict[str, Any]) -> None:
    indexes = config.get("IndexConfigs") or {}
    insecure = [name for name, index in indexes.items() if not index.get("Secure")]
    out.list("Insecure Registries", [*insecure, *(config.get("InsecureRegistryCIDRs") or ())])
    out.list("Registry Mirrors", config.get("Mirrors") or ())


def _truth(value: Any) -> str:
    return "true" if value else "false"


class _Page:
    """Lines of "Label: value", indented by how deep they are."""

    def __init__(self) -> None:
        self.text = ""

    def line(self, label: str, value: object, indent: int = 1) -> None:
        self.text += f"{' ' * indent}{label}: {value}\n"

    def heading(self, label: str, end: str = ":") -> None:
        self.text += f" {label}{end}\n"

    def given(self, info: dict[str, Any], label: str, key: str) -> None:
        if info.get(key):
            self.line(label, info[key])

    def list(self, label: str, values: Any) -> None:
        if values:
            self.heading(label)
            self.text += "".join(f"  {value}\n" for value in values)
