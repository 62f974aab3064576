"""--device, --gpus, and the limits of block devices."""

from __future__ import annotations

from barque import errors
from barque.cli.creating.mounts import fields
from barque.cli.values import size, uint16, uint64

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from barque.cli.flags import Options

_RATES = {
    "device-read-bps": ("BlkioDeviceReadBps", size),
    "device-write-bps": ("BlkioDeviceWriteBps", size),
    "device-read-iops": ("BlkioDeviceReadIOps", uint64),
    "device-write-iops": ("BlkioDeviceWriteIOps", uint64),
}
MIN_WEIGHT, MAX_WEIGHT = 10, 1000


def apply(
    options: Options, config: dict[str, Any], host: dict[str, Any], networking: dict[str, Any]
) -> None:
    requests = []
    for text in options.all("device"):
        if _is_cdi(text):
            requests.append(text)
        else:
            host.setdefault("Devices", []).append(_device(text))
    if requests:
        host["DeviceRequests"] = [{"Driver": "cdi", "DeviceIDs": requests}]
    for text in options.all("gpus"):
        host.setdefault("DeviceRequests", []).append(_gpus(options, text))
    for text in options.all("device-cgroup-rule"):
        if not _is_rule(text):
            reason = f"invalid device cgroup format '{text}'"
            raise options.invalid("device-cgroup-rule", text, reason)
        host.setdefault("DeviceCgroupRules", []).append(text)
    for flag, (key, parse) in _RATES.items():
        for text in options.all(flag):
            path, value = _throttle(options, flag, text, parse)
            host.setdefault(key, []).append({"Path": path, "Rate": value})
    for text in options.all("blkio-weight-device"):
        host.setdefault("BlkioWeightDevice", []).append(_weight(options, text))


def _is_cdi(text: str) -> bool:
    """vendor.com/class=name"""
    kind, equals, name = text.partition("=")
    return bool(equals and name and "/" in kind and not text.startswith("/") and ":" not in kind)


def _device(text: str) -> dict[str, str]:
    parts = text.split(":")
    if len(parts) > 3 or not parts[0]:
        raise errors.InvalidArgument(f"bad format for path: {text}")
    source, target, permissions = parts[0], parts[0], "rwm"
    if len(parts) == 3:
        target, permissions = parts[1], parts[2]
        if not _is_mode(permissions):
            raise errors.InvalidArgument(f"bad mode specified: {permissions}")
    elif len(parts) == 2:
        if _is_mode(parts[1]):
            permissions = parts[1]
        else:
            target = parts[1]
    if not target.startswith("/"):
        raise errors.InvalidArgument(f"{target} is not an absolute path")
    return {
        "PathOnHost": source,
        "PathInContainer": target,
        "CgroupPermissions": permissions,
    }


def _is_mode(text: str) -> bool:
    return bool(text) and set(text) <= set("rwm") and len(set(text)) == len(text)


def _is_rule(text: str) -> bool:
    """[acb] major:minor [rwm]"""
    parts = text.split(" ")
    if len(parts) != 3 or parts[0] not in ("a", "c", "b"):
        return False
    major, colon, minor = parts[1].partition(":")
    numbers = all(n == "*" or (n.isascii() and n.isdigit()) for n in (major, minor))
    return bool(colon) and numbers and 1 <= len(parts[2]) <= 3 and set(parts[2]) <= set("rwm")


def _throttle(
    options: Options, flag: str, text: str, parse: Callable[[str], int]
) -> tuple[str, int]:
    path, colon, value = text.partition(":")
    if not colon or not path:
        raise options.invalid(flag, text, f"bad format: {text}")
    if not path.startswith("/dev/"):
        raise options.invalid(flag, text, f"bad format for device path: {text}")
    try:
        return path, parse(value)
    except errors.InvalidArgument:
        unit = "<number>[<unit>]. Number must be a positive integer. Unit is optional and can be "
        form = f"<device-path>:{unit}kb, mb, or gb" if parse is size else "<device-path>:<number>"
        if parse is not size:
            form += ". Number must be a positive integer"
        raise options.invalid(
            flag, text, f"invalid rate for device: {text}. The correct format is {form}"
        ) from None


def _weight(options: Options, text: str) -> dict[str, Any]:
    path, colon, value = text.partition(":")
    flag = "blkio-weight-device"
    if not colon or not path:
        raise options.invalid(flag, text, f"bad format: {text}")
    if not path.startswith("/dev/"):
        raise options.invalid(flag, text, f"bad format for device path: {text}")
    try:
        weight = uint16(value)
    except errors.InvalidArgument:
        weight = -1
    if weight and not MIN_WEIGHT <= weight <= MAX_WEIGHT:
        raise options.invalid(flag, text, f"invalid weight for device: {text}")
    return {"Path": path, "Weight": weight}


def _gpus(options: Options, text: str) -> dict[str, Any]:
    """ "all", a count, or driver=, count=, device=, capabilities=, options= with commas between."""
    request: dict[str, Any] = {}
    capabilities: list[str] = []
    for field in fields(text):
        key, equals, value = field.partition("=")
        if not equals:
            key, value = "count", key
        if key == "driver":
            request["Driver"] = value
        elif key == "count":
            request["Count"] = _gpu_count(options, text, value)
        elif key == "device":
            request["DeviceIDs"] = value.split(",")
        elif key == "capabilities":
            capabilities = value.split(",")
        elif key == "options":
            pairs = (part.partition("=") for part in value.split(","))
            request["Options"] = {name: setting for name, _, setting in pairs}
        else:
            raise options.invalid("gpus", text, f"unexpected key '{key}' in '{field}'")
    if "Count" not in request and "DeviceIDs" not in request:
        request["Count"] = 1
    if "gpu" not in capabilities:
        capabilities.append("gpu")
    return {**request, "Capabilities": [capabilities]}


def _gpu_count(options: Options, text: str, value: str) -> int:
    if value == "all":
        return -1
    try:
        return int(value)
    except ValueError:
        reason = f'invalid count ({value}): value must be either "all" or an integer'
        raise options.invalid("gpus", text, reason) from None
