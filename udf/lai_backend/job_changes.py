"""`PATCH /jobs/{job_id}`: what a client may change of a job that neither waits nor runs."""

from collections.abc import Mapping
from typing import Any, Literal

from openeo_driver.errors import (
    NoDataForUpdateException,
    OpenEOApiException,
    ProcessGraphMissingException,
    PropertyNotEditableException,
)
from pydantic import BaseModel, ConfigDict, ValidationError

from lai_backend.files import Json
from lai_backend.store import Job


class JobChange(BaseModel):
    """The body of the request; what it does not name stays as it is."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    title: str | None = None
    """Short description; null: none."""
    description: str | None = None
    """Long description; null: none."""
    process: dict[str, Any] | None = None
    """Process with its `process_graph`."""
    plan: str | None = None
    """Billing plan; null: no change."""
    budget: float | None = None
    """Most that the job may cost; null: no limit."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """Lowest level that goes into the log of the next run."""
    job_options: dict[str, Any] | None = None
    """All options of the job, as when it is made; null: none."""

    def columns(self, job: Job) -> dict[str, Any]:
        """Return the changed columns of the registry: process, options, details.

        Args:
            job: as it is.
        """
        given = self.model_fields_set
        columns: dict[str, Any] = {}
        if "process" in given:
            columns["process"] = {"process_graph": (self.process or {})["process_graph"]}
        if "job_options" in given:
            columns["options"] = self.job_options or {}
        names = given & {"title", "description", "budget", "log_level"}
        names |= {"plan"} if self.plan is not None else set()
        if names:
            columns["details"] = job.details | self.model_dump(include=names)
        return columns


def read_change(body: Json) -> JobChange:
    """Read the body of the request.

    Raises:
        NoDataForUpdateException: it is empty or no object.
        PropertyNotEditableException: it names something that cannot be changed.
        ProcessGraphMissingException: a process without a graph.
        OpenEOApiException: a value of the wrong type.
    """
    if not isinstance(body, Mapping) or not body:
        raise NoDataForUpdateException
    for name in body:
        if name not in JobChange.model_fields:
            raise PropertyNotEditableException(str(name))
    try:
        change = JobChange.model_validate(dict(body))
    except ValidationError as error:
        wrong = error.errors()[0]
        name = ".".join(map(str, wrong["loc"]))
        message = f"{name} of a job cannot be {wrong['input']!r}: {wrong['msg']}."
        raise OpenEOApiException(message, "BadRequest", 400) from error
    graph = (change.process or {}).get("process_graph")
    if "process" in change.model_fields_set and not isinstance(graph, dict):
        raise ProcessGraphMissingException
    return change
