"""Endpoints of batch jobs that openeo-driver 0.136 leaves out, or that differ from openEO there.

`PATCH /jobs/{job_id}` and the estimate are missing there; `POST /jobs/{job_id}/results` ignores
jobs that have ended already, which openEO restarts.
"""

import flask
from openeo_driver.users import User

from lai_backend.batch_jobs import LocalBatchJobs
from lai_backend.job_changes import read_change

BLUEPRINTS = ("openeo", "openeo_old")


def replace_job_views(app: flask.Flask, jobs: LocalBatchJobs) -> None:
    """Put our endpoints into the place of those of openeo-driver.

    Args:
        app: made by openeo-driver.
        jobs: the batch jobs.
    """

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
