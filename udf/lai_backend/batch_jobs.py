"""The batch-job endpoints of openEO over our registry and supervisor.

openeo-driver 0.136 has neither `PATCH /jobs/{job_id}` nor the estimate, and its
`POST /jobs/{job_id}/results` ignores jobs that have ended already, which openEO restarts: see
`replace_job_views`.
"""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, Literal

import flask
from openeo_driver import errors
from openeo_driver.backend import BatchJobMetadata, BatchJobResultMetadata, BatchJobs, JobListing
from openeo_driver.users import User
from openeo_driver.utils import generate_unique_id
from pydantic import BaseModel, ConfigDict, ValidationError

from lai_backend.errors import ParameterError
from lai_backend.extents import parse_instant
from lai_backend.files import Json
from lai_backend.joblog import LEVELS, read_log
from lai_backend.store import Job, Store
from lai_backend.supervisor import Supervisor

BLUEPRINTS = ("openeo", "openeo_old")
IDLE = ("created", "canceled", "finished", "error")  # statuses of jobs that neither wait nor run


class LocalBatchJobs(BatchJobs):
    """Batch jobs of this machine."""

    def __init__(self, store: Store, supervisor: Supervisor) -> None:
        super().__init__()
        self._store = store
        self._supervisor = supervisor

    def create_job(
        self,
        *,
        user: User,
        process: dict[str, Any],
        api_version: str,
        metadata: dict[str, Any],
        job_options: dict[str, Any] | None = None,
    ) -> BatchJobMetadata:
        """Register a job; it waits for `start_job`."""
        texts = {name: metadata.get(name) for name in ("title", "description")}
        _checked({**texts, "job_options": job_options})
        now = datetime.now(UTC)
        name = generate_unique_id("j")
        job = Job(name, user.user_id, "created", process, job_options or {}, metadata, now, now)
        self._store.add_job(job)
        return self._describe(job)

    def get_job_info(self, job_id: str, user_id: str) -> BatchJobMetadata:
        """Describe one job."""
        self._supervisor.settle()
        return self._describe(self._job(job_id, user_id))

    def get_user_jobs(
        self,
        user_id: str,
        limit: int | None = None,
        request_parameters: dict[str, Any] | None = None,
    ) -> JobListing:
        """List the jobs of a user, the newest first; with a limit, there may be a next page."""
        self._supervisor.settle()
        jobs = self._store.jobs_of(user_id)
        after = (request_parameters or {}).get("after")
        names = [job.id for job in jobs]
        start = names.index(after) + 1 if after in names else 0
        page = jobs[start : start + limit] if limit else jobs[start:]
        more = bool(page) and page[-1].id != names[-1]
        following = {"limit": limit, "after": page[-1].id} if more else None
        return JobListing([self._describe(job) for job in page], next_parameters=following)

    def estimate(self, job_id: str, user_id: str) -> dict[str, Any]:
        """Return what a job costs and may use at most."""
        job = self._job(job_id, user_id)
        seconds = self._supervisor.settings.job_seconds
        return {"costs": 0, "duration": f"PT{seconds:g}S", "title": job.details.get("title") or ""}

    def start_job(self, job_id: str, user: User) -> None:
        """Put a job into the queue, also one that has run; no effect while it waits or runs."""
        job = self._job(job_id, user.user_id)
        self._store.move_job(job.id, IDLE, "queued", started=None, finished=None, reason=None)
        self._supervisor.start_waiting()

    def change_job(self, job_id: str, user_id: str, change: dict[str, Any]) -> None:
        """Change fields of a job that neither waits nor runs; its status and results stay."""
        job = self._job(job_id, user_id)
        names = {"process": "process", "job_options": "options"}
        columns = {new: change.pop(old) or {} for old, new in names.items() if old in change}
        columns |= {"details": job.details | change} if change else {}
        if columns and not self._store.change_job(job.id, IDLE, **columns):
            raise errors.JobLockedException

    def cancel_job(self, job_id: str, user_id: str) -> None:
        """Stop a job."""
        self._supervisor.cancel(self._job(job_id, user_id))

    def delete_job(self, job_id: str, user_id: str) -> None:
        """Stop a job and delete what it left."""
        self._supervisor.remove(self._job(job_id, user_id))

    def get_log_entries(
        self,
        job_id: str,
        *,
        user_id: str,
        offset: str | None = None,
        limit: int | None = None,
        level: str = "debug",
    ) -> Iterable[dict[str, Any]]:
        """Return the log of a job."""
        job = self._job(job_id, user_id)
        if level not in LEVELS:
            raise ParameterError(f"level must be one of {', '.join(LEVELS)}, not {level!r}.")
        path = self._supervisor.job_folder(job.id) / "log.jsonl"
        return list(read_log(path, level, offset))[:limit]

    def get_result_assets(self, job_id: str, user_id: str) -> dict[str, dict[str, Any]]:
        """Return the files of a finished job, as openeo-driver expects them."""
        job = self._job(job_id, user_id)
        outcome = self._supervisor.outcome(job.id) or {}
        if job.status != "finished":
            raise errors.JobNotFinishedException
        folder = self._supervisor.job_folder(job.id) / "results"
        return {
            asset["name"]: {
                **asset,
                "href": str(folder / asset["name"]),
                "output_dir": str(folder),
                "roles": ["data"],
            }
            for asset in outcome.get("assets", [])
        }

    def get_result_metadata(self, job_id: str, user_id: str) -> BatchJobResultMetadata:
        """Describe the result of a job as STAC: one item per file."""
        assets = self.get_result_assets(job_id, user_id)
        times = ("datetime", "start_datetime", "end_datetime")
        items = {
            name.rpartition(".")[0]: {
                **{key: asset.get(key) for key in ("geometry", "bbox")},
                "properties": {"datetime": None, **{k: asset[k] for k in times if k in asset}},
                "assets": {name: asset},
            }
            for name, asset in assets.items()
        }
        return BatchJobResultMetadata(
            assets=assets,
            items=items,
            links=list((self._supervisor.outcome(job_id) or {}).get("links", [])),
            providers=self._get_providers(job_id=job_id, user_id=user_id),
        )

    def _job(self, job_id: str, user_id: str) -> Job:
        job = self._store.job(job_id)
        if job is None or job.user != user_id:
            raise errors.JobNotFoundException(job_id=job_id)
        return job

    def _describe(self, job: Job) -> BatchJobMetadata:
        outcome = (self._supervisor.outcome(job.id) or {}) if job.status == "finished" else {}
        assets = outcome.get("assets", [])
        first, last = (assets[0], assets[-1]) if assets else ({}, {})
        same = ("id", "status", "created", "updated", "process", "started", "finished")
        return BatchJobMetadata(
            **{key: getattr(job, key) for key in same},
            **{key: job.details.get(key) for key in ("title", "description", "plan", "budget")},
            job_options=job.options or None,
            progress=self._supervisor.progress(job.id) if job.status == "running" else None,
            geometry=first.get("geometry"),
            bbox=first.get("bbox"),
            epsg=first.get("proj:epsg"),
            proj_shape=first.get("proj:shape"),
            proj_bbox=first.get("proj:bbox"),
            start_datetime=parse_instant(first.get("datetime") or first.get("start_datetime")),
            end_datetime=parse_instant(last.get("datetime") or last.get("end_datetime")),
        )


