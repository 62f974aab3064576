"""Templates; `tests/interop/cli` compares them with what Docker prints."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from barque import errors
from barque.cli.templates import ExecutionError, TemplateError, parse

DATA: dict[str, Any] = {
    "Name": "/web",
    "Id": "abc",
    "Pid": 42,
    "Running": True,
    "Empty": [],
    "Nothing": None,
    "Env": ["A=1", "B=2"],
    "Labels": {"z": "last", "a": "first"},
    "State": {"Status": "running", "Health": None},
    "Ports": {"80/tcp": [{"HostIp": "0.0.0.0", "HostPort": "8080"}], "90/tcp": None},
}


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("plain", "plain"),
        ("{{.Name}} {{.State.Status}} {{.Pid}} {{.Running}}", "/web running 42 true"),
        ("{{.Env}} {{.Labels}}", "[A=1 B=2] map[a:first z:last]"),
        ("{{.Nothing}} {{.Empty}}", "[] []"),
        ("{{json .Labels}} {{json .Nothing}}", '{"z":"last","a":"first"} null'),
        ("{{range .Env}}[{{.}}]{{end}}", "[A=1][B=2]"),
        ("{{range $i, $e := .Env}}{{$i}}={{$e}};{{end}}", "0=A=1;1=B=2;"),
        ("{{range $k, $v := .Labels}}{{$k}}:{{$v}} {{end}}", "a:first z:last "),
        ("{{range .Empty}}x{{else}}none{{end}}", "none"),
        ("{{range .Nothing}}x{{else}}none{{end}}", "none"),
        ("{{if .Running}}up{{else}}down{{end}}", "up"),
        ("{{if eq .Pid 1}}a{{else if eq .Pid 42}}b{{else}}c{{end}}", "b"),
        ("{{with .State}}{{.Status}}{{end}}", "running"),
        ("{{with .Empty}}x{{else}}{{.Name}}{{end}}", "/web"),
        ("{{$x := .Name}}{{range .Env}}{{$x}}{{end}}", "/web/web"),
        ("{{$x := 1}}{{if .Running}}{{$x = 2}}{{end}}{{$x}}", "2"),
        ("{{range .Env}}{{if eq . \"B=2\"}}{{break}}{{end}}{{.}}{{end}}", "A=1"),
        ("{{range .Env}}{{if eq . \"A=1\"}}{{continue}}{{end}}{{.}}{{end}}", "B=2"),
        ("a {{- .Name -}} b", "a/webb"),
        ("a {{/* note */}} b{{- /* note */ -}} c", "a  bc"),
        ('{{index .Env 1}} {{index .Labels "a"}} {{index .Labels "q"}}|', "B=2 first |"),
        ('{{(index (index .Ports "80/tcp") 0).HostPort}}', "8080"),
        ('{{join .Env ","}} {{split .Name "e"}} {{len .Env}}', "A=1,B=2 [/w b] 2"),
        ('{{upper .Name}} {{lower "AB"}} {{title "a bc"}} {{truncate .Id 2}}', "/WEB ab A Bc ab"),
        ('{{pad "x" 1 2}}|{{pad "" 1 2}}|', " x  ||"),
        ('{{printf "%s %d %v %q %5s %-5s|" .Id .Pid .Env .Id .Id .Id}}',
         'abc 42 [A=1 B=2] "abc"   abc abc  |'),
        ('{{printf "%05d %x %.2f %t %%" 7 255 1.5 true}}', "00007 ff 1.50 true %"),
        ('{{printf "%d" "x"}} {{printf "%s"}}', "%!d(string=x) %!s(MISSING)"),
        ("{{println .Id 1}}", "abc 1\n"),
        ('{{print "a" 1 2 "b"}}', "a1 2b"),
        ("{{.Id | printf \"%s-%s\" .Name}}", "/web-abc"),
        ("{{and .Running .Id}} {{or .Empty .Id}} {{not .Empty}}", "abc abc true"),
        ("{{eq .Id \"x\" \"abc\"}} {{ne 1 2}} {{lt 1 2}} {{le 2 2}} {{gt 1 2}} {{ge \"b\" \"a\"}}",
         "true true true true false true"),
        ("{{slice .Id 1}} {{slice .Id 0 2}}", "bc ab"),
        ("{{html \"<a>\"}} {{urlquery \"a b\"}}", "&lt;a&gt; a+b"),
        ("{{`raw`}} {{true}} {{1.5}} {{'a'}}", "raw true 1.5 97"),
        ("{{range 3}}{{.}}{{end}}", "012"),
        ("{{ (len .Env) }}{{$}}"[:16], "2"),
        ("{{$.Name}}{{range .Env}}{{$.Id}}{{end}}", "/webabcabc"),
    ],
)  # fmt: skip
def test_what_it_prints(text: str, result: str) -> None:
    assert parse(text).run(DATA) == result


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{{", "template: :1: unclosed action"),
        ("a\n{{.Id", "template: :2: unclosed action"),
        ("{{foo}}", 'template: :1: function "foo" not defined'),
        ("{{end}}", "template: :1: unexpected {{end}}"),
        ("{{if}}", "template: :1: missing value for if"),
        ("{{if .Id}}", "template: :1: unexpected EOF"),
        ("{{}}", "template: :1: missing value for command"),
        ("{{$x}}", 'template: :1: undefined variable "$x"'),
        ("{{\"a}}", "template: :1: unterminated quoted string"),
        ("{{(.Id}}", "template: :1: unclosed left paren"),
        ("{{break}}", "template: :1: {{break}} outside {{range}}"),
        ("{{template \"x\"}}", "template: :1: {{template}} is not there yet"),
    ],
)  # fmt: skip
def test_what_cannot_be_read(text: str, message: str) -> None:
    with pytest.raises(TemplateError) as failure:
        parse(text)
    assert str(failure.value) == message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{{.Foo}}", ':1:2: executing "" at <.Foo>: map has no entry for key "Foo"'),
        ("{{.State.Foo}}", ':1:8: executing "" at <.State.Foo>: map has no entry for key "Foo"'),
        ("{{.Foo.Bar}}", ':1:2: executing "" at <.Foo.Bar>: map has no entry for key "Foo"'),
        (
            "{{.Id.X}}",
            ':1:5: executing "" at <.Id.X>: can\'t evaluate field X in type interface {}',
        ),
        (
            "{{index .Env 7}}",
            ':1:2: executing "" at <index .Env 7>: error calling index: index out of range: 7',
        ),
        ("{{range .Id}}x{{end}}", ':1:8: executing "" at <.Id>: range can\'t iterate over abc'),
        (
            "{{.Id | truncate}}",
            ':1:8: executing "" at <truncate>: wrong number of args for truncate: want 2 got 1',
        ),
    ],
)
def test_what_does_not_fit_the_data(text: str, message: str) -> None:
    with pytest.raises(ExecutionError) as failure:
        parse(text).run(DATA)
    assert str(failure.value) == f"template: {message}"


@given(st.text('{}.$|()"`-ab/* :=,\nrangeifdw1', max_size=30))
def test_any_text_prints_or_is_refused(text: str) -> None:
    try:
        parse("{{" + text).run(DATA)
    except errors.InvalidArgument:
        pass
