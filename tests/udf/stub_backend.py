"""An openEO back-end of a few answers: jobs that finish when asked, and answers that fail."""

import json
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

import openeo

RESULT = b"II*\x00 not really a GeoTIFF"


@dataclass
class StubBackend:
    """What the back-end holds, and how it misbehaves."""

    url: str = ""
    failing_share: float = 0.0
    """Share of answers that are 429 or 500; half of the latter after the work was done."""
    failing_jobs: int = 0
    """So many jobs end with an error, the first ones."""
    refused: dict[str, int] = field(default_factory=dict)
    """Status of the answers by path: of files, and of jobs that were started."""
    jobs: dict[str, dict[str, Any]] = field(default_factory=dict)
    started: dict[str, int] = field(default_factory=dict)
    rng: random.Random = field(default_factory=lambda: random.Random(5))
    lock: threading.Lock = field(default_factory=threading.Lock)

    def titles(self) -> list[str]:
        return [job["title"] for job in self.jobs.values()]

    def connect(self) -> openeo.Connection:
        return openeo.connect(self.url, default_timeout=20).authenticate_basic("lai", "x")

    def answer(self, method: str, path: str, body: bytes) -> tuple[int, Any]:
        parts = path.strip("/").split("/")
        if path in self.refused and (parts[0] != "jobs" or parts[1] in self.started):
            return self.refused[path], {"code": "Refused", "message": "no longer"}
        if path == "/":
            return 200, CAPABILITIES
        if path == "/credentials/basic":
            return 200, {"access_token": "t"}
        if path == "/lai.tif":
            return 200, RESULT
        if parts == ["jobs"]:
            return self.create(json.loads(body)) if method == "POST" else (200, self.listing())
        job = self.jobs.get(parts[1])
        if job is None:
            return 404, {"code": "JobNotFound", "message": "no such job"}
        if parts[2:] == ["results"] and method == "POST":
            self.started[job["id"]] = self.started.get(job["id"], 0) + 1
            job["status"] = "running"
            return 202, b""
        if parts[2:] == ["results"]:
            return 200, self.results(job)
        if parts[2:] == ["logs"]:
            failure = {"id": "1", "level": "error", "message": "no more memory"}
            return 200, {"logs": [failure] if job["status"] == "error" else [], "links": []}
        if job["status"] == "running":
            number = int(job["id"].split("-")[1])
            job["status"] = "error" if number < self.failing_jobs else "finished"
        return 200, job

    def create(self, wanted: dict[str, Any]) -> tuple[int, Any]:
        number = f"j-{len(self.jobs)}"
        self.jobs[number] = {
            "id": number,
            "title": wanted["title"],
            "status": "created",
            "created": "2024-06-01T00:00:00Z",
            "process": wanted["process"],
            "costs": 2.0,
        }
        return 201, {"id": number}

    def listing(self) -> dict[str, Any]:
        return {"jobs": list(self.jobs.values()), "links": []}

    def results(self, job: dict[str, Any]) -> dict[str, Any]:
        return {
            "type": "Collection",
            "stac_version": "1.0.0",
            "id": job["id"],
            "description": "",
            "license": "other",
            "extent": {
                "spatial": {"bbox": [[0, 0, 1, 1]]},
                "temporal": {"interval": [[None, None]]},
            },
            "links": [],
            "assets": {"lai.tif": {"href": f"{self.url}/lai.tif", "type": "image/tiff"}},
        }


CAPABILITIES = {
    "api_version": "1.2.0",
    "backend_version": "0",
    "stac_version": "1.0.0",
    "id": "stub",
    "title": "stub",
    "description": "",
    "links": [],
    "endpoints": [
        {"path": "/jobs", "methods": ["GET", "POST"]},
        {"path": "/jobs/{job_id}", "methods": ["GET"]},
        {"path": "/jobs/{job_id}/results", "methods": ["GET", "POST"]},
        {"path": "/jobs/{job_id}/logs", "methods": ["GET"]},
        {"path": "/credentials/basic", "methods": ["GET"]},
    ],
}


@contextmanager
def serve(**how: Any) -> Iterator[StubBackend]:
    backend = StubBackend(**how)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # else each body waits 40 ms until its head is confirmed

        def handle_request(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            path = urlsplit(self.path).path
            with backend.lock:
                fault = backend.rng.random() < backend.failing_share
                code = backend.rng.choice([429, 500])
                done = code == 500 and backend.rng.random() < 0.5
                if path in ("/", "/credentials/basic"):
                    fault = False
                status, content = (0, None)
                if not fault or done:
                    status, content = backend.answer(self.command, path, body)
                if fault:
                    status, content = code, {"code": "Busy", "message": "later"}
            data = content if isinstance(content, bytes) else json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.send_header("OpenEO-Identifier", content["id"] if status == 201 else "")
            kind = "image/tiff" if path == "/lai.tif" else "application/json"
            self.send_header("Content-Type", kind)
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = handle_request

        def log_message(self, *_: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    backend.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield backend
    finally:
        server.shutdown()
        server.server_close()
