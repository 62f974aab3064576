"""criu's requests and answers as bytes; what a failure quotes of its log."""

import os
from pathlib import Path

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from hypothesis import given
from hypothesis import strategies as st

from barque.errors import BarqueError, InvalidArgument, NotFound
from barque.linux.namespaces import CLONE_NEWNET
from barque.runc import commands, criu
from barque.runc.commands import checkpoint
from barque.runc.flags import parse

NUMBER, TEXT, FLAG = 5, 9, 8  # int32, string, bool of FieldDescriptorProto.Type
KINDS = {"number": NUMBER, "flag": FLAG, "text": TEXT, "texts": TEXT}


def options_class() -> type:
    """criu_opts as the protobuf library reads it, from the same numbers."""
    file = descriptor_pb2.FileDescriptorProto(name="criu-test.proto", package="criutest")
    pair = file.message_type.add(name="pair")
    for number, name in enumerate(("first", "second"), start=1):
        pair.field.add(name=name, number=number, type=TEXT, label=1)
    message = file.message_type.add(name="criu_opts")
    for name, (number, kind) in criu.OPTIONS.items():
        label = 3 if kind in ("texts", "messages") else 1
        if kind in KINDS:
            message.field.add(name=name, number=number, type=KINDS[kind], label=label)
        else:
            entry = message.field.add(name=name, number=number, type=11, label=label)
            entry.type_name = ".criutest.pair"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    found: type = message_factory.GetMessageClass(pool.FindMessageTypeByName("criutest.criu_opts"))
    return found


def test_options_are_protobuf() -> None:
    wanted = {
        "images_dir_fd": 5,
        "leave_running": True,
        "shell_job": False,
        "log_file": "dump.log",
        "ext_mnt": [("/a", "/b"), ("/dev/null", "/dev/null")],
        "external": ["net[12]:extRootNetNS"],
        "track_mem": None,
        "manage_cgroups_mode": 0,
        "empty_ns": 0x40000000,
    }
    read = options_class()()
    read.ParseFromString(criu.encode_options(wanted))
    assert (read.images_dir_fd, read.leave_running, read.log_file) == (5, True, "dump.log")
    assert not read.HasField("shell_job")
    assert read.HasField("manage_cgroups_mode")
    assert [(one.first, one.second) for one in read.ext_mnt] == wanted["ext_mnt"]
    assert list(read.external) == wanted["external"]
    assert read.empty_ns == 0x40000000


@given(st.binary(max_size=64))
def test_any_packet_is_read_or_refused(packet: bytes) -> None:
    try:
        criu.decode(packet)
    except ValueError:
        pass


def test_criu_is_found_in_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NotFound, match="executable file not found"):
        criu.find()
    program = tmp_path / "criu"
    program.write_text("#!/bin/sh\necho '(0.1) Error (x.c:1): no' >&2; exit 3\n")
    program.chmod(0o755)
    assert criu.find() == str(program)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.defpath}")
    with pytest.raises(BarqueError, match=r"exit code 3.*Error \(x.c:1\): no"):
        criu.version(str(program))


def test_the_log_is_quoted_on_one_line(tmp_path: Path) -> None:
    lines = ["(0.1) fine", *(f"(0.{n}) Error (a.c:{n}): bad" for n in range(2, 9)), "(1.0) more"]
    (tmp_path / "dump.log").write_text("\n".join(lines))
    text = criu.quoted_log(str(tmp_path), "dump.log")
    assert text.count("Error") == criu.MOST_SHOWN
    assert "\n" not in text
    assert str(tmp_path / "dump.log") in text
    assert criu.quoted_log(str(tmp_path), "none") == ""


@pytest.mark.parametrize("name", ["checkpoint", "restore"])
def test_flags_are_criu_options(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each switch is a member of criu_opts, and the words of the others are checked."""
    monkeypatch.setattr(criu, "find", lambda program: program)
    command = commands.load(name)
    switches = [*checkpoint.TAKEN, *(checkpoint.ONLY_DUMP if name == "checkpoint" else ())]
    known = {flag.names[0] for flag in command.FLAGS}
    assert set(switches) <= known
    words = [f"--{switch}" for switch in switches]
    words += ["--manage-cgroups-mode", "strict", "--empty-ns", "network"]
    given = parse([*words, "--image-path", str(tmp_path), "id"], command.FLAGS)
    options = checkpoint.options_of(given, "criu")
    assert [switch for switch in checkpoint.TAKEN if options.flags[switch.replace("-", "_")]] == (
        list(checkpoint.TAKEN)
    )
    assert {switch.replace("-", "_") for switch in switches} <= criu.OPTIONS.keys()
    assert options.empty_ns == CLONE_NEWNET
    assert criu.CGROUP_MODES[options.manage_cgroups] == criu.CGROUP_MODES["strict"]
    for wrong in (["--manage-cgroups-mode", "x"], ["--empty-ns", "pid"]):
        with pytest.raises(InvalidArgument):
            checkpoint.options_of(parse([*wrong, "id"], command.FLAGS), "criu")


@pytest.mark.parametrize(
    ("text", "found"), [("10.0.0.1:27", ("10.0.0.1", 27)), ("[::1]:9", ("::1", 9)), ("", None)]
)
def test_the_page_server(text: str, found: tuple[str, int] | None) -> None:
    assert checkpoint.page_server(text) == found


@pytest.mark.parametrize("text", ["host", ":1", "host:0", "host:65536", "host:x"])
def test_no_page_server(text: str) -> None:
    with pytest.raises(InvalidArgument, match="ADDRESS:PORT"):
        checkpoint.page_server(text)
