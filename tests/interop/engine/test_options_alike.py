"""What options of create, update and their lists mean: the same to dockerd and to ours."""

from __future__ import annotations

import io
import json
import secrets
import tarfile
from collections.abc import Callable, Iterator
from typing import Any

import pytest

pytestmark = [pytest.mark.root, pytest.mark.peer]
Run = Callable[..., str]
TRIES = 5


def word() -> str:
    return f"q{secrets.token_hex(4)}"


@pytest.fixture
def run(engine: Any) -> Iterator[Run]:
    """Start a container that sleeps; its name. All are gone afterwards, with their volumes."""
    names: list[str] = []

    def start(*flags: str, image: str = "busybox") -> str:
        names.append(word())
        engine.docker("run", "-d", "--name", names[-1], *flags, image, "sleep", "600")
        return names[-1]

    yield start
    for name in reversed(names):
        engine.docker("rm", "-f", "-v", name, check=False)


def refusal(engine: Any, *arguments: str) -> str:
    done = engine.docker(*arguments, check=False)
    assert done.returncode != 0, arguments
    return str(done.stderr.decode())


def inspected(engine: Any, name: str, template: str) -> str:
    return str(engine.docker("inspect", "-f", template, name).stdout.decode().strip())


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ("--network=container:{c} --dns=192.0.2.1", "dns and the network mode"),
        ("--network=container:{c} --add-host=a:192.0.2.1", "custom host-to-IP mapping and the"),
        ("--network=container:{c} -p 5000:5000", "port publishing and the container type network"),
        ("--network=container:{c} -P", "port publishing and the container type network mode"),
        ("--network=container:{c} --expose 5000", "port exposing and the container type network"),
        ("--network=container:{c} -h name", "hostname and the network mode"),
        ("--network=container:{c} --link zip:zap", "container type network can't be used with"),
        ("--network=host --link zip:zap", "host type networking can't be used with links"),
        ("-v {w}:/x:shared", "invalid mount config"),
        ("-v {w}:/x:rslave", "invalid mount config"),
    ],
)
def test_options_that_exclude_each_other(engine: Any, run: Run, flags: str, words: str) -> None:
    flags = flags.format(c=run(), w=word())
    assert words in refusal(engine, "create", *flags.split(), "busybox", "true")


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ("--device /etc", '"/etc": not a device node'),
        ("-u -1", "uids and gids must be in range 0-2147483647"),
    ],
)
def test_what_no_start_can_do(engine: Any, flags: str, words: str) -> None:
    assert words in refusal(engine, "run", "--rm", *flags.split(), "busybox", "true")


def test_an_empty_home_is_the_users(engine: Any) -> None:
    printed = engine.docker("run", "--rm", "-e", "HOME=", "busybox", "sh", "-c", "echo $HOME")
    assert printed.stdout == b"/root\n"


@pytest.mark.parametrize(
    ("before", "change", "words"),
    [
        ("--cpus 0.5", "--cpu-quota 80000", "CPU Quota cannot be updated as NanoCPUs has already"),
        ("--cpus 0.5", "--cpu-period 50000", "CPU Period cannot be updated as NanoCPUs has"),
        ("--cpu-quota 80000", "--cpus 0.5", "Nano CPUs cannot be updated as CPU Quota has"),
        ("-m 32m", "-m 128m", "Memory limit should be smaller than already set memoryswap limit"),
        ("", "-m 128m", "Memory limit should be smaller than already set memoryswap limit"),
    ],
)
def test_updates_that_contradict_what_is_set(
    engine: Any, run: Run, before: str, change: str, words: str
) -> None:
    assert words in refusal(engine, "update", *change.split(), run(*before.split()))


def test_memory_and_swap_are_updated_together(engine: Any, run: Run) -> None:
    name = run("-m", "32m")
    engine.docker("update", "-m", "128m", "--memory-swap", "160m", name)
    assert inspected(engine, name, "{{.HostConfig.Memory}}") == str(128 << 20)


def test_a_link_to_who_shares_a_network_leads_to_its_owner(engine: Any, run: Run) -> None:
    owner = run()
    sharing = run("--network", f"container:{owner}")
    linked = run("--link", f"{sharing}:db")
    address = inspected(engine, owner, "{{.NetworkSettings.Networks.bridge.IPAddress}}")
    hosts = engine.docker("exec", linked, "cat", "/etc/hosts").stdout.decode()
    assert any(line.split()[:2] == [address, "db"] for line in hosts.splitlines() if line)


def test_a_link_follows_a_new_name(engine: Any, run: Run) -> None:
    first = run()
    linked = run("--link", f"{first}:db")
    other = word()
    engine.docker("rename", first, other)
    assert inspected(engine, linked, "{{.HostConfig.Links}}") == f"[/{other}:/{linked}/db]"
    engine.docker("restart", "-t", "0", linked)
    engine.docker("rename", other, first)
    engine.docker("rm", "-f", first)
    assert refusal(engine, "restart", "-t", "0", linked)


def test_links_need_the_default_network(engine: Any, run: Run) -> None:
    network = word()
    engine.docker("network", "create", network)
    try:
        elsewhere = run("--network", network)
        words = refusal(engine, "run", "--rm", "--link", f"{elsewhere}:a", "busybox", "true")
        assert f"Cannot link to /{elsewhere}, as it does not belong to the default network" in words
        run("--network", network, "--link", "nobody:b")  # there it is a name for whoever comes
        engine.docker(
            "rm",
            "-f",
            *engine.docker("ps", "-q", "-f", f"network={network}").stdout.decode().split(),
        )
    finally:
        engine.docker("network", "rm", network)


