"""The server's log: one JSON object per line."""

from __future__ import annotations

import json
import logging
import sys
from datetime import datetime, timezone
from typing import Any, TextIO

from ...structures import one_line

REQUESTS = logging.getLogger("cqdino_d2.requests")


class JsonLines(logging.Formatter):
    """A record as a JSON object; ``fields`` of its ``extra`` are added to the rest."""

    def format(self, record: logging.LogRecord) -> str:
        """One line without control characters."""
        time = datetime.fromtimestamp(record.created, timezone.utc)
        entry: dict[str, Any] = {
            "time": time.isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": one_line(record.getMessage()),
        }
        entry.update(getattr(record, "fields", {}))
        if record.exc_info:
            entry["trace"] = self.formatException(record.exc_info)
        return json.dumps(entry, ensure_ascii=True)


def log_as_json(stream: TextIO = sys.stderr, level: int = logging.INFO) -> None:
    """Makes everything that is logged a line of JSON."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonLines())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    REQUESTS.setLevel(level)
    for chatty in ("cqdino_d2.text", "python_multipart"):  # warn of what is in each request
        logging.getLogger(chatty).setLevel(logging.ERROR)
