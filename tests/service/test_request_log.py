"""One line of log for every request."""

import json
import logging
import subprocess
import sys

import pytest
from fastapi.testclient import TestClient


def lines_of(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [record for record in caplog.records if record.name == "lai_service.requests"]


def test_request_is_logged_with_the_id_that_the_caller_gets(
    client: TestClient, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "lai_service.requests")
    answer = client.get("/collections/nothing?token=x")
    (record,) = lines_of(caplog)
    assert record.request_id == answer.headers["X-Request-ID"]
    assert (record.method, record.path, record.status) == ("GET", "/collections/nothing", 404)
    assert record.ms > 0


def test_id_of_a_proxy_is_kept_and_a_forged_line_is_not(
    client: TestClient, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "lai_service.requests")
    assert client.get("/", headers={"X-Request-ID": "abc-1"}).headers["X-Request-ID"] == "abc-1"
    forged = client.get("/%0AGET%20/x", headers={"X-Request-ID": "a b"}).headers["X-Request-ID"]
    assert forged != "a b"
    assert all("\n" not in record.getMessage() for record in lines_of(caplog))


def test_refused_writes_are_logged_and_tokens_are_not(
    client: TestClient, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "lai_service")
    client.post("/publish", json={}, headers={"Authorization": "Bearer some-secret"})
    assert lines_of(caplog)[0].status == 401
    assert "some-secret" not in caplog.text


def test_log_as_json_is_one_object_a_line() -> None:
    code = (
        "import logging; from lai_service.ops.request_log import configure_logging;"
        "configure_logging('json'); log = logging.getLogger('lai_service');"
        "log.info('two\\nlines ä');"
        "log.warning('x', extra={'request_id': 'r', 'status': 200, 'ms': 1.5})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    first, second = (json.loads(line) for line in done.stderr.splitlines())
    assert (first["message"], first["level"]) == ("two\nlines ä", "info")
    assert (second["request_id"], second["status"], second["ms"]) == ("r", 200, 1.5)


def test_command_without_the_extra_prints_what_to_install() -> None:
    code = (
        "import sys; sys.modules['pydantic_settings'] = None;"
        "from lai_service.cli import app; app(['--help'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "pip install 'sentinel2-lai[service]'" in done.stderr
    assert "Traceback" not in done.stderr
