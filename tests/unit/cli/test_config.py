"""config.json of the command: what is wrong with it is told, and nobody loses it."""

from pathlib import Path

import pytest

from barque import errors
from barque.cli import flags
from barque.cli.config import read_settings, write_settings
from barque.cli.main import GLOBAL_OPTIONS
from barque.cli.session import Session

WRONG = [
    "{bad",
    "[]",
    "",
    '{"auths": []}',
    '{"auths": {"registry": 5}}',
    '{"HttpHeaders": ["a"]}',
    '{"HttpHeaders": {"a": 5}}',
    '{"psFormat": 5}',
    '{"credsStore": {}}',
    '{"credHelpers": {"registry": []}}',
    '{"currentContext": ["x"]}',
    '{"proxies": {"default": "x"}}',
    '{"cliPluginsExtraDirs": "x"}',
]


def session(directory: Path) -> Session:
    options, _ = flags.parse(GLOBAL_OPTIONS, ["--config", str(directory)])
    return Session(options)


@pytest.mark.parametrize("text", WRONG)
def test_a_wrong_file_is_told_of_and_left_alone(
    tmp_path: Path, text: str, capfd: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "config.json"
    file.write_text(text)
    assert session(tmp_path).settings == {}
    assert capfd.readouterr().err.startswith(f"WARNING: Error loading config file: {file}: ")
    with pytest.raises(errors.InvalidArgument, match=str(file)):
        write_settings(tmp_path.as_posix(), {"auths": {}})
    assert file.read_text() == text


@pytest.mark.parametrize(
    "text", ["{}", '{"auths": null, "psFormat": null}', '{"unknown": 5, "features": {"a": "b"}}']
)
def test_what_docker_takes(tmp_path: Path, text: str, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "config.json").write_text(text)
    assert session(tmp_path).settings == read_settings(tmp_path.as_posix())
    assert capfd.readouterr().err == ""


def test_no_file_is_no_settings(tmp_path: Path) -> None:
    assert session(tmp_path / "none").settings == {}
