"""A context as one file: meta.json and tls/docker/*.pem in a tar or zip archive, as Docker's."""

from __future__ import annotations

import io
import os
import tarfile
import zipfile

from barque import errors
from barque.cli import terminal
from barque.cli.contexts.store import ENDPOINT, LARGEST_FILE, TLS_FILES, checked
from barque.client import json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

METADATA = "meta.json"
PADDING = 3 * tarfile.BLOCKSIZE  # the rest of a block, and the two that end an archive
TLS_NAMES = {f"tls/{ENDPOINT}/{file}": file for file in TLS_FILES}


def pack(document: dict[str, Any], tls: dict[str, bytes]) -> bytes:
    """A tar archive of a context."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        _add(archive, METADATA, json.dumps(document).encode(), 0o644)
        _add(archive, "tls", None, 0o700)
        if tls:
            _add(archive, f"tls/{ENDPOINT}", None, 0o700)
        for file, data in tls.items():
            _add(archive, f"tls/{ENDPOINT}/{file}", data, 0o600)
    return buffer.getvalue()


def _add(archive: tarfile.TarFile, name: str, data: bytes | None, mode: int) -> None:
    header = tarfile.TarInfo(name)
    header.mode = mode
    if data is None:
        header.type = tarfile.DIRTYPE
        archive.addfile(header)
    else:
        header.size = len(data)
        archive.addfile(header, io.BytesIO(data))


def read_archive(path: str) -> bytes:
    """The bytes of a file, of our input for "-". Raises InvalidArgument when there are too many."""
    with open(terminal.STDIN if path == "-" else path, "rb", closefd=path != "-") as file:
        data = file.read(LARGEST_FILE + 1)
    if len(data) > LARGEST_FILE:
        raise errors.InvalidArgument(f"read exceeds the defined limit: {LARGEST_FILE} bytes")
    return data


def unpack(data: bytes) -> tuple[dict[str, Any], dict[str, bytes]]:
    """The document and the TLS files of an archive from anywhere. Raises InvalidArgument."""
    zipped = zipfile.is_zipfile(io.BytesIO(data)) and data[:2] == b"PK"
    try:
        files = _from_zip(data) if zipped else _from_tar(data)
    except (tarfile.TarError, zipfile.BadZipFile, EOFError, ValueError) as error:
        raise errors.InvalidArgument(f"archive of a context: {error}") from None
    if METADATA not in files:
        raise errors.InvalidArgument("invalid context: no metadata found")
    try:
        document = checked(json.loads(files[METADATA]), METADATA)
    except ValueError as error:
        raise errors.InvalidArgument(f"{METADATA}: {error}") from None
    return document, {TLS_NAMES[name]: body for name, body in files.items() if name in TLS_NAMES}


def _from_tar(data: bytes) -> dict[str, bytes]:
    files = {}
    # Docker's own archives end within their last block.
    with tarfile.open(fileobj=io.BytesIO(data + bytes(PADDING)), mode="r:") as archive:
        for member in archive:
            if member.isdir():
                continue
            stream = archive.extractfile(member) if member.isreg() else None
            if stream is None:
                raise errors.InvalidArgument(f"{member.name}: not a regular file")
            files[_known(member.name)] = stream.read(LARGEST_FILE)
    return files


def _from_zip(data: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = [member for member in archive.infolist() if not member.is_dir()]
        if sum(member.file_size for member in members) > LARGEST_FILE:
            raise errors.InvalidArgument(f"read exceeds the defined limit: {LARGEST_FILE} bytes")
        return {_known(member.filename): archive.read(member) for member in members}


def _known(name: str) -> str:
    if name != METADATA and name not in TLS_NAMES:
        raise errors.InvalidArgument(f"{name}: unexpected context file")
    return name


def open_private(path: str, flags: int) -> int:
    """An opener for `open`: what it makes is for our user only."""
    return os.open(path, flags, 0o600)
