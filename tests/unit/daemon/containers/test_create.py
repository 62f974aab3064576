"""What the image says and the request does not. Source: moby's rules for merging configurations."""

from __future__ import annotations

from typing import Any

import pytest

from barque import errors
from barque.daemon.containers.create import merge_image
from barque.daemon.containers.documents import Config, parse

IMAGE = {
    "Cmd": ["serve"],
    "Entrypoint": ["/entry"],
    "Env": ["A=image", "B=image"],
    "User": "app",
    "WorkingDir": "/app",
    "ExposedPorts": {"80/tcp": {}},
    "Volumes": {"/data": {}},
    "Labels": {"x": "image", "y": "image"},
    "StopSignal": "SIGINT",
    "Healthcheck": {"Test": ["CMD", "check"], "Interval": 5_000_000},
}


def merged(**fields: Any) -> Config:
    config = parse(Config, fields)
    merge_image(config, IMAGE)
    return config


@pytest.mark.parametrize(
    ("fields", "entrypoint", "cmd"),
    [
        ({}, ["/entry"], ["serve"]),
        ({"Cmd": ["other"]}, ["/entry"], ["other"]),
        ({"Entrypoint": ["/mine"]}, ["/mine"], None),
        ({"Entrypoint": ["/mine"], "Cmd": ["x"]}, ["/mine"], ["x"]),
        ({"Entrypoint": [""], "Cmd": ["sh"]}, None, ["sh"]),
        ({"Entrypoint": [], "Cmd": ["sh"]}, [], ["sh"]),
    ],
)
def test_command(
    fields: dict[str, Any], entrypoint: list[str] | None, cmd: list[str] | None
) -> None:
    config = merged(**fields)
    assert (config.entrypoint, config.cmd) == (entrypoint, cmd)


def test_no_command_at_all() -> None:
    with pytest.raises(errors.InvalidArgument, match="no command specified"):
        merged(Entrypoint=[""])
    with pytest.raises(errors.InvalidArgument, match="no command specified"):
        merge_image(Config(), {})


def test_the_rest() -> None:
    config = merged(Env=["A=mine", "C"], Labels={"x": "mine"}, Volumes={"/mine": {}}, User="me")
    assert config.env == ["A=mine", "C", "B=image"]
    assert config.labels == {"x": "mine", "y": "image"}
    assert set(config.volumes or ()) == {"/data", "/mine"}
    assert set(config.exposed_ports or ()) == {"80/tcp"}
    assert (config.user, config.working_dir, config.stop_signal) == ("me", "/app", "SIGINT")


def test_health() -> None:
    config = merged(Healthcheck={"Retries": 2})
    assert config.healthcheck is not None
    assert config.healthcheck.test == ["CMD", "check"]
    assert (config.healthcheck.interval, config.healthcheck.retries) == (5_000_000, 2)


def test_unknown_words_of_an_image_change_nothing() -> None:
    """CVE-2014-6408."""
    config = Config(cmd=["x"])
    merge_image(config, {"Privileged": True, "CapAdd": ["ALL"], "Binds": ["/:/host"]})
    assert config == Config(cmd=["x"])
