"""`--security-opt`: what each word means here. Refused by name where the kernel or we lack it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from barque import errors
from barque.daemon.containers.host import Host

_TRUE, _FALSE = {"true", "1", "t"}, {"false", "0", "f"}


@dataclass(slots=True)
class Security:
    seccomp: str | None = None
    """None for the daemon's default, `unconfined`, `builtin`, or the text of a profile."""
    no_new_privileges: bool | None = None
    unconfined_paths: bool = False
    writable_cgroups: bool = False
    apparmor: str = ""
    label: tuple[str, ...] = ()


def parse(options: Iterable[str], machine: Host) -> Security:
    """Raises InvalidArgument for a word Docker does not know, Unsupported for one we lack."""
    result = Security()
    for option in options:
        key, separator, value = option.partition("=")
        if not separator:
            key, separator, value = option.partition(":")  # the older spelling
        if key == "no-new-privileges":
            result.no_new_privileges = _boolean(option, value) if separator else True
        elif key == "seccomp" and value:
            result.seccomp = value
        elif key == "systempaths" and value == "unconfined":
            result.unconfined_paths = True
        elif key == "writable-cgroups":
            result.writable_cgroups = _boolean(option, value) if separator else True
        elif key == "apparmor" and value:
            _check_apparmor(value, machine)
            result.apparmor = value
        elif key == "label" and value:
            if value != "disable" and not machine.selinux:
                raise errors.Unsupported(f"SELinux is not enabled here: --security-opt {option}")
            result.label += (value,)
        else:
            number = 2 if separator else 1
            raise errors.InvalidArgument(f'invalid --security-opt {number}: "{option}"')
    return result


def _boolean(option: str, value: str) -> bool:
    if value.lower() in _TRUE:
        return True
    if value.lower() in _FALSE:
        return False
    raise errors.InvalidArgument(f'invalid --security-opt 2: "{option}"')


def _check_apparmor(value: str, machine: Host) -> None:
    if value != "unconfined" and not machine.apparmor:
        raise errors.Unsupported(f"AppArmor is not enabled on this kernel: profile {value!r}")
