"""The log of the process: lines of text, or one JSON object a line."""

import json
import logging
import time
from typing import Literal

LogFormat = Literal["text", "json"]

FIELDS = ("request_id", "method", "path", "status", "ms", "client")  # of the record of a request


class _JsonFormatter(logging.Formatter):
    """Writes a record as one JSON object on one line."""

    def format(self, record: logging.LogRecord) -> str:
        """Return time (UTC), level, logger, and the fields of a request or the message."""
        when = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line: dict[str, object] = {
            "time": f"{when}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
        }
        fields = {name: getattr(record, name) for name in FIELDS if hasattr(record, name)}
        line |= fields or {"message": record.getMessage()}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


def configure_logging(kind: LogFormat) -> None:
    """Make all loggers of the process write to standard error in one format."""
    text = logging.Formatter("%(asctime)s %(name)s %(message)s")
    handler = logging.StreamHandler()
    handler.setFormatter(_JsonFormatter() if kind == "json" else text)
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    logging.getLogger("stac_fastapi.types.config").setLevel(logging.ERROR)  # warns about defaults
    logging.getLogger("numexpr").setLevel(logging.WARNING)  # counts its threads
