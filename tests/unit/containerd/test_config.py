"""containerd's flags and TOML file."""

import tomllib
from dataclasses import replace
from pathlib import Path

import pytest

from barque.containerd.config import Config, document_of, from_document, load, parse_arguments
from barque.errors import InvalidArgument, NotFound, Unsupported


def test_flags_beat_the_file(tmp_path: Path) -> None:
    file = tmp_path / "c.toml"
    file.write_text(
        'root = "/r"\nstate = "/s"\n[grpc]\naddress = "/a.sock"\n[debug]\nlevel = "warn"\n'
    )
    command = parse_arguments(["--config", str(file), "--root=/flag", "-l", "debug"])
    assert load(command.options) == Config(Path("/flag"), Path("/s"), "/a.sock", "debug")


def test_the_socket_lies_in_the_state_directory() -> None:
    assert load(parse_arguments(["--state", "/x"]).options).socket == "/x/containerd.sock"


def test_commands() -> None:
    assert parse_arguments(["config", "default"]).arguments == ("default",)
    assert parse_arguments(["--version"]).name == "version"


@pytest.mark.parametrize(
    "config",
    [
        Config(),
        Config(Path("/r"), Path("/s"), "/a.sock", "debug", 7, 8, "127.0.0.1:1338", True),
    ],
)
def test_what_is_dumped_says_the_same(config: Config) -> None:
    assert from_document(tomllib.loads(document_of(config))) == replace(
        config, address=config.socket
    )


@pytest.mark.parametrize("address", ["127.0.0.1:1338", ":0", "[::1]:80", "localhost:65535"])
def test_addresses_of_metrics(address: str) -> None:
    text = f"[metrics]\naddress = '{address}'\ngrpc_histogram = true\n"
    config = from_document(tomllib.loads(text))
    assert (config.metrics_address, config.metrics_histogram) == (address, True)


@pytest.mark.parametrize("arguments", [["--nope"], ["--root"], ["-x", "y"]])
def test_bad_flags(arguments: list[str]) -> None:
    with pytest.raises(InvalidArgument):
        parse_arguments(arguments)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("rooot = '/x'", InvalidArgument),
        ("root = 'x'", InvalidArgument),
        ("[debug]\nlevel = 'loud'", InvalidArgument),
        ("[grpc]\ntcp_address = '1.2.3.4:5'", Unsupported),
        ("[grpc]\nuid = -1", InvalidArgument),
        ("[grpc]\ngid = true", InvalidArgument),
        ("[metrics]\naddress = '1.2.3.4'", InvalidArgument),
        ("[metrics]\naddress = '::1:80'", InvalidArgument),
        ("[metrics]\naddress = 'host:65536'", InvalidArgument),
        ("[metrics]\naddress = 80", InvalidArgument),
        ("[metrics]\ngrpc_histogram = 1", InvalidArgument),
        ("[debug]\nformat = 'json'", Unsupported),
        ("oom_score = -500", Unsupported),
        ("[proxy_plugins.x]\ntype = 'snapshot'", InvalidArgument),
        ("disabled_plugins = ['io.containerd.content.v1.content']", Unsupported),
        ("[plugins.'io.containerd.grpc.v1.cri']\nx = 1", InvalidArgument),
    ],
)
def test_the_file_is_not_half_understood(text: str, kind: type[Exception]) -> None:
    with pytest.raises(kind):
        from_document(tomllib.loads(text))


def test_files_that_are_not_there_or_not_toml(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        load({"config": str(tmp_path / "none")})
    (tmp_path / "bad").write_text("= =")
    with pytest.raises(InvalidArgument):
        load({"config": str(tmp_path / "bad")})
