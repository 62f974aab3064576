"""Variables and settings that change what is asked, and by which way: both commands alike.

A server writes down what it is asked, as a daemon by tcp or as a proxy for every address.
"""

from __future__ import annotations

import http.server
import json
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.interop.cli.conftest import BARQUE, Commands
from tests.support.docker_peer import real_docker_cli
from tools.certificates import make_certificates

pytestmark = pytest.mark.peer
FAR = "daemon.example"


@dataclass
class Asked:
    """`address` is HOST:PORT; `requests` are methods and targets, `headers` those of the last."""

    address: str
    requests: list[tuple[str, str]] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)

    def paths(self) -> list[tuple[str, str]]:
        """Without the clients' own greetings and API versions."""
        found = [(method, target) for method, target in self.requests if "_ping" not in target]
        self.requests = []
        return [(method, _unversioned(target)) for method, target in found]


def _unversioned(target: str) -> str:
    before, mark, rest = target.partition("/v1.")
    return before + rest[rest.find("/") :] if mark else target


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    asked: Asked

    def _answer(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.asked.requests.append((self.command, self.path))
        self.asked.headers = dict(self.headers.items())
        raw = b"{}"
        self.send_response(403 if self.command == "CONNECT" else 200)
        self.send_header("Api-Version", "1.50")
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(raw)

    do_GET = do_HEAD = do_POST = do_CONNECT = _answer

    def log_message(self, *_: object) -> None:
        return


def _serve(asked: Asked, context: ssl.SSLContext | None) -> http.server.ThreadingHTTPServer:
    handler = type("Handler", (_Handler,), {"asked": asked})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    if context is not None:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    asked.address = f"127.0.0.1:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    return server


@pytest.fixture
def asked() -> Iterator[Asked]:
    made = Asked("")
    server = _serve(made, None)
    yield made
    server.shutdown()
    server.server_close()


@pytest.fixture
def encrypted(tmp_path: Path) -> Iterator[Asked]:
    files = make_certificates(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files / "cert.pem", files / "key.pem")
    made = Asked("")
    server = _serve(made, context)
    yield made
    server.shutdown()
    server.server_close()


@pytest.fixture
def commands(tmp_path: Path) -> Commands:
    (tmp_path / "config").mkdir()
    made = Commands("", tmp_path / "config", real_docker_cli())
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"):
        made.environment.pop(name, None)
        made.environment.pop(name.lower(), None)
    return made


def both(commands: Commands, asked: Asked, *words: str) -> list[tuple[str, str]]:
    """What both ask for, which is the same."""
    commands.run(commands.docker, words)
    theirs = asked.paths()
    commands.run(BARQUE, words)
    assert asked.paths() == theirs
    return theirs


@pytest.mark.parametrize("kind", ["container", "image", "network", "volume"])
def test_prune_filters_of_the_settings(kind: str, commands: Commands, asked: Asked) -> None:
    filters = ["label!=keep", "label=also", "label=left=out", "nothing", "until=1h"]
    settings = Path(commands.environment["DOCKER_CONFIG"], "config.json")
    settings.write_text(json.dumps({"pruneFilters": filters}))
    commands.environment["DOCKER_HOST"] = f"tcp://{asked.address}"
    words = (kind, "prune", "-f", "--filter", "label!=left=out", "--filter", "label=mine")
    wanted = {
        "label!": {"left=out": True, "keep": True},
        "label": {"mine": True, "also": True},
        "until": {"1h": True},
    }
    for program in (commands.docker, BARQUE):
        commands.run(program, words)
        ((method, target),) = asked.paths()
        assert (method, target.partition("?")[0]) == ("POST", f"/{kind}s/prune")
        filters_sent = json.loads(parse_qs(urlsplit(target).query)["filters"][0])
        assert {name: filters_sent[name] for name in wanted} == wanted


def test_headers_of_the_environment_replace_those_of_the_settings(
    commands: Commands, asked: Asked
) -> None:
    settings = Path(commands.environment["DOCKER_CONFIG"], "config.json")
    settings.write_text(json.dumps({"HttpHeaders": {"X-Settings": "s"}}))
    commands.environment["DOCKER_HOST"] = f"tcp://{asked.address}"
    told = []
    for given in ("", 'X-One=1,"X-Two= a,b"'):
        commands.environment["DOCKER_CUSTOM_HEADERS"] = given
        for program in (commands.docker, BARQUE):
            commands.run(program, ("ps",))
            told.append({k: v for k, v in asked.headers.items() if k.startswith("X-")})
    settings_alone, environment = {"X-Settings": "s"}, {"X-One": "1", "X-Two": "a,b"}
    assert told[:2] == [settings_alone] * 2
    assert [{k: v.strip() for k, v in one.items()} for one in told[2:]] == [environment] * 2


@pytest.mark.parametrize("text", ["=x", "name", ","])
def test_headers_that_are_none_are_refused(text: str, commands: Commands, asked: Asked) -> None:
    commands.environment["DOCKER_HOST"] = f"tcp://{asked.address}"
    commands.environment["DOCKER_CUSTOM_HEADERS"] = text
    for program in (commands.docker, BARQUE):
        code, _, err = commands.run(program, ("ps",))
        assert code == 1
        assert b"DOCKER_CUSTOM_HEADERS" in err
    assert not asked.paths()


@pytest.mark.parametrize("words", [("--tlsverify=false",), ("--tls",)])
def test_tls_that_verifies_nobody(
    words: tuple[str, ...], commands: Commands, encrypted: Asked
) -> None:
    make_certificates(Path(commands.environment["DOCKER_CONFIG"]))  # of another authority
    host = ("-H", f"tcp://{encrypted.address}")
    assert both(commands, encrypted, *host, *words, "ps") == [("GET", "/containers/json")]
    for program in (commands.docker, BARQUE):
        code, _, err = commands.run(program, (*host, "--tlsverify", "ps"))
        assert code == 1
        assert b"certificate" in err


@pytest.mark.parametrize(
    ("none", "found"),
    [
        ("", [("GET", f"http://{FAR}:2375/containers/json")]),
        (f"{FAR}:80", [("GET", f"http://{FAR}:2375/containers/json")]),
        (f"a, {FAR}:2375", []),
    ],
)
def test_a_proxy_on_the_way_to_a_daemon(
    none: str, found: list[tuple[str, str]], commands: Commands, asked: Asked
) -> None:
    commands.environment["HTTP_PROXY"] = f"http://us%40er:pass@{asked.address}"
    commands.environment["NO_PROXY"] = none
    assert both(commands, asked, "-H", f"tcp://{FAR}:2375", "ps") == found
    if found:
        assert asked.headers["Proxy-Authorization"] == "Basic dXNAZXI6cGFzcw=="


def test_what_is_encrypted_goes_through_a_tunnel(commands: Commands, asked: Asked) -> None:
    make_certificates(Path(commands.environment["DOCKER_CONFIG"]))
    commands.environment["https_proxy"] = asked.address
    words = ("-H", f"tcp://{FAR}:2376", "--tls", "ps")
    for program in (commands.docker, BARQUE):
        code, _, _ = commands.run(program, words)
        assert code == 1
        assert set(asked.requests) == {("CONNECT", f"{FAR}:2376")}
        asked.requests = []


def test_a_daemon_on_this_machine_needs_no_proxy(commands: Commands, asked: Asked) -> None:
    commands.environment["HTTP_PROXY"] = "http://127.0.0.1:1"
    words = ("-H", f"tcp://{asked.address}", "ps")
    assert both(commands, asked, *words) == [("GET", "/containers/json")]


def test_legacy_commands_can_be_hidden(commands: Commands) -> None:
    commands.environment["DOCKER_HIDE_LEGACY_COMMANDS"] = "1"
    for program in (commands.docker, BARQUE):
        _, out, _ = commands.run(program, ("--help",))
        assert b"\n  run " in out
        assert b"\n  rename " not in out
