"""Health, security, resource limits, logs, storage, restart policy, kernel parameters."""

from __future__ import annotations

from barque import errors
from barque.cli.session import Failure
from barque.client import json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from barque.cli.flags import Options
    from barque.cli.session import Session

ULIMITS = frozenset(
    (
        *("core", "cpu", "data", "fsize", "locks", "memlock", "msgqueue", "nice", "nofile"),
        *("nproc", "rss", "rtprio", "rttime", "sigpending", "stack"),
    )
)
SYSCTLS = frozenset(
    (
        *("kernel.msgmax", "kernel.msgmnb", "kernel.msgmni", "kernel.sem", "kernel.shmall"),
        *("kernel.shmmax", "kernel.shmmni", "kernel.shm_rmid_forced"),
    )
)
WINDOWS_ONLY = ("cpu-count", "cpu-percent", "io-maxbandwidth", "io-maxiops")
SYSCTL_PREFIXES = ("net.", "fs.mqueue.")
MAX_SWAPPINESS = 100


def apply(
    options: Options, config: dict[str, Any], host: dict[str, Any], networking: dict[str, Any]
) -> None:
    refused = [name for name in WINDOWS_ONLY if name in options]
    if refused:
        raise Failure(
            1,
            "\n".join(
                f'"--{name}" is only supported on a Docker daemon running on windows, '
                "but the Docker daemon is running on linux"
                for name in refused
            ),
        )
    if "memory-swappiness" in options:
        host["MemorySwappiness"] = swappiness = options.number("memory-swappiness")
        if not -1 <= swappiness <= MAX_SWAPPINESS:
            raise errors.InvalidArgument(
                f"invalid value: {swappiness}. Valid memory swappiness range is 0-100"
            )
    if "restart" in options:
        host["RestartPolicy"] = restart_policy(options.text("restart"))
    _health(options, config)
    if "health-on-failure" in options:
        host["HealthOnFailure"] = options.text("health-on-failure")
    _security(options, host)
    _limits(options, host)
    _logging(options, host)
    if annotations := _pairs(options.all("annotation")):
        host["Annotations"] = annotations


def _pairs(texts: list[str]) -> dict[str, str]:
    return {key: value for key, _, value in (text.partition("=") for text in texts)}


def refuse_elsewhere(session: Session, options: Options) -> None:
    """What another daemon would take and do nothing of. Raises Failure there."""
    if "health-on-failure" in options:
        session.require_barque("--health-on-failure")
    if "," in options.text("restart"):
        session.require_barque("--restart POLICY,...")


RESTART_TIMES = {"delay": "Delay", "max": "MaximumDelay", "window": "Window"}


def restart_policy(text: str) -> dict[str, Any]:
    """Docker's `NAME[:RETRIES]`, and behind it our `,delay=1s,max=30s,window=60s`."""
    words, *times = text.split(",")
    return _docker_policy(words) | dict(map(_restart_time, times))


def _restart_time(text: str) -> tuple[str, int]:
    name, _, value = text.partition("=")
    if name not in RESTART_TIMES:
        raise errors.InvalidArgument(
            f"invalid restart policy format: {text!r}: delay=, max= and window= are there"
        )
    from barque.cli.values import duration_ns

    return RESTART_TIMES[name], duration_ns(value)


def _docker_policy(text: str) -> dict[str, Any]:
    name, colon, count = text.partition(":")
    if colon and not name:
        raise errors.InvalidArgument(
            "invalid restart policy format: no policy provided before colon"
        )
    if not count:
        return {"Name": name}
    try:
        return {"Name": name, "MaximumRetryCount": int(count)}
    except ValueError:
        raise errors.InvalidArgument(
            "invalid restart policy format: maximum retry count must be an integer"
        ) from None


_HEALTH_NUMBERS = {
    "health-interval": "Interval",
    "health-timeout": "Timeout",
    "health-retries": "Retries",
    "health-start-period": "StartPeriod",
    "health-start-interval": "StartInterval",
}


