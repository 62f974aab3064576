"""Requests are taken with Go's leniency, and refused by the field that does not fit."""

from __future__ import annotations

import msgspec
import pytest

from barque import errors
from barque.daemon.containers.documents import (
    Config,
    HostConfig,
    LogConfig,
    docker_name,
    document,
    parse,
)


@pytest.mark.parametrize(
    ("field", "name"),
    [
        ("nano_cpus", "NanoCpus"),
        ("uts_mode", "UTSMode"),
        ("container_id_file", "ContainerIDFile"),
        ("io_maximum_iops", "IOMaximumIOps"),
        ("blkio_device_read_iops", "BlkioDeviceReadIOps"),
    ],
)
def test_fields_have_the_names_of_the_api(field: str, name: str) -> None:
    assert docker_name(field) == name


def test_keys_in_any_case_nulls_and_unknown_keys() -> None:
    config = parse(Config, {"image": "x", "TTY": True, "Env": None, "Nonsense": [1]})
    assert (config.image, config.tty, config.env) == ("x", True, [])


def test_an_exact_key_and_nested_objects() -> None:
    host = parse(
        HostConfig,
        {
            "RestartPolicy": {"name": "always", "MaximumRetryCount": None},
            "PortBindings": {"80/tcp": [{"hostport": "8080"}], "81/tcp": None},
            "LogConfig": {"Type": "none", "Config": None},
        },
    )
    assert host.restart_policy.name == "always"
    assert host.port_bindings["81/tcp"] is None
    bindings = host.port_bindings["80/tcp"]
    assert bindings is not None
    assert bindings[0].host_port == "8080"
    assert host.log_config == LogConfig(type="none")


def test_a_command_may_be_one_string() -> None:
    config = parse(Config, {"Cmd": "ls", "Entrypoint": ["a", "b"]})
    assert config.cmd == ["ls"]
    assert config.entrypoint == ["a", "b"]


@pytest.mark.parametrize(
    "body",
    [
        {"Memory": "1g"},
        {"Memory": 1 << 63},
        {"Binds": "a:b"},
        {"Binds": [1]},
        {"BlkioWeight": -1},
        {"Ulimits": [{"Name": 1}]},
        {"RestartPolicy": []},
    ],
)
def test_wrong_types_are_refused(body: dict[str, object]) -> None:
    with pytest.raises(errors.InvalidArgument, match="invalid request body"):
        parse(HostConfig, body)


def test_a_document_survives_the_database() -> None:
    host = parse(HostConfig, {"Memory": 1, "Sysctls": {"a": "b"}, "Mounts": [{"Type": "bind"}]})
    again = msgspec.json.decode(msgspec.json.encode(host), type=HostConfig)
    assert again == host
    assert document(host)["Sysctls"] == {"a": "b"}
