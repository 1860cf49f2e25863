"""How many modules a result meets on its way from `POST /publish` to the stored item."""

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import numpy as np
import pytest
from fake_jobs import write_cloud_results
from fake_lai import MODEL, fake_layers
from fastapi.testclient import TestClient
from service.fake_items import TOKEN

import lai_service
import lai_stac.extension  # pystac imports it when it first reads an item
import lai_udf
from lai_service import Settings, create_app
from lai_service.api import publish_route
from lai_udf.bundle import Bundle

# rasterio 1.4 multiplies transforms with `*`, which affine 3 announces to deprecate.
pytestmark = [
    pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning"),
    pytest.mark.sqlite_only,
]

HOMES = [Path(str(package.__file__)).parent for package in (lai_service, lai_stac, lai_udf)]
MAX_MODULES_OF_AN_ITEM, MAX_MODULES_OF_A_JOB = 15, 30
IN_FUNCTION = 0x1  # flag of the code of functions, which that of modules and classes lacks


@contextmanager
def followed() -> Iterator[set[str]]:
    """Yield the modules of our packages whose functions are called."""
    called: set[str] = set()

    def follow(frame: FrameType, event: str, value: object) -> None:
        code = frame.f_code
        if event == "call" and code.co_flags & IN_FUNCTION:
            path = Path(code.co_filename)
            called.update(
                path.relative_to(home.parent).as_posix()
                for home in HOMES
                if path.is_relative_to(home)
            )

    threading.setprofile(follow)
    sys.setprofile(follow)
    try:
        yield called
    finally:
        sys.setprofile(None)
        threading.setprofile(None)


def modules_met(settings: Settings, body: dict[str, str]) -> set[str]:
    """Publish, and return the modules whose functions were called meanwhile."""
    client = TestClient(create_app(settings), headers={"Authorization": f"Bearer {TOKEN}"})
    assert client.post("/publish", json={}).status_code == 400  # what starts is no part of the way
    with followed() as called:
        answer = client.post("/publish", json=body)
    assert answer.status_code == 201, answer.text
    return called


def test_an_item_meets_few_modules(settings: Settings, make_result: Callable[..., Path]) -> None:
    called = modules_met(settings, {"directory": str(make_result())})
    assert {"lai_service/files/publishing.py", "lai_service/catalogue/sqlite.py"} <= called
    assert len(called) <= MAX_MODULES_OF_AN_ITEM, sorted(called)


def test_results_of_a_job_meet_few_modules(
    settings: Settings, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = Bundle(Path("seamless-0.1.0.zip"), MODEL)
    monkeypatch.setattr(publish_route, "open_bundle", lambda path=None: bundle)
    folder = write_cloud_results(settings.allowed_roots[0] / "job", fake_layers(rng))
    called = modules_met(settings, {"results": str(folder)})
    assert {"lai_stac/item.py", "lai_stac/job_items.py"} <= called
    assert len(called) <= MAX_MODULES_OF_A_JOB, sorted(called)
