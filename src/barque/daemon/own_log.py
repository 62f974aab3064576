"""The daemon's own log: lines on standard error, as text or JSON."""

from __future__ import annotations

import json
import logging
import sys

from barque.daemon.config import Config

LEVELS = {"debug": 10, "info": 20, "warn": 30, "error": 40, "fatal": 50}


def log_level(config: Config) -> int:
    return LEVELS["debug" if config.debug else config.log_level]


class _Text(logging.Formatter):
    """logfmt: a line an event, whatever its text has in it."""

    def format(self, record: logging.LogRecord) -> str:
        text = json.dumps(record.getMessage(), ensure_ascii=False)
        line = (
            f'time="{self.formatTime(record)}" level={record.levelname} msg={text} '
            f"module={record.name}"
        )
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        document = {
            "time": self.formatTime(record),
            "level": record.levelname.lower(),
            "msg": record.getMessage(),
            "module": record.name,
        }
        if record.exc_info:
            document["error"] = self.formatException(record.exc_info)
        return json.dumps(document, ensure_ascii=False)


FORMATS: dict[str, type[logging.Formatter]] = {"text": _Text, "json": _Json}


def to_stderr(config: Config) -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(FORMATS[config.log_format]())
    logging.basicConfig(handlers=[handler], level=log_level(config))
    for chatty in ("hpack", "asyncio"):
        logging.getLogger(chatty).setLevel(logging.ERROR)
