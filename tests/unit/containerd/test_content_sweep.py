"""Files of content that no row knows are removed while the server is at work; others stay."""

import asyncio
from pathlib import Path

from barque.containerd.content.store import SLICE_FILES, ContentStore
from barque.containerd.metadata import Metadata
from barque.containerd.paths import ContentPaths
from barque.containerd.references import References


def test_what_has_no_row_goes(tmp_path: Path) -> None:
    metadata = Metadata(tmp_path / "meta.db")
    paths = ContentPaths(tmp_path / "content")
    store = ContentStore(metadata, References(metadata), paths)

    def blob(number: int) -> Path:
        path = Path(paths.blob(f"sha256:{number:064x}"))
        path.write_bytes(b"data")
        return path

    orphans = [blob(number) for number in range(3 * SLICE_FILES)]
    known, landing = blob(1 << 80), blob(1 << 81)
    metadata.execute("INSERT INTO content VALUES ('n', ?, 4, '{}', 1, 1)", f"sha256:{1 << 80:064x}")
    junk = paths.blobs / "sha256" / "junk"
    junk.write_bytes(b"")
    ingest = store.begin("n", "under-way", 0, "")
    ingest.write(b"half")
    lost = paths.ingests / "999"
    lost.write_bytes(b"")

    async def sweep() -> int:
        with store.landing(f"sha256:{1 << 81:064x}"):
            return await store.sweep_files()

    assert asyncio.run(sweep()) == len(orphans) + 2
    assert [path.exists() for path in (known, landing, junk, lost)] == [True, True, False, False]
    assert not any(path.exists() for path in orphans)
    assert [one.name for one in paths.ingests.iterdir()] == [str(ingest.number)]
    store.release(ingest)
    metadata.close()
