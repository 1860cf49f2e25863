"""Single jobs: their titles, their results on disk, and what their back-end answers."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openeo
import pandas as pd
import requests
from openeo.rest import OpenEoApiPlainError

from lai_udf.atomic import disk_errors
from lai_udf.errors import OutputNotWritableError

FAILED = ("error", "canceled")


def job_title(row: "pd.Series[Any]") -> str:
    """Return the title of the job of a row; later attempts have a number."""
    attempt = int(row["attempt"])
    return str(row["title"]) if attempt == 1 else f"{row['title']}_{attempt}"


def list_titles(connection: openeo.Connection) -> Iterator[tuple[str, str]]:
    """Yield (title, id) of every job of the user that has not failed, page by page."""
    page = connection.get("/jobs", params={"limit": 1000}, expected_status=200).json()
    while True:
        for job in page.get("jobs", []):
            if job.get("title") and job["status"] not in FAILED:
                yield job["title"], job["id"]
        following = [link for link in page.get("links", []) if link.get("rel") == "next"]
        if not following:
            return
        page = connection.get(following[0]["href"], expected_status=200).json()


def download_whole(job: openeo.BatchJob, folder: Path) -> None:
    """Download results and description of a job beside their place, then move them there.

    Raises:
        OutputNotWritableError: the folder or disk refuses.
        OpenEoApiPlainError, requests.RequestException: the back-end does; nothing is left behind.
    """
    part = folder.with_name(f".{folder.name}.partial")
    try:
        with disk_errors(folder.parent):
            shutil.rmtree(part, ignore_errors=True)
            part.mkdir(parents=True)
            results = job.get_results()
            has_items = any(link["rel"] == "item" for link in results.get_metadata()["links"])
            results.download_as_collection(
                part, on_download_failure="raise", download_collection_assets=not has_items
            )
            (part / f"job_{job.job_id}.json").write_text(json.dumps(job.describe()))
            shutil.rmtree(folder, ignore_errors=True)
            part.rename(folder)
    except OutputNotWritableError as error:
        shutil.rmtree(part, ignore_errors=True)
        cause = error.__cause__
        if isinstance(cause, requests.RequestException):  # an OSError, by its own account
            raise cause from error
        raise
    except Exception:
        shutil.rmtree(part, ignore_errors=True)
        raise


def status_code(error: BaseException | None) -> int | None:
    """Return the HTTP status behind an error of the client."""
    while error is not None and not isinstance(error, OpenEoApiPlainError):
        error = error.__cause__
    return None if error is None else error.http_status_code