def _health(options: Options, config: dict[str, Any]) -> None:
    check: dict[str, Any] = {}
    if options.text("health-cmd"):
        check["Test"] = ["CMD-SHELL", options.text("health-cmd")]
    for flag, key in _HEALTH_NUMBERS.items():
        if flag in options:
            check[key] = options.number(flag)
            if check[key] < 0:
                raise errors.InvalidArgument(f"--{flag} cannot be negative")
    if options.flag("no-healthcheck"):
        if check:
            raise errors.InvalidArgument("--no-healthcheck conflicts with --health-* options")
        check = {"Test": ["NONE"]}
    if check:
        config["Healthcheck"] = check


def _security(options: Options, host: dict[str, Any]) -> None:
    found = []
    for text in options.all("security-opt"):
        key, separator, value = text.partition("=")
        if not separator:
            key, separator, value = text.partition(":")
        if not separator and key != "no-new-privileges":
            raise errors.InvalidArgument(f'Invalid --security-opt: "{text}"')
        if key == "systempaths" and value == "unconfined":
            host["MaskedPaths"] = host["ReadonlyPaths"] = []
        elif key == "seccomp" and value not in ("unconfined", "builtin"):
            found.append(f"seccomp={_profile(value)}")
        else:
            found.append(text)
    if found:
        host["SecurityOpt"] = found


def _profile(path: str) -> str:
    """The profile itself: the daemon may be on another machine."""
    try:
        with open(path, "rb") as file:
            return json.dumps(json.loads(file.read()))
    except OSError as error:
        reason = f"open {path}: {(error.strerror or '').lower()}"
        raise errors.InvalidArgument(f"opening seccomp profile ({path}) failed: {reason}") from None
    except ValueError as error:
        raise errors.InvalidArgument(
            f"compacting json for seccomp profile ({path}) failed: {error}"
        ) from None


def _limits(options: Options, host: dict[str, Any]) -> None:
    limits = {}
    for text in options.all("ulimit"):
        try:
            limit = _ulimit(text)
        except errors.InvalidArgument as error:
            raise options.invalid("ulimit", text, error) from None
        limits[limit["Name"]] = limit
    if limits:
        host["Ulimits"] = [limits[name] for name in sorted(limits)]
    for text in options.all("sysctl"):
        name = text.partition("=")[0]
        known = name in SYSCTLS or name.startswith(SYSCTL_PREFIXES)
        if "=" not in text or not known:
            raise options.invalid("sysctl", text, f"sysctl '{text}' is not allowed")
        host.setdefault("Sysctls", {})[name] = text.partition("=")[2]


def _ulimit(text: str) -> dict[str, Any]:
    name, equals, value = text.partition("=")
    if not equals:
        raise errors.InvalidArgument(f"invalid ulimit argument: {text}")
    if name not in ULIMITS:
        raise errors.InvalidArgument(f"invalid ulimit type: {name}")
    parts = value.split(":")
    if len(parts) > 2:
        raise errors.InvalidArgument(
            f"too many limit value arguments - {value}, can only have up to two, `soft[:hard]`"
        )
    try:
        soft, hard = int(parts[0]), int(parts[-1])
    except ValueError as error:
        raise errors.InvalidArgument(str(error)) from None
    if hard != -1 and (soft > hard or soft == -1):
        raise errors.InvalidArgument(
            f"ulimit soft limit must be less than or equal to hard limit: {soft} > {hard}"
        )
    return {"Name": name, "Hard": hard, "Soft": soft}


def _logging(options: Options, host: dict[str, Any]) -> None:
    driver, settings = options.text("log-driver"), _pairs(options.all("log-opt"))
    if driver == "none" and settings:
        raise errors.InvalidArgument("invalid logging opts for driver none")
    if driver or settings:
        host["LogConfig"] = {"Type": driver, "Config": settings}
    storage = options.all("storage-opt")
    if not all("=" in text for text in storage):
        raise errors.InvalidArgument("invalid storage option")
    if storage:
        host["StorageOpt"] = _pairs(storage)
