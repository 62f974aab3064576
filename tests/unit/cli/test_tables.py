from __future__ import annotations

from typing import Any

import pytest

from barque import errors
from barque.cli import tables
from barque.cli.port_ranges import display

FIELDS: tables.Fields = {
    "ID": ("ITEM ID", lambda item: item["Id"]),
    "Name": ("NAME", lambda item: item["Name"]),
}
ITEMS = [{"Id": "1", "Name": "<a>", "Labels": {"k": "v"}}, {"Id": "22", "Name": "b" * 12}]


def shown(format: str, capfd: pytest.CaptureFixture[str]) -> str:
    tables.show(ITEMS, FIELDS, ("ID", "Name"), format, kind="test.item")
    return capfd.readouterr().out


def test_columns_are_at_least_ten_wide() -> None:
    assert tables.table([["A", "B"], ["abcdefghij", "c"]]) == "A            B\nabcdefghij   c\n"
    assert tables.table([["A", "B"], ["x", "y"]]) == "A         B\nx         y\n"
    assert tables.table([]) == ""


@pytest.mark.parametrize(
    ("format", "text"),
    [
        ("", "ITEM ID   NAME\n1         <a>\n22        bbbbbbbbbbbb\n"),
        ("table", "ITEM ID   NAME\n1         <a>\n22        bbbbbbbbbbbb\n"),
        (
            "table {{.Name}}\\t{{.ID}}",
            "NAME           ITEM ID\n<a>            1\nbbbbbbbbbbbb   22\n",
        ),
        ("{{.ID}}:{{.Name}}", "1:<a>\n22:bbbbbbbbbbbb\n"),
        ('{{.Label "k"}}', "v\n\n"),
        (
            "json",
            '{"ID":"1","Name":"\\u003ca\\u003e"}\n{"ID":"22","Name":"bbbbbbbbbbbb"}\n',
        ),
    ],
)
def test_formats(format: str, text: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert shown(format, capfd) == text


def test_an_unknown_field_is_told(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(errors.InvalidArgument, match="can't evaluate field Foo in type"):
        shown("{{.Foo}}", capfd)
    with pytest.raises(errors.InvalidArgument, match=r"^failed to parse template: "):
        shown("{{", capfd)


def port(private: int, public: int = 0, address: str = "", kind: str = "tcp") -> dict[str, Any]:
    found = {"PrivatePort": private, "Type": kind}
    return found | ({"PublicPort": public, "IP": address} if public else {})


@pytest.mark.parametrize(
    ("ports", "text"),
    [
        ([], ""),
        ([port(80)], "80/tcp"),
        ([port(80, 8080, "0.0.0.0")], "0.0.0.0:8080->80/tcp"),
        ([port(80, 8080, "::")], "[::]:8080->80/tcp"),
        (
            [port(n, n, "0.0.0.0") for n in (9002, 9000, 9001)],
            "0.0.0.0:9000-9002->9000-9002/tcp",
        ),
        ([port(5), port(6), port(8), port(5, kind="udp")], "5-6/tcp, 8/tcp, 5/udp"),
    ],
)
def test_ports_that_are_neighbours_are_drawn_together(
    ports: list[dict[str, Any]], text: str
) -> None:
    assert display(ports) == text
