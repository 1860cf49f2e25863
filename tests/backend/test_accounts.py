"""Who gets in."""

import os
import subprocess

import openeo
import pytest
import requests
from openeo.rest import OpenEoApiError

from backend.conftest import LAI_BACKEND


def test_the_wrong_password_is_refused(server):
    with pytest.raises(OpenEoApiError) as caught:
        openeo.connect(server.url).authenticate_basic("lai", "wrong")
    assert caught.value.code == "CredentialsInvalid"


def test_a_forged_token_is_refused(server):
    headers = {"Authorization": "Bearer basic//bGFp"}  # the user name, as openeo-driver makes it
    answer = requests.get(f"{server.url}/openeo/1.2/jobs", headers=headers, timeout=10)
    assert answer.status_code == 403
    assert requests.get(f"{server.url}/openeo/1.2/jobs", timeout=10).status_code == 401


def test_a_public_address_needs_a_password(tmp_path, tiny):
    command = [LAI_BACKEND, "serve", "--host=0.0.0.0", f"--collections={tiny.folder}"]
    environment = {k: v for k, v in os.environ.items() if k != "LAI_BACKEND_PASSWORD"}
    done = subprocess.run(
        [*command, f"--data={tmp_path}"],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    assert done.returncode == 2
    assert "without a password" in done.stderr
