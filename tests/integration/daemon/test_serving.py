"""The daemon's edges: sockets passed to it, TLS, reload, metrics, authorization, its own log."""

import http.client
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.support.barque import Stack, stack
from tests.support.docker_peer import wait_for
from tests.support.engine_api import ask

pytestmark = pytest.mark.root
WAIT_S = 20
PASS_ON = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1")
os.execv(sys.argv[2], sys.argv[2:])
"""


def until(call: Any) -> None:
    deadline = time.monotonic() + WAIT_S
    while not call():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_a_socket_that_the_starter_listens_on() -> None:
    """sd_listen_fds(3): what came before barqued was there waits on the socket and is answered."""
    with stack(busybox=False) as barque:
        barque.stop()
        path = barque.root / "passed.sock"
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(path))
        listener.listen()
        early = socket.socket(socket.AF_UNIX)
        early.connect(str(path))
        early.sendall(b"GET /_ping HTTP/1.1\r\nHost: d\r\n\r\n")
        command = [sys.executable, "-c", PASS_ON, str(listener.fileno()), *barque.argv()]
        command += ["-H", "fd://"]
        with barque.log.open("ab") as log:
            daemon = subprocess.Popen(command, pass_fds=[listener.fileno()], stdout=log, stderr=log)
        try:
            early.settimeout(WAIT_S)
            assert early.recv(4096).startswith(b"HTTP/1.1 200 OK")
            wait_for(path, "/containers/json", daemon, barque.log)
        finally:
            daemon.terminate()
            daemon.wait(30)
            early.close()
            listener.close()
        assert path.exists()  # it is not ours to remove


def test_no_socket_was_passed() -> None:
    with stack(busybox=False) as barque:
        barque.stop()
        done = subprocess.run([*barque.argv(), "-H", "fd://"], capture_output=True, check=False)
        assert done.returncode == 1
        assert b"no sockets were passed" in done.stderr
        assert b"Traceback" not in done.stderr


def certificates(directory: Path) -> None:
    """A CA, and a certificate of it for the server and one for the client. openssl(1)."""

    def run(*words: str) -> None:
        subprocess.run(["openssl", *words], cwd=directory, check=True, capture_output=True)

    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2")
    for name in ("ca", "other"):
        run(
            "req",
            "-x509",
            *key,
            "-subj",
            f"/CN={name}",
            "-keyout",
            f"{name}.key",
            "-out",
            f"{name}.pem",
        )
    (directory / "names").write_text("subjectAltName=IP:127.0.0.1")
    for name, authority in (("server", "ca"), ("client", "ca"), ("stranger", "other")):
        run(
            "req", *key[:5], "-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.csr"
        )
        run(
            *("x509", "-req", "-in", f"{name}.csr", "-CA", f"{authority}.pem"),
            *("-CAkey", f"{authority}.key", "-CAcreateserial", "-days", "2"),
            *("-extfile", "names", "-out", f"{name}.pem"),
        )


def over_tls(port: int, directory: Path, who: str) -> int:
    context = ssl.create_default_context(cafile=str(directory / "ca.pem"))
    if who:
        context.load_cert_chain(directory / f"{who}.pem", directory / f"{who}.key")
    connection = http.client.HTTPSConnection("127.0.0.1", port, context=context, timeout=WAIT_S)
    try:
        connection.request("GET", "/version")
        return connection.getresponse().status
    finally:
        connection.close()


def test_mutual_tls_beside_the_unix_socket(tmp_path: Path) -> None:
    certificates(tmp_path)
    port = free_port()
    with stack(busybox=False) as barque:
        barque.stop()
        barque.flags = [
            *("-H", f"unix://{barque.socket}", "-H", f"tcp://127.0.0.1:{port}", "--tlsverify"),
            *("--tlscacert", f"{tmp_path}/ca.pem", "--tlscert", f"{tmp_path}/server.pem"),
            *("--tlskey", f"{tmp_path}/server.key"),
        ]
        barque.start()
        assert over_tls(port, tmp_path, "client") == 200
        for who in ("", "stranger"):
            with pytest.raises((ssl.SSLError, ConnectionError)):
                over_tls(port, tmp_path, who)
        command = [
            "-H",
            f"tcp://127.0.0.1:{port}",
            "--tlsverify",
            "--tlscacert",
            f"{tmp_path}/ca.pem",
        ]
        command += ["--tlscert", f"{tmp_path}/client.pem", "--tlskey", f"{tmp_path}/client.key"]
        assert barque.cli(*command, "ps", "-q").returncode == 0
        assert ask(barque.socket, "GET", "/_ping").body == b"OK"


def write_config(barque: Stack, **keys: Any) -> None:
    (barque.root / "daemon.json").write_text(json.dumps(keys))


def hang_up(barque: Stack, text: str) -> None:
    """Reload, and wait for the line that tells of it."""
    assert barque.daemon is not None
    count = barque.log.read_text().count(text)
    barque.daemon.send_signal(signal.SIGHUP)
    until(lambda: barque.log.read_text().count(text) > count)


def default_shm_size(barque: Stack) -> int:
    barque.docker("import", "-", "empty", stdin=bytes(1024))
    made = barque.docker("create", "empty", "true").stdout.decode().strip()
    return int(barque.docker("inspect", "-f", "{{.HostConfig.ShmSize}}", made).stdout)


def test_reload_takes_over_what_it_can_and_says_what_it_cannot() -> None:
    with stack(busybox=False) as barque:
        write_config(barque, labels=["a=1"], debug=True, mtu=1400)
        barque.log.write_text("")
        hang_up(barque, "reloaded: debug, labels")
        info = ask(barque.socket, "GET", "/info").json()
        assert (info["Labels"], info["Debug"]) == (["a=1"], True)
        assert (
            "mtu changed: it is taken over when the daemon starts again" in barque.log.read_text()
        )
        write_config(
            barque, **{"runtimes": {"crun": {"path": "/usr/bin/crun"}}, "default-runtime": "crun"}
        )
        hang_up(barque, "reloaded: ")
        info = ask(barque.socket, "GET", "/info").json()
        assert (info["DefaultRuntime"], "crun" in info["Runtimes"]) == ("crun", True)
        changed = {
            "registry-mirrors": ["http://127.0.0.1:9"],
            "default-stop-timeout": 1,
            "default-shm-size": "3m",
            "max-concurrent-uploads": 1,
            "max-download-attempts": 2,
            "features": {"cdi": True},
        }
        write_config(barque, **changed)
        hang_up(barque, "reloaded: ")
        assert "is taken over when" not in barque.log.read_text().rpartition("runtimes")[2]
        assert default_shm_size(barque) == 3 << 20
        info = ask(barque.socket, "GET", "/info").json()
        assert info["RegistryConfig"]["Mirrors"] == ["http://127.0.0.1:9/"]
        write_config(
            barque, **{"runtimes": {"crun": {"path": "/usr/bin/crun"}}, "default-runtime": "crun"}
        )
        hang_up(barque, "reloaded: ")
        write_config(barque, nonsense=1)
        hang_up(barque, "the configuration was not reloaded")
        write_config(barque, **{"default-runtime": "nosuch"})
        hang_up(barque, "the configuration was not reloaded")
        assert ask(barque.socket, "GET", "/info").json()["DefaultRuntime"] == "crun"
        events = ask(barque.socket, "GET", f"/events?since=0&until={time.time()}").body
        reloads = [json.loads(line) for line in events.splitlines() if b'"reload"' in line]
        assert reloads[0]["Actor"]["Attributes"]["labels"] == "a=1"


def test_the_log_as_json() -> None:
    with stack("--log-format", "json", busybox=False) as barque:
        lines = [json.loads(line) for line in barque.log.read_text().splitlines()]
    assert {"time", "level", "msg", "module"} <= lines[0].keys()


def test_the_oldest_version_may_be_raised() -> None:
    with stack("--min-api-version", "1.44", busybox=False) as barque:
        refused = ask(barque.socket, "GET", "/v1.43/info")
        assert refused.status == 400
        assert "Minimum supported API version is 1.44" in refused.message
        assert ask(barque.socket, "GET", "/v1.44/info").status == 200
        assert ask(barque.socket, "GET", "/version").json()["MinAPIVersion"] == "1.44"


def test_containers_do_not_inherit_the_daemons_descriptor_limit() -> None:
    with stack() as barque:
        assert barque.daemon is not None
        limits = Path(f"/proc/{barque.daemon.pid}/limits").read_text()
        soft, hard = next(line.split()[3:5] for line in limits.splitlines() if "open files" in line)
        assert soft == hard
        run = ("run", "--rm", "--network", "none", "busybox", "sh", "-c")
        here = os.sysconf("SC_OPEN_MAX")
        assert int(barque.docker(*run, "ulimit -n").stdout) == here


def test_a_plugin_that_is_not_there_denies() -> None:
    with stack(busybox=False) as barque:
        write_config(barque, **{"authorization-plugins": ["nosuch"]})
        hang_up(barque, "the configuration was not reloaded")
        assert ask(barque.socket, "GET", "/info").status == 200
