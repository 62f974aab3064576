"""containerd's flags and TOML file."""

import subprocess
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest

from barque.containerd import config_file
from barque.containerd.config import (
    FLAGS,
    Config,
    document_of,
    from_document,
    load,
    parse_arguments,
)
from barque.containerd.main import main
from barque.containerd.paths import DEFAULT_CONFIG, DEFAULT_ROOT, DEFAULT_STATE
from barque.containerd.snapshots.pool import Pool
from barque.errors import InvalidArgument, NotFound, Unsupported

DEVMAPPER = "[plugins.'io.containerd.snapshotter.v1.devmapper']\n"


def test_flags_beat_the_file(tmp_path: Path) -> None:
    file = tmp_path / "c.toml"
    file.write_text(
        'root = "/r"\nstate = "/s"\n[grpc]\naddress = "/a.sock"\n[debug]\nlevel = "warn"\n'
    )
    command = parse_arguments(["--config", str(file), "--root=/flag", "-l", "debug"])
    assert load(command.options) == Config(Path("/flag"), Path("/s"), "/a.sock", "debug")


def test_the_socket_lies_in_the_state_directory() -> None:
    assert load(parse_arguments(["--state", "/x"]).options).socket == "/x/containerd.sock"


def test_every_flag_and_default_is_in_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    words = capsys.readouterr().out.replace(",", "").replace(")", "").split()
    assert {*FLAGS, "--help", DEFAULT_CONFIG, DEFAULT_ROOT, DEFAULT_STATE} <= set(words)


def test_commands() -> None:
    assert parse_arguments(["config", "default"]).arguments == ("default",)
    assert parse_arguments(["--version"]).name == "version"


@pytest.mark.parametrize(
    "config",
    [
        Config(),
        Config(Path("/r"), Path("/s"), "/a.sock", "debug", 7, 8, "127.0.0.1:1338", True),
        Config(
            root=Path('/a "quoted" \\ one'),
            log_format="json",
            oom_score=-999,
            cgroup="a/b",
            disabled_plugins=("cri", "io.containerd.snapshotter.v1.btrfs"),
            required_plugins=("io.containerd.content.v1.content",),
        ),
    ],
)
def test_what_is_dumped_says_the_same(config: Config) -> None:
    assert from_document(tomllib.loads(document_of(config))) == replace(
        config, address=config.socket
    )


@pytest.mark.parametrize("plugin", ["internal.v1", "monitor.container.v1"])
@pytest.mark.parametrize(
    ("text", "seconds"), [("10s", 10), ("1m30s", 90), ("250ms", 0.25), ("1.5h", 5400)]
)
def test_intervals_of_the_restart_monitor(plugin: str, text: str, seconds: float) -> None:
    document = f"[plugins.'io.containerd.{plugin}.restart']\ninterval = '{text}'\n"
    assert from_document(tomllib.loads(document)).restart_interval_s == seconds


@pytest.mark.parametrize("value", ["'0s'", "'-1s'", "'10'", "10", "'1s '", "'ten'"])
def test_what_is_no_interval(value: str) -> None:
    document = f"[plugins.'io.containerd.internal.v1.restart']\ninterval = {value}\n"
    with pytest.raises(InvalidArgument, match="must be a duration"):
        from_document(tomllib.loads(document))


@pytest.mark.parametrize("address", ["127.0.0.1:1338", ":0", "[::1]:80", "localhost:65535"])
def test_addresses_of_metrics(address: str) -> None:
    text = f"[metrics]\naddress = '{address}'\ngrpc_histogram = true\n"
    config = from_document(tomllib.loads(text))
    assert (config.metrics_address, config.metrics_histogram) == (address, True)


@pytest.mark.parametrize("arguments", [["--nope"], ["--root"], ["-x", "y"]])
def test_bad_flags(arguments: list[str]) -> None:
    with pytest.raises(InvalidArgument):
        parse_arguments(arguments)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("rooot = '/x'", InvalidArgument),
        ("root = 'x'", InvalidArgument),
        ("[debug]\nlevel = 'loud'", InvalidArgument),
        ("[grpc]\ntcp_address = '1.2.3.4:5'", Unsupported),
        ("[grpc]\nuid = -1", InvalidArgument),
        ("[grpc]\ngid = true", InvalidArgument),
        ("[metrics]\naddress = '1.2.3.4'", InvalidArgument),
        ("[metrics]\naddress = '::1:80'", InvalidArgument),
        ("[metrics]\naddress = 'host:65536'", InvalidArgument),
        ("[metrics]\naddress = 80", InvalidArgument),
        ("[metrics]\ngrpc_histogram = 1", InvalidArgument),
        ("[debug]\nformat = 'xml'", InvalidArgument),
        ("[debug]\naddress = '/run/debug.sock'", Unsupported),
        ("oom_score = -1001", InvalidArgument),
        ("oom_score = true", InvalidArgument),
        ("[cgroup]\npath = '/a/../b'", InvalidArgument),
        ("version = 4", Unsupported),
        ("version = '2'", Unsupported),
        ("disabled_plugins = 'cri'", InvalidArgument),
        ("required_plugins = [1]", InvalidArgument),
        ("[proxy_plugins.x]\ntype = 'snapshot'", Unsupported),
        ("[stream_processors.x]\npath = 'y'", Unsupported),
        ("[plugins.'io.containerd.grpc.v1.cri']\nx = 1", Unsupported),
        ("[plugins.'io.containerd.nri.v1.nri']\ndisable = false", Unsupported),
        ("[plugins.'io.containerd.gc.v1.scheduler']\nmutation_threshold = 7", Unsupported),
        ("[plugins.'io.containerd.gc.v1.scheduler']\nmutation_thresh = 7", InvalidArgument),
        ("[plugins.'io.containerd.nothing.v1']\nx = 1", InvalidArgument),
        ("[plugins]\n'io.containerd.gc.v1.scheduler' = 1", InvalidArgument),
        ("[grpc]\nmax_recv_message_size = 1024", Unsupported),
    ],
)
def test_the_file_is_not_half_understood(text: str, kind: type[Exception]) -> None:
    with pytest.raises(kind):
        from_document(tomllib.loads(text))


