"""Contexts: each command beside the real one, in a directory of settings of its own."""

import hashlib
import io
import os
import subprocess
import tarfile
from pathlib import Path

import pytest

from barque import program
from barque.api.versions import DEFAULT_HOST
from tests.support.docker_peer import real_docker_cli

pytestmark = pytest.mark.peer
THEIR_HOST = "unix:///var/run/docker.sock"


class Client:
    """A command line whose settings are in `home`."""

    def __init__(self, argv: list[str], home: Path) -> None:
        self.argv = argv
        self.home = home
        home.mkdir()

    def __call__(self, *words: str, **environment: str) -> tuple[int, str, str]:
        """Exit code, output, error output; what must differ is made equal."""
        clean = {k: v for k, v in os.environ.items() if not k.startswith("DOCKER_")}
        done = subprocess.run(
            [*self.argv, *words],
            cwd=self.home.parent,
            env={**clean, "DOCKER_CONFIG": str(self.home), **environment},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        return done.returncode, self._plain(done.stdout), self._plain(done.stderr)

    def _plain(self, text: str) -> str:
        text = text.replace(DEFAULT_HOST, THEIR_HOST).replace(str(self.home), "HOME")
        # Columns are padded to the longest address.
        return "\n".join(" ".join(line.split()) for line in text.splitlines())


@pytest.fixture
def ours(tmp_path: Path) -> Client:
    return Client(program.command("barque"), tmp_path / "ours")


@pytest.fixture
def theirs(tmp_path: Path) -> Client:
    return Client([real_docker_cli()], tmp_path / "theirs")


@pytest.fixture(scope="module")
def pem(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Paths of a certificate and its key, of another key, and of no certificate."""
    root = tmp_path_factory.mktemp("pem")
    new = ["openssl", "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    for cert, key in (("cert", "key"), ("ca", "other")):
        files = ["-keyout", f"{key}.pem", "-out", f"{cert}.pem", "-subj", f"/CN={cert}"]
        subprocess.run([*new, "-x509", *files], cwd=root, check=True, capture_output=True)
    (root / "not.pem").write_text("nothing")
    return {name: str(root / f"{name}.pem") for name in ("ca", "cert", "key", "other", "not")}


def key_of(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()


STORY = """
create one --docker host=tcp://1.2.3.4:2376,ca={ca},cert={cert},key={key} --description my
create bad --docker host=tcp://1.2.3.4:2376,ca={not}
create bad --docker host=tcp://1.2.3.4:2376,cert={cert},key={other}
create bad --docker host=tcp://1.2.3.4:2376,cert={cert}
create two --docker host=unix:///tmp/x.sock
create three
create one
create a/b
create default
create four --from two --description other
create five --docker from=one
create six --docker foo=bar
create six --docker foo
create seven --docker host=tcp://a,skip-tls-verify=true
ls
ls -q
ls --format json
ls --format {{{{.Name}}}}/{{{{.Current}}}}/{{{{.DockerEndpoint}}}}/{{{{.Description}}}}
inspect one two three seven
inspect
inspect nope
inspect --format {{{{.Name}}}}={{{{.Endpoints.docker.Host}}}} one two
show
use one
show
ls
use nope
rm one two
rm default nope
update two --description hello --docker host=tcp://9:1
update nope --description x
update default --description x
inspect two
use two
rm two
rm -f two nope
show
ls
update one --docker host=tcp://5:5
inspect one
create
ls more
"""


def test_the_same_story(ours: Client, theirs: Client, pem: dict[str, str]) -> None:
    for line in STORY.strip().splitlines():
        words = line.format(**pem).split()
        expected = theirs("context", *words)
        assert ours("context", *words)[:2] == expected[:2], line
        if expected[0] == 0 or "requires" not in expected[2]:
            found = ours("context", "ls")  # the next line's state is the same
            assert found == theirs("context", "ls"), line


@pytest.mark.parametrize(
    "environment",
    [
        {"DOCKER_CONTEXT": "two"},
        {"DOCKER_HOST": "tcp://x:1"},
        {"DOCKER_HOST": "tcp://x:1", "DOCKER_CONTEXT": "two"},
        {"DOCKER_CONTEXT": "default"},
    ],
)
def test_which_context_is_in_use(ours: Client, theirs: Client, environment: dict[str, str]) -> None:
    for client in (ours, theirs):
        for name in ("one", "two"):
            assert client("context", "create", name, "--docker", f"host=unix:///{name}")[0] == 0
        client("context", "use", "one")
    for words in (
        ("context", "show"),
        ("context", "ls"),
        ("-c", "one", "context", "show"),
        ("-H", "unix:///y", "context", "show"),
        ("context", "use", "two"),
    ):
        assert ours(*words, **environment) == theirs(*words, **environment), words


def test_each_reads_what_the_other_keeps(
    ours: Client, theirs: Client, pem: dict[str, str], tmp_path: Path
) -> None:
    endpoint = "host=tcp://1.2.3.4:1,ca={ca},cert={cert},key={key}".format(**pem)
    for writer, reader in ((ours, theirs), (theirs, ours)):
        assert writer("context", "create", "one", "--docker", endpoint)[0] == 0
        reading = Client(reader.argv, tmp_path / f"reads-{reader.home.name}")
        reading.home.rmdir()
        reading.home.symlink_to(writer.home)
        assert reading("context", "ls") == writer("context", "ls")
        archive = str(tmp_path / f"{writer.home.name}.tar")
        assert writer("context", "export", "one", archive)[0] == 0
        assert writer("context", "export", "one", archive)[0] == 1  # exists
        assert reader("context", "import", "copy", archive)[0] == 0
        assert reader("context", "import", "copy", archive)[0] == 1
        shown = reader("context", "inspect", "copy")[1]
        assert "cert.pem" in shown
        assert "tcp://1.2.3.4:1" in shown
        for name in ("ca", "cert", "key"):
            kept = reader.home / "contexts/tls" / key_of("copy") / f"docker/{name}.pem"
            assert kept.read_text() == Path(pem[name]).read_text()
            assert kept.stat().st_mode & 0o77 == 0
        assert reader("context", "rm", "copy")[0] == 0
        assert not (reader.home / "contexts/tls" / key_of("copy")).exists()


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["meta.json", "tls/docker/../../../../etc/x"], "unexpected context file"),
        (["tls/docker/ca.pem"], "no metadata found"),
        (["meta.json", "/etc/passwd"], "unexpected context file"),
    ],
)
def test_a_hostile_archive(ours: Client, tmp_path: Path, names: list[str], message: str) -> None:
    archive = tmp_path / "a.tar"
    with tarfile.open(archive, "w") as out:
        for name in names:
            header = tarfile.TarInfo(name)
            data = b'{"Name": "x"}'
            header.size = len(data)
            out.addfile(header, io.BytesIO(data))
    code, _, error = ours("context", "import", "new", str(archive))
    assert code == 1
    assert message in error
    assert len(error.splitlines()) == 1
    assert ours("context", "ls", "-q")[1] == "default"


def test_a_damaged_store_is_told_in_one_line(ours: Client) -> None:
    ours("context", "create", "one", "--docker", "host=tcp://1:1")
    (path,) = ours.home.glob("contexts/meta/*/meta.json")
    for text in ("{", "[]", '{"Name": 3}', '{"Name": "one", "Endpoints": {"docker": 5}}'):
        path.write_text(text)
        for words in (("context", "ls"), ("-c", "one", "ps"), ("context", "inspect", "one")):
            code, _, error = ours(*words)
            assert code == 1
            assert len(error.splitlines()) == 1, error
            assert "meta.json" in error
