"""`USER` and `-u` as numbers, from the image's own passwd and group files.

Rules (Docker's): `user`, `uid`, `user:group`, `uid:gid` in every mix; empty is uid 0. A number is
a number first and never looked up as a name (CVE-2016-3697); only plain decimal from 0 to 2^31-1
is one (CVE-2024-40635, CVE-2026-46680). Supplementary groups are those that list the user's name,
unless a group was given (then only `--group-add`). The files are read bounded, by our own parser.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from barque import errors

MAX_ID = (1 << 31) - 1
MAX_LINE_BYTES = 1 << 16
_NUMBER = re.compile(r"0|[1-9][0-9]{0,9}", re.ASCII)
_NUMBER_TO_OTHERS = re.compile(
    r"\s*[+-]?(0[xX][0-9a-fA-F_]+|0[bB][01_]+|0[oO]?[0-7_]*|[0-9][0-9_]*)\s*", re.ASCII
)


class User(NamedTuple):
    uid: int
    gid: int
    groups: tuple[int, ...]
    home: str


class _Entry(NamedTuple):
    name: str
    id: int
    fields: list[str]


ReadFile = Callable[[str], bytes | None]


def resolve(wanted: str, additional: Sequence[str], read_file: ReadFile) -> User:
    """`wanted` as the container's process gets it. Raises InvalidArgument with Docker's words.

    `read_file` gives a file of the container's root, None when it has none.
    """
    user_part, colon, group_part = wanted.partition(":")
    passwd, group = read_file("/etc/passwd") or b"", read_file("/etc/group") or b""
    uid, gid, name, home = _find_user(user_part, passwd)
    groups: list[int] = []
    if colon and group_part:
        gid = _find_group(group_part, group)
    elif name is not None:
        groups = [entry.id for entry in _entries(group) if name in _members(entry)]
    for extra in additional:
        number = _find_group(extra, group)
        if number not in groups:
            groups.append(number)
    return User(uid, gid, tuple(groups), home or "/")


def _find_user(wanted: str, passwd: bytes) -> tuple[int, int, str | None, str]:
    number = _number(wanted or "0", "user", wanted)
    for entry in _entries(passwd):
        if entry.id == number if number is not None else entry.name == wanted:
            gid = _plain(entry.fields[3]) if len(entry.fields) > 3 else None
            home = entry.fields[5] if len(entry.fields) > 5 else ""
            return entry.id, gid or 0, entry.name, home
    if number is None:
        raise errors.InvalidArgument(
            f"unable to find user {wanted}: no matching entries in passwd file"
        )
    return number, 0, None, ""


def _find_group(wanted: str, group: bytes) -> int:
    number = _number(wanted, "group", wanted)
    if number is not None:
        return number
    for entry in _entries(group):
        if entry.name == wanted:
            return entry.id
    raise errors.InvalidArgument(
        f"unable to find group {wanted}: no matching entries in group file"
    )


def _number(text: str, kind: str, shown: str) -> int | None:
    """A plain decimal as a number, None for a name; what only looks like one is refused."""
    if _NUMBER.fullmatch(text):
        if int(text) > MAX_ID:
            raise errors.InvalidArgument(f"uids and gids must be in range 0-{MAX_ID}: {shown}")
        return int(text)
    if text.startswith("-") and text[1:].isdecimal() and text.isascii():
        raise errors.InvalidArgument(f"uids and gids must be in range 0-{MAX_ID}: {shown}")
    if _NUMBER_TO_OTHERS.fullmatch(text):
        raise errors.InvalidArgument(
            f"unable to find {kind} {shown}: no matching entries in "
            f"{'passwd' if kind == 'user' else 'group'} file"
        )
    return None


def _plain(text: str) -> int | None:
    return int(text) if _NUMBER.fullmatch(text) and int(text) <= MAX_ID else None


def _entries(content: bytes) -> Iterator[_Entry]:
    """The well-formed lines; id is the third field. A line of 64 KiB and more is skipped."""
    for line in content.split(b"\n"):
        if len(line) >= MAX_LINE_BYTES or not line.strip():
            continue
        fields = line.decode("utf-8", "replace").strip().split(":")
        number = _plain(fields[2]) if len(fields) > 2 else None
        if number is not None:
            yield _Entry(fields[0], number, fields)


def _members(entry: _Entry) -> list[str]:
    return entry.fields[3].split(",") if len(entry.fields) > 3 else []
