"""What clients of older versions of the API mean by their requests."""

from __future__ import annotations

from typing import Any

_PRIVATE_IPC_SINCE = (1, 40)  # before, containers could be joined unless they said otherwise
_PIDS_UPDATED_SINCE = (1, 40)
_CGROUP_NAMESPACES_SINCE = (1, 41)


def settle_create(body: dict[str, Any], version: tuple[int, int], cgroup_version: int) -> None:
    """Put into the HostConfig of a request what its sender takes for granted.

    API history, 1.40 and 1.41. Docker: postContainersCreate.
    """
    host = next((value for key, value in body.items() if key.lower() == "hostconfig"), None)
    if not isinstance(host, dict):
        return
    if version < _PRIVATE_IPC_SINCE:
        _default(host, "IpcMode", "shareable")
    if version < _CGROUP_NAMESPACES_SINCE and cgroup_version == 1:
        _default(host, "CgroupnsMode", "host")


def settle_update(body: dict[str, Any], version: tuple[int, int]) -> None:
    """Leave out of an update what its version has not. Docker: postContainerUpdate."""
    if version < _PIDS_UPDATED_SINCE:
        for key in _keys(body, "PidsLimit"):
            del body[key]


def _default(document: dict[str, Any], name: str, value: str) -> None:
    keys = _keys(document, name)
    if not any(document[key] for key in keys):
        document |= dict.fromkeys(keys or [name], value)


def _keys(document: dict[str, Any], name: str) -> list[str]:
    """As it is written there: Go reads names in any case."""
    return [key for key in document if key.lower() == name.lower()]
