"""Create, follow and download the jobs of a table, each once, through kills and bad answers.

The loop is that of `openeo.extra.job_management.MultiBackendJobManager`. Added here: a job is
looked up by its title before it is created, as an answer may be lost after the back-end made the
job; results appear in their folder whole; failed jobs are tried again.
"""

import logging
import math
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import openeo
import pandas as pd
import requests
from openeo.extra.job_management import MultiBackendJobManager
from openeo.rest import OpenEoApiPlainError
from openeo.rest.job import JobResultDownloadException
from openeo.utils.http import retry_configuration
from requests.adapters import HTTPAdapter

from lai_udf.errors import ProductionError
from lai_udf.produce.jobs import FAILED, download_whole, job_title, list_titles, status_code
from lai_udf.produce.table import JobTable

LOG = logging.getLogger("lai_udf")
BUSY = (429, 500, 502, 503, 504)  # answers after which a request that changes nothing is sent again
REFUSED = (401, 403)  # the login has expired
GONE = (404, 410)
MAX_ATTEMPTS = 3  # jobs in a row for one row of the table, before it counts as failed
TRIES = 5  # to create a job, with growing pauses
NOT_STARTED = ("start_failed", "queued_for_start_failed")
PENDING = ("created", "queued_for_start")
ACTIVE = (*PENDING, "queued", "running")
CreateJob = Callable[[openeo.Connection, "pd.Series[Any]", str], openeo.BatchJob]
"""Called with connection, row and title; makes the job, does not start it."""
Progress = Callable[[Mapping[str, int], float], None]
"""Called after each round with the number of jobs by status, and the costs so far."""


@dataclass
class Outcome:
    """What became of the rows of a table."""

    finished: list[str] = field(default_factory=list)  # titles whose results are on disk
    failed: dict[str, str] = field(default_factory=dict)
    """By title, of what did not come to an end: last status, and the reason that is known."""


