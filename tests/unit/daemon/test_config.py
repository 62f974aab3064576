"""dockerd's flags and daemon.json: merged, checked, refused by name."""

import json
from pathlib import Path

import pytest

from barque.daemon import defaults
from barque.daemon.config import Config, HelpAsked, Usage, VersionAsked, load, parse_flags
from barque.linux import selinux


def test_defaults(tmp_path: Path) -> None:
    empty = tmp_path / "d.json"
    empty.write_text("{}")
    assert load(["--config-file", str(empty)]) == Config()
    assert Config().listen == ("unix:///run/barque/barque.sock",)


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("0.0.0.0:1", "tcp://0.0.0.0:1"),
        (":2375", "tcp://:2375"),
        ("[::1]:2", "tcp://[::1]:2"),
        (" unix:///a ", "unix:///a"),
        ("unix://", "unix:///run/barque/barque.sock"),
        ("", "unix:///run/barque/barque.sock"),
    ],
)
def test_addresses_in_short(host: str, address: str) -> None:
    """Docker: opts.ParseHost."""
    assert load(["-H", host]).listen == (address,)


def test_flags_in_every_form(tmp_path: Path) -> None:
    line = (
        "--data-root=/d --exec-root /e -H unix:///a -Htcp://127.0.0.1:1 -D --label a=b --label=c "
        "-p /p --log-opt max-size=1m --mtu 1400"
    )
    config = load(line.split())
    assert (config.data_root, config.exec_root, config.pidfile) == ("/d", "/e", "/p")
    assert config.listen == ("unix:///a", "tcp://127.0.0.1:1")
    assert config.labels == ("a=b", "c")
    assert config.log_opts == {"max-size": "1m"}
    assert (config.debug, config.mtu) == (True, 1400)


def test_networks_by_flag_and_by_file(tmp_path: Path) -> None:
    path = tmp_path / "d.json"
    pools = [{"base": "10.0.0.0/16", "size": 24}]
    path.write_text(json.dumps({"default-address-pools": pools, "icc": False, "iptables": False}))
    config = load(["--config-file", str(path), "--ip-masq=false", "--default-gateway", "10.0.0.9"])
    options = defaults.network_options(config)
    assert options.pools == (("10.0.0.0/16", 24),)
    assert (options.icc, options.firewall, options.ip_masq) == (False, False, False)
    assert options.default_gateway == "10.0.0.9"
    four, six = "base=10.1.0.0/16,size=20", "base=fd00::/48,size=64"
    given = ["--default-address-pool", four, "--default-address-pool", six]
    config = load(["--config-file", "/dev/null", *given])
    assert config.default_address_pools == (("10.1.0.0/16", 20), ("fd00::/48", 64))


def test_what_is_known_and_not_there_is_refused_in_a_file_too(tmp_path: Path) -> None:
    path = tmp_path / "d.json"
    path.write_text(json.dumps({"swarm-default-advertise-addr": "default", "debug": True}))
    with pytest.raises(Usage, match="swarm-default-advertise-addr is not there yet"):
        load(["--config-file", str(path)])


def test_features() -> None:
    """What is there anyway may be asked for; nothing else may."""
    given = ["--config-file", "/dev/null", "--feature"]
    assert load([*given, "containerd-snapshotter=true"]).features
    assert load([*given, "buildkit=false"]).features
    for feature, text in (
        ("containerd-snapshotter=false", "always has it"),
        ("time-namespaces=true", "time-namespaces is not there yet"),
        ("nosuch=true", "unknown feature 'nosuch'"),
        ("cdi=perhaps", "expected true or false"),
    ):
        with pytest.raises(Usage, match=text):
            load([*given, feature])


