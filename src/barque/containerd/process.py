"""The server's own process: where its log goes, its cgroup, how soon the kernel ends it."""

from __future__ import annotations

import errno
import json
import logging
import os
import sys
from datetime import UTC, datetime

from barque.linux.cgroup import Cgroup, locate

LEVELS = {"trace": 10, "debug": 10, "info": 20, "warn": 30, "error": 40, "fatal": 50, "panic": 50}


class JsonLines(logging.Formatter):
    """One JSON object a line, as containerd's format "json"."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "level": record.levelname.lower(),
            "module": record.name,
            "msg": super().format(record),
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(),
        }
        return json.dumps(line)


def log_to_stderr(level: str, form: str) -> None:
    """`form`: text or json."""
    logging.basicConfig(
        stream=sys.stderr,
        level=LEVELS[level],
        format='time="%(asctime)s" level=%(levelname)s msg="%(message)s" module=%(name)s',
    )
    if form == "json":
        logging.getLogger().handlers[0].setFormatter(JsonLines())
    for noisy in ("hpack", "asyncio"):
        logging.getLogger(noisy).setLevel(logging.ERROR)


def place(oom_score: int, path: str) -> None:
    """Be in the cgroup `path` ("": stay), made if it is not there; what is started later is too."""
    if oom_score:
        with open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
            file.write(str(oom_score))
    if path:
        group = Cgroup(locate(f"/{path}", ""))
        try:
            group.create()
        except OSError as error:
            if error.errno != errno.EBUSY:  # of an earlier run, whose shims are in it
                raise
        group.attach(os.getpid())
