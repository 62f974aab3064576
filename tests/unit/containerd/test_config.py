"""containerd's flags and TOML file."""

import tomllib
from pathlib import Path

import pytest

from barque.containerd.config import Config, default_document, from_document, load, parse_arguments
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
    assert from_document(tomllib.loads(default_document())).root == Config().root


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