def test_files_that_are_not_there_or_not_toml(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        load({"config": str(tmp_path / "none")})
    (tmp_path / "bad").write_text("= =")
    with pytest.raises(InvalidArgument):
        load({"config": str(tmp_path / "bad")})


@pytest.mark.parametrize("disabled", ["cri", "io.containerd.grpc.v1.cri"])
def test_sections_of_plugins_that_are_disabled(disabled: str) -> None:
    text = f"""disabled_plugins = ['{disabled}', 'io.containerd.nri.v1.nri']
        [plugins.'io.containerd.grpc.v1.cri'.registry]
        config_path = '/x'
        [plugins.'io.containerd.cri.v1.images']
        snapshotter = 'x'
        [plugins.'io.containerd.nri.v1.nri']
        disable = false"""
    found = from_document(tomllib.loads(text))
    assert found == Config(disabled_plugins=(disabled, "io.containerd.nri.v1.nri"))


@pytest.mark.peer
def test_what_the_real_one_prints_can_be_read(tmp_path: Path) -> None:
    printed = subprocess.run(
        ["/usr/bin/containerd", "config", "default"], capture_output=True, text=True, check=True
    ).stdout
    file = tmp_path / "config.toml"
    file.write_text(printed)
    with pytest.raises(Unsupported, match="name it in disabled_plugins"):
        load({"config": str(file)})
    file.write_text(printed.replace("disabled_plugins = []", 'disabled_plugins = ["cri"]'))
    assert load({"config": str(file)}) == Config(
        root=Path("/var/lib/containerd"),
        state=Path("/run/containerd"),
        address="/run/containerd/containerd.sock",
        disabled_plugins=("cri",),
    )


@pytest.mark.parametrize(
    ("text", "pool"),
    [
        ("pool_name = 'p'", Pool("p")),
        (
            "pool_name = 'p'\nroot_path = '/d'\nbase_image_size = '512MB'\nfs_type = 'xfs'\n"
            "fs_options = '-m \"crc=1\" -K'\ndiscard_blocks = true",
            Pool("p", "/d", 512 << 20, "xfs", '-m "crc=1" -K', True),
        ),
        ("pool_name = 'p'\nbase_image_size = '1.5g'", Pool("p", size=3 << 29)),
    ],
)
def test_a_pool_of_devmapper(text: str, pool: Pool) -> None:
    found = from_document(tomllib.loads(f"{DEVMAPPER}{text}"))
    assert found == Config(pool=pool)
    assert from_document(tomllib.loads(document_of(found))).pool == pool


@pytest.mark.parametrize(
    "text",
    [
        "base_image_size = '10GB'",
        "pool_name = 'a/b'",
        "pool_name = 'p'\nroot_path = 'd'",
        "pool_name = 'p'\nbase_image_size = '10 cats'",
        "pool_name = 'p'\nbase_image_size = '1KB'",
        "pool_name = 'p'\nfs_type = 'vfat'",
        "pool_name = 'p'\nfs_options = '\"'",
        "pool_name = 'p'\ndiscard_blocks = 1",
        "pool_name = 'p'\nnothing = 1",
    ],
)
def test_a_pool_that_cannot_be(text: str) -> None:
    with pytest.raises(InvalidArgument):
        from_document(tomllib.loads(f"{DEVMAPPER}{text}"))


def test_the_histogram_of_version_3() -> None:
    text = "version = 3\n[plugins.'io.containerd.metrics.v1.grpc-prometheus']\ngrpc_histogram = "
    assert from_document(tomllib.loads(text + "true")).metrics_histogram
    assert not from_document(tomllib.loads(text + "false")).metrics_histogram


def test_files_are_imported_once_and_the_later_says_more(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "c.toml").write_text(
        "imports = ['d/*.toml', 'c.toml', 'none/*']\ndisabled_plugins = ['cri']\nroot = '/r'\n"
        "[grpc]\nuid = 1\ngid = 2\n"
    )
    (tmp_path / "d/a.toml").write_text("imports = ['b.toml']\noom_score = 5\n[grpc]\ngid = 3\n")
    (tmp_path / "d/b.toml").write_text("disabled_plugins = ['x']\n[grpc]\ngid = 4\n")
    found = load({"config": str(tmp_path / "c.toml")})
    assert found == Config(
        root=Path("/r"), uid=1, gid=4, oom_score=5, disabled_plugins=("cri", "x")
    )


@pytest.mark.parametrize(
    ("imports", "kind"), [("'x'", InvalidArgument), ("[1]", InvalidArgument), ("['x']", NotFound)]
)
def test_imports_that_are_not_there(tmp_path: Path, imports: str, kind: type[Exception]) -> None:
    (tmp_path / "c.toml").write_text(f"imports = {imports}\n")
    with pytest.raises(kind):
        config_file.read(str(tmp_path / "c.toml"))
