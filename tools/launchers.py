"""Write the programs' launchers: `tools/launchers.py DIRECTORY`.

The wrappers that pip makes load `site` and its `.pth` files first, which costs a short command half
its time. These start the same entry points isolated (see `barque/__main__.py`).
"""

import os
import sys
from pathlib import Path

from barque.__main__ import PROGRAMS

LAUNCHER = """#!{python} -IS
import sys
sys.path.insert(0, {source!r})
from barque.__main__ import main
sys.exit(main({program!r}, sys.argv[1:]))
"""


def main(directory: Path) -> None:
    source = str(Path(__file__).resolve().parent.parent / "src")
    for program in PROGRAMS:
        path = directory / program
        temporary = path.with_name(f".{program}.{os.getpid()}")
        temporary.write_text(LAUNCHER.format(python=sys.executable, source=source, program=program))
        temporary.chmod(0o755)
        temporary.rename(path)


if __name__ == "__main__":
    main(Path(sys.argv[1]).absolute())