class Producer(MultiBackendJobManager):
    """A job manager for one table and the folder of its results."""

    def __init__(
        self,
        table: JobTable,
        create_job: CreateJob,
        *,
        poll_s: float = 60,
        pause_s: float = 2,
        progress: Progress | None = None,
    ) -> None:
        super().__init__(poll_sleep=poll_s, root_dir=table.path.parent)  # type: ignore[arg-type]
        self.table, self.progress = table, progress
        self._create_job, self._pause_s = create_job, pause_s
        self._titles: dict[str, dict[str, str]] = {}  # job id by title, by back-end
        self._reasons: dict[str, str] = {}  # of the last failure, by title of the row

    @staticmethod
    def _make_resilient(connection: openeo.Connection) -> None:
        """Repeat requests that change nothing; upstream repeats POST too, and makes jobs twice."""
        retries = retry_configuration(
            total=TRIES,
            backoff_factor=0.2,
            status_forcelist=BUSY,
            allowed_methods=["HEAD", "GET", "OPTIONS"],
        )
        for scheme in ("https://", "http://"):
            connection.session.mount(scheme, HTTPAdapter(max_retries=retries))

    def run(self) -> Outcome:
        """Bring every row of the table to an end; run again, it resumes where it was.

        Raises:
            ProductionError: the table holds jobs of a back-end that is not known here, or a
                back-end no longer accepts the login.
        """
        self._require_back_ends()
        self._reset(PENDING)  # perhaps created, perhaps started: found again by title
        self._reset(NOT_STARTED)
        self._adopt_jobs()
        for _ in range(MAX_ATTEMPTS):
            self._download_finished()
            self.run_jobs(start_job=self.start_job, job_db=self.table)  # type: ignore[arg-type]
            self._download_finished()
            again = self.retry_failed(MAX_ATTEMPTS) + self._reset(NOT_STARTED)
            if not again:
                break
        return self._outcome()

    def start_job(
        self, row: "pd.Series[Any]", connection: openeo.Connection, provider: str, **_: object
    ) -> openeo.BatchJob:
        """Return the job of a row: the one with its title, or a new one.

        Raises:
            requests.ConnectionError: the back-end refuses; the row becomes `start_failed`.
        """
        title = job_title(row)
        failure: Exception | None = None
        for attempt in range(TRIES):
            try:
                if attempt or provider not in self._titles:
                    self._titles[provider] = dict(list_titles(connection))
                if (known := self._titles[provider].get(title)) is not None:
                    return connection.job(known)
                job = self._create_job(connection, row, title)
                self._titles[provider][title] = job.job_id
                return job
            except (OpenEoApiPlainError, requests.RequestException) as error:
                failure = error
                if isinstance(error, OpenEoApiPlainError) and error.http_status_code not in BUSY:
                    break
                time.sleep(self._pause_s * 2**attempt)
        LOG.warning("%s: cannot be created on %s (%s)", title, provider, failure)
        self._reasons[row["title"]] = str(failure)
        raise requests.ConnectionError(str(failure)) from failure

    def on_job_done(self, job: openeo.BatchJob, row: "pd.Series[Any]") -> None:
        """Download the results; what fails is tried again at the end of the run."""
        folder = self.table.path.parent / row["title"]
        try:
            download_whole(job, folder)
        except (
            *(OpenEoApiPlainError, JobResultDownloadException),
            requests.RequestException,
        ) as error:
            LOG.warning("%s: results cannot be fetched now (%s)", row["title"], error)
            self._reasons[row["title"]] = str(error)
            if status_code(error) in GONE:
                self._set(row.name, status="error")
        else:
            self._set(row.name, folder=folder.name)

    def on_job_error(self, job: openeo.BatchJob, row: "pd.Series[Any]") -> None:
        """Keep the log of a failed job, as upstream does, and its last line for the outcome."""
        try:
            super().on_job_error(job, row)
            if logs := job.logs(level="error"):
                self._reasons[row["title"]] = str(logs[-1].message)
        except (OpenEoApiPlainError, requests.RequestException) as error:
            LOG.warning("%s: its log cannot be fetched (%s)", row["title"], error)

    def _job_update_loop(self, job_db: Any, start_job: Any, stats: Any = None) -> None:  # noqa: ANN401
        """Do one round of the manager, then report.

        Upstream asks for ever about jobs that are gone, and with a login that has expired.
        """
        stats = defaultdict(int) if stats is None else stats
        untracked = stats["job tracking error"]
        try:
            super()._job_update_loop(job_db=job_db, start_job=start_job, stats=stats)
            if stats["job tracking error"] > untracked:
                self._settle_untracked()
        except OpenEoApiPlainError as error:
            if error.http_status_code in REFUSED:
                raise ProductionError(
                    f"a back-end refuses the login ({error}): log in and repeat the command"
                ) from error
            LOG.warning("a back-end answered with an error, asked again later: %s", error)
        if self.progress is not None:
            costs = pd.to_numeric(self.table.df["costs"], errors="coerce").sum()
            self.progress(self.table.count_by_status(), float(costs))

    def _settle_untracked(self) -> None:
        """End the rows whose jobs are gone from their back-end; others are asked about again."""
        rows = self.table.df
        for index, row in rows[rows["status"].isin(ACTIVE)].iterrows():
            try:
                self._get_connection(row["backend_name"]).job(row["id"]).describe()
            except OpenEoApiPlainError as error:
                if error.http_status_code in REFUSED:
                    raise
                if error.http_status_code in GONE:
                    self._reasons[row["title"]] = str(error)
                    self._set(index, status="error")

    def _require_back_ends(self) -> None:
        rows = self.table.df
        unfinished = rows["status"].isin(ACTIVE)
        unfinished |= (rows["status"] == "finished") & rows["folder"].isna()
        names = set(rows.loc[unfinished, "backend_name"].dropna()) - set(self.backends)
        if names:
            raise ProductionError(
                f"{self.table.path} holds unfinished jobs of {', '.join(sorted(names))}",
                parameter="backend",
                value=", ".join(self.backends),
                expected="those back-ends as well",
            )

    def _download_finished(self) -> None:
        rows = self.table.df
        for _, row in rows[(rows["status"] == "finished") & rows["folder"].isna()].iterrows():
            connection = self._get_connection(row["backend_name"])
            self.on_job_done(connection.job(row["id"]), row)

    def _adopt_jobs(self) -> None:
        """Give rows without a job the one that a killed manager made, on whichever back-end."""
        rows = self.table.df
        waiting = rows[rows["status"] == "not_started"]
        for name in self.backends if len(waiting) else ():
            connection = self._get_connection(name)
            self._titles[name] = dict(list_titles(connection))
            for index, row in waiting.iterrows():
                if (known := self._titles[name].get(job_title(row))) is not None:
                    job = connection.job(known)
                    if job.status() == "created":
                        job.start()
                    self._set(index, id=known, backend_name=name, status="queued")

    def retry_failed(self, attempts: float = math.inf, settings: str | None = None) -> int:
        """Plan another job for rows that have failed less than so many times; return how many.

        Args:
            attempts: most jobs for one row.
            settings: digest of the rows to look at; None: all.
        """
        rows = self.table.df
        again = rows["status"].isin(FAILED) & (rows["attempt"].astype(int) < attempts)
        if settings is not None:
            again &= rows["settings"] == settings
        for index in rows.index[again]:
            attempt = int(rows.loc[index, "attempt"]) + 1  # a new title: a new job
            self._set(index, status="not_started", attempt=attempt)
        return int(again.sum())

    def _reset(self, statuses: tuple[str, ...]) -> int:
        rows = self.table.df
        found = rows.index[rows["status"].isin(statuses)]
        for index in found:
            self._set(index, status="not_started")
        return len(found)

    def _set(self, index: Any, **values: object) -> None:  # noqa: ANN401  (pandas' label)
        rows = self.table.df
        for column, value in values.items():
            if isinstance(value, str):
                rows[column] = rows[column].astype(object)
            rows.loc[index, column] = value  # type: ignore[call-overload]
        self.table.persist(rows.loc[[index]])

    def _outcome(self) -> Outcome:
        outcome = Outcome()
        for row in self.table.df.itertuples():
            if row.status == "finished" and isinstance(row.folder, str):
                outcome.finished.append(str(row.title))
            else:
                reason = self._reasons.get(str(row.title))
                outcome.failed[str(row.title)] = (
                    f"{row.status} ({reason})" if reason else str(row.status)
                )
        return outcome
