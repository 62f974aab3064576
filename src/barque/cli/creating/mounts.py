"""-v, --mount and --tmpfs: what of the host, which volumes and which memory the container sees."""

from __future__ import annotations

import os

from barque import errors
from barque.cli.values import size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from barque.cli.flags import Options

TYPES = ("bind", "volume", "tmpfs", "npipe", "image", "cluster")
_TRUE = ("true", "1", "t", "T", "TRUE", "True")
_FALSE = ("false", "0", "f", "F", "FALSE", "False")


def apply(
    options: Options, config: dict[str, Any], host: dict[str, Any], networking: dict[str, Any]
) -> None:
    binds: list[str] = []
    anonymous: dict[str, dict[str, str]] = {}
    for text in options.all("volume"):
        if ":" not in text:
            anonymous[text] = {}
            continue
        source, _, rest = text.partition(":")
        if not source or "" in rest.split(":"):
            raise errors.InvalidArgument(f"invalid spec: {text}: empty section between colons")
        binds.append(f"{os.path.abspath(source)}:{rest}" if source.startswith(".") else text)
    if anonymous:
        config["Volumes"] = anonymous
    if binds:
        host["Binds"] = list(dict.fromkeys(binds))  # who says one twice means one
    if tmpfs := options.all("tmpfs"):
        pairs = (text.partition(":") for text in tmpfs)
        host["Tmpfs"] = {path: rest for path, _, rest in pairs}
    if mounts := [_mount(options, text) for text in options.all("mount")]:
        host["Mounts"] = mounts


def fields(text: str) -> list[str]:
    """A line of comma-separated values, of which some may be in double quotes."""
    found, value, quoted = [], "", False
    for character in text:
        if character == '"':
            quoted = not quoted
        elif character == "," and not quoted:
            found.append(value)
            value = ""
        else:
            value += character
    return [*found, value]


def _mount(options: Options, text: str) -> dict[str, Any]:
    mount: dict[str, Any] = {"Type": "volume"}
    for field in fields(text):
        key, equals, value = field.partition("=")
        key = key.lower()
        if not equals and key not in _FLAGS:
            raise options.invalid(
                "mount", text, f"invalid field '{field}' must be a key=value pair"
            )
        try:
            _set(mount, key, value if equals else "true", field)
        except errors.InvalidArgument as error:
            raise options.invalid("mount", text, error) from None
    try:
        return _checked(mount)
    except errors.InvalidArgument as error:
        raise options.invalid("mount", text, error) from None


_FLAGS = ("readonly", "ro", "volume-nocopy", "bind-nonrecursive", "bind-create-src")
_PLAIN = {"source": "Source", "src": "Source", "consistency": "Consistency"}
_TARGETS = ("target", "dst", "destination")
# key -> (section, name in it)
_SECTIONS = {
    "bind-propagation": ("BindOptions", "Propagation"),
    "volume-subpath": ("VolumeOptions", "Subpath"),
    "image-subpath": ("ImageOptions", "Subpath"),
}
_BIND_RECURSIVE: dict[str, dict[str, bool]] = {
    "enabled": {},
    "disabled": {"NonRecursive": True},
    "writable": {"ReadOnlyNonRecursive": True},
    "readonly": {"ReadOnlyForceRecursive": True},
}


def _truth(key: str, value: str) -> bool:
    if value not in _TRUE and value not in _FALSE:
        raise errors.InvalidArgument(f"invalid value for {key}: {value}")
    return value in _TRUE


def _set(mount: dict[str, Any], key: str, value: str, field: str) -> None:
    if key == "type":
        mount["Type"] = value.lower()
    elif key in _PLAIN:
        relative = key in ("source", "src") and value.startswith(".")
        mount[_PLAIN[key]] = os.path.abspath(value) if relative else value
    elif key in _TARGETS:
        mount["Target"] = value
    elif key in ("readonly", "ro"):
        mount["ReadOnly"] = _truth(key, value)
    elif key in _SECTIONS:
        section, name = _SECTIONS[key]
        mount.setdefault(section, {})[name] = value
    elif key.startswith("bind-"):
        _set_bind(mount.setdefault("BindOptions", {}), key, value, field)
    elif key.startswith("volume-"):
        _set_volume(mount.setdefault("VolumeOptions", {}), key, value, field)
    elif key.startswith("tmpfs-"):
        _set_tmpfs(mount.setdefault("TmpfsOptions", {}), key, value, field)
    else:
        raise errors.InvalidArgument(f"unexpected key '{key}' in '{field}'")


def _set_bind(bind: dict[str, Any], key: str, value: str, field: str) -> None:
    if key == "bind-nonrecursive":
        bind["NonRecursive"] = _truth(key, value)
    elif key == "bind-create-src":
        bind["CreateMountpoint"] = _truth(key, value)
    elif key == "bind-recursive" and value in _BIND_RECURSIVE:
        bind.update(_BIND_RECURSIVE[value])
    elif key == "bind-recursive":
        raise errors.InvalidArgument(
            f'invalid value for {key}: {value} (must be "enabled", "disabled", "writable", '
            'or "readonly")'
        )
    else:
        raise errors.InvalidArgument(f"unexpected key '{key}' in '{field}'")


def _set_volume(volume: dict[str, Any], key: str, value: str, field: str) -> None:
    name, _, text = value.partition("=")
    driver = volume.get("DriverConfig", {})
    if key == "volume-nocopy":
        volume["NoCopy"] = _truth(key, value)
    elif key == "volume-label":
        volume.setdefault("Labels", {})[name] = text
    elif key == "volume-driver":
        volume["DriverConfig"] = {**driver, "Name": value}
    elif key == "volume-opt":
        options = {**driver.get("Options", {}), name: text}
        volume["DriverConfig"] = {**driver, "Options": options}
    else:
        raise errors.InvalidArgument(f"unexpected key '{key}' in '{field}'")


def _set_tmpfs(tmpfs: dict[str, Any], key: str, value: str, field: str) -> None:
    if key == "tmpfs-size":
        try:
            tmpfs["SizeBytes"] = size(value)
        except errors.InvalidArgument:
            raise errors.InvalidArgument(f"invalid value for {key}: {value}") from None
    elif key == "tmpfs-mode":
        if not value or value.strip("01234567"):
            raise errors.InvalidArgument(f"invalid value for {key}: {value}")
        tmpfs["Mode"] = int(value, 8)
    else:
        raise errors.InvalidArgument(f"unexpected key '{key}' in '{field}'")


def _checked(mount: dict[str, Any]) -> dict[str, Any]:
    kind = mount["Type"]
    if not kind:
        raise errors.InvalidArgument("type is required")
    if not mount.get("Target"):
        raise errors.InvalidArgument("target is required")
    for section, option in (
        ("VolumeOptions", "volume"),
        ("BindOptions", "bind"),
        ("TmpfsOptions", "tmpfs"),
        ("ImageOptions", "image"),
    ):
        if section in mount and kind != option:
            raise errors.InvalidArgument(
                f"cannot mix '{option}-*' options with mount type '{kind}'"
            )
    return mount
