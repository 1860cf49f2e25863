"""schemathesis sends what the OpenAPI document allows and what it forbids: no server error."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import requests
from service.fake_items import TOKEN

pytest.importorskip("schemathesis", reason="schemathesis is not installed")

pytestmark = [
    pytest.mark.slow,
    # geojson-pydantic warns of boxes, and the server runs in this process.
    pytest.mark.filterwarnings("ignore:BBOX crossing the Antimeridian:UserWarning"),
]
SECONDS = 30
SEEDS = (20261121, 1, 2)


def fuzz(address: str, folder: Path, seed: int, config: str, *options: str) -> None:
    """Run schemathesis for a while as its own command."""
    (folder / "schemathesis.toml").write_text(config)
    command = [str(Path(sys.executable).with_name("schemathesis")), "run", f"{address}/api"]
    command += ["-H", f"Authorization: Bearer {TOKEN}", "--checks", "not_a_server_error"]
    command += ["--phases", "coverage,fuzzing", "--warnings", "off", "--seed", str(seed)]
    command += ["--max-time", str(SECONDS), "--max-examples", "15", *options]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert "Server error" not in done.stdout, done.stdout[-4000:]
    assert "Schema Error" not in done.stdout, done.stdout[-4000:]
    assert "Tested:" in done.stdout, done.stdout[-4000:] + done.stderr[-2000:]


@pytest.mark.parametrize("seed", SEEDS)
def test_no_request_is_a_server_error(live: str, tmp_path: Path, seed: int) -> None:
    fuzz(live, tmp_path, seed, "")


@pytest.mark.parametrize("seed", SEEDS)
def test_no_request_for_what_is_there_is_a_server_error(
    live: str, tmp_path: Path, make_result: Callable[..., Path], seed: int
) -> None:
    folder = make_result()
    headers = {"Authorization": f"Bearer {TOKEN}"}
    for _ in range(2):
        body = {"directory": str(folder)}
        answer = requests.post(f"{live}/publish", json=body, headers=headers, timeout=60)
        assert answer.ok, answer.text
    names = {"collection_id": "lai", "item_id": folder.name}
    lines = [f"{name} = {json.dumps(value)}" for name, value in names.items()]
    config = "\n".join(["[parameters]", *lines])
    fuzz(
        live,
        tmp_path,
        seed,
        config,
        "--include-path-regex",
        "{collection_id}",
        "--exclude-method",
        "DELETE",
    )