def test_the_file_counts_where_no_flag_does(tmp_path: Path) -> None:
    path = tmp_path / "d.json"
    path.write_text(json.dumps({"hosts": ["unix:///a"], "debug": True, "log-opts": {"a": "1"}}))
    config = load(["--config-file", str(path), "--data-root", "/d"])
    assert config == Config(data_root="/d", hosts=("unix:///a",), debug=True, log_opts={"a": "1"})


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ({"no-such-key": 1}, "no-such-key"),
        ({"debug": "yes"}, "debug: expected a flag"),
        ({"mtu": True}, "mtu: expected a number"),
        ({"hosts": [1]}, "hosts: expected a list"),
        ([], "not a JSON object"),
        ({"data-root": "/x"}, "both as a flag and in the configuration file: data-root"),
        ({"storage-driver": "floppy"}, "storage driver 'floppy'"),
    ],
)
def test_a_bad_file_is_refused_by_key(tmp_path: Path, document: object, said: str) -> None:
    path = tmp_path / "d.json"
    path.write_text(json.dumps(document))
    with pytest.raises(Usage, match=said):
        load(["--config-file", str(path), "--data-root", "/d"])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--nope"], "unknown flag: --nope"),
        (["-Z"], "unknown shorthand flag"),
        (["--data-root"], "needs an argument"),
        (["--mtu", "x"], "expected a number"),
        (["--debug=maybe"], "expected true or false"),
        (["extra"], "accepts no arguments"),
        (["--shutdown-timeout", "-2"], "shutdown-timeout -2: expected seconds, or -1"),
        (["--data-root", "relative"], "not an absolute path"),
        (["-H", "ssh://a"], "invalid bind address"),
        (
            ["--swarm-default-advertise-addr", "default"],
            "--swarm-default-advertise-addr is not there yet",
        ),
        (["--default-address-pool", "base=10.0.0.0/16,size=8"], "expected base=NETWORK,size=BITS"),
        (["--default-address-pool", "10.0.0.0/16"], "expected base=NETWORK,size=BITS"),
        (["--log-format", "xml"], "log-format 'xml' is not one of text, json"),
        (["--default-ipc-mode", "host"], "is not one of private, shareable"),
        (["--oom-score-adjust", "1001"], r"the range is \[-1000, 1000\]"),
        (["--exec-opt", "native.cgroupdriver=upstart"], "drivers are cgroupfs and systemd"),
        (["--exec-opt", "a.b=c"], "only native.cgroupdriver is known"),
        (["--min-api-version", "1.1"], "is not between 1.24"),
        (["--exec-root", "/" + "x" * 75], "longer than 74 bytes"),
        (["--config-file", "/nonexistent"], "no such file"),
        (["--log-level", "loud"], "invalid logging level"),
        (["--add-runtime", "x"], "expected name=value"),
    ],
)
def test_a_bad_command_line_is_one_clear_line(arguments: list[str], said: str) -> None:
    with pytest.raises(Usage, match=said) as caught:
        load(arguments)
    assert "\n" not in str(caught.value)


def test_the_version_is_asked() -> None:
    with pytest.raises(VersionAsked):
        load(["--version"])


@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_help_is_asked(flag: str) -> None:
    with pytest.raises(HelpAsked):
        load(["--debug", flag])


def test_default_options_of_networks_are_of_a_driver() -> None:
    flags = ["--default-network-opt", "bridge=a.b=1", "--default-network-opt=bridge=c=d=e"]
    assert parse_flags(flags)["default_network_opts"] == {"bridge": {"a.b": "1", "c": "d=e"}}
    with pytest.raises(Usage, match="expected driver=name=value"):
        parse_flags(["--default-network-opt", "bridge=a"])


def test_the_gateway_of_the_host_has_an_address_of_each_version(tmp_path: Path) -> None:
    path = tmp_path / "daemon.json"
    path.write_text(json.dumps({"host-gateway-ip": "10.0.0.1"}))
    assert load(["--config-file", str(path)]).host_gateway_ips == ("10.0.0.1",)
    path.write_text(json.dumps({"host-gateway-ips": ["10.0.0.1", "fd00::1"]}))
    assert load(["--config-file", str(path)]).host_gateway_ips == ("10.0.0.1", "fd00::1")
    path.write_text(json.dumps({"host-gateway-ips": ["10.0.0.1", "10.0.0.2"]}))
    with pytest.raises(Usage, match="at most one address of each IP version"):
        load(["--config-file", str(path)])


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--max-download-attempts", "0"], "invalid max download attempts: 0"),
        (["--host-gateway-ip", "here"], "'here' is no IP address"),
        (["--nri-opts", "enable=true"], "--nri-opts is not there: containerd serves no NRI"),
        (["--node-generic-resource", "a=b"], "it is for swarm mode"),
    ],
)
def test_options_that_cannot_be(flags: list[str], words: str, tmp_path: Path) -> None:
    path = tmp_path / "daemon.json"
    path.write_text("{}")
    with pytest.raises(Usage, match=words):
        load(["--config-file", str(path), *flags])


@pytest.mark.skipif(selinux.enabled(), reason="this kernel has SELinux")
def test_labels_take_a_kernel_that_has_them(tmp_path: Path) -> None:
    path = tmp_path / "daemon.json"
    path.write_text('{"selinux-enabled": true}')
    with pytest.raises(Usage, match="SELinux is disabled or not supported"):
        load(["--config-file", str(path)])
