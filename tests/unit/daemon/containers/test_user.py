"""`-u` as numbers. Attacks: CVE-2016-3697, CVE-2024-40635, CVE-2026-46680."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from barque import errors
from barque.daemon.containers.user import MAX_ID, User, resolve

PASSWD = b"""root:x:0:0:root:/root:/bin/sh
daemon:x:1:1::/usr/sbin:
# a comment
app:x:1000:1000:App:/home/app:/bin/sh
1000:x:0:0:evil:/:/bin/sh
broken
big:x:4294967296:0::/:
"""
GROUP = b"""root:x:0:
wheel:x:10:root,app
app:x:1000:
video:x:44:app,other
1000:x:0:app
"""


def files(
    passwd: bytes | None = PASSWD, group: bytes | None = GROUP
) -> Callable[[str], bytes | None]:
    return {"/etc/passwd": passwd, "/etc/group": group}.get


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ("", User(0, 0, (10,), "/root")),
        ("root", User(0, 0, (10,), "/root")),
        ("app", User(1000, 1000, (10, 44, 0), "/home/app")),
        ("1000", User(1000, 1000, (10, 44, 0), "/home/app")),
        ("app:video", User(1000, 44, (), "/home/app")),
        ("app:99", User(1000, 99, (), "/home/app")),
        ("1234", User(1234, 0, (), "/")),
        ("1234:wheel", User(1234, 10, (), "/")),
        (str(MAX_ID), User(MAX_ID, 0, (), "/")),
        (":wheel", User(0, 10, (), "/root")),
    ],
)
def test_users(wanted: str, expected: User) -> None:
    assert resolve(wanted, (), files()) == expected


def test_a_number_is_never_a_name() -> None:
    assert resolve("1000", (), files(b"1000:x:0:0::/:\n")).uid == 1000
    assert resolve("5:1000", (), files()).gid == 1000


@pytest.mark.parametrize(
    "wanted",
    [
        "2147483648",
        "4294967296",
        "99999999999999999999",
        "-1",
        "+0",
        "00",
        "0x0",
        " 0",
        "0 ",
        "0b0",
        "0o0",
        "1_0",
        "-0",
        "\n0",
    ],
)
def test_numbers_that_wrap_or_only_look_like_zero_are_refused(wanted: str) -> None:
    planted = f"{wanted.strip()}:x:0:0::/:\n".encode()
    for text in (wanted, f"1:{wanted}"):
        with pytest.raises(errors.InvalidArgument):
            resolve(text, (), files(planted, planted))


def test_unknown_names_in_dockers_words() -> None:
    with pytest.raises(
        errors.InvalidArgument,
        match="unable to find user nobody: no matching entries in passwd file",
    ):
        resolve("nobody", (), files())
    with pytest.raises(errors.InvalidArgument, match="unable to find group no"):
        resolve("root:no", (), files())
    with pytest.raises(errors.InvalidArgument, match="unable to find user x"):
        resolve("x", (), files(None, None))


def test_group_add() -> None:
    assert resolve("app:app", ("video", "7"), files()).groups == (44, 7)
    assert resolve("app", ("wheel",), files()).groups == (10, 44, 0)


def test_an_entry_with_an_id_out_of_range_does_not_exist() -> None:
    with pytest.raises(errors.InvalidArgument):
        resolve("big", (), files())


@given(st.text(max_size=12), st.binary(max_size=200), st.binary(max_size=200))
def test_no_input_gives_more_than_an_id_or_a_refusal(
    wanted: str, passwd: bytes, group: bytes
) -> None:
    try:
        user = resolve(wanted, (), files(passwd, group))
    except errors.InvalidArgument:
        return
    assert 0 <= user.uid <= MAX_ID
    assert 0 <= user.gid <= MAX_ID
    assert all(0 <= number <= MAX_ID for number in user.groups)
