"""`proxies` of the client's config.json: variables of every container that has not its own."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from barque.cli.session import Session

VARIABLES = {
    "httpProxy": "HTTP_PROXY",
    "httpsProxy": "HTTPS_PROXY",
    "noProxy": "NO_PROXY",
    "ftpProxy": "FTP_PROXY",
    "allProxy": "ALL_PROXY",
}


def apply(session: Session, body: dict[str, Any]) -> None:
    proxies = session.settings["proxies"]
    chosen = proxies.get(session.client.host.text) or proxies.get("default") or {}
    own = {text.partition("=")[0] for text in body.get("Env") or ()}
    extra = []
    for key, name in VARIABLES.items():
        if chosen.get(key):
            names = (variable for variable in (name, name.lower()) if variable not in own)
            extra += [f"{variable}={chosen[key]}" for variable in names]
    if extra:
        body["Env"] = [*(body.get("Env") or ()), *extra]
