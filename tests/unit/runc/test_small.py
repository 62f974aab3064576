"""Ids, logs, homes, signals, undo, validation, paths in the container."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from barque.errors import BarqueError, InvalidArgument, Unsupported
from barque.oci.runtime import parse_spec
from barque.runc.identity import _home
from barque.runc.init import NotExecutable, environment_of, find_program
from barque.runc.lifecycle import parse_signal
from barque.runc.log import Log, reason
from barque.runc.paths import Paths, checked_id
from barque.runc.rootfs import normal
from barque.runc.seccomp import compile_profile, filter_flags, key_of
from barque.runc.undo import Undo
from barque.runc.validate import check_spec
from tests.support import rootfs

SOURCE = Path(__file__).resolve().parents[3] / "src"


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a b", "@seccomp", "a\n", "é", "a" * 1025])
def test_ids_that_are_no_path_component(name: str) -> None:
    with pytest.raises(InvalidArgument):
        checked_id(name)


def test_paths() -> None:
    paths = Paths("/r")
    assert paths.state("x") == "/r/x/state.json"
    assert checked_id("A-b_c.d+1") == "A-b_c.d+1"


@pytest.mark.parametrize(
    ("path", "expected"),
    [("//proc", "/proc"), ("proc", "/proc"), ("/a/../proc/", "/proc"), ("/../..", "/"), ("", "/")],
)
def test_the_normal_form_of_a_path(path: str, expected: str) -> None:
    assert normal(path) == expected


def test_lines_of_the_log() -> None:
    line = Log(as_json=True).line("error", 'a "b"\n', 0.0)
    assert json.loads(line) == {"level": "error", "msg": 'a "b"\n', "time": "1970-01-01T00:00:00Z"}
    text = Log().line("error", 'a "b"', 0.0)
    assert text == b'time="1970-01-01T00:00:00Z" level=error msg="a \\"b\\""\n'


def test_reasons() -> None:
    assert reason(FileNotFoundError(2, "No such file or directory", "/x")) == (
        "/x: no such file or directory"
    )
    assert reason(OSError(19, "mount: No such device", "/x")) == "mount /x: no such device"


@pytest.mark.parametrize(
    ("text", "number"),
    [("9", 9), ("KILL", 9), ("SIGKILL", 9), ("sigterm", 15), ("0", 0), ("64", 64), ("WINCH", 28)],
)
def test_signals(text: str, number: int) -> None:
    assert parse_signal(text) == number


@pytest.mark.parametrize("text", ["FOO", "-9", "65", "9 ", "", "\u0669", "1000000"])
def test_no_signals(text: str) -> None:
    with pytest.raises(InvalidArgument):
        parse_signal(text)


def test_homes() -> None:
    passwd = (
        b"root:x:0:0:r:/root:/bin/sh\nbad\n1000:x:0:0:r:/evil:/bin/sh\nu:x:5:5::/h:/s\ne:x:6:6:::\n"
    )
    assert [_home(passwd, uid) for uid in (0, 5, 6, 1000)] == ["/root", "/h", "/", "/"]
    assert _home(b"\xff:x:7:7::/\xfe:/s", 7) == os.fsdecode(b"/\xfe")


def test_programs(tmp_path: Path) -> None:
    program = tmp_path / "p"
    program.write_text("")
    with pytest.raises(NotExecutable, match="permission denied"):
        find_program(str(program), {})
    with pytest.raises(NotExecutable, match=r"executable file not found in \$PATH"):
        find_program("p", {"PATH": str(tmp_path)})
    program.chmod(0o755)
    assert find_program("p", {"PATH": f"/nonexistent:{tmp_path}"}) == str(program)
    for name in ("", "p"):
        with pytest.raises(NotExecutable):
            find_program(name, {})


def test_environments() -> None:
    process = parse_spec(rootfs.config("x", env=["A=1", "A=2", "B="])).process
    assert environment_of(process, "/h") == {"A": "2", "B": "", "HOME": "/h"}
    for bad in ("A", "=x", ""):
        process.env = (bad,)
        with pytest.raises(InvalidArgument):
            environment_of(process, "/h")


def test_undo_runs_backwards_and_to_the_end() -> None:
    done: list[int] = []

    def fail() -> None:
        raise OSError(5, "gone")

    def work() -> None:
        with Undo() as undo:
            undo.add(done.append, 1)
            undo.add(fail)
            undo.add(done.append, 2)
            raise BarqueError("why")

    with pytest.raises(BarqueError) as caught:
        work()
    assert done == [2, 1]
    assert caught.value.__notes__ == ["undoing: [Errno 5] gone"]
    with Undo() as undo:
        undo.add(done.append, 3)
        undo.keep()
    assert done == [2, 1]


def test_undo_that_goes_on_in_another_block() -> None:
    done: list[int] = []
    with Undo() as first:
        first.add(done.append, 1)
        handed_on = first.hand_on()
    assert done == []
    with handed_on as second:
        second.add(done.append, 2)
    assert done == [2, 1]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("kernel.panic", "1"),
        ("kernel.core_pattern", "|/x"),
        ("net.ipv4.ip_forward", "1\n2"),
        ("kernel.msgmax", "+1"),
        ("net/../kernel/panic", "1"),
        ("net..x", "1"),
        ("", "1"),
        ("/etc/passwd", "1"),
        ("user.max_user_namespaces", "1"),
    ],
)
def test_sysctls_that_are_not_the_containers(name: str, value: str) -> None:
    spec = rootfs.config("x")
    spec["linux"]["sysctl"] = {name: value}
    with pytest.raises(InvalidArgument):
        check_spec(parse_spec(spec))


def test_sysctls_of_a_shared_namespace() -> None:
    spec = rootfs.config("x")
    spec["linux"]["sysctl"] = {"net.ipv4.ip_forward": "1", "kernel.msgmax": "1"}
    check_spec(parse_spec(spec))
    for kind in ("network", "ipc"):
        shared = json.loads(json.dumps(spec))
        kinds = [n for n in shared["linux"]["namespaces"] if n["type"] != kind]
        shared["linux"]["namespaces"] = kinds
        with pytest.raises(InvalidArgument):
            check_spec(parse_spec(shared))


@pytest.mark.parametrize(
    ("section", "member", "value"),
    [
        ("linux", "mountLabel", "x"),
        ("process", "selinuxLabel", "x"),
    ],
)
def test_what_is_not_there_yet_is_named(section: str, member: str, value: object) -> None:
    spec = rootfs.config("x")
    spec[section][member] = value
    with pytest.raises(Unsupported) as caught:
        check_spec(parse_spec(spec))
    assert member.lower()[:7] in str(caught.value).lower()


def test_filters_compile_and_have_a_name() -> None:
    small = {
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": 38,
        "architectures": ["SCMP_ARCH_X86_64"],
        "syscalls": [{"names": ["read", "write", "no_such_call"], "action": "SCMP_ACT_ALLOW"}],
    }
    program = compile_profile(small)
    assert len(program) % 8 == 0
    assert program
    assert key_of(small) != key_of({**small, "defaultErrnoRet": 1})
    assert key_of(small) == key_of(json.loads(json.dumps(small)))
    assert filter_flags({"flags": ["SECCOMP_FILTER_FLAG_LOG"]}) == 2
    for bad in (
        {"defaultAction": "SCMP_ACT_NOTIFY"},
        {"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["x"]},
        {**small, "syscalls": [{"names": ["read"], "action": "SCMP_ACT_ALLOW", "args": [
            {"index": 6, "value": 1, "op": "SCMP_CMP_EQ"}]}]},
    ):  # fmt: skip
        with pytest.raises(BarqueError):
            compile_profile(bad)


def test_a_containers_process_cannot_import() -> None:
    script = f"""
import sys; sys.path.insert(0, {str(SOURCE)!r})
from barque.runc import isolation
isolation.forbid_imports()
def tried(call):
    try:
        call()
    except (ImportError, LookupError):
        return 'refused'
    return 'done'
def statement():
    import json
def loaded():
    import os
print(tried(statement), tried(loaded), tried(lambda: 'x'.encode('idna')),
      tried(lambda: 'x'.encode('cp1252')), tried(lambda: __import__('json')))
"""
    argv = [sys.executable, "-I", "-S", "-c", script]
    out = subprocess.run(argv, capture_output=True, check=True, text=True).stdout
    assert out.split() == ["refused"] * 5
