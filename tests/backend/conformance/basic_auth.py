"""A pytest plugin for the public openEO test suite: log in with name and password.

Its tests of the API log in with OpenID Connect only. Load it with `-p basic_auth`; the account is
in `OPENEO_AUTH_BASIC_USERNAME` and `OPENEO_AUTH_BASIC_PASSWORD`, as for its other tests.
"""

import os
from typing import Any

import openeo


def _log_in(self: openeo.Connection, *_: Any, **__: Any) -> openeo.Connection:
    name, password = (os.environ[f"OPENEO_AUTH_BASIC_{key}"] for key in ("USERNAME", "PASSWORD"))
    return self.authenticate_basic(name, password)


openeo.Connection.authenticate_oidc = _log_in