class JobChange(BaseModel):
    """The body of `PATCH /jobs/{job_id}`; what it does not name stays as it is."""

    model_config = ConfigDict(frozen=True, strict=True)

    title: str | None = None
    description: str | None = None
    process: dict[str, Any] | None = None
    plan: str | None = None  # billing plan; null: no change
    budget: float | None = None
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    job_options: dict[str, Any] | None = None  # all options of the job; null: none


def _checked(fields: dict[str, Any]) -> dict[str, Any]:
    """Return these fields of a job; a value of a wrong type is refused by its name."""
    try:
        return JobChange.model_validate(fields).model_dump(exclude_unset=True)
    except ValidationError as error:
        wrong = error.errors()[0]
        name = ".".join(map(str, wrong["loc"]))
        message = f"{name} of a job cannot be {wrong['input']!r}: {wrong['msg']}."
        raise errors.OpenEOApiException(message, "BadRequest", 400) from error


def read_change(body: Json) -> dict[str, Any]:
    """Return the fields of a job that a request body changes, with their new values."""
    if not isinstance(body, dict) or not body:
        raise errors.NoDataForUpdateException
    for name in body:
        if name not in JobChange.model_fields:
            raise errors.PropertyNotEditableException(str(name))
    change = _checked(body)
    if "process" in change:
        if not isinstance((change["process"] or {}).get("process_graph"), dict):
            raise errors.ProcessGraphMissingException
        change["process"] = {"process_graph": change["process"]["process_graph"]}
    return {name: value for name, value in change.items() if name != "plan" or value is not None}


def replace_job_views(app: flask.Flask, jobs: LocalBatchJobs) -> None:
    """Put our endpoints into the place of those of openeo-driver, which made the application."""

    def modify_job(job_id: str, user: User) -> flask.Response:
        change = read_change(flask.request.get_json(silent=True))
        jobs.change_job(job_id, user.user_id, change)
        return flask.make_response("", 204)

    def start_job(job_id: str, user: User) -> flask.Response:
        jobs.start_job(job_id, user)
        return flask.make_response("", 202)

    def job_estimate(job_id: str, user: User) -> flask.Response:
        return flask.jsonify(jobs.estimate(job_id, user.user_id))

    only_users = app.extensions["auth_handler"].requires_bearer_auth
    for view in (modify_job, start_job, job_estimate):
        for blueprint in BLUEPRINTS:
            app.view_functions[f"{blueprint}.{view.__name__}"] = only_users(view)
