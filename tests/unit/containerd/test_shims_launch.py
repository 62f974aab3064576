"""What a shim's start prints, which binary a runtime's name means, and what a binary is given."""

import asyncio
import os
import stat
from pathlib import Path

import pytest
from google.protobuf.any_pb2 import Any as AnyMessage

from barque.containerd.proto.shim_pb2 import DeleteResponse
from barque.containerd.shims.bundle import Bundle, create_bundle
from barque.containerd.shims.launch import Address, Launcher, find_binary, parse_address
from barque.containerd.shims.zygote import Zygote
from barque.errors import BarqueError, InvalidArgument, NotFound, Unsupported


@pytest.mark.parametrize(
    ("output", "address"),
    [
        ("unix:///run/s/1\n", Address("unix:///run/s/1", 2)),
        ("/run/s/1", Address("/run/s/1", 2)),
        ('{"version":2,"address":"unix:///s","protocol":"ttrpc"}', Address("unix:///s", 2)),
        ('{"version":3,"address":"unix:///s","protocol":"ttrpc"}\n', Address("unix:///s", 3)),
        ('{"version":3,"address":"/s","protocol":"GRPC"}', Address("/s", 3, "grpc")),
    ],
)
def test_addresses(output: str, address: Address) -> None:
    assert parse_address(output) == address


@pytest.mark.parametrize(
    ("output", "kind"),
    [
        ('{"version":2,"address":"unix:///s","protocol":"grpc"}', Unsupported),
        ('{"version":3,"address":"unix:///s","protocol":"http"}', Unsupported),
        ('{"version":4,"address":"unix:///s","protocol":"ttrpc"}', Unsupported),
        ('{"version":"x","address":"unix:///s","protocol":"ttrpc"}', BarqueError),
        ('{"version":3}', BarqueError),
        ("{", BarqueError),
    ],
)
def test_unusable_addresses(output: str, kind: type[Exception]) -> None:
    with pytest.raises(kind):
        parse_address(output)


def test_a_runtime_names_a_binary_on_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    binary = tmp_path / "containerd-shim-mine-v7"
    binary.write_text("#!/bin/sh\n")
    binary.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_binary("io.containerd.mine.v7") == str(binary)
    assert find_binary("mine.v7") == str(binary)
    assert find_binary(str(binary)) == str(binary)
    with pytest.raises(NotFound, match="containerd-shim-other-v7"):
        find_binary("io.containerd.other.v7")


@pytest.mark.parametrize("name", ["", "runc", ".", "a.", ".b", "io.../x.v1", "a/b.c"])
def test_names_that_mean_no_binary(name: str) -> None:
    with pytest.raises((InvalidArgument, NotFound)):
        find_binary(name)


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return create_bundle(tmp_path / "ns" / "id", "ns", "id", b"{}", "x.y")


@pytest.fixture
def launcher() -> Launcher:
    return Launcher(Zygote("/none", ["false"]), "/run/c.sock", "/bin/publish", debug=True)


def binary(tmp_path: Path, script: str) -> str:
    path = tmp_path / "shim"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


def test_start_gives_a_binary_its_flags_directory_environment_and_options(
    tmp_path: Path, bundle: Bundle, launcher: Launcher
) -> None:
    shim = binary(
        tmp_path,
        'echo "$@" > args; pwd > cwd; cat > stdin\n'
        'echo "$TTRPC_ADDRESS $GRPC_ADDRESS $NAMESPACE $MAX_SHIM_VERSION" > env; echo unix:///s',
    )
    options = AnyMessage(type_url="t", value=b"v")
    started = asyncio.run(launcher.start(bundle, shim, options))
    assert started.address == Address("unix:///s", 2)
    assert not started.connected
    assert (bundle.path / "args").read_text() == (
        "-namespace ns -address /run/c.sock -publish-binary /bin/publish -id id -debug start\n"
    )
    assert (bundle.path / "cwd").read_text().strip() == str(bundle.path)
    assert (bundle.path / "env").read_text() == "/run/c.sock.ttrpc /run/c.sock ns 2\n"
    assert AnyMessage.FromString((bundle.path / "stdin").read_bytes()) == options


def test_a_start_that_fails_says_what_the_binary_said(
    tmp_path: Path, bundle: Bundle, launcher: Launcher
) -> None:
    shim = binary(tmp_path, "echo no luck >&2; exit 3")
    with pytest.raises(BarqueError, match="failed to start shim: no luck: exit status 3"):
        asyncio.run(launcher.start(bundle, shim, None))


def test_delete_reads_the_answer(tmp_path: Path, bundle: Bundle, launcher: Launcher) -> None:
    answer = DeleteResponse(pid=200, exit_status=137)
    answer.exited_at.FromNanoseconds(1_700_000_000_123_456_789)
    (tmp_path / "answer").write_bytes(answer.SerializeToString())
    shim = binary(tmp_path, f'cat {tmp_path}/answer; echo "$@" > args')
    assert asyncio.run(launcher.delete(bundle, shim)) == answer
    flags = (bundle.path / "args").read_text()
    assert flags.endswith(f"-id id -bundle {bundle.path} delete\n")


@pytest.mark.parametrize("script", ["exit 1", "printf '\\377'"])
def test_a_delete_that_fails(
    tmp_path: Path, bundle: Bundle, launcher: Launcher, script: str
) -> None:
    with pytest.raises(BarqueError):
        asyncio.run(launcher.delete(bundle, binary(tmp_path, script)))


def test_bundles(tmp_path: Path) -> None:
    made = create_bundle(tmp_path / "ns" / "id", "ns", "id", b'{"a":1}', "io.x.v1")
    assert (made.path / "config.json").read_bytes() == b'{"a":1}'
    assert stat.S_IMODE(os.stat(made.path / "config.json").st_mode) == 0o600
    record = made.record()
    assert record is not None
    assert (record.runtime, record.address) == ("io.x.v1", "")
    (made.path / "work" / "deep").mkdir()
    os.symlink("/etc", made.path / "work" / "link")
    made.remove()
    made.remove()
    assert list((tmp_path / "ns").iterdir()) == []
    assert Path("/etc/passwd").exists()


def test_a_bundle_with_files_in_its_rootfs_is_not_emptied(tmp_path: Path) -> None:
    made = create_bundle(tmp_path / "ns" / "id", "ns", "id", b"{}", "io.x.v1")
    (made.rootfs / "precious").touch()
    with pytest.raises(OSError, match="not empty"):
        made.remove()
    (hidden,) = (tmp_path / "ns").iterdir()
    assert (hidden / "rootfs" / "precious").exists()
    assert hidden.name.startswith(".id.")


def test_an_id_is_free_while_its_old_files_are_there(tmp_path: Path) -> None:
    for _ in range(3):
        made = create_bundle(tmp_path / "ns" / "id", "ns", "id", b"{}", "io.x.v1")
        assert made.hide() is not None
        assert made.hide() is None
    assert len(list((tmp_path / "ns").iterdir())) == 3


@pytest.mark.parametrize("text", ["", "{", "[]", '{"runtime":"x"}'])
def test_a_broken_record_is_no_record(tmp_path: Path, text: str) -> None:
    made = create_bundle(tmp_path / "ns" / "id", "ns", "id", b"{}", "io.x.v1")
    (made.path / "shim.json").write_text(text)
    assert made.record() is None