def test_an_anonymous_volume_goes_with_its_last_container(engine: Any, run: Run) -> None:
    first = run("-v", "/data")
    volume = inspected(engine, first, "{{range .Mounts}}{{.Name}}{{end}}")
    second = run("--volumes-from", first)
    engine.docker("rm", "-f", "-v", first)
    assert engine.docker("volume", "inspect", volume, check=False).returncode == 0
    engine.docker("rm", "-f", "-v", second)
    assert engine.docker("volume", "inspect", volume, check=False).returncode == 1


def test_a_port_that_was_chosen_is_not_given_to_another(engine: Any, run: Run) -> None:
    """Others of the machine may have the next port: not five times."""
    for _ in range(TRIES):
        name = run("-p", "70")
        ports = json.loads(inspected(engine, name, "{{json .NetworkSettings.Ports}}"))
        following = int(ports["70/tcp"][0]["HostPort"]) + 1
        name = word()
        flags = ("-p", "70", "-p", f"{following}:80")
        done = engine.docker("run", "--rm", "--name", name, *flags, "busybox", "true", check=False)
        if done.returncode == 0:
            return
        engine.docker("rm", "-f", name, check=False)
    raise AssertionError(done.stderr)


def test_a_list_tells_names_that_links_give(engine: Any, run: Run) -> None:
    first = run()
    linked = run("--link", f"{first}:db")
    flags = ("--no-trunc", "--format", "{{.Names}}", "-f", f"name=^/{first}$")
    names = engine.docker("ps", *flags).stdout.decode().strip()
    assert sorted(names.split(",")) == sorted([first, f"{linked}/db"])


def test_a_list_tells_the_image_once_its_name_is_another_s(engine: Any, run: Run) -> None:
    image = f"{word()}:1"
    engine.docker("tag", "busybox", image)
    name = run(image=image)
    flags = ("ps", "--no-trunc", "--format", "{{.Image}}", "-f", f"name={name}")
    assert engine.docker(*flags).stdout.decode().strip() == image
    engine.docker("commit", name, image)
    shown = engine.docker(*flags).stdout.decode().strip()
    assert shown == inspected(engine, name, "{{.Image}}")
    engine.docker("rm", "-f", name)
    engine.docker("rmi", image)


def test_a_network_is_found_by_the_beginning_of_its_id(engine: Any, run: Run) -> None:
    name = run()
    network = inspected(engine, name, "{{.NetworkSettings.Networks.bridge.NetworkID}}")
    for wanted in (network, network[:12], network[:4], "bridge"):
        found = engine.docker("ps", "-f", f"network={wanted}", "--format", "{{.Names}}")
        assert name in found.stdout.decode().split(), wanted


@pytest.mark.parametrize("running", [True, False])
@pytest.mark.parametrize("path", ["/etc/hosts", "/etc/hostname", "/etc/resolv.conf"])
def test_the_files_of_its_names_are_copied_as_the_container_sees_them(
    engine: Any, run: Run, path: str, running: bool
) -> None:
    name = run("-h", "copied", "--dns", "192.0.2.7", "--add-host", "a:192.0.2.8")
    seen = engine.docker("exec", name, "cat", path).stdout
    assert seen
    if not running:
        engine.docker("stop", "-t", "0", name)
    packed = io.BytesIO(engine.docker("cp", f"{name}:{path}", "-").stdout)
    with tarfile.open(fileobj=packed) as archive:
        file = archive.extractfile(archive.next() or "")
        assert file is not None
        assert file.read() == seen


def test_the_working_directory_is_there_before_the_first_start(engine: Any) -> None:
    name = word()
    engine.docker("create", "--name", name, "-w", "/made/by/docker", "busybox", "cat", "passwd")
    try:
        engine.docker("cp", f"{name}:/made/by/docker", "-")
        packed = engine.docker("cp", f"{name}:/etc/passwd", "-").stdout
        engine.docker("cp", "-", f"{name}:/made/by/docker", stdin=packed)
        assert engine.docker("start", "-a", name).stdout.startswith(b"root:")
    finally:
        engine.docker("rm", "-f", name)


@pytest.mark.parametrize("force", [(), ("-f",)])
def test_a_container_leaves_a_network_that_has_gone(
    engine: Any, run: Run, force: tuple[str, ...]
) -> None:
    network = word()
    engine.docker("network", "create", network)
    name = run("--network", network)
    engine.docker("stop", "-t", "0", name)
    engine.docker("network", "rm", network)
    engine.docker("network", "disconnect", *force, network, name)
    assert network not in inspected(engine, name, "{{json .NetworkSettings.Networks}}")


def test_a_blank_image_is_told(engine: Any) -> None:
    assert "image name cannot be blank" in refusal(engine, "rmi", " ")


@pytest.mark.parametrize("wanted", ["dangling=invalid", "nosuch=1"])
def test_filters_of_volumes_are_checked(engine: Any, wanted: str) -> None:
    assert "nvalid filter" in refusal(engine, "volume", "ls", "-f", wanted)
